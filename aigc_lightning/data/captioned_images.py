"""Images with captions, from files."""

import csv
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from aigc_lightning.core import keyed
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, Visits
from aigc_lightning.data.files import FileSource
from aigc_lightning.data.folder_data import FolderData, Resize
from aigc_lightning.data.listing import Listing, list_images, part_of
from aigc_lightning.errors import UserError, did_you_mean

_log = logging.getLogger(__name__)


class CaptionSource:
    """Images with one or more captions each; with several, each visit draws one.

    Args:
        images: whose labels are the places of their captions in `captions`.
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
        places = self._images.labels(indices)  # of the images that were read, should a file have become bad
        assert places is not None
        draws = keyed.uniform(*visits).tolist()
        texts = [self._captions[place] for place in places.tolist()]
        return {
            "image": images,
            "caption": [text[int(draw * len(text))] for text, draw in zip(texts, draws, strict=True)],
        }

    def labels(self, indices: Sequence[int]) -> None:
        """Return None: captions are no classes."""


class CaptionedImages(FolderData):
    """Images with captions, for text tasks.

    **Captions** are in a table, or in a text file beside each image (`a.png` and `a.txt`). A table has columns that are
    separated by tabs (.tsv) or commas (.csv), with a head line, or a JSON object in each line (.jsonl). It names each
    image by its path relative to the root, with or without the ending. Several lines may name the same image: training
    draws one of its captions by (seed, epoch, index). Images without a caption are not used.

    **Splits.** A column `split` with train, val and perhaps test is the split. Without it splits are as for
    `ImageFolder`, and so are bad files and resizing.

    Args:
        root: the folder of the images.
        captions: the table, relative to the root; text files beside the images when None.
        image_column: the column with the images' names.
        caption_column: the column with the captions.
        size: of the images: one number of pixels for squares, or (height, width).
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        resize: "crop" (cover `size`, cut out the centre), "pad" (fit into `size` on white) or "stretch".
        val_share: share of the images to hold out where there are no splits, between 0 and 1.
        max_bad: share of the files that may be bad, from 0 to 1.
        batch_size: images per process in a step.
        num_workers: loader processes; 0 is fastest for images that stay in memory.
        augmentation: what to vary while training. Flips belie captions that say left or right.

    Raises:
        UserError: an argument out of range; and when the data is first used: no such folder, table or column, no image
            with a caption, too many bad files.
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
    ) -> None:
        super().__init__(root, size, channels, resize, val_share, max_bad, batch_size, num_workers, augmentation)
        if captions is not None and not captions.endswith((".tsv", ".csv", ".jsonl")):
            raise UserError(f'data.captions is "{captions}".', "Give a .tsv, .csv or .jsonl file, or leave it out.")
        self.captions, self.image_column, self.caption_column = captions, image_column, caption_column

    @property
    def spec(self) -> ImageSpec:
        """Channels and size as asked for, without labels; reads no file."""
        return ImageSpec(*self.shape)

    def train_source(self) -> CaptionSource:
        """Return the images to train on."""
        return self._sources["train"]

    def val_source(self) -> CaptionSource:
        """Return the images that are held out."""
        return self._sources["val"]

    def test_source(self) -> CaptionSource:
        """Return the images of the test split, without one the held-out images."""
        return self._sources.get("test", self._sources["val"])

    def listings(self) -> list[Listing]:
        """Return the files of the images that have captions."""
        return [self._captioned[0]]

    @cached_property
    def _sources(self) -> dict[str, CaptionSource]:
        listing, captions = self._captioned
        return {part: CaptionSource(source, captions) for part, source in self.load(listing).items()}

    @cached_property
    def _captioned(self) -> tuple[Listing, list[list[str]]]:
        """The images that have captions, each labelled with the place of its captions, and the captions."""
        everything = list_images(self.root, self.val_share, "none")
        names = [name for members in everything.parts.values() for name in members]
        rows = _beside(self.root, names) if self.captions is None else self._rows(self.root / self.captions, names)
        captions: dict[str, list[str]] = {}
        splits: dict[str, str] = {}
        for name, caption, split in rows:
            captions.setdefault(name, []).append(caption)
            splits[name] = split
        if not captions:
            where = self.captions or "text files beside them, such as a.txt for a.png"
            raise UserError(f"No image in {self.root} has a caption in {where}.", "Check the names in it.")
        parts = {part: [name for name in files if name in captions] for part, files in everything.parts.items()}
        if any(splits.values()):
            parts = _split(splits, self.root)
        for part in ("train", "val"):
            if not parts.get(part):
                raise UserError(f"No image with a caption in {self.root} is for {part}.", "Add some.")
        places = {name: place for place, name in enumerate(captions)}
        return Listing(self.root, parts, (), 0, places), list(captions.values())

    def _rows(self, path: Path, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Yield image, caption and split ("" without one) of each line of a table whose image is there."""
        known = {name: name for name in names} | {os.path.splitext(name)[0]: name for name in names}
        missing = []
        for number, row in enumerate(_lines(path), 1):
            for column in (self.image_column, self.caption_column):
                if not isinstance(row.get(column), str):
                    hint = did_you_mean(column, [str(key) for key in row]) or f"It has {', '.join(map(str, row))}."
                    raise UserError(f"{path} has no column {column!r} in entry {number}.", hint)
            name = row[self.image_column].removeprefix("./")
            if name in known:
                yield known[name], " ".join(row[self.caption_column].split()), str(row.get("split") or "")
            else:
                missing.append(name)
        if missing:
            _log.warning("%s names %d images that are not there, such as %s.", path, len(missing), missing[0])


def _beside(root: Path, names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield image, caption and "" for each image with a text file of its name."""
    for name in names:
        path = (root / name).with_suffix(".txt")
        if path.is_file():
            yield name, " ".join(_text(path).split()), ""


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a table by column.

    Raises:
        UserError: it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.", "Check data.captions; it is relative to data.root.")
    lines = _text(path).splitlines()
    if path.suffix == ".jsonl":
        for number, line in enumerate(lines, 1):
            yield from _object(path, number, line)
    elif path.suffix == ".tsv":  # the custom is no quoting
        yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        yield from csv.DictReader(lines)


def _object(path: Path, number: int, line: str) -> Iterator[dict[str, Any]]:
    if not line.strip():
        return
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path}, line {number} is not JSON: {error}.", "Mend that line.") from error
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number} holds a {type(row).__name__}.", "Write one JSON object a line.")
    yield row


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.", "Captions are UTF-8 text.") from error


def _split(words: Mapping[str, str], root: Path) -> dict[str, list[str]]:
    """Return the images of each part by the words of a table."""
    parts: dict[str, list[str]] = {}
    for name, word in sorted(words.items()):
        part = part_of(word)
        if part is None:
            raise UserError(f'The split of {name} in {root} is "{word}".', "Write train, val or test.")
        parts.setdefault(part, []).append(name)
    if "val" not in parts and "test" in parts:
        parts["val"] = parts.pop("test")
    return parts
