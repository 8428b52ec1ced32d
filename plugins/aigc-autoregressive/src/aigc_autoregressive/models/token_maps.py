"""Images as the tokens of a transformer, and back: by a tokenizer, or pixel by pixel.

Shapes: B batch, C channels, H and W height and width in pixels, N tokens of an image. Images lie in [-1, 1].
"""

from abc import ABC, abstractmethod

import torch
from aigc_lightning.core.engine.autocast import without_autocast
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from aigc_autoregressive.levels import from_tokens, to_levels, to_tokens
from aigc_autoregressive.models.vqgan import VQGANModel
from aigc_autoregressive.tokenizers import MultiScaleQuantizer

_LEVELS = 256


class TokenMaps(ABC):
    """Images to tokens and back."""

    num_codes: int
    num_tokens: int  # N
    grids: tuple[tuple[int, int], ...]  # rows and columns of each token map
    channels: int = 1  # tokens of each place
    passes: int = 1  # drawings until a hole is filled

    @abstractmethod
    def tokens(self, images: Tensor) -> Tensor:
        """Return the tokens of images (B, C, H, W), int64 (B, N)."""

    @abstractmethod
    def images(self, tokens: Tensor) -> Tensor:
        """Return the images (B, C, H, W) of tokens (B, N)."""

    def touched(self, holes: Tensor) -> Tensor:
        """Return which tokens belong to holes, bool (B, N).

        These are tokens of which any pixel is in a hole, and at coarser scales those of which half the pixels are.

        Args:
            holes: bool (B, 1, H, W).
        """
        *coarse, finest = self.grids
        parts = [adaptive_avg_pool2d(holes.float(), grid).flatten(1) >= 0.5 for grid in coarse]
        parts.append(adaptive_max_pool2d(holes.float(), finest).flatten(1) > 0)
        return torch.cat(parts, dim=1).repeat_interleave(self.channels, dim=1)


class Tokenized(TokenMaps):
    """By a tokenizer.

    Args:
        tokenizer: for images of the same size.
    """

    #: A tokenizer's norms and attention carry what covers a hole into all tokens, which makes the first drawing dull;
    #: in the second, the hole is covered by what was drawn.
    passes = 2

    def __init__(self, tokenizer: VQGANModel) -> None:
        self._tokenizer = tokenizer
        quantizer = tokenizer.quantizer
        self.num_codes, self.num_tokens = quantizer.num_codes, tokenizer.num_tokens
        self.grids = (tokenizer.latent_size,)
        if isinstance(quantizer, MultiScaleQuantizer):
            self.grids = quantizer.scales

    def tokens(self, images: Tensor) -> Tensor:
        """See `TokenMaps`; also in mixed precision the tokenizer computes in float32, as elsewhere."""
        with without_autocast(images.device):
            return self._tokenizer.tokens(images)

    def images(self, tokens: Tensor) -> Tensor:
        """See `TokenMaps`."""
        return self._tokenizer.from_tokens(tokens)


class Pixels(TokenMaps):
    """Levels of pixels, row by row.

    Args:
        spec: of the images.
        num_levels: of each number.
    """

    def __init__(self, spec: ImageSpec, num_levels: int) -> None:
        self._shape = spec.shape
        self.num_codes, self.channels = num_levels, spec.channels
        self.grids = ((spec.height, spec.width),)
        self.num_tokens = spec.height * spec.width * spec.channels

    def tokens(self, images: Tensor) -> Tensor:
        """See `TokenMaps`."""
        return to_tokens(images, self.num_codes)

    def images(self, tokens: Tensor) -> Tensor:
        """See `TokenMaps`."""
        return from_tokens(tokens, self._shape, self.num_codes)

    def has_levels(self, images: Tensor) -> Tensor:
        """Return which images (B, C, H, W) of 256 levels have these levels alone, bool (B,)."""
        levels = to_levels(self.images(self.tokens(images)), _LEVELS)
        return (levels == to_levels(images, _LEVELS)).flatten(1).all(1)


def make_token_maps(spec: ImageSpec, tokenizer: ImageModel | None, num_levels: int) -> TokenMaps:
    """Return how images become tokens.

    Args:
        spec: of the images.
        tokenizer: None for pixels.
        num_levels: of pixels, 256 with a tokenizer.

    Raises:
        UserError: the model is no tokenizer, or one of other images; or the number of levels is out of range.
    """
    if tokenizer is None:
        if not 2 <= num_levels <= _LEVELS:
            raise UserError(f"model.num_levels is {num_levels}.", f"Give a number from 2 to {_LEVELS}.")
        return Pixels(spec, num_levels)
    if num_levels != _LEVELS:
        raise UserError("model.num_levels is of pixels, but there is a model.tokenizer.", "Leave one of them out.")
    if not isinstance(tokenizer, VQGANModel):
        raise UserError(f"model.tokenizer is a {type(tokenizer).__name__}.", "Give a run of vqgan.")
    if tokenizer.spec.shape != spec.shape:
        raise UserError(f"The tokenizer is for images of {tokenizer.spec}, the data are {spec}.", "Use equal sizes.")
    return Tokenized(tokenizer)
