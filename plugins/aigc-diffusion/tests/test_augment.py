"""Augmentation against shifts, flips and turns that are exact."""

import math

import pytest
import torch
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_diffusion.augment import LABEL_SIZE, NUM_DRAWS, augment

CHOICE = {"mirror_x": 0, "mirror_y": 1, "size": 2, "turn": 3, "stretch": 4, "move": 5}


def draws(**parameters: float) -> Tensor:
    """One row that chooses the transformations of which parameters are given, as quantiles."""
    names = ("mirror_x", "mirror_y", "turn", "axis", "size", "stretch", "move_x", "move_y")
    row = torch.full((1, NUM_DRAWS), 0.5)
    row[:, :6] = 0.99
    for name, value in parameters.items():
        row[0, 6 + names.index(name)] = value
        choice = {"move_x": "move", "move_y": "move", "axis": "stretch"}.get(name, name)
        row[0, CHOICE[choice]] = 0.0
    return row


def images(count: int = 1, height: int = 16, width: int = 16) -> Tensor:
    return torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def quantile(deviations: float) -> float:
    return torch.special.ndtr(torch.tensor(deviations, dtype=torch.float64)).item()


def test_images_as_they_are() -> None:
    same, labels = augment(images(4), torch.rand(4, NUM_DRAWS), probability=0.0)
    assert torch.equal(same, images(4)) and torch.equal(labels, torch.zeros(4, LABEL_SIZE))


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_mirrors_and_moves(size: tuple[int, int]) -> None:
    before = images(1, *size)
    mirrored, labels = augment(before, draws(mirror_x=0.2), 0.5)
    assert torch.allclose(mirrored, before.flip(3), atol=1e-4) and labels[0].tolist() == [1] + [0] * 8
    upside_down, _ = augment(before, draws(mirror_y=0.2), 0.5)
    assert torch.allclose(upside_down, before.flip(2), atol=1e-4)
    chosen_but_not_done, labels = augment(before, draws(mirror_x=0.7), 0.5)
    assert torch.equal(chosen_but_not_done, before) and labels.abs().sum() == 0
    # One eighth of a side is a standard deviation; these move by 2 pixels to the right and 1 up.
    move_x, move_y = 2 / (size[1] / 8), -1 / (size[0] / 8)
    moved, labels = augment(before, draws(move_x=quantile(move_x), move_y=quantile(move_y)), 0.5)
    assert torch.allclose(moved[..., :-1, 2:], before[..., 1:, :-2], atol=1e-3)
    assert labels[0, 7:].tolist() == pytest.approx([move_x, move_y], abs=1e-4)


def test_turns_and_sizes() -> None:
    before = images()
    turned, labels = augment(before, draws(turn=0.75), 0.5)  # a quarter of a turn
    assert torch.allclose(turned, torch.rot90(before, 1, (2, 3)), atol=1e-3)
    assert labels[0, 3:5].tolist() == pytest.approx([-1, 1], abs=1e-6)
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    for axis, factor in ((0.5, 0.5), (0.75, 2.0)):  # along x the ramp gets flatter, along y (a quarter turn) steeper
        stretched, labels = augment(ramp, draws(stretch=quantile(5.0), axis=axis), 0.5)
        slopes = stretched[0, 0, 14:18, 14:18].diff(dim=1) / ramp.diff(dim=3)[0, 0, 0, 0]
        assert torch.allclose(slopes, torch.full_like(slopes, factor), atol=0.02)
        assert labels[0, 5:7].norm().item() == pytest.approx(5, rel=1e-2)
    larger, labels = augment(ramp, draws(size=quantile(5.0)), 0.5)  # twice as large
    slopes = larger[0, 0, 14:18, 14:18].diff(dim=1) / ramp.diff(dim=3)[0, 0, 0, 0]
    assert torch.allclose(slopes, torch.full_like(slopes, 0.5), atol=0.02)
    assert labels[0, 2].item() == pytest.approx(5, rel=1e-2)


def test_images_depend_on_their_own_draws() -> None:
    numbers = torch.rand(6, NUM_DRAWS, generator=torch.Generator().manual_seed(1))
    together, labels = augment(images(6), numbers, 0.5)
    for row in range(6):
        alone, label = augment(images(6)[row : row + 1], numbers[row : row + 1], 0.5)
        assert torch.allclose(alone[0], together[row], atol=1e-6) and torch.equal(label[0], labels[row])
    assert torch.isfinite(together).all()


def test_frequencies() -> None:
    numbers = torch.rand(4000, NUM_DRAWS, generator=torch.Generator().manual_seed(2))
    _, labels = augment(torch.zeros(4000, 1, 2, 2), numbers, 0.12)
    changed = labels.ne(0).double().mean(dim=0)
    assert torch.allclose(changed, torch.tensor([0.06] * 2 + [0.12] * 7, dtype=torch.float64), atol=0.02)
    assert labels[:, 7].std().item() == pytest.approx(math.sqrt(0.12), rel=0.1)
    with pytest.raises(UserError, match="probability"):
        augment(images(), numbers[:1], 1.2)
