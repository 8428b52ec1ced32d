"""Photographs and styles that ship inside scikit-image and scikit-learn, to train style transfer without any files.

Sources: the photographs of the data `photos`, and the pictures of `pictures.BUNDLED`.
Shapes: B batch, C = 3 channels, H and W height and width in pixels.
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import torch
from aigc_lightning.core import keyed
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import FieldSource, ImageDataModule, ImageSource, Visits
from aigc_lightning.data.sets.photos import CropSource, Photos
from torch import Tensor

from aigc_style.pictures import BUNDLED, read_style

_STYLE = 0x57  # added to the seed, so that photograph and style are drawn independently
_ORDER, _NEGATIVE = 3, 4  # kinds of draws, beside those of a crop
_ORDERS = tuple(permutations(range(3)))


class PhotosAndStyles(ImageDataModule):
    """Crops of photographs (A), with crops of pictures with much texture as styles (B).

    The photographs are those of `photos`; two of them are held out. The styles are five pictures, of which each crop
    has its colours exchanged and perhaps inverted at random, so that there are 12 times as many. For pictures of your
    own use `unpaired_images`.

    Args:
        size: height and width of a crop in pixels, from 8 to 256.
        num_train: number of pairs in an epoch.
        batch_size: pairs per process in a step.
        num_workers: number of loader processes; 0 is fastest, since the pictures are in memory.
        augmentation: augmentation during training, besides random cropping; independent for the two.

    Raises:
        UserError: a size or a number of crops out of range.
    """

    aigc_api = 1

    def __init__(
        self,
        size: int = 128,
        num_train: int = 2048,
        batch_size: int = 4,
        num_workers: int = 0,
        augmentation: Augment | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, augmentation)
        self.photos = Photos(size, 3, num_train)
        self.size = size

    @property
    def spec(self) -> ImageSpec:
        """`size` x `size`, unpaired."""
        return ImageSpec(3, self.size, self.size, task="unpaired")

    def train_source(self) -> FieldSource:
        """Return random crops of the training photographs, each with one of a style."""
        return PairSource(self.photos.train_source(), self.photos.num_train, self.size)

    def val_source(self) -> FieldSource:
        """Return the tiles of the held-out photographs, each with a crop of a style."""
        tiles = self.photos.val_source()
        return PairSource(tiles, len(tiles), self.size)


class PairSource:
    """Photographs, each with a crop of a style.

    Args:
        photos: random crops, or images.
        num: number of pairs.
        size: height and width of a crop in pixels.
    """

    def __init__(self, photos: FieldSource | ImageSource, num: int, size: int) -> None:
        self._photos, self._num = photos, num
        self._styles = CropSource([to_uint8(read_style(name)[0][0]) for name in BUNDLED], size, num)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return self._num

    def fields(self, visits: Visits) -> dict[str, Tensor]:
        """Return `image_a` and `image_b`, uint8 (B, C, H, W) each."""
        if isinstance(self._photos, CropSource):
            photos = self._photos.fields(visits)["image"]
        else:
            photos = self._photos.images(visits.indices.tolist())  # type: ignore[union-attr]
        drawn = Visits(visits.seed + _STYLE, visits.epochs, visits.indices)
        styles = self._styles.fields(drawn)["image"]
        order, negative = (keyed.uniform(*drawn, kind) for kind in (_ORDER, _NEGATIVE))
        return {"image_a": photos, "image_b": torch.stack(list(map(_recolored, styles, order, negative)))}

    def labels(self, indices: Sequence[int]) -> None:
        """Return None: crops have no labels."""


def _recolored(style: Tensor, order: np.float64, negative: np.float64) -> Tensor:
    """Return a style (C, H, W) with its channels in another order, and inverted half of the time."""
    changed = style[list(_ORDERS[int(order * len(_ORDERS))])]
    return 255 - changed if negative < 0.5 else changed
