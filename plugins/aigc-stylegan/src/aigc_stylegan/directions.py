"""Directions in which the styles of a trained generator vary.

Papers: Harkonen et al., GANSpace, NeurIPS 2020, https://arxiv.org/abs/2004.02546 (section 2.1: principal components of
styles); Shen and Zhou, Closed-Form Factorization of Latent Semantics in GANs, CVPR 2021,
https://arxiv.org/abs/2007.06600 (SeFa, section 3.2).
Departures from the papers: styles of a model with classes are compared with the mean of their class, so that directions
capture the variation within classes; 50,000 styles for the principal components; strengths are in standard deviations
of the styles along the direction, for SeFa as well.
Shapes: S style size, L number of styles, I channels in, D number of directions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from aigc_lightning.core.directions import factorized_directions as factorized_directions
from aigc_lightning.core.directions import principal_directions as principal_directions
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_stylegan.generator import SynthesisNetwork
from aigc_stylegan.style_model import StyleModel

#: The kind of a file with directions, for error messages.
KIND = "directions"
_STYLES = 50_000


def affine_weights(synthesis: SynthesisNetwork, numbers: Sequence[int]) -> Tensor:
    """Return the stacked weights of all affine layers that use some styles, (sum of their I, S)."""
    readers: list[tuple[int, Any]] = [(0, synthesis.first), (1, synthesis.to_image[0])]
    for level, layers in enumerate(zip(synthesis.up, synthesis.same, synthesis.to_image[1:], strict=True)):
        readers += [(2 * level + 1 + place, layer) for place, layer in enumerate(layers)]
    return torch.cat([layer.style.weight * layer.style.scale for number, layer in readers if number in numbers])


def find_directions(model: StyleModel, method: str, count: int, levels: str, out: Path) -> list[float]:
    """Write directions, and the standard deviation of styles along each, to a file.

    Args:
        model: the model.
        method: "ganspace" or "sefa".
        count: D.
        levels: the styles that edits move, and whose layers SeFa uses; see `StyleModel.style_numbers`.
        out: the .safetensors file.

    Returns:
        The share of the styles' variance along each direction.

    Raises:
        UserError: the model has no such styles, or fewer directions.
    """
    numbers = model.style_numbers(levels)
    styles, means = model.sampled(_STYLES)
    styles = styles - means
    if count > styles.shape[1]:
        raise UserError(
            f"--num is {count}, but styles have only {styles.shape[1]} dimensions.", "Give fewer directions."
        )
    if method == "sefa":
        found = factorized_directions(affine_weights(model.network.synthesis, numbers), count)
    else:
        found = principal_directions(styles, count)
    directions = found.to(styles)
    spreads = (styles @ directions.T).square().mean(dim=0)
    tensors = {"directions": directions, "deviations": spreads.sqrt()}
    model.save(out, KIND, tensors, method=method, num=count, levels=numbers)
    shares: list[float] = (spreads / styles.square().mean(dim=0).sum()).tolist()
    return shares
