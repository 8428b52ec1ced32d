"""Augmentation that does not leak into what is generated, because the network is told what was done.

Paper: Karras et al., EDM, NeurIPS 2022, https://arxiv.org/abs/2206.00364 (section 5, appendix F.2 and table 6)
Departs from the paper: images are made finer by cubic polynomials instead of wavelets, and mirroring is one of the
transformations instead of always on.
Shapes: B batch, C channels, H and W height and width in pixels.
"""

import math

import torch
from aigc_lightning.errors import UserError
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

#: Numbers that `augment` draws for an image: six choices and eight parameters.
NUM_DRAWS = 14
#: Numbers in a label: zeros for an image as it is.
LABEL_SIZE = 9
_SCALE = 0.2  # standard deviation of the size, and of the anisotropy, in powers of two
_SHIFT = 1 / 8  # standard deviation of the translation, as a share of the side
_EDGE = 2.0**-25


def augment(images: Tensor, draws: Tensor, probability: float) -> tuple[Tensor, Tensor]:
    """Return images (B, C, H, W) that were mirrored, scaled, rotated, stretched and moved, and labels (B, 9) that say
    how.

    Six transformations, each with the same probability: mirroring either way, size, rotation, size along one axis only,
    and translation. What comes in from outside is the image mirrored at its border.

    Args:
        images: (B, C, H, W).
        draws: (B, 14) in [0, 1), such as keyed ones: an image depends on its own row alone.
        probability: of each of the transformations; 0.12 in the paper.

    Raises:
        UserError: a probability outside [0, 1].
    """
    if not 0 <= probability <= 1:
        raise UserError(f"The probability of augmentation is {probability}.", "Choose one from 0 to 1.")
    chosen = (draws[:, :6] < probability).to(images.dtype).unbind(dim=1)
    numbers = draws[:, 6:].to(images.dtype)
    mirror_x, mirror_y = (choice * (number < 0.5) for choice, number in zip(chosen, numbers[:, :2].T, strict=False))
    turn, axis = ((2 * numbers[:, 2:4] - 1) * math.pi).unbind(dim=1)
    size, stretch, move_x, move_y = _normal(numbers[:, 4:]).unbind(dim=1)
    size, turn, stretch = chosen[2] * size, chosen[3] * turn, chosen[4] * stretch
    move_x, move_y = chosen[5] * move_x, chosen[5] * move_y
    labels = torch.stack(
        [
            mirror_x,
            mirror_y,
            size,
            turn.cos() - 1,
            turn.sin(),
            stretch * axis.cos(),
            stretch * axis.sin(),
            move_x,
            move_y,
        ],
        dim=1,
    )
    growth = 2.0 ** (_SCALE * size)
    stretching = 2.0 ** (_SCALE * stretch)
    matrices = (
        _scaling(1 - 2 * mirror_x, 1 - 2 * mirror_y)
        @ _scaling(growth, growth)
        @ _rotation(-turn)
        @ _rotation(axis)
        @ _scaling(stretching, 1 / stretching)
        @ _rotation(-axis)
    )
    moves = torch.stack([_SHIFT * move_x, _SHIFT * move_y], dim=1)
    changed = labels.ne(0).any(dim=1)
    return torch.where(changed[:, None, None, None], _warped(images, matrices, moves), images), labels


def _warped(images: Tensor, matrices: Tensor, moves: Tensor) -> Tensor:
    """Return images whose points p, in pixels from the middle, went to matrix p + move, in shares of the sides."""
    height, width = images.shape[-2:]
    # Pixels between the pixels by cubic polynomials, and lines between all of these: whole moves and ramps are exact,
    # unlike with cubic polynomials alone, and less is blurred than by lines alone.
    fine = interpolate(images, size=(2 * height - 1, 2 * width - 1), mode="bicubic", align_corners=True)
    # `affine_grid` wants the way back, in coordinates in which the middles of the outer pixels are at -1 and 1.
    size = torch.tensor([width, height], dtype=images.dtype, device=images.device)
    scale = (size - 1).clamp(min=1) / 2
    linear = torch.linalg.inv(matrices) * scale / scale[:, None]
    theta = torch.cat([linear, -(linear @ (moves * size / scale)[:, :, None])], dim=2)
    grid = affine_grid(theta, list(images.shape), align_corners=True)
    warped: Tensor = grid_sample(fine, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    return warped


def _normal(numbers: Tensor) -> Tensor:
    normal: Tensor = torch.special.ndtri(numbers.clamp(_EDGE, 1 - _EDGE))
    return normal


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    """Return matrices (B, 2, 2) that multiply x and y."""
    return torch.diag_embed(torch.stack([x, y], dim=1))


def _rotation(angles: Tensor) -> Tensor:
    """Return matrices (B, 2, 2) that turn by angles (B,)."""
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
