"""Multi-scale residual quantization: an image is tokens of a 1x1 map, then of larger ones, each adding what is missing.

Paper: Tian et al., Visual Autoregressive Modeling, NeurIPS 2024, https://arxiv.org/abs/2404.02905, algorithms 1 and 2
Departs from the paper: in nothing; neighbouring scales may share the convolution that follows their upsampling.
Shapes: B batch, Z latent channels, h and w height and width of the latents, N tokens of all scales.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from aigc_lightning.errors import UserError
from torch import Tensor, nn
from torch.nn import functional

from aigc_autoregressive.tokenizers.codebook import Codebook
from aigc_autoregressive.tokenizers.quantizer import (
    Gradient,
    Quantized,
    Quantizer,
    pass_gradient,
    to_latents,
    to_vectors,
)
from aigc_autoregressive.tokenizers.vector import codebook_loss

Size = tuple[int, int]
#: Of latents of 16x16: 680 tokens.
SCALES: tuple[Size, ...] = tuple((side, side) for side in (1, 2, 3, 4, 5, 6, 8, 10, 13, 16))


class MultiScaleQuantizer(Quantizer):
    """Nearest codes of one codebook, for the residual of each scale.

    Args:
        num_codes: K.
        width: Z.
        scales: height and width of each token map, the last one being the latents' own.
        learnt_by: "ema" or "loss", see `Codebook`.
        gradient: "straight_through" or "rotation", see `pass_gradient`.
        beta: weight of the encoder's commitment.
        decay: of the codebook's moving averages.
        revive_below: see `Codebook`.
        num_refinements: convolutions, which the scales share evenly.
        refinement_weight: of the convolution's result against what goes in.
    """

    def __init__(
        self,
        num_codes: int,
        width: int,
        scales: Sequence[Size] = SCALES,
        learnt_by: Literal["ema", "loss"] = "ema",
        gradient: Gradient = "straight_through",
        beta: float = 0.25,
        decay: float = 0.99,
        revive_below: float = 0.1,
        num_refinements: int = 4,
        refinement_weight: float = 0.5,
    ) -> None:
        super().__init__()
        self.num_codes, self.width, self.gradient, self.beta = num_codes, width, gradient, beta
        self.scales = tuple((height, width) for height, width in scales)
        self.codebook: Codebook = Codebook(num_codes, width, learnt_by, decay, revive_below)
        self.refinements = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(num_refinements))
        self.refinement_weight = refinement_weight

    @property
    def lengths(self) -> list[int]:
        """Tokens of each scale."""
        return [height * width for height, width in self.scales]

    def num_tokens(self, size: Size) -> int:
        """Return N; see `Quantizer`."""
        self._check(size)
        return sum(self.lengths)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize latents (B, Z, h, w) into the tokens of all scales, the smallest first."""
        self._check((latents.shape[2], latents.shape[3]))
        rest, total = latents.detach(), torch.zeros_like(latents)
        indices, vectors, losses = [], [], []
        for scale in range(len(self.scales)):
            vectors.append(to_vectors(self.shrunk(rest, scale)))
            indices.append(self.codebook.nearest(vectors[-1]))
            added = self.grown(indices[-1], scale)
            rest, total = rest - added.detach(), total + added
            losses.append(codebook_loss(latents, total, self.beta))
        result = pass_gradient(latents.movedim(1, -1), total.movedim(1, -1), self.gradient).movedim(-1, 1)
        return Quantized(result, torch.cat(indices, 1), torch.stack(losses).mean(), torch.cat(vectors, 1))

    def decode(self, indices: Tensor, size: Size) -> Tensor:
        """Return latents (B, Z, h, w) of the tokens (B, N) of all scales, or of the first few scales."""
        self._check(size)
        return self.partial_sums(indices)[-1]

    def partial_sums(self, indices: Tensor) -> list[Tensor]:
        """Return the latents (B, Z, h, w) that each scale completes, for the tokens of all scales or the first few."""
        sums: list[Tensor] = []
        for scale, tokens in enumerate(torch.split(indices, self._lengths_of(indices), dim=1)):
            added = self.grown(tokens, scale)
            sums.append(sums[-1] + added if sums else added)
        return sums

    def next_inputs(self, indices: Tensor) -> Tensor:
        """Return what a next-scale model sees when it predicts each scale but the first, (B, N - n, Z).

        That is the sum of the scales before, at the size of the scale; n is the number of tokens of the first one.

        Args:
            indices: tokens of all scales, (B, N).
        """
        sums = self.partial_sums(indices)[:-1]
        return torch.cat([to_vectors(self.shrunk(total, scale)) for scale, total in enumerate(sums, 1)], dim=1)

    def nearest(self, latents: Tensor, scale: int) -> Tensor:
        """Return the tokens (B, n) of a scale that are nearest to what is left of latents (B, Z, h, w)."""
        return self.codebook.nearest(to_vectors(self.shrunk(latents, scale)))

    def found_again(self, latents: Tensor, indices: Tensor) -> Tensor:
        """Return the tokens of all scales, each quantized from what given coarser ones leave of latents, (B, N).

        Args:
            latents: (B, Z, h, w).
            indices: tokens of all scales, (B, N), of which those of the last one do not matter.
        """
        rests = [latents, *(latents - total for total in self.partial_sums(indices)[:-1])]
        return torch.cat([self.nearest(rest, scale) for scale, rest in enumerate(rests)], dim=1)

    def grown(self, tokens: Tensor, scale: int) -> Tensor:
        """Return what the tokens (B, n) of a scale add to the latents, (B, Z, h, w)."""
        codes = to_latents(self.codebook.lookup(tokens), self.scales[scale])
        if self.scales[scale] != self.scales[-1]:
            codes = functional.interpolate(codes, self.scales[-1], mode="bicubic")
        refined: Tensor = self._refinement(scale)(codes)
        return torch.lerp(codes, refined.to(codes), self.refinement_weight)  # mixed precision computes it in 16 bits

    def shrunk(self, latents: Tensor, scale: int) -> Tensor:
        """Return latents (B, Z, h, w) at the size of a scale, each the mean of an area."""
        return functional.interpolate(latents, self.scales[scale], mode="area")

    @torch.no_grad()
    def start_vectors(self, latents: Tensor) -> Tensor:
        """Return what each scale would quantize if codes were exact, (B, N, Z): a codebook can start from them."""
        self._check((latents.shape[2], latents.shape[3]))
        vectors = []
        for scale in range(len(self.scales)):
            small = self.shrunk(latents, scale)
            vectors.append(to_vectors(small))
            latents = latents - functional.interpolate(small, self.scales[-1], mode="bicubic")
        return torch.cat(vectors, dim=1)

    def _refinement(self, scale: int) -> nn.Module:
        return self.refinements[scale * len(self.refinements) // len(self.scales)]

    def _lengths_of(self, indices: Tensor) -> list[int]:
        lengths, total = [], 0
        for length in self.lengths:
            if total == indices.shape[1]:
                break
            lengths.append(length)
            total += length
        return lengths

    def _check(self, size: Size) -> None:
        if size != self.scales[-1]:
            raise UserError(
                f"Latents are {size[0]}x{size[1]} and the last scale is {self.scales[-1][0]}x{self.scales[-1][1]}.",
                "Choose scales that end with the latents' own size.",
            )
