"""Images of two domains without correspondence, from files."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ImageSource, Visits
from aigc_lightning.data.decode import Profile
from aigc_lightning.data.folders.base import FolderData, Resize
from aigc_lightning.data.folders.domains import list_domain
from aigc_lightning.data.folders.listing import Listing
from aigc_lightning.errors import UserError


class UnpairedSource:
    """Two domains side by side; an epoch is as long as the larger one.

    Sample i shows image i of the larger domain. The image of the smaller one is drawn anew in each epoch, such that the
    numbers of visits to its images differ by at most one.

    Args:
        image_a: the first domain.
        image_b: the second domain.
        shuffle: draw at random; otherwise sample i shows image i of both domains, with the smaller one repeated.
    """

    def __init__(self, image_a: ImageSource, image_b: ImageSource, *, shuffle: bool) -> None:
        self._domains, self._shuffle = {"image_a": image_a, "image_b": image_b}, shuffle

    def __len__(self) -> int:
        """Return the number of images of the larger domain."""
        return max(len(images) for images in self._domains.values())

    def fields(self, visits: Visits) -> dict[str, Tensor]:
        """Return `image_a` and `image_b`, uint8 (B, C, H, W) each."""
        longer = "image_a" if len(self._domains["image_a"]) == len(self) else "image_b"
        return {
            name: images.images((visits.indices if name == longer else self._others(visits, len(images))).tolist())
            for name, images in self._domains.items()
        }

    def labels(self, indices: Sequence[int]) -> None:
        """Return None: the two domains are not classes of one batch."""

    def _others(self, visits: Visits, count: int) -> npt.NDArray[np.int64]:
        """Return which of the smaller domain's images are shown."""
        if not self._shuffle:
            return visits.indices % count
        places = [
            _order(len(self), visits.seed, epoch)[index]
            for epoch, index in zip(visits.epochs.tolist(), visits.indices.tolist(), strict=True)
        ]
        return np.array(places, np.int64) % count


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    order: npt.NDArray[np.int64] = keyed.permutation(count, seed, epoch, _PAIRING).numpy()
    return order


_PAIRING = 1  # distinct from the key of the sample order


class UnpairedImages(FolderData):
    """Images of two domains, for unpaired translation.

    The domains A and B are two folders in the root (with or without `train` and `val` inside), two classes of a root
    with splits (`train/A`, `val/A`, ...), or the folders `trainA`, `trainB`, `testA`, `testB`. Which image of the
    smaller domain accompanies which of the larger one is a function of (seed, epoch, index). Held-out images are shown
    in order: if the files of A and B have the same names, images with the same index correspond, and translations can
    be scored against them.

    Splits, unreadable files and resizing are as for `ImageFolder`; the two images of a sample are augmented
    independently.

    Args:
        folder_a: the domain A; a name, or a path relative to the root.
        folder_b: the domain B.
        batch_size: images of each domain per process in a step.

    Raises:
        UserError: an argument out of range, or the same domain twice; on first use of the data: no such folder, no
            images in it, or too many unreadable files.
    """

    def __init__(
        self,
        root: str | Path,
        folder_a: str = "A",
        folder_b: str = "B",
        size: int | tuple[int, int] = 64,
        channels: int = 3,
        resize: Resize = "crop",
        val_share: float = 0.1,
        max_bad: float = 0.01,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
        profile: Profile = "srgb",
    ) -> None:
        super().__init__(
            root, size, channels, resize, val_share, max_bad, batch_size, num_workers, augmentation, profile=profile
        )
        if folder_a == folder_b:
            raise UserError(f'data.folder_a and data.folder_b are both "{folder_a}".', "Give two different folders.")
        self.folder_a, self.folder_b = folder_a, folder_b

    @property
    def spec(self) -> ImageSpec:
        """Channels and size as requested; reads no file."""
        return ImageSpec(*self.shape, task="unpaired")

    def train_source(self) -> UnpairedSource:
        """Return the images to train on."""
        return self._source("train", shuffle=True)

    def val_source(self) -> UnpairedSource:
        """Return the held-out images."""
        return self._source("val", shuffle=False)

    def test_source(self) -> UnpairedSource:
        """Return the images of `test` folders or, without them, the held-out images."""
        return self._source("test", shuffle=False)

    def _source(self, part: str, *, shuffle: bool) -> UnpairedSource:
        first, second = (domain.get(part, domain["val"]) for domain in self._domains)
        return UnpairedSource(first, second, shuffle=shuffle)

    def listings(self) -> list[Listing]:
        """Return the files of A and those of B."""
        return [list_domain(self.root, name, self.val_share).listing for name in (self.folder_a, self.folder_b)]

    @cached_property
    def _domains(self) -> list[dict[str, ImageSource]]:
        return [{**self.load(listing)} for listing in self.listings()]
