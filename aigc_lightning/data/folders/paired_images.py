"""Aligned image pairs for translation, from files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, Visits
from aigc_lightning.data.console import warn
from aigc_lightning.data.decode import Profile, decode, decode_halves
from aigc_lightning.data.folders.base import FolderData, Resize
from aigc_lightning.data.folders.domains import list_domain
from aigc_lightning.data.folders.files import FileSource, load_files
from aigc_lightning.data.folders.listing import Listing, list_images
from aigc_lightning.data.packed_strings import PackedStrings
from aigc_lightning.errors import UserError

Pairs = Literal["halves", "folders", "edges", "grey"]
Direction = Literal["AtoB", "BtoA"]
#: Sources of pairs.
PAIRS: tuple[Pairs, ...] = get_args(Pairs)


class PairSource:
    """Pairs stored as images with twice the channels.

    Args:
        joined: images with A in the first half of the channels and B in the second.
        direction: "AtoB" or "BtoA".
    """

    def __init__(self, joined: ArraySource | FileSource, direction: Direction) -> None:
        self._joined, self._direction = joined, direction

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._joined)

    def fields(self, visits: Visits) -> dict[str, Tensor]:
        """Return both images, uint8 (B, C, H, W) each."""
        first, second = self._joined.images(visits.indices.tolist()).chunk(2, dim=1)
        source, target = (first, second) if self._direction == "AtoB" else (second, first)
        return {"source": source, "target": target}

    def labels(self, indices: Sequence[int]) -> None:
        """Return None: pairs have no labels."""


class PairedImages(FolderData):
    """Aligned pairs: files with two halves, files in two folders, or images with derived versions.

    The values of `pairs`, and the sources of A and B:

    - "halves": each file shows A in its left half and B in its right half.
    - "folders": files with the same name in two folders, ignoring extensions: `folder_a` and `folder_b` in the root
      (with or without `train` and `val` inside), or `train/A`, `train/B`, `val/A`, `val/B`, or `trainA`, `trainB` and
      so on. Without splits, pairs are split by a hash of the names in A.
    - "edges": B is the image of a file, A its edges in black on white (Canny, PAMI 1986).
    - "grey": B is the image of a file, A its grey version.

    `source` is A and `target` is B, or vice versa with the direction "BtoA". Splits, unreadable files and resizing are
    as for `ImageFolder`; both images of a pair are augmented alike.

    Args:
        pairs: "halves", "folders", "edges" or "grey".
        folder_a: the folder of A for "folders".
        folder_b: the folder of B.
        direction: "AtoB" or "BtoA".
        val_share: share of the pairs to hold out where the root has no splits, between 0 and 1.
        max_bad: share of the pairs that may have a bad file, from 0 to 1.
        batch_size: pairs per process in a step.

    Raises:
        UserError: an argument out of range; on first use of the data: no such folder, no images in it, files without a
            partner, or too many unreadable files.
    """

    def __init__(
        self,
        root: str | Path,
        pairs: Pairs = "halves",
        folder_a: str = "A",
        folder_b: str = "B",
        direction: Direction = "AtoB",
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
        if pairs not in PAIRS:
            raise UserError(f'data.pairs is "{pairs}".', f"Give one of {', '.join(PAIRS)}.")
        if direction not in ("AtoB", "BtoA"):
            raise UserError(f'data.direction is "{direction}".', 'Give "AtoB" or "BtoA".')
        self.pairs, self.folder_a, self.folder_b, self.direction = pairs, folder_a, folder_b, direction

    @property
    def spec(self) -> ImageSpec:
        """Channels and size as requested; reads no file."""
        return ImageSpec(*self.shape, task="paired")

    def train_source(self) -> PairSource:
        """Return the pairs to train on."""
        return self._sources["train"]

    def val_source(self) -> PairSource:
        """Return the held-out pairs."""
        return self._sources["val"]

    def test_source(self) -> PairSource:
        """Return the pairs of a `test` folder or, without one, the held-out pairs."""
        return self._sources.get("test", self._sources["val"])

    def listings(self) -> list[Listing]:
        """Return the image files, separately for A and B if they are in two folders."""
        listing = replace(self._listing, partners=None)
        partners = self._listing.partners
        return [listing] if partners is None else [listing, replace(listing, parts=partners, passed_over=(), others={})]

    @cached_property
    def _listing(self) -> Listing:
        """The files of the pairs, with their partners if they are in two folders."""
        return self._pairs() if self.pairs == "folders" else list_images(self.root, self.val_share, "none")

    @cached_property
    def _sources(self) -> dict[str, PairSource]:
        # Not a method: it is sent to loader processes, and a method would drag along the trainer and its model.
        read = partial(_read_pair, pairs=self.pairs, shape=self.shape, resize=self.resize, profile=self.profile)
        channels, *sides = self.shape
        shape = (2 * channels, sides[0], sides[1])
        joined = load_files(self._listing, read, shape, self.max_bad, self.num_workers)
        return {part: PairSource(source, self.direction) for part, source in joined.items()}

    def _pairs(self) -> Listing:
        """Return the files of A with those of B as their partners."""
        first, second = (list_domain(self.root, name, self.val_share) for name in (self.folder_a, self.folder_b))
        places = {  # of the files of B; if A's split applies to B, in any part
            key if first.listing.by_name else (part, key): (part, number)
            for part in second.listing.parts
            for number, key in enumerate(second.keys(part))
        }
        partners, lonely = {}, []
        for part, names in first.listing.parts.items():
            keys = (key if first.listing.by_name else (part, key) for key in first.keys(part))
            found = [places.get(key) for key in keys]
            lonely += [names[number] for number, place in enumerate(found) if place is None]
            partners[part] = PackedStrings(second.listing.parts[place[0]][place[1]] for place in found if place)
        if lonely:
            what = f"{len(lonely)} of {len(first.listing)} images of {self.folder_a} have no partner in {self.folder_b}"
            more = ", ..." if len(lonely) > 3 else ""
            hint = "Partners have the same name, apart from the extension. Remove images without a partner."
            raise UserError(f"{what} in {shown(self.root)}: {', '.join(map(shown, lonely[:3]))}{more}.", hint)
        if unused := len(second.listing) - len(first.listing):
            folders = shown(self.folder_b), shown(self.folder_a)
            warn("%d images of %s have no partner in %s and are not used.", unused, *folders)
        passed_over = (*first.listing.passed_over, *second.listing.passed_over)
        others = Counter(first.listing.others) + Counter(second.listing.others)
        return replace(first.listing, partners=partners, passed_over=passed_over, others=others)


def edges(image: Tensor) -> Tensor:
    """Return the edges of an image, uint8 (C, H, W): black on white, with opaque alpha if any."""
    from skimage.feature import canny  # the import takes half a second; only edges should pay for it

    brightness = grey(image)[0].numpy() / 255
    lines = canny(brightness, sigma=max(1.0, min(brightness.shape) / 80))
    drawing = torch.from_numpy(np.where(lines, 0, 255).astype(np.uint8)).expand_as(image).clone()
    drawing[3:] = 255
    return drawing


def grey(image: Tensor) -> Tensor:
    """Return the luma of an image (ITU-R BT.601) in each of its colour channels, uint8 (C, H, W)."""
    color = image[:3].float()
    weights = torch.tensor([0.299, 0.587, 0.114]) if len(color) == 3 else torch.ones(1)
    luma = (weights[:, None, None] * color).sum(0, keepdim=True).round().to(torch.uint8)
    return torch.cat([luma.expand(len(color), -1, -1), image[3:]])


def _read_pair(
    path: Path, *partner: Path, pairs: str, shape: tuple[int, int, int], resize: str, profile: Profile
) -> Tensor:
    """Return A and B of a file, or of two files, as the channels of one image, uint8 (2 C, H, W)."""
    channels, height, width = shape
    if pairs == "halves":
        return torch.cat(decode_halves(path, channels, (height, width), resize, profile=profile))
    read = partial(decode, channels=channels, size=(height, width), resize=resize, profile=profile)
    images = [read(file) for file in (path, *partner)]
    if pairs != "folders":
        images.insert(0, edges(images[0]) if pairs == "edges" else grey(images[0]))
    return torch.cat(images)
