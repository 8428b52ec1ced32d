"""Images of noise in any shape and for any task, to try models on."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.core.sampler import SampleKey
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ArraySource, ImageDataModule, ImageSamples, StreamLoader
from aigc_lightning.errors import UserError

#: The image keys of a batch, by task.
IMAGE_KEYS: dict[str, tuple[str, ...]] = {
    "generation": ("image",),
    "paired": ("source", "target"),
    "unpaired": ("image_a", "image_b"),
    "restoration": ("image", "degraded"),
}


class NoiseImages(ImageDataModule):
    """Uniform noise, the same at every run.

    Args:
        channels: C.
        height: H in pixels.
        width: W in pixels.
        num_classes: labels to hand out; 0 for images without labels.
        task: "generation", "paired", "unpaired" or "restoration": which keys a batch has.
        num_images: images to train on, and to hold out.
        batch_size: images per process in a step.
        num_workers: loader processes.

    Raises:
        UserError: a task that does not exist.
    """

    def __init__(
        self,
        channels: int = 3,
        height: int = 32,
        width: int = 32,
        num_classes: int = 0,
        task: str = "generation",
        num_images: int = 16,
        batch_size: int = 4,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        if task not in IMAGE_KEYS:
            raise UserError(f"data.task is {task!r}.", f"Give one of {', '.join(IMAGE_KEYS)}.")
        self.shape, self.num_classes, self.task, self.num_images = (
            (channels, height, width),
            num_classes,
            task,
            num_images,
        )

    @property
    def spec(self) -> ImageSpec:
        """What was asked for."""
        return ImageSpec(*self.shape, tuple(str(number) for number in range(self.num_classes)), self.task)

    def train_source(self) -> ArraySource:
        """Return noise."""
        return self._noise(0)

    def val_source(self) -> ArraySource:
        """Return other noise."""
        return self._noise(1)

    def _noise(self, part: int) -> ArraySource:
        generator = keyed.generator(part, *self.shape)
        images = torch.randint(256, (self.num_images, *self.shape), generator=generator, dtype=torch.uint8)
        return ArraySource(images, torch.arange(self.num_images) % self.num_classes if self.num_classes else None)

    def _loader(self, samples: ImageSamples, **order: Any) -> StreamLoader:
        return super()._loader(_TaskSamples(samples.source, self.task), **order)


class _TaskSamples(ImageSamples):
    """Samples under the keys of a task; further images of a sample are its first one upside down."""

    def __init__(self, source: Any, task: str) -> None:
        super().__init__(source)
        self.task = task

    def __getitems__(self, keys: Sequence[int | SampleKey]) -> Any:
        """Return the batch of these keys."""
        batch = cast(dict[str, Tensor], super().__getitems__(keys))
        image = batch.pop("image")
        first, *others = IMAGE_KEYS[self.task]
        return {first: image, **{key: image.flip(-2) for key in others}, **batch}
