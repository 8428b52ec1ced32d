"""Directions in which the styles of a trained generator vary.

Papers: Harkonen et al., GANSpace, NeurIPS 2020, https://arxiv.org/abs/2004.02546 (section 2.1: principal components of
styles); Shen and Zhou, Closed-Form Factorization of Latent Semantics in GANs, CVPR 2021,
https://arxiv.org/abs/2007.06600 (SeFa, section 3.2).
Departures from the papers: styles of a model with classes are compared with the mean of their class, so that directions
are what varies within classes; 50,000 styles for the principal components; a strength counts standard deviations of the
styles along the direction, with SeFa, too.
Shapes: S style size, L number of styles, I channels in, D number of directions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_stylegan.generator import SynthesisNetwork
from aigc_stylegan.style_model import StyleModel

#: What a file of directions is called in messages.
KIND = "directions"
_STYLES = 50_000


def principal_directions(styles: Tensor, count: int) -> Tensor:
    """Return the first principal components (D, S) of styles (N, S) with mean 0: orthogonal, of length 1."""
    return _leading(styles.double().T @ styles.double(), count)


def factorized_directions(weights: Tensor, count: int) -> Tensor:
    """Return the directions (D, S) that change A w most, of length 1: eigenvectors of A^T A (SeFa, equation 5).

    Args:
        weights: A, (I, S).
        count: D.
    """
    return _leading(weights.double().T @ weights.double(), count)


def affine_weights(synthesis: SynthesisNetwork, numbers: Sequence[int]) -> Tensor:
    """Return the weights of all affine maps that read some styles, one below another, (sum of their I, S)."""
    readers: list[tuple[int, Any]] = [(0, synthesis.first), (1, synthesis.to_image[0])]
    for level, layers in enumerate(zip(synthesis.up, synthesis.same, synthesis.to_image[1:], strict=True)):
        readers += [(2 * level + 1 + place, layer) for place, layer in enumerate(layers)]
    return torch.cat([layer.style.weight * layer.style.scale for number, layer in readers if number in numbers])


def find_directions(model: StyleModel, method: str, count: int, levels: str, out: Path) -> list[float]:
    """Write directions, and how far styles spread along each, into a file.

    Args:
        model: the model.
        method: "ganspace" or "sefa".
        count: D.
        levels: the styles that edits move, and whose layers SeFa looks at; see `StyleModel.style_numbers`.
        out: the .safetensors file.

    Returns:
        The share of each direction in the variance of the styles.

    Raises:
        UserError: the model has no such styles, or not so many directions.
    """
    numbers = model.style_numbers(levels)
    styles, means = model.sampled(_STYLES)
    styles = styles - means
    if count > styles.shape[1]:
        raise UserError(f"--num is {count} and styles have {styles.shape[1]} numbers.", "Give fewer directions.")
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


def _leading(symmetric: Tensor, count: int) -> Tensor:
    """Return the eigenvectors (count, S) of a symmetric matrix (S, S) with the largest eigenvalues, largest first."""
    vectors = torch.linalg.eigh(symmetric.cpu()).eigenvectors.T.flip(0)[:count]
    # Each is defined up to its sign: its largest number is made positive.
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    signed: Tensor = vectors * largest.sign()
    return signed
