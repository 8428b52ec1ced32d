"""The mean styles towards which truncation pulls.

Paper: Karras et al., StyleGAN, CVPR 2019, https://arxiv.org/abs/1812.04948 (appendix B: the truncation trick in W)
Shapes: B batch, Z latent size, S style size.
"""

import torch
from aigc_lightning.core import keyed
from torch import Tensor

from aigc_stylegan.layers import MappingNetwork

_LATENTS, _KEY = 4096, 1812  # number and key of the latents whose styles are averaged


class MeanStyles:
    """Mean styles of a mapping network, recomputed only when its weights have changed.

    Args:
        latent_size: Z.
    """

    def __init__(self, latent_size: int) -> None:
        self.latent_size = latent_size
        self._weights: list[Tensor] = []  # the weights for which the means were computed
        self._means: dict[int | None, Tensor] = {}

    def of(self, mapping: MappingNetwork, classes: Tensor | None) -> Tensor:
        """Return the mean style (1, S), or that of each class (B, S); no gradient reaches the network.

        Args:
            mapping: the network.
            classes: int64 (B,), or None for a network without classes.
        """
        weights = [weight.detach() for weight in mapping.parameters()]
        if not _same(self._weights, weights):
            self._weights, self._means = [weight.clone() for weight in weights], {}
        labels = [None] if classes is None else classes.tolist()
        for label in set(labels) - set(self._means):
            self._means[label] = self._mean(mapping, label, weights[0])
        return torch.stack([self._means[label] for label in labels])

    @torch.no_grad()
    def _mean(self, mapping: MappingNetwork, label: int | None, like: Tensor) -> Tensor:
        """Return the mean style (S,) of a class, on the device and in the dtype of another tensor."""
        latents = keyed.normal((_LATENTS, self.latent_size), _KEY).to(like)
        labels = None if label is None else torch.full((_LATENTS,), label, device=like.device)
        styles: Tensor = mapping(latents, labels)
        return styles.mean(dim=0)


def _same(some: list[Tensor], others: list[Tensor]) -> bool:
    pairs = zip(some, others, strict=False)
    return len(some) == len(others) and all(
        one.device == other.device and one.dtype == other.dtype and torch.equal(one, other) for one, other in pairs
    )
