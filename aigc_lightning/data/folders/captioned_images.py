"""Captioned images from files."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload
from unicodedata import normalize

import numpy as np

from aigc_lightning.core import keyed
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, Visits
from aigc_lightning.data.console import warn, watched
from aigc_lightning.data.decode import CorruptImageError, Profile
from aigc_lightning.data.folders.base import FolderData, Resize
from aigc_lightning.data.folders.caption_files import TABLES, BadCaption, Caption, Columns, read_table, read_text
from aigc_lightning.data.folders.files import FileSource
from aigc_lightning.data.folders.layouts import folders_in, part_of
from aigc_lightning.data.folders.listing import Listing, arrange, image_files
from aigc_lightning.data.packed_strings import PackedStrings
from aigc_lightning.errors import UserError


class Captions(Sequence[Sequence[str]]):
    """The captions of many images in little memory.

    Args:
        captions: the captions of each image, at least one.
    """

    def __init__(self, captions: Iterable[Sequence[str]]) -> None:
        every = list(captions)
        self._texts = PackedStrings(text for texts in every for text in texts)
        self._ends = np.cumsum([len(texts) for texts in every], dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> list[str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sequence[str]]: ...
    def __getitem__(self, index: int | slice) -> Sequence[Any]:
        """Return the captions of an image, or of several."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        return self._texts[int(self._ends[number - 1]) if number else 0 : int(self._ends[number])]


class CaptionSource:
    """Images with one or more captions each; from several, each visit draws one.

    Args:
        images: images whose labels are the indices of their captions in `captions`.
        captions: at least one each.
    """

    def __init__(self, images: ArraySource | FileSource, captions: Sequence[Sequence[str]]) -> None:
        self._images, self._captions = images, captions

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def fields(self, visits: Visits) -> dict[str, Any]:
        """Return `image`, uint8 (B, C, H, W), and `caption`."""
        indices = visits.indices.tolist()
        images = self._images.images(indices)
        places = self._images.labels(indices)  # of the images that were actually read, in case a file was unreadable
        assert places is not None
        draws = keyed.uniform(*visits).tolist()
        texts = [self._captions[place] for place in places.tolist()]
        return {
            "image": images,
            "caption": [text[int(draw * len(text))] for text, draw in zip(texts, draws, strict=True)],
        }

    def labels(self, indices: Sequence[int]) -> None:
        """Return None: captions are not classes."""


