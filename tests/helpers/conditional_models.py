"""Tiny models that take prompts, classes, masks and references, to test with what takes them.

Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from aigc_lightning.core.image_model import ImageModel, seeded_normal
from aigc_lightning.core.spec import ImageSpec

_WORDS = 64  # rows of the table that words are hashed into


class Painter(ImageModel):
    """Draws one colour per image, learnt for each word of the captions and for each class, with some noise.

    Args:
        spec: format of the images.
        lr: learning rate.
    """

    aigc_api = 1
    needs: ClassVar[tuple[str, ...]] = ("caption",)

    def __init__(self, spec: ImageSpec, lr: float = 0.1) -> None:
        super().__init__(spec)
        self.lr = lr
        self.words = nn.EmbeddingBag(_WORDS, spec.channels)
        self.classes = nn.Embedding(max(1, spec.num_classes), spec.channels)

    def sample(
        self,
        seeds: Sequence[int],
        labels: Sequence[int] | None = None,
        prompts: Sequence[str] | None = None,
        *,
        noise: float = 0.1,
    ) -> Tensor:
        """Return one image per seed, (B, C, H, W) in [-1, 1].

        Args:
            seeds: non-negative.
            labels: the class of each image; 0 by default.
            prompts: the text of each image; empty by default.
            noise: standard deviation of the noise.
        """
        with self.inference():
            colours = self.colours(prompts or [""] * len(seeds), torch.tensor(labels or [0] * len(seeds)))
            images: Tensor = colours[:, :, None, None] + noise * seeded_normal(seeds, *self.spec.shape).to(self.device)
        return images.clamp(-1, 1)

    def colours(self, prompts: Sequence[str], labels: Tensor) -> Tensor:
        """Return the colour (B, C) of texts and classes (B,)."""
        rows = [[crc32(word.encode()) % _WORDS for word in text.split()] or [0] for text in prompts]
        offsets = torch.tensor([0, *map(len, rows)][:-1], device=self.device).cumsum(0)
        words = torch.tensor([row for text in rows for row in text], device=self.device)
        colours: Tensor = torch.tanh(self.words(words, offsets) + self.classes(labels.to(self.device)))
        return colours

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the squared error of the mean colours."""
        images = batch["image"]
        labels = batch.get("label", torch.zeros(len(images), dtype=torch.int64))
        loss: Tensor = (self.colours(batch["caption"], labels) - images.mean((2, 3))).square().mean()
        return loss * self.share

    def configure_optimizers(self) -> Optimizer:
        """Return plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Filler(ImageModel):
    """Fills the masked region with a colour learnt, mixed with that of a reference and moved by a prompt.

    Args:
        spec: format of the images.
        lr: learning rate.
    """

    aigc_api = 1
    needs = ("mask",)
    size_multiple = 1
    keeps_unmasked = True

    def __init__(self, spec: ImageSpec, lr: float = 0.1) -> None:
        super().__init__(spec)
        self.lr = lr
        self.colour = nn.Parameter(torch.zeros(spec.channels, 1, 1))

    def edit(
        self,
        images: Tensor,
        masks: Tensor,
        references: Tensor | None = None,
        prompts: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        *,
        strength: float = 1.0,
    ) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] with the masked region filled.

        Args:
            images: in [-1, 1], of any size.
            masks: (B, 1, H, W), 1 where the image is filled.
            references: (B, C, h, w) in [-1, 1], whose mean colour is used.
            prompts: texts, which move the colour.
            seeds: one per image, for the noise of the filling.
            strength: weight of the filling.
        """
        images, masks = images.to(self.device), masks.to(self.device)
        with self.inference():
            fill = self.colour.expand(len(images), -1, -1, -1)
            if references is not None:
                fill = fill + references.to(self.device).mean((2, 3), keepdim=True)
            if prompts is not None:
                moved = torch.tensor([crc32(text.encode()) % 100 / 200 for text in prompts], device=self.device)
                fill = fill + moved[:, None, None, None]
            if seeds is not None:
                fill = fill + 0.1 * seeded_normal(seeds, *self.colour.shape).to(self.device)
            return torch.where(masks > 0, images.lerp(fill.clamp(-1, 1), strength), images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the squared error of the filling."""
        errors = (self.colour - batch["image"]).square() * batch["mask"]
        loss: Tensor = errors.mean() * self.share
        return loss

    def configure_optimizers(self) -> Optimizer:
        """Return plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Doubler(ImageModel):
    """Doubles the height and width of images, darkened by a learnt amount.

    Args:
        spec: format of the images.
    """

    aigc_api = 1
    size_multiple = 1
    scale = 2
    reach = 10  # less in fact

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.dark = nn.Parameter(torch.zeros(()))

    def edit(self, images: Tensor) -> Tensor:
        """Return images (B, C, 2 H, 2 W) in [-1, 1]."""
        with self.inference():
            large = images.to(self.device).repeat_interleave(2, 2).repeat_interleave(2, 3)
            darker: Tensor = (large - self.dark).clamp(-1, 1)
        return darker

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the squared distance from a little darkness."""
        return (self.dark - 0.1).square() * self.share

    def configure_optimizers(self) -> Optimizer:
        """Return plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.1)
