"""Images in a folder, of any tree, format, mode and size."""

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, ImageDataModule, ImageSource
from aigc_lightning.data.decode import CorruptImageError, decode, resize_rule
from aigc_lightning.data.listing import Listing, list_images
from aigc_lightning.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

#: Bytes of resized images up to which all of them are kept in memory.
MEMORY_LIMIT = 2**30

Result = TypeVar("Result")

_log = logging.getLogger(__name__)
_PATIENCE_S = 2.0  # a check that takes longer shows its progress
_AT_ONCE = 256  # files handed to the threads at once: few enough that Ctrl-C is answered soon


class FileSource:
    """Images that are read from their files when they are asked for.

    A file that cannot be read any more is named once and the next good one stands in for it, with its own label; the
    batch keeps the index that was asked for. Which one stands in depends on the files alone.

    Args:
        root: the folder that the names are relative to.
        names: of the files.
        labels: int64 (N,), or None.
        read: gives the uint8 (C, H, W) image of a path.
        max_bad: share of the files that may turn out to be bad.
    """

    def __init__(
        self, root: Path, names: Sequence[str], labels: Tensor | None, read: Callable[[Path], Tensor], max_bad: float
    ) -> None:
        self._root, self._names, self._labels, self._read, self._max_bad = root, names, labels, read, max_bad
        self._stand_ins: dict[int, int] = {}
        self.bad: list[CorruptImageError] = []

    def __len__(self) -> int:
        """Return N."""
        return len(self._names)

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return these images, uint8 (B, C, H, W).

        Raises:
            UserError: more files than allowed cannot be read.
        """
        return torch.stack([self._image(index) for index in indices])

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return the labels of the images that `images` gave for these indices, int64 (B,), or None."""
        if self._labels is None:
            return None
        return self._labels[torch.tensor([self._stand_in(index) for index in indices])]

    def _image(self, index: int) -> Tensor:
        while True:
            number = self._stand_in(index)
            try:
                return self._read(self._root / self._names[number])
            except CorruptImageError as error:
                self.bad.append(error)
                # With all files bad there is nothing to stand in, whatever the budget.
                if len(self.bad) == len(self) or len(self.bad) > self._max_bad * len(self):
                    raise _too_many(self._root, self.bad, len(self), self._max_bad) from error
                self._stand_ins[number] = (number + 1) % len(self)
                _log.warning(
                    "%s cannot be read any more (%s); the next image takes its place.", error.path, error.reason
                )

    def _stand_in(self, index: int) -> int:
        while index in self._stand_ins:
            index = self._stand_ins[index]
        return index


class ImageFolder(ImageDataModule):
    """The images of a folder and all its sub-folders.

    Hidden files and files with other endings than `decode.SUFFIXES` are passed over. Transparency is laid on white,
    EXIF rotation applied, 16-bit grey scaled: see `decode`.

    **Splits.** A root with a `train` folder and a `val` (or `valid`, `validation`) or `test` folder is split by them,
    and its other files are not used; with `test` alone it is also what is validated on. In any other root `val_share`
    of the images is held out by a hash of their names, so that adding files moves none from one side to the other.

    **Classes.** With `classes` "auto" the folders that lie directly in the root, or in its `train` folder, are the
    classes, unless there are fewer than two or images lie beside them: then there are no labels. "folders" insists on
    classes, "none" on images without labels.

    **Bad files.** All files are decoded before training starts. Bad ones are named and left out; when they are more
    than `max_bad` of all, the run stops. Images that together take up to `MEMORY_LIMIT` at `size` stay in memory;
    otherwise they are read again from their files. With `max_bad` 1 such large folders are not checked first.

    Args:
        root: the folder.
        size: of the images given to the model: one number of pixels for squares, or (height, width).
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        resize: "crop" (cover `size`, cut out the centre), "pad" (fit into `size` on white) or "stretch".
        classes: whether folders are classes: "auto", "folders" or "none".
        val_share: share of the images to hold out, between 0 and 1; of two or more images at least one.
        max_bad: share of the files that may be bad, from 0 to 1.
        batch_size: images per process in a step.
        num_workers: loader processes; 0 is fastest for images that stay in memory.
        augmentation: what to vary while training.

    Raises:
        UserError: an argument out of range; and when the data is first used: no such folder, no images in it, no
            classes where "folders" asks for them, too many bad files.
    """

    def __init__(
        self,
        root: str | Path,
        size: int | tuple[int, int] = 64,
        channels: int = 3,
        resize: Literal["crop", "pad", "stretch"] = "crop",
        classes: Literal["auto", "folders", "none"] = "auto",
        val_share: float = 0.1,
        max_bad: float = 0.01,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, augmentation)
        sides = (size, size) if isinstance(size, int) else tuple(size)
        if len(sides) != 2:
            raise UserError(f"data.size has {len(sides)} numbers.", "Give one, or height and width.")
        if classes not in ("auto", "folders", "none"):
            raise UserError(f'data.classes is "{classes}".', 'Give "auto", "folders" or "none".')
        if not 0 < val_share < 1:
            raise UserError(f"data.val_share is {val_share}.", "Give a share between 0 and 1, such as 0.1.")
        if not 0 <= max_bad <= 1:
            raise UserError(f"data.max_bad is {max_bad}.", "Give a share from 0 to 1, such as 0.01.")
        resize_rule(resize)
        self.root, self.resize, self.classes = Path(root).expanduser(), resize, classes
        self.val_share, self.max_bad = val_share, max_bad
        self._bare_spec = ImageSpec(channels, *sides)

    @property
    def spec(self) -> ImageSpec:
        """Channels and size as asked for, the classes by the folders; lists the files, decodes none."""
        return ImageSpec(*self._bare_spec.shape, class_names=self._listing.class_names)

    def train_source(self) -> ImageSource:
        """Return the images to train on."""
        return self._sources["train"]

    def val_source(self) -> ImageSource:
        """Return the images that are held out."""
        return self._sources["val"]

    def test_source(self) -> ImageSource:
        """Return the images of a `test` folder, without one the held-out images."""
        return self._sources.get("test", self._sources["val"])

    @cached_property
    def _listing(self) -> Listing:
        return list_images(self.root, self.val_share, self.classes)

    @cached_property
    def _sources(self) -> dict[str, ImageSource]:
        channels, height, width = self._bare_spec.shape
        read = partial(decode, channels=channels, size=(height, width), resize=self.resize)
        num_files = sum(map(len, self._listing.parts.values()))
        kept = None
        if num_files * channels * height * width <= _memory_limit(self.num_workers):
            kept = torch.empty((num_files, channels, height, width), dtype=torch.uint8)
        return _checked(self._listing, read, self.max_bad, kept)


