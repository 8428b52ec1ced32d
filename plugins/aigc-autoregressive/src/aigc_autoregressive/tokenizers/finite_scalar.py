"""Finite scalar quantization: each latent channel is rounded to one of a few levels; there is no codebook to learn.

Paper: Mentzer et al., ICLR 2024, https://arxiv.org/abs/2309.15505
Departs from the paper: in nothing.
Shapes: B batch, Z latent channels, h and w height and width of the latents.
"""

import math
from collections.abc import Sequence

import torch
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_autoregressive.tokenizers.quantizer import (
    Gradient,
    Quantized,
    Quantizer,
    pass_gradient,
    to_latents,
    to_vectors,
)

_MARGIN = 1e-3  # by which the outermost levels are reached before tanh is flat


class FiniteScalarQuantizer(Quantizer):
    """A code is a combination of levels; codes lie in [-1, 1].

    Args:
        levels: of each channel, so Z is their number and the product is the number of codes: [8, 5, 5, 5] makes 1000.
        gradient: how gradients pass the rounding, see `pass_gradient`.

    Raises:
        UserError: a channel of fewer than 2 levels.
    """

    levels: Tensor
    places: Tensor

    def __init__(self, levels: Sequence[int] = (8, 5, 5, 5), gradient: Gradient = "straight_through") -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise UserError(f"levels is {list(levels)}.", "Give each channel at least 2 levels, such as [8, 5, 5, 5].")
        self.width, self.num_codes, self.gradient = len(levels), math.prod(levels), gradient
        self.codebook = None
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        places = [math.prod(levels[:channel]) for channel in range(len(levels))]
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize latents (B, Z, h, w) into h w tokens, row by row; the loss is 0."""
        vectors = self._bounded(to_vectors(latents).to(torch.promote_types(latents.dtype, torch.float32)))
        half = self.levels // 2
        rounded = vectors.round()
        indices = ((rounded.long() + half) * self.places).sum(-1)
        result = pass_gradient(vectors / half, rounded / half, self.gradient)
        size = (latents.shape[2], latents.shape[3])
        return Quantized(to_latents(result, size), indices, vectors.new_zeros(()), vectors.detach())

    def decode(self, indices: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the codes of tokens (B, h w) as latents (B, Z, h, w)."""
        half = self.levels // 2
        digits = indices.unsqueeze(-1) // self.places % self.levels
        return to_latents((digits - half) / half, size)

    def _bounded(self, vectors: Tensor) -> Tensor:
        """Squash vectors (..., Z) to where rounding gives the levels: from -L / 2 to L / 2, or to L / 2 - 1 for even L.

        An even number of levels lies unevenly around 0, hence the offset of a half, and the shift that keeps 0 at 0.
        """
        half = ((self.levels - 1) * (1 + _MARGIN) / 2).to(vectors)
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0).to(vectors)
        return (vectors + torch.atanh(offset / half)).tanh() * half - offset