class CaptionedImages(FolderData):
    """Captioned images, for text-to-image tasks.

    **Captions** are in a table, or in a text file beside each image (`a.png` and `a.txt`). A table has a header line
    and columns separated by tabs (.tsv) or commas (.csv), or one JSON object per line (.jsonl). It names each image by
    its path relative to the root, with or without the extension. Several lines may name the same image: training draws
    one of its captions by (seed, epoch, index). Images without a caption are not used.

    Text is UTF-8, and lines end only at line feeds and carriage returns. Unusable entries (a wrong number of columns, a
    value that is not text, an empty caption, another encoding) are skipped and named with their lines, and stop the run
    if they are more than `max_bad` of all.

    **Splits.** A column `split` with train, val and optionally test defines the split. Without it splits are as for
    `ImageFolder`. Unreadable files and resizing are also as for `ImageFolder`.

    Args:
        captions: the table, relative to the root; text files beside the images when None.
        image_column: the column with the images' names.
        caption_column: the column with the captions.
        augmentation: what to vary while training. Flips belie captions that say left or right.

    Raises:
        UserError: an argument out of range; on first use of the data: no such folder, table or column, no image with a
            caption, or too many unreadable files.
    """

    def __init__(
        self,
        root: str | Path,
        captions: str | None = None,
        image_column: str = "file_name",
        caption_column: str = "caption",
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
        if captions is not None and not captions.endswith(TABLES):
            raise UserError(f'data.captions is "{captions}".', "Give a .tsv, .csv or .jsonl file, or leave it out.")
        self.captions, self.image_column, self.caption_column = captions, image_column, caption_column

    @property
    def spec(self) -> ImageSpec:
        """Channels and size as requested, with captions and without labels; reads no file."""
        return ImageSpec(*self.shape, captions=True)

    def train_source(self) -> CaptionSource:
        """Return the images to train on."""
        return self._sources["train"]

    def val_source(self) -> CaptionSource:
        """Return the held-out images."""
        return self._sources["val"]

    def test_source(self) -> CaptionSource:
        """Return the images of the test split or, without one, the held-out images."""
        return self._sources.get("test", self._sources["val"])

    def listings(self) -> list[Listing]:
        """Return the files of the images that have captions."""
        return [self._captioned[0]]

    def left_out(self) -> list[CorruptImageError]:
        """Return what is wrong with the captions that cannot be used."""
        folder = self.root if self.captions is None else (self.root / self.captions).parent
        return [CorruptImageError(folder / place, reason) for place, reason in self._captioned[2]]

    @cached_property
    def _sources(self) -> dict[str, CaptionSource]:
        listing, captions, _ = self._captioned
        return {part: CaptionSource(source, captions) for part, source in self.load(listing).items()}

    @cached_property
    def _captioned(self) -> tuple[Listing, Captions, list[BadCaption]]:
        """The images that have captions, each labelled with the place of its captions; the captions, and bad ones."""
        found = image_files(self.root, [".txt" if self.captions is None else Path(self.captions).suffix.lower()])
        texts: dict[str, list[str]] = {}
        splits: dict[str, str] = {}
        bad: list[BadCaption] = []
        for name, caption in self._matched(found.names, bad):
            texts.setdefault(name, []).append(caption.text)
            splits[name] = caption.split
        if not texts:
            where = f"in {shown(self.captions)}" if self.captions else "in a text file beside it"
            hint = "Check the names in it." if self.captions else "The caption of a.png stands in a.txt, for example."
            raise UserError(f"No image in {shown(self.root)} has a caption {where}.", hint)
        if without := [name for name in found.names if name not in texts]:
            values = len(without), len(found.names), shown(without[0])
            warn("%d of %d images have no caption and are skipped, such as %s.", *values)
        names = _split(splits, self.root) if any(splits.values()) else self._split_as_folder(found.names)
        parts = {part: PackedStrings(name for name in members if name in texts) for part, members in names.items()}
        for part in ("train", "val"):
            if not parts.get(part):
                raise UserError(f"No captioned image in {shown(self.root)} is in the {part} split.", "Add some.")
        places = {name: place for place, name in enumerate(texts)}
        labels = {part: np.array([places[name] for name in members], np.int64) for part, members in parts.items()}
        listing = Listing(self.root, parts, labels=labels, passed_over=tuple(found.passed_over), others=found.others)
        return listing, Captions(texts.values()), bad

    def _split_as_folder(self, names: PackedStrings) -> Mapping[str, Iterable[str]]:
        return arrange(self.root, names, folders_in(self.root), self.val_share, "none").parts

    def _matched(self, names: PackedStrings, bad: list[BadCaption]) -> Iterator[tuple[str, Caption]]:
        """Yield the entries whose images are there with these; add the others to `bad`, and hold them to the budget.

        Raises:
            UserError: more entries are unusable than allowed.
        """
        where = self.root if self.captions is None else self.root / self.captions
        entries = _beside(self.root, names) if self.captions is None else self._of_table(where, names)
        total = 0
        for entry in entries:
            total += 1
            if isinstance(entry, BadCaption):
                bad.append(entry)
            else:
                yield entry
        if not bad:
            return
        some = ", ".join(f"{place} ({reason})" for place, reason in bad[:3])
        some += f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        if len(bad) > self.max_bad * total:
            allowed = int(self.max_bad * total)
            what = f"{len(bad)} of {total} captions in {shown(where)} cannot be used, with {allowed} allowed"
            hint = "Repair or remove them, or raise data.max_bad."
            raise UserError(f"{what} (data.max_bad {self.max_bad}): {some}.", hint)
        warn("Left out %d of %d captions: %s.", len(bad), total, some)

    def _of_table(self, path: Path, names: PackedStrings) -> Iterator[tuple[str, Caption] | BadCaption]:
        """Yield the entries of a table whose images exist, with the names of the images."""
        known = _Names(names)
        missing, example = 0, ""
        for entry in read_table(path, Columns(self.image_column, self.caption_column)):
            if isinstance(entry, BadCaption):
                yield entry
                continue
            matches = known.find(entry.image)
            if len(matches) == 1:
                yield matches[0], entry
            elif matches:
                yield BadCaption(entry.place, f"it may mean {' or '.join(map(shown, matches))}")
            else:
                missing, example = missing + 1, example or entry.image
        if missing:
            warn("%s names %d images that do not exist, such as %s.", shown(path), missing, shown(example))


class _Names:
    """Finds files by the names in tables: with or without extension, in any Unicode normalization."""

    def __init__(self, names: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._others: dict[str, list[str]] = {}
        for name in names:
            self._exact.add(name)
            stem = os.path.splitext(name)[0]
            for key in {name, stem, normalize("NFC", name), normalize("NFC", stem)} - {name}:
                self._others.setdefault(key, []).append(name)

    def find(self, name: str) -> list[str]:
        """Return the files that a name may mean."""
        name = name.removeprefix("./")
        if name in self._exact:
            return [name]
        return self._others.get(name) or self._others.get(normalize("NFC", name), [])


def _beside(root: Path, names: Iterable[str]) -> Iterator[tuple[str, Caption] | BadCaption]:
    """Yield each image that has a text file of the same name, with its caption."""
    for name in watched(names, "Reading captions"):
        file = f"{os.path.splitext(name)[0]}.txt"
        try:
            text = read_text(root / file)
        except ValueError as error:
            yield BadCaption(shown(file), str(error))
        else:
            if text is not None:
                yield name, Caption(name, text, "", file)


def _split(words: Mapping[str, str], root: Path) -> dict[str, list[str]]:
    """Return the images of each part according to a table's splits."""
    parts: dict[str, list[str]] = {}
    for name, word in sorted(words.items()):
        part = part_of(word)
        if part is None:
            what = f'The split of {shown(name)} in {shown(root)} is "{shown(word)}".'
            raise UserError(what, "Use train, val or test.")
        parts.setdefault(part, []).append(name)
    if "val" not in parts and "test" in parts:
        parts["val"] = parts.pop("test")
    return parts