def _memory_limit(num_workers: int) -> int:
    """Return the bytes that may be kept: loader processes get them through /dev/shm, which containers make small."""
    shared = Path("/dev/shm")
    if num_workers and shared.is_dir():
        return min(MEMORY_LIMIT, shutil.disk_usage(shared).free // 2)
    return MEMORY_LIMIT


def _checked(
    listing: Listing, read: Callable[[Path], Tensor], max_bad: float, kept: Tensor | None
) -> dict[str, ImageSource]:
    """Decode all files and return sources without the bad ones.

    Args:
        listing: the files.
        read: gives the uint8 (C, H, W) image of a path.
        max_bad: share of the files that may be bad.
        kept: uint8 (N, C, H, W) to keep the images in, or None to read them from their files later.

    Raises:
        UserError: too many are bad, or all files of a part.
    """
    names = [name for members in listing.parts.values() for name in members]

    def error_of(number: int) -> CorruptImageError | None:
        try:
            image = read(listing.root / names[number])
        except CorruptImageError as error:
            return error
        if kept is not None:
            kept[number] = image
        return None

    checks_first = kept is not None or max_bad < 1
    errors = list(_watched(_in_threads(error_of, len(names)), len(names))) if checks_first else [None] * len(names)
    bad = [error for error in errors if error is not None]
    if len(bad) > max_bad * len(names):
        raise _too_many(listing.root, bad, len(names), max_bad)
    if bad:
        _warn("Left out %d of %d images: %s.", len(bad), len(names), _named(listing.root, bad))
    sources: dict[str, ImageSource] = {}
    first = 0
    for part, members in listing.parts.items():
        good = [number for number in range(first, first + len(members)) if errors[number] is None]
        if not good:
            raise UserError(f"No image that can be read is left for {part} in {listing.root}.", "Mend or add files.")
        numbers = listing.labels([names[number] for number in good])
        labels = None if numbers is None else torch.tensor(numbers)
        if kept is None:
            sources[part] = FileSource(listing.root, [names[number] for number in good], labels, read, max_bad)
        else:
            whole = len(good) == len(members)  # a slice shares the memory, a selection copies it
            sources[part] = ArraySource(kept[first : first + len(members)] if whole else kept[good], labels)
        first += len(members)
    return sources


def _in_threads(function: Callable[[int], Result], count: int) -> Iterator[Result]:
    """Yield function(0), function(1), ... computed by a thread per processor; Pillow decodes outside the lock."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, count, _AT_ONCE):
            yield from pool.map(function, range(first, min(first + _AT_ONCE, count)))


def _watched(steps: Iterable[Result], total: int) -> Iterator[Result]:
    """Pass the steps on, with a progress bar once they take longer than is polite."""
    begin, bar = monotonic(), None
    try:
        for done, step in enumerate(steps, 1):
            if bar is None and monotonic() - begin > _PATIENCE_S:
                bar = _started_bar(total)
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done)
            yield step
    finally:
        if bar is not None:
            bar.stop()


@rank_zero_only
def _started_bar(total: int) -> "Progress":
    from rich.console import Console  # short checks need not wait for it
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True))
    bar.add_task("Checking images", total=total)
    bar.start()
    return bar


@rank_zero_only
def _warn(message: str, *values: object) -> None:
    _log.warning(message, *values)


def _too_many(root: Path, bad: Sequence[CorruptImageError], total: int, max_bad: float) -> UserError:
    allowed = int(max_bad * total)
    what = f"{len(bad)} of {total} images in {root} cannot be read, {allowed} may be (data.max_bad {max_bad}):"
    return UserError(f"{what}\n{_named(root, bad)}.", "Mend or remove them, or raise data.max_bad.")


def _named(root: Path, bad: Sequence[CorruptImageError], limit: int = 3) -> str:
    """Return a few names with their reasons, and how many more there are."""
    shown = ", ".join(f"{os.path.relpath(error.path, root)} ({error.reason})" for error in bad[:limit])
    return f"{shown} and {len(bad) - limit} more" if len(bad) > limit else shown
