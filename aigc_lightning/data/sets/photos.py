"""Crops of photographs that ship inside scikit-learn and scikit-image. Nothing is downloaded.

Sources: scikit-image's `data` (astronaut: NASA; rocket: SpaceX; camera: L. Varshney; chelsea: S. van der Walt; coffee:
R. Michetti; brick, grass and gravel: CC0Textures; motorcycle: D. Scharstein; all in the public domain, CC0 or without
known restrictions) and scikit-learn's sample images (china: D. Buechele; flower: vultilion; both CC BY 2.0).
Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, ImageDataModule, Visits
from aigc_lightning.data.decode import CorruptImageError, decode
from aigc_lightning.data.folders.find_images import find_images
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

    def __init__(self, photos: "Sequence[Tensor] | PhotoFiles", size: int, num: int) -> None:
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


class PhotoFiles:
    """The pictures of files, uint8 (C, H, W) each, decoded whenever they are asked for.

    Args:
        root: folder of the files.
        names: of the files, relative to it.
        channels: C.
        size: height and width in pixels that pictures must have at least.
    """

    def __init__(self, root: Path, names: Sequence[str], channels: int, size: int) -> None:
        self._root, self._names, self._channels, self._size = root, names, channels, size

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._names)

    def __getitem__(self, number: int) -> Tensor:
        """Return a picture.

        Raises:
            CorruptImageError: the file cannot be read, or its picture is too small.
        """
        path = self._root / self._names[number]
        photo = decode(path, self._channels)
        if min(photo.shape[1:]) < self._size:
            height, width = photo.shape[1:]
            raise CorruptImageError(path, f"its {width}x{height} pixels are fewer than a crop's {self._size}")
        return photo


class Photos(ImageDataModule):
    """Crops of eleven photographs, to train and try restoration without any files, or of a folder of photographs.

    The crops keep the photographs' original pixels: nothing is resized. Training crops are cut from nine photographs
    (`TRAIN_PHOTOS`), at different positions in each epoch; three of the nine are grey textures and one is a grey
    photograph. Two further photographs (`VAL_PHOTOS`) are held out and cut into non-overlapping tiles.

    With a root, training crops are cut from the pictures below that folder instead, and the same two photographs are
    held out. The files are decoded again for every crop, so large ones need several `num_workers`.

    Args:
        root: a folder of pictures to train on, each at least as large as a crop; None for the nine photographs.
        size: height and width of a crop in pixels, from 8 to 256.
        channels: 1 (grey) or 3 (RGB).
        num_train: number of crops in an epoch.
        batch_size: images per process in a step.
        num_workers: number of loader processes; without a root 0 is fastest, since the photographs are in memory.
        augmentation: augmentation during training, besides random cropping.

    Raises:
        UserError: a size, number of channels or number of crops out of range; on first use of the data: no such folder,
            or no pictures in it.
    """

    def __init__(
        self,
        size: int = 64,
        channels: int = 3,
        num_train: int = 2048,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
        root: str | Path | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, augmentation)
        if not 8 <= size <= 256:
            raise UserError(f"data.size is {size} pixels.", "The photographs are small: give 8 or more, up to 256.")
        if channels not in (1, 3):
            raise UserError(f"data.channels is {channels}.", "Give 1 (grey) or 3 (RGB).")
        if num_train < 1:
            raise UserError(f"data.num_train is {num_train}.", "Give at least 1 crop.")
        self.size, self.channels, self.num_train = size, channels, num_train
        self.root = None if root is None else Path(root).expanduser()

    @property
    def spec(self) -> ImageSpec:
        """`size` x `size`, without labels."""
        return ImageSpec(self.channels, self.size, self.size)

    def train_source(self) -> CropSource:
        """Return random crops of the training photographs."""
        photos: Sequence[Tensor] | PhotoFiles
        if self.root is None:
            photos = [load_photo(name, self.channels) for name in TRAIN_PHOTOS]
        else:
            photos = PhotoFiles(self.root, self._names, self.channels, self.size)
        return CropSource(photos, self.size, self.num_train)

    def val_source(self) -> ArraySource:
        """Return the tiles of the held-out photographs."""
        photos = (load_photo(name, self.channels) for name in VAL_PHOTOS)
        return ArraySource(torch.cat([tiles(photo, self.size) for photo in photos]))

    @cached_property
    def _names(self) -> Sequence[str]:
        assert self.root is not None
        if not self.root.is_dir():
            raise UserError(f"data.root {shown(self.root)} is no folder.", "Give a folder of pictures.")
        names = find_images(self.root).names
        if not names:
            raise UserError(f"There are no pictures in {shown(self.root)}.", "Give a folder of pictures.")
        return names


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
