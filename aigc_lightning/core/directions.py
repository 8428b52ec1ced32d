"""Directions of a latent space along which a generator's images change most.

Papers: Harkonen et al., GANSpace, NeurIPS 2020, https://arxiv.org/abs/2004.02546 (sections 2.1 and 2.2: principal
components, and their directions in the latent space by regression); Shen and Zhou, Closed-Form Factorization of Latent
Semantics in GANs, CVPR 2021, https://arxiv.org/abs/2007.06600 (SeFa, section 3.2).
Shapes: N samples, Z size of the latents, P size of what is drawn from them, I outputs of a layer, D directions.
"""

import torch
from torch import Tensor


def principal_directions(styles: Tensor, count: int) -> Tensor:
    """Return the first principal components (D, Z) of latents (N, Z) with mean 0: orthonormal."""
    return _leading(styles.double().T @ styles.double(), count)


def factorized_directions(weights: Tensor, count: int) -> Tensor:
    """Return the directions (D, Z) that change A z most, of length 1: eigenvectors of A^T A (SeFa, equation 5).

    Args:
        weights: A, (I, Z).
        count: D.
    """
    return _leading(weights.double().T @ weights.double(), count)


def regressed_directions(latents: Tensor, drawn: Tensor, count: int) -> Tensor:
    """Return the directions (D, Z) of the principal components of what latents are drawn as, of length 1.

    The components are those of `drawn`; each direction is the regression of the latents on the component's coordinate
    (GANSpace, equation 3).

    Args:
        latents: (N, Z).
        drawn: (N, P), such as the pixels of the images.
        count: D, at most Z, P and N - 1.
    """
    centred = drawn.double() - drawn.double().mean(dim=0)
    left, scales, _ = torch.linalg.svd(centred, full_matrices=False)
    coordinates = left[:, :count] * scales[:count]
    found = coordinates.T @ (latents.double() - latents.double().mean(dim=0))
    return _signed(found / found.norm(dim=1, keepdim=True).clamp(min=1e-30))


def _leading(symmetric: Tensor, count: int) -> Tensor:
    """Return the eigenvectors (count, Z) of a symmetric matrix (Z, Z) with the largest eigenvalues, largest first."""
    return _signed(torch.linalg.eigh(symmetric.cpu()).eigenvectors.T.flip(0)[:count])


def _signed(vectors: Tensor) -> Tensor:
    """Return vectors (D, Z) with the largest component of each positive: each is defined up to its sign."""
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    signed: Tensor = vectors * largest.sign()
    return signed
