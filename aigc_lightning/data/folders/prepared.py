"""A folder's images at one size in one file, for folders that are too large to decode at each visit.

`aigc data prepare` writes three files: `prepared.json` records what was done, `files.jsonl` has a line for each source
file, and `images.u8` has the pixels of one image after another. Training gets the same images as from the folder. Each
line has the CRC-32 of its image, `prepared.json` has the SHA-256 of the lines, and its own. Shapes: C channels, H and W
height and width in pixels.
"""

import math
import os
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from aigc_lightning.core.io.atomic import found_inside
from aigc_lightning.core.io.checksums import DamagedFileError
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import echo
from aigc_lightning.data.console import warn
from aigc_lightning.data.decode import CorruptImageError, Profile
from aigc_lightning.data.folders.files import is_checked_first, without_bad
from aigc_lightning.data.folders.listing import PREPARED_FILE, Listing, Numbers, arrange
from aigc_lightning.data.folders.prepared_format import (
    FILES_FILE,
    IMAGES_FILE,
    PREPARE_AGAIN,
    Protocol,
    Stored,
    read_files,
    read_protocol,
    source_files,
)
from aigc_lightning.data.packed_strings import PackedStrings
from aigc_lightning.data.unreadable import Budget, named
from aigc_lightning.errors import UserError


class PreparedSource:
    """Prepared images; each takes one read of the common file.

    Args:
        path: that file.
        shape: (C, H, W).
        listing: the source files.
        part: which part's images to use.
        rows: int64 (N,) rows of the part's images, negative for unreadable files, which are replaced by the next
            readable one.
        checksums: int64 (N,) CRC-32 of each; -1 if unknown.

    Raises:
        UserError: all are unreadable.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], listing: Listing, part: str, rows: Numbers, checksums: Numbers
    ) -> None:
        self._path, self._shape, self._root, self._names = path, shape, listing.root, listing.parts[part]
        good = np.flatnonzero(rows >= 0)
        if not len(good):
            where = f"for {part} in {shown(listing.root)}"
            raise UserError(f"No readable image is left {where}.", "Repair or add files, and prepare them again.")
        self._is_bad = torch.from_numpy(rows < 0)
        stand_ins = torch.from_numpy(good[np.searchsorted(good, np.arange(len(rows))) % len(good)])
        self._rows, self._checksums = torch.from_numpy(rows)[stand_ins], torch.from_numpy(checksums)[stand_ins]
        self.listed_labels = None if listing.labels is None else torch.from_numpy(listing.labels[part])
        self._labels = None if self.listed_labels is None else self.listed_labels[stand_ins]

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the open file from pickling."""
        return {name: value for name, value in self.__dict__.items() if name != "_handle"}

    def __del__(self) -> None:
        if "_handle" in self.__dict__:
            os.close(self._handle)

    def __len__(self) -> int:
        """Return N."""
        return len(self._rows)

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return these images, uint8 (B, C, H, W).

        Raises:
            DamagedFileError: an image does not match its checksum.
        """
        images = torch.empty((len(indices), *self._shape), dtype=torch.uint8)
        size, places = math.prod(self._shape), torch.as_tensor(indices)
        rows, checksums = self._rows[places].tolist(), self._checksums[places].tolist()
        # Not a memory map: with a truncated file, that would kill the process.
        for image, row, checksum in zip(images.numpy(), rows, checksums, strict=True):
            if os.preadv(self._handle, [image], row * size) != size:
                raise DamagedFileError(self._path, "it has been truncated", PREPARE_AGAIN)
            if checksum not in (-1, zlib.crc32(image)):
                raise DamagedFileError(self._path, f"image {row} does not match its checksum", PREPARE_AGAIN)
        return images

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return their labels, int64 (B,), or None."""
        return None if self._labels is None else self._labels[torch.as_tensor(indices)]

    def problem(self, index: int) -> CorruptImageError | None:
        """Return what is wrong with a file."""
        if not self._is_bad[index]:
            return None
        return CorruptImageError(self._root / self._names[index], "it could not be read when it was prepared")

    def name(self, index: int) -> str:
        """Return the name of a source file."""
        return self._names[index]

    @cached_property
    def _handle(self) -> int:
        return os.open(self._path, os.O_RDONLY)


