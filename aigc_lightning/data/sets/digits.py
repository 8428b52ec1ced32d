"""Handwritten digits that ship inside scikit-learn.

Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998 (the test part: 1,797 digits by 13
writers, 8x8 with 17 grey levels). Nothing is downloaded.
"""

from functools import cache

import torch
from torch.nn import functional

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, ImageDataModule
from aigc_lightning.errors import UserError


class Digits(ImageDataModule):
    """1,797 grey digits in ten classes, enlarged from 8x8.

    A stratified 20 % is held out; the split is fixed and does not depend on the seed of the run.

    Args:
        size: height and width in pixels, from 8 to 512; bicubic above 8.
        batch_size: images per process in a step.
        num_workers: number of loader processes; 0 is fastest, since the images are in memory.
        augmentation: augmentation during training. Flips turn most digits into something else.
        balanced: show all classes equally often during training, whatever their share of the images.

    Raises:
        UserError: a size out of range.
    """

    def __init__(
        self,
        size: int = 32,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__(batch_size, num_workers, augmentation, balanced)
        if not 8 <= size <= 512:
            raise UserError(f"data.size is {size} pixels.", "The digits are 8x8: give 8 or more, up to 512.")
        self.size = size

    @property
    def spec(self) -> ImageSpec:
        """Grey, `size` x `size`, ten classes."""
        return ImageSpec(1, self.size, self.size, tuple("0123456789"))

    def train_source(self) -> ArraySource:
        """Return 80 % of each class."""
        return _digits(self.size)[0]

    def val_source(self) -> ArraySource:
        """Return the remaining 20 %."""
        return _digits(self.size)[1]


@cache
def _digits(size: int) -> tuple[ArraySource, ArraySource]:
    from sklearn.datasets import load_digits  # the import takes a second; only runs on digits should pay for it
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) * (255 / 16)
    images = functional.interpolate(small, size=(size, size), mode="bicubic", align_corners=False)
    images = images.round().clamp(0, 255).to(torch.uint8)
    targets = torch.from_numpy(labels).long()
    split = train_test_split(range(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    train, val = (ArraySource(images[torch.tensor(part)], targets[torch.tensor(part)]) for part in split)
    return train, val
