"""Pictures from models of pixels, drawn pixel by pixel with noise keyed by seed and place."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from aigc_autoregressive.noise import uniform
from aigc_autoregressive.pixels.incremental_pixelcnn import IncrementalPixelCNN
from aigc_autoregressive.pixels.incremental_pixelrnn import IncrementalPixelRNN
from aigc_autoregressive.pixels.pixelcnn import PixelCNN
from aigc_autoregressive.pixels.pixelrnn import PixelRNN


class Drawer(Protocol):
    """What draws the pixels of a batch, one place after the other."""

    @property
    def num_draws(self) -> int:
        """Random numbers with which a pixel is drawn."""

    def draw(self, images: Tensor, row: int, column: int, uniform: Tensor, temperature: float) -> Tensor:
        """Return a pixel of each image, (B, C) in [-1, 1].

        Args:
            images: (B, C, H, W), drawn up to this pixel.
            row: of the pixel.
            column: of the pixel; all those before have been drawn.
            uniform: numbers in [0, 1), float64 (B, `num_draws`).
            temperature: 1 draws from the model's distribution, less draws likelier pixels, 0 the likeliest.
        """


@torch.no_grad()
def sample_pixels(
    model: PixelCNN | PixelRNN,
    seeds: Sequence[int],
    size: tuple[int, int],
    *,
    labels: Tensor | None = None,
    temperature: float = 1.0,
    known: tuple[Tensor, Tensor] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Return an image for each seed, (B, C, H, W) in [-1, 1].

    Pixels that are given influence those after them alone, as these models know what came before and nothing else.

    Args:
        model: in evaluation mode.
        seeds: B numbers.
        size: height and width.
        labels: int64 (B,), for a model with classes.
        temperature: below 1 draws likelier pixels.
        known: images (B, C, H, W) and a bool mask (B, H, W) of those of their pixels that are kept.
        progress: called with the numbers of finished pixels and of all pixels.
    """
    height, width = size
    weights = next(model.parameters())
    device, exact = weights.device, torch.promote_types(weights.dtype, torch.float32)  # 16 bits cannot tell 256 levels
    images = torch.zeros(len(seeds), model.channels, height, width, dtype=exact, device=device)
    kept = torch.zeros(len(seeds), height, width, dtype=torch.bool, device=device)
    if known is not None:
        images, kept = torch.where(known[1].unsqueeze(1), known[0].to(images), images), known[1]
    drawer: Drawer = (
        IncrementalPixelCNN(model, len(seeds), size, labels)
        if isinstance(model, PixelCNN)
        else IncrementalPixelRNN(model, len(seeds), width, labels)
    )
    for place in range(height * width):
        row, column = divmod(place, width)
        numbers = uniform(seeds, [place], drawer.num_draws, device)[:, 0]
        pixel = drawer.draw(images, row, column, numbers, temperature).to(images)
        images[:, :, row, column] = torch.where(kept[:, row, column, None], images[:, :, row, column], pixel)
        progress(place + 1, height * width)
    return images
