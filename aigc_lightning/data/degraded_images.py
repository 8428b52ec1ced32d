"""Images of any data with degraded versions, for restoration."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import FieldSource, ImageDataModule, ImageSamples, ImageSource, Visits
from aigc_lightning.data.corruptions import Corruption, GaussianNoise, corrupt
from aigc_lightning.data.second_order_degradation import SecondOrderDegradation  # noqa: F401  # configs name it
from aigc_lightning.data.sets.photos import Photos
from aigc_lightning.errors import UserError


class DegradedSamples(ImageSamples):
    """Samples with `image` and, corrupted after augmentation, `degraded`.

    Args:
        source: the clean images.
        corruptions: the corruptions to apply.
        seed: seed of augmentation and corruption.
        augmentation: applied to the images, or None.
    """

    def __init__(
        self,
        source: ImageSource | FieldSource,
        corruptions: Sequence[Corruption],
        seed: int = 0,
        augmentation: Augment | None = None,
    ) -> None:
        super().__init__(source, seed, augmentation)
        self.corruptions = corruptions

    def fields(self, visits: Visits) -> dict[str, Any]:
        """Return `image` uint8 (B, C, H, W), `degraded` uint8 (B, C, h, w), and `mask` and `caption` if there are."""
        fields = super().fields(visits)
        keys = [(visits.seed, int(epoch), int(index)) for epoch, index in zip(*visits[1:], strict=True)]
        kept: dict[str, Any] = {name: fields[name] for name in ("image", "mask", "caption") if name in fields}
        return {**kept, "degraded": corrupt(fields["image"], self.corruptions, keys)}


class DegradedImages(ImageDataModule):
    """Clean images of any data with their degraded versions.

    The degradation of a training image is a function of (seed, epoch, index); held-out images are always degraded in
    the same way. The clean images are augmented first, then degraded.

    Args:
        data: source of the clean images; its batch size, workers and labels are not used. Photos by default.
        corruptions: applied in this order; Gaussian noise with standard deviation 25 by default.
        batch_size: images per process in a step.
        num_workers: number of loader processes.
        augmentation: augmentation during training; that of `data` by default.

    Raises:
        UserError: paired data, or no corruption.
    """

    def __init__(
        self,
        data: ImageDataModule | None = None,
        corruptions: list[Corruption] | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
    ) -> None:
        self.data = Photos() if data is None else data
        super().__init__(batch_size, num_workers, augmentation or self.data.augmentation)
        if corruptions is not None and not corruptions:
            raise UserError("data.corruptions is empty.", "Name at least one, such as GaussianNoise.")
        self.corruptions: list[Corruption] = corruptions or [GaussianNoise()]

    @property
    def spec(self) -> ImageSpec:
        """The spec of the clean images, without classes and with the factor by which they are larger."""
        clean = self.data.spec
        if clean.task != "generation":
            what = f"data.data gives {clean.task} images, not single ones to degrade."
            raise UserError(what, "Choose data such as photos or image_folder.")
        scale = math.prod(corruption.scale for corruption in self.corruptions)
        return replace(clean, class_names=(), task="restoration", scale=scale)

    def prepare_data(self) -> None:
        """Prepare the clean images."""
        self.data.prepare_data()

    def train_source(self) -> ImageSource | FieldSource:
        """Return the clean images to train on."""
        return self.data.train_source()

    def val_source(self) -> ImageSource | FieldSource:
        """Return the held-out clean images."""
        return self.data.val_source()

    def test_source(self) -> ImageSource | FieldSource:
        """Return the clean images to test on."""
        return self.data.test_source()

    def samples(
        self, source: ImageSource | FieldSource, seed: int = 0, augmentation: Augment | None = None
    ) -> DegradedSamples:
        """Return the dataset that fetches clean images and degrades them."""
        return DegradedSamples(source, self.corruptions, seed, augmentation)
