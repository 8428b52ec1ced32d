"""Vector quantization: each latent becomes the nearest code of a learnt codebook.

Papers: van den Oord et al., NIPS 2017, https://arxiv.org/abs/1711.00937; Esser et al., CVPR 2021,
https://arxiv.org/abs/2012.09841
Departs from the papers: in nothing. Beta multiplies the encoder's term, as in equation 3 of the first paper.
"""

from typing import Literal

from torch import Tensor
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


class VectorQuantizer(Quantizer):
    """Nearest codes.

    Args:
        num_codes: K.
        width: Z.
        learnt_by: "ema" or "loss", see `Codebook`.
        gradient: "straight_through" or "rotation", see `pass_gradient`.
        beta: weight of the encoder's commitment to the codes.
        decay: of the codebook's moving averages.
        revive_below: see `Codebook`.
    """

    def __init__(
        self,
        num_codes: int,
        width: int,
        learnt_by: Literal["ema", "loss"] = "ema",
        gradient: Gradient = "straight_through",
        beta: float = 0.25,
        decay: float = 0.99,
        revive_below: float = 0.1,
    ) -> None:
        super().__init__()
        self.num_codes, self.width, self.gradient, self.beta = num_codes, width, gradient, beta
        self.codebook: Codebook = Codebook(num_codes, width, learnt_by, decay, revive_below)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize latents (B, Z, h, w) into h w tokens, row by row."""
        vectors = to_vectors(latents)
        indices = self.codebook.nearest(vectors)
        codes = self.codebook.lookup(indices)
        result = to_latents(pass_gradient(vectors, codes, self.gradient), (latents.shape[2], latents.shape[3]))
        return Quantized(result, indices, codebook_loss(vectors, codes, self.beta), vectors.detach())

    def decode(self, indices: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the codes of tokens (B, h w) as latents (B, Z, h, w)."""
        return to_latents(self.codebook.lookup(indices), size)


def codebook_loss(vectors: Tensor, codes: Tensor, beta: float) -> Tensor:
    """Return the mean squared distance for the codes, where they are learnt by it, and beta times it for the vectors.

    Args:
        vectors: of the encoder, of any shape.
        codes: that replace them, of the same shape.
        beta: weight of the commitment.
    """
    loss = beta * functional.mse_loss(vectors, codes.detach())
    if codes.requires_grad:
        loss = loss + functional.mse_loss(codes, vectors.detach())
    return loss
