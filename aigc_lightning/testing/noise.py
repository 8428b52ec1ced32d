"""Noise images of any shape and for any task, to test models on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.core.batch import IMAGE_KEYS
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, FieldSource, ImageDataModule, ImageSamples, ImageSource, Visits
from aigc_lightning.errors import UserError

_TEXTS = ("one circle", "two squares", "three stars", "four hearts")


class NoiseImages(ImageDataModule):
    """Uniform noise, the same in every run.

    Args:
        channels: C.
        height: H in pixels.
        width: W in pixels.
        num_classes: number of classes; 0 for images without labels.
        task: "generation", "paired", "unpaired" or "restoration": which keys a batch has.
        num_images: number of training images, and of held-out images.
        batch_size: images per process in a step.
        num_workers: number of loader processes.
        captions: whether samples have a `caption`, one of four.
        masks: whether samples have a `mask`, a rectangle.
        scale: by which images are larger than the degraded ones; a divisor of the height and width.

    Raises:
        UserError: an unknown task.
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
        captions: bool = False,
        masks: bool = False,
        scale: int = 1,
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
        self.captions, self.masks, self.scale = captions, masks, scale

    @property
    def spec(self) -> ImageSpec:
        """The requested spec."""
        names = tuple(str(number) for number in range(self.num_classes))
        return ImageSpec(*self.shape, names, self.task, self.captions, self.masks, self.scale)

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

    def samples(
        self, source: ImageSource | FieldSource, seed: int = 0, augmentation: Augment | None = None
    ) -> ImageSamples:
        """Return the dataset that fetches batches with the keys of the task."""
        return _TaskSamples(source, self.spec)


class _TaskSamples(ImageSamples):
    """Samples with what a spec says; a sample's further images are its first one upside down."""

    def __init__(self, source: ImageSource | FieldSource, spec: ImageSpec) -> None:
        super().__init__(source)
        self.spec = spec

    def fields(self, visits: Visits) -> dict[str, Any]:
        """Return the samples of these visits."""
        fields = super().fields(visits)
        image = fields.pop("image")
        first, *others = IMAGE_KEYS[self.spec.task]
        fields = {first: image, **{key: image.flip(-2) for key in others}, **fields}
        if self.spec.scale != 1:
            step = int(self.spec.scale)
            fields["degraded"] = fields["degraded"][..., ::step, ::step]
        if self.spec.captions:
            fields["caption"] = [_TEXTS[index % len(_TEXTS)] for index in visits.indices.tolist()]
        if self.spec.masks:
            fields["mask"] = torch.stack([_rectangle(image.shape[-2:], index) for index in visits.indices.tolist()])
        return fields


def _rectangle(size: Sequence[int], index: int) -> Tensor:
    """Return a mask, uint8 (1, H, W), of about a quarter of the image, in one of its corners."""
    height, width = ((length + 1) // 2 for length in size)
    mask = torch.zeros((1, *size), dtype=torch.uint8)
    mask[:, :height, :width] = 255
    return mask.flip([side for side, turned in ((1, index & 1), (2, index & 2)) if turned])
