"""What all quantizers have in common: latents in, tokens and quantized latents out.

Shapes: B batch, Z latent channels, h and w height and width of the latents, N tokens of an image. A token is the number
of a code.
"""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from aigc_autoregressive.tokenizers.codebook import Codebook

#: How gradients pass from codes to the latents that they replace.
Gradient = Literal["straight_through", "rotation"]


class Quantized(NamedTuple):
    """Latents that were replaced by codes.

    Args:
        latents: the codes, (B, Z, h, w), through which gradients reach the encoder.
        indices: the tokens, int64 (B, N).
        loss: what is added to the loss of the tokenizer, a scalar.
        vectors: what each token stands for, without gradients, (B, N, Z); a codebook is updated with them.
    """

    latents: Tensor
    indices: Tensor
    loss: Tensor
    vectors: Tensor


class Quantizer(nn.Module, ABC):
    """Replaces latents by codes."""

    num_codes: int
    width: int  # Z
    codebook: Codebook | None  # None where codes are not learnt

    @abstractmethod
    def forward(self, latents: Tensor) -> Quantized:
        """Quantize latents (B, Z, h, w)."""

    @abstractmethod
    def decode(self, indices: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the latents (B, Z, h, w) of tokens (B, N), given the latents' size."""

    def num_tokens(self, size: tuple[int, int]) -> int:
        """Return N, given the latents' size."""
        return size[0] * size[1]


def to_vectors(latents: Tensor) -> Tensor:
    """Return latents (B, Z, h, w) as rows of vectors (B, hw, Z)."""
    return latents.flatten(2).transpose(1, 2)


def to_latents(vectors: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo `to_vectors`."""
    return vectors.transpose(1, 2).reshape(vectors.shape[0], -1, *size)


def pass_gradient(vectors: Tensor, codes: Tensor, gradient: Gradient) -> Tensor:
    """Return the codes, (..., Z), with gradients that reach the vectors instead.

    Args:
        vectors: of the encoder, (..., Z).
        codes: that replace them, (..., Z).
        gradient: "straight_through" hands gradients on as they are. "rotation" turns and scales them as the codes are
            turned and scaled against the vectors, so that angles between gradients and vectors stay
            (Fifty et al., ICLR 2025, https://arxiv.org/abs/2410.06424, equations 4 and 5).
    """
    moved = vectors if gradient == "straight_through" else _rotated(vectors, codes.detach())
    return codes.detach() + (moved - moved.detach())  # in this order the value is the code exactly


def _rotated(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the codes as a linear function of the vectors: a rotation times a scale, both without gradients."""
    start, end = functional.normalize(vectors.detach(), dim=-1), functional.normalize(codes, dim=-1)
    middle = functional.normalize(start + end, dim=-1)
    rotated = vectors - 2 * middle * _dot(middle, vectors) + 2 * end * _dot(start, vectors)
    return rotated * _dot(end, codes) / _dot(start, vectors.detach()).clamp_min(1e-6)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Return the products of vectors (..., Z), (..., 1)."""
    return (first * second).sum(-1, keepdim=True)
