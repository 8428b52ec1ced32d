"""Crops of photographs that ship inside scikit-learn and scikit-image. Nothing is downloaded.

Sources: scikit-image's `data` (astronaut: NASA; rocket: SpaceX; camera: L. Varshney; chelsea: S. van der Walt; coffee:
R. Michetti; brick, grass and gravel: CC0Textures; motorcycle: D. Scharstein; all in the public domain, CC0 or without
known restrictions) and scikit-learn's sample images (china: D. Buechele; flower: vultilion; both CC BY 2.0).
Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, ImageDataModule, Visits
from aigc_lightning.errors import UserError

#: Photographs for training and for validation; none is in both.
TRAIN_PHOTOS = ("china", "flower", "astronaut", "motorcycle", "rocket", "camera", "brick", "grass", "gravel")
VAL_PHOTOS = ("chelsea", "coffee")

_FROM_SCIKIT_LEARN = ("china", "flower")
_PHOTO, _TOP, _LEFT = range(3)  # kinds of draws


class CropSource:
    """Random crops, drawn anew at each visit.

    Args:
        photos: uint8 (C, H, W) each, of any size from `size` up.
        size: height and width of a crop in pixels.
        num: number of crops in an epoch.
    """

    def __init__(self, photos: Sequence[Tensor], size: int, num: int) -> None:
        self._photos, self._size, self._num = photos, size, num

    def __len__(self) -> int:
        """Return the number of crops in an epoch."""
        return self._num

    def fields(self, visits: Visits) -> dict[str, Tensor]:
        """Return `image`, uint8 (B, C, size, size): all photographs are equally likely, as are all positions in one."""
        photo, top, left = (keyed.uniform(*visits, kind) for kind in (_PHOTO, _TOP, _LEFT))
        return {"image": torch.stack([self._crop(*place) for place in zip(photo, top, left, strict=True)])}

    def labels(self, indices: Sequence[int]) -> None:
        """Return None: crops have no labels."""

    def _crop(self, which: float, top: float, left: float) -> Tensor:
        photo = self._photos[int(which * len(self._photos))]
        _, height, width = photo.shape
        first, second = int(top * (height - self._size + 1)), int(left * (width - self._size + 1))
        return photo[:, first : first + self._size, second : second + self._size]


class Photos(ImageDataModule):
    """Crops of eleven photographs, to train and try restoration without any files.

    The crops keep the photographs' original pixels: nothing is resized. Training crops are cut from nine photographs
    (`TRAIN_PHOTOS`), at different positions in each epoch; three of the nine are grey textures and one is a grey
    photograph. Two further photographs (`VAL_PHOTOS`) are held out and cut into non-overlapping tiles.

    Args:
        size: height and width of a crop in pixels, from 8 to 256.
        channels: 1 (grey) or 3 (RGB).
        num_train: number of crops in an epoch.
        batch_size: images per process in a step.
        num_workers: number of loader processes; 0 is fastest, since the photographs are in memory.
        augmentation: augmentation during training, besides random cropping.

    Raises:
        UserError: a size, number of channels or number of crops out of range.
    """

    def __init__(
        self,
        size: int = 64,
        channels: int = 3,
        num_train: int = 2048,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, augmentation)
        if not 8 <= size <= 256:
            raise UserError(f"data.size is {size} pixels.", "The photographs are small: give 8 or more, up to 256.")
        if channels not in (1, 3):
            raise UserError(f"data.channels is {channels}.", "Give 1 (grey) or 3 (RGB).")
        if num_train < 1:
            raise UserError(f"data.num_train is {num_train}.", "Give at least 1 crop.")
        self.size, self.channels, self.num_train = size, channels, num_train

    @property
    def spec(self) -> ImageSpec:
        """`size` x `size`, without labels."""
        return ImageSpec(self.channels, self.size, self.size)

    def train_source(self) -> CropSource:
        """Return random crops of the training photographs."""
        return CropSource([load_photo(name, self.channels) for name in TRAIN_PHOTOS], self.size, self.num_train)

    def val_source(self) -> ArraySource:
        """Return the tiles of the held-out photographs."""
        photos = (load_photo(name, self.channels) for name in VAL_PHOTOS)
        return ArraySource(torch.cat([tiles(photo, self.size) for photo in photos]))


def tiles(photo: Tensor, size: int) -> Tensor:
    """Cut a photograph (C, H, W) into tiles (N, C, size, size), row by row; remainders at the edges are dropped."""
    grid = photo.unfold(1, size, size).unfold(2, size, size)  # (C, rows, columns, size, size)
    return grid.flatten(1, 2).transpose(0, 1).contiguous()


@cache
def load_photo(name: str, channels: int = 3) -> Tensor:
    """Return a photograph of `TRAIN_PHOTOS` or `VAL_PHOTOS`, uint8 (C, H, W), C being 1 or 3."""
    if name in _FROM_SCIKIT_LEARN:
        from sklearn.datasets import load_sample_image  # a slow import, for photographs only

        pixels = load_sample_image(f"{name}.jpg")
    else:
        from skimage import data

        loaded = getattr(data, "stereo_motorcycle" if name == "motorcycle" else name)()
        pixels = loaded[0] if name == "motorcycle" else loaded  # a stereo pair: take the left image
    picture = Image.fromarray(pixels).convert("L" if channels == 1 else "RGB")
    return torch.from_numpy(np.array(picture)).view(picture.height, picture.width, channels).permute(2, 0, 1).clone()
