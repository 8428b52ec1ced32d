"""Any images beside spoilt versions of themselves, for restoration."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import FieldSource, ImageDataModule, ImageSamples, ImageSource, Visits
from aigc_lightning.data.corruptions import Corruption, GaussianNoise, corrupt
from aigc_lightning.data.sets.photos import Photos
from aigc_lightning.errors import UserError


class DegradedSamples(ImageSamples):
    """Samples with `image` and, spoilt after augmentation, `degraded`.

    Args:
        source: the clean images.
        corruptions: what to do to them.
        seed: of augmentation and corruption.
        augmentation: what to vary, or None.
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
        """Return `image` uint8 (B, C, H, W) and `degraded` uint8 (B, C, h, w)."""
        image = super().fields(visits)["image"]
        keys = [(visits.seed, int(epoch), int(index)) for epoch, index in zip(*visits[1:], strict=True)]
        return {"image": image, "degraded": corrupt(image, self.corruptions, keys)}


class DegradedImages(ImageDataModule):
    """Clean images of any data with their degraded versions.

    What is done to an image in training is a function of (seed, epoch, index); held-out images are always degraded in
    the same way. The clean images are varied first, then degraded.

    Args:
        data: where the clean images come from; its batch size, workers and labels are not used. Photos when None.
        corruptions: in this order; Gaussian noise of standard deviation 25 when None.
        batch_size: images per process in a step.
        num_workers: loader processes.
        augmentation: what to vary while training; that of `data` when None.

    Raises:
        UserError: data of pairs, or no corruption.
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
        """That of the clean images, without classes."""
        clean = self.data.spec
        if clean.task != "generation":
            what = f"data.data gives {clean.task} images, not single ones to degrade."
            raise UserError(what, "Choose data such as photos or image_folder.")
        return replace(clean, class_names=(), task="restoration")

    def prepare_data(self) -> None:
        """Prepare the clean images."""
        self.data.prepare_data()

    def train_source(self) -> ImageSource | FieldSource:
        """Return the clean images to train on."""
        return self.data.train_source()

    def val_source(self) -> ImageSource | FieldSource:
        """Return the clean images that are held out."""
        return self.data.val_source()

    def test_source(self) -> ImageSource | FieldSource:
        """Return the clean images to test on."""
        return self.data.test_source()

    def samples(
        self, source: ImageSource | FieldSource, seed: int = 0, augmentation: Augment | None = None
    ) -> DegradedSamples:
        """Return what fetches clean images and degrades them."""
        return DegradedSamples(source, self.corruptions, seed, augmentation)