class PreparedFolder:
    """A folder made by `aigc data prepare`.

    Args:
        folder: the folder.
        stored: its description of itself.

    Raises:
        UserError: it does not have the pixels that it describes, or is damaged.
    """

    def __init__(self, folder: Path, stored: Stored) -> None:
        self.folder, self.protocol = folder, stored.protocol
        files, digest = read_files(folder)
        if stored.files_digest not in (None, digest):
            raise DamagedFileError(folder / FILES_FILE, f"it does not belong to {PREPARED_FILE}", PREPARE_AGAIN)
        self._files = {file.name: file for file in files}
        path = found_inside(folder, IMAGES_FILE)
        rows = 1 + max((file.row for file in self._files.values()), default=-1)
        if not path.is_file() or path.stat().st_size < rows * self.protocol.bytes_per_image:
            raise UserError(f"{path} is missing or too short.", PREPARE_AGAIN)

    @classmethod
    def found(
        cls, folder: Path, shape: tuple[int, int, int], resize: str, profile: Profile = "srgb"
    ) -> "PreparedFolder | None":
        """Return the prepared folder for data of this protocol, or None if the folder is an ordinary one.

        Raises:
            UserError: it was prepared with other settings, is incomplete, or its source has changed since.
        """
        stored = read_protocol(folder)
        if stored is None:
            return None
        protocol = stored.protocol
        wanted = Protocol(protocol.source, shape, resize, profile)
        if protocol != wanted:
            raise UserError(
                f"{folder} was prepared as {protocol}, but the data is configured as {wanted}.",
                f"Change data.size, channels, resize and profile, or run: {wanted.command(Path('OTHER'))}",
            )
        again = protocol.command(folder)
        if not stored.complete:
            raise UserError(f"{folder} is incomplete: its preparation was interrupted.", f"Continue it with: {again}")
        prepared = cls(folder, stored)
        if changes := prepared.changes():
            what = f"{protocol.source} has changed since {folder} was prepared: {len(changes):,} of its files"
            raise UserError(f"{what}, such as {changes[0]}.", f"To read only these again, run: {again}")
        return prepared

    def changes(self) -> list[str]:
        """Return the names of source files that were added, removed or changed; empty if the source is not here."""
        if not self.protocol.source.is_dir():
            return []
        said = f"{self.folder} was prepared from {self.protocol.source}: checking it for changes."
        rank_zero_only(echo)(said, error=True)
        known = {file.name: file[1:3] for file in self._files.values()}
        changed = [name for name, *state in source_files(self.protocol.source) if known.pop(name, ()) != tuple(state)]
        return changed + list(known)

    def listing(self, val_share: float, classes: str) -> Listing:
        """Return the files as `list_images` returns them for the source."""
        folders = {name.partition("/")[0] for name in self._files if "/" in name}
        names = PackedStrings(sorted(self._files))
        return arrange(self.protocol.source, names, folders, val_share, classes)

    @property
    def errors(self) -> dict[str, CorruptImageError]:
        """Errors of the files without an image, by name."""
        bad = (file for file in self._files.values() if file.row < 0)
        return {file.name: CorruptImageError(self.protocol.source / file.name, file.reason) for file in bad}

    def sources(self, listing: Listing, max_bad: float) -> dict[str, PreparedSource]:
        """Return the images of each part of a listing.

        As when reading files, unreadable ones are dropped, or in a large folder replaced by the next readable one, see
        `files.py`.

        Raises:
            UserError: too many files are unreadable, or all of a part.
        """
        bad = self.errors
        if is_checked_first(len(listing), (file.size for file in self._files.values())):
            listing = without_bad(listing, bad, max_bad)
        elif bad:
            Budget(listing.root, len(listing), max_bad).check([*bad.values()])
            text = "%d of %d images cannot be read; the next one takes the place of each: %s."
            warn(text, len(bad), len(listing), named(listing.root, [*bad.values()]))
        return {part: self._source(listing, part) for part in listing.parts}

    def _source(self, listing: Listing, part: str) -> PreparedSource:
        files = [self._files[name] for name in listing.parts[part]]
        rows, checksums = (np.array([getattr(file, key) for file in files], np.int64) for key in ("row", "checksum"))
        return PreparedSource(self.folder / IMAGES_FILE, self.protocol.shape, listing, part, rows, checksums)
