"""Images of any data with holes, for inpainting."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
from aigc_lightning import ImageDataModule, ImageSpec, UserError
from aigc_lightning.core import keyed
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import FieldSource, ImageSamples, ImageSource, Visits
from aigc_lightning.data.sets.photos import Photos

from aigc_restore.data.masks import MaskKind, random_mask

_KIND, _SHARE, _MASK = range(1100, 1103)  # kinds of draws, above those of augmentation and corruptions
_GREY = 128  # in holes of `degraded`


class MaskedSamples(ImageSamples):
    """Samples with `image`, `mask` and `degraded`, the image with grey holes.

    Args:
        source: the whole images.
        kinds: of the masks, equally likely.
        share: range of the holes' share of an image.
        seed: seed of augmentation and masks.
        augmentation: applied to the images, or None.
    """

    def __init__(
        self,
        source: ImageSource | FieldSource,
        kinds: Sequence[MaskKind],
        share: tuple[float, float],
        seed: int = 0,
        augmentation: Augment | None = None,
    ) -> None:
        super().__init__(source, seed, augmentation)
        self.kinds, self.share = kinds, share

    def fields(self, visits: Visits) -> dict[str, Any]:
        """Return `image` and `degraded` uint8 (B, C, H, W), `mask` uint8 (B, 1, H, W), and `caption` if there is."""
        fields = super().fields(visits)
        images = fields["image"]
        keys = [(visits.seed, int(epoch), int(index)) for epoch, index in zip(*visits[1:], strict=True)]
        masks = torch.stack([self._mask(images.shape[-2], images.shape[-1], key) for key in keys])
        kept: dict[str, Any] = {name: fields[name] for name in ("image", "caption") if name in fields}
        return {**kept, "mask": masks, "degraded": torch.where(masks > 0, _GREY, images).to(torch.uint8)}

    def _mask(self, height: int, width: int, key: tuple[int, ...]) -> torch.Tensor:
        kind = self.kinds[int(keyed.uniform(*key, _KIND) * len(self.kinds))]
        low, high = self.share
        share = low + (high - low) * float(keyed.uniform(*key, _SHARE))
        return random_mask(kind, height, width, share, *key, _MASK)


class MaskedImages(ImageDataModule):
    """Images of any data with random holes, for inpainting.

    The mask of a training image is a function of (seed, epoch, index); held-out images always have the same.

    Args:
        data: source of the images; its batch size, workers and labels are not used. Photos by default.
        kinds: of the masks, equally likely: "irregular" (strokes), "box", "outpainting" (one side) and "text".
        share: least and largest share of an image that a hole has, approximately.
        batch_size: images per process in a step.
        num_workers: number of loader processes.
        augmentation: augmentation during training; that of `data` by default.

    Raises:
        UserError: paired data, data with masks, an unknown kind, or shares out of range.
    """

    aigc_api = 1

    def __init__(
        self,
        data: ImageDataModule | None = None,
        kinds: Sequence[MaskKind] = ("irregular", "box"),
        share: tuple[float, float] = (0.02, 0.4),
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
    ) -> None:
        self.data = Photos() if data is None else data
        super().__init__(batch_size, num_workers, augmentation or self.data.augmentation)
        if not kinds or any(kind not in get_args(MaskKind) for kind in kinds):
            raise UserError(f"data.kinds is {list(kinds)}.", f"Give some of {', '.join(get_args(MaskKind))}.")
        if len(share) != 2 or not 0 < share[0] <= share[1] < 1:
            raise UserError(f"data.share is {list(share)}.", "Give two numbers between 0 and 1, such as [0.02, 0.4].")
        self.kinds, self.share = list(kinds), (share[0], share[1])

    @property
    def spec(self) -> ImageSpec:
        """The spec of the images, without classes and with masks."""
        whole = self.data.spec
        if whole.task != "generation" or whole.masks:
            what = (
                f"data.data gives {whole.task} images{' with masks' if whole.masks else ''}, not single ones to mask."
            )
            raise UserError(what, "Choose data such as photos or image_folder.")
        return replace(whole, class_names=(), task="restoration", masks=True)

    def prepare_data(self) -> None:
        """Prepare the whole images."""
        self.data.prepare_data()

    def train_source(self) -> ImageSource | FieldSource:
        """Return the whole images to train on."""
        return self.data.train_source()

    def val_source(self) -> ImageSource | FieldSource:
        """Return the held-out whole images."""
        return self.data.val_source()

    def test_source(self) -> ImageSource | FieldSource:
        """Return the whole images to test on."""
        return self.data.test_source()

    def samples(
        self, source: ImageSource | FieldSource, seed: int = 0, augmentation: Augment | None = None
    ) -> MaskedSamples:
        """Return the dataset that fetches images and masks them."""
        return MaskedSamples(source, self.kinds, self.share, seed, augmentation)
