"""A folder's images at one size in one file, for folders too large to be decoded at each visit.

`aigc data prepare` writes three files: `prepared.json` says what was done, `files.jsonl` has a line for each source
file, and `images.u8` the pixels, image after image. Training reads the same pictures as from the folder. Each image has
a CRC-32 in its line, the lines have a SHA-256 in `prepared.json`, and that file has one of its own.
Shapes: C channels, H and W height and width in pixels.
"""

import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from aigc_lightning.core.checksums import DamagedFileError, sealed, unsealed
from aigc_lightning.core.escape import shown
from aigc_lightning.core.files import found_inside
from aigc_lightning.core.output import echo
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.core.untrusted import relative_name
from aigc_lightning.data.console import warn
from aigc_lightning.data.decode import CorruptImageError, Profile, resize_rule
from aigc_lightning.data.files import is_checked_first, without_bad
from aigc_lightning.data.listing import PREPARED_FILE, Listing, Numbers, arrange, image_files
from aigc_lightning.data.lost import Budget, named
from aigc_lightning.data.packed_strings import PackedStrings
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command

#: Names of the files beside `PREPARED_FILE`.
FILES_FILE, IMAGES_FILE = "files.jsonl", "images.u8"
_FORMAT = 2  # of the files; 1 had no checksums, other numbers are refused


_AGAIN = "Run `aigc data prepare` again as before; what is whole is kept."


class PreparedFile(NamedTuple):
    """A source file, and where its image is.

    Args:
        name: relative to the source folder, in POSIX form.
        size: of the source file in bytes.
        modified: time of its last change in nanoseconds.
        row: place of its image, -1 for none.
        reason: why there is none, without a full stop.
        checksum: CRC-32 of its image; -1 where it is not known.
    """

    name: str
    size: int
    modified: int
    row: int
    reason: str = ""
    checksum: int = -1


@dataclass(frozen=True)
class Protocol:
    """How images were made from files.

    Args:
        source: the folder that they come from.
        shape: (C, H, W).
        resize: the rule by which the size was reached, see `decode.resize_rule`.
        profile: "srgb" where colours were converted, "keep" where they were not; see `decode`.
    """

    source: Path
    shape: tuple[int, int, int]
    resize: str
    profile: Profile = "srgb"

    @property
    def bytes_per_image(self) -> int:
        """C * H * W."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        """Say it as a person would: `64x64 RGB, crop`."""
        return f"{ImageSpec(*self.shape)}, {self.resize}" + (", profile keep" if self.profile == "keep" else "")

    def command(self, target: Path) -> str:
        """Return the command that makes or completes it in a folder."""
        channels, height, width = self.shape
        size = [height] if height == width else [height, width]
        rest = [] if channels == 3 else ["--channels", channels]
        rest += [] if self.resize == "crop" else ["--resize", self.resize]
        rest += [] if self.profile == "srgb" else ["--profile", self.profile]
        return command("aigc", "data", "prepare", self.source, target, "--size", *size, *rest)

    def to_json(self, files_digest: str | None) -> str:
        """Return the text of `prepared.json`.

        Args:
            files_digest: of `files.jsonl`, see `digest_of`; None where the preparation is not complete.
        """
        record = {"format": _FORMAT, "source": str(self.source), "shape": list(self.shape), "resize": self.resize}
        record |= {"profile": self.profile, "complete": files_digest is not None, "files": files_digest}
        return json.dumps(sealed(record), indent=1) + "\n"


class Stored(NamedTuple):
    """What a prepared folder says about itself.

    Args:
        protocol: how it was made.
        complete: whether that came to its end.
        files_digest: of `files.jsonl`; None where that is not known.
    """

    protocol: Protocol
    complete: bool
    files_digest: str | None


def read_protocol(folder: Path) -> Stored | None:
    """Return what a folder says about its preparation, or None where it was not prepared at all.

    Raises:
        UserError: what it says about itself cannot be used.
    """
    path, again = found_inside(folder, PREPARED_FILE), "Remove the folder, and prepare it again."
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] not in (1, _FORMAT):
            raise ValueError(f"format {record['format']}, and this version reads up to {_FORMAT}")
        record = unsealed(record, path, again)
        channels, height, width = (int(number) for number in record["shape"])
        protocol = Protocol(Path(record["source"]), (channels, height, width), str(record["resize"]), _profile(record))
        resize_rule(protocol.resize)
        return Stored(protocol, bool(record["complete"]), record.get("files"))
    except DamagedFileError:
        raise
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be used: {type(error).__name__} {reason}.", again) from error


def _profile(record: Mapping[str, Any]) -> Profile:
    """Return how colours were treated; earlier versions did not convert them, and did not say so."""
    return "srgb" if record.get("profile") == "srgb" else "keep"


def read_files(folder: Path) -> tuple[list[PreparedFile], str]:
    """Return the files that are done, and the digest of all lines; lines that a crash has cut are passed over.

    Raises:
        UserError: the list names files outside of the source.
    """
    path, digest = found_inside(folder, FILES_FILE), hashlib.sha256()
    files = []
    with path.open("rb") if path.is_file() else BytesIO() as lines:
        for line in lines:
            digest.update(line)
            file = _parsed(line)
            if file is not None:
                relative_name(file.name, path)
                files.append(file)
    return files, digest.hexdigest()


def lines_of(files: Iterable[PreparedFile]) -> Iterator[str]:
    """Yield the line of each file."""
    for file in files:
        yield json.dumps((*file[:4], file.reason if file.row < 0 else file.checksum)) + "\n"


def digest_of(files: Iterable[PreparedFile]) -> str:
    """Return the digest of the lines of files."""
    digest = hashlib.sha256()
    for line in lines_of(files):
        digest.update(line.encode("ascii"))
    return digest.hexdigest()


def _parsed(line: bytes) -> PreparedFile | None:
    """Return the file of a line, None where it is no whole one."""
    try:
        name, size, modified, row, *more = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return None
    last = more[0] if more else ""
    reason, checksum = (last, -1) if isinstance(last, str) else ("", last)
    file = PreparedFile(name, size, modified, row, reason, checksum)
    kinds = (str, int, int, int, str, int)
    whole = line.endswith(b"\n") and all(type(value) is kind for value, kind in zip(file, kinds, strict=True))
    return file if whole and row >= -1 else None


def source_files(source: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of the last change of each image file that training on a folder could use, sorted.

    Raises:
        UserError: no such folder, or no images in it.
    """
    for name in image_files(source).names:
        status = os.stat(source / name)
        yield name, status.st_size, status.st_mtime_ns


class PreparedSource:
    """Prepared images; each is one read of the file that has them all.

    Args:
        path: of that file.
        shape: (C, H, W).
        listing: the source files.
        part: whose images they are.
        rows: int64 (N,) places of the images of the part's files, below 0 for bad files; the next good one stands in
            for each of these.
        checksums: int64 (N,) CRC-32 of each; -1 where it is not known.

    Raises:
        UserError: all are bad.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], listing: Listing, part: str, rows: Numbers, checksums: Numbers
    ) -> None:
        self._path, self._shape, self._root, self._names = path, shape, listing.root, listing.parts[part]
        good = np.flatnonzero(rows >= 0)
        if not len(good):
            where = f"for {part} in {shown(listing.root)}"
            raise UserError(f"No image that can be read is left {where}.", "Mend or add files, and prepare them again.")
        self._is_bad = torch.from_numpy(rows < 0)
        stand_ins = torch.from_numpy(good[np.searchsorted(good, np.arange(len(rows))) % len(good)])
        self._rows, self._checksums = torch.from_numpy(rows)[stand_ins], torch.from_numpy(checksums)[stand_ins]
        self.listed_labels = None if listing.labels is None else torch.from_numpy(listing.labels[part])
        self._labels = None if self.listed_labels is None else self.listed_labels[stand_ins]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file to this process."""
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
            DamagedFileError: an image is not the one that was prepared.
        """
        images = torch.empty((len(indices), *self._shape), dtype=torch.uint8)
        size, places = math.prod(self._shape), torch.as_tensor(indices)
        rows, checksums = self._rows[places].tolist(), self._checksums[places].tolist()
        # Not a memory map: where a file is cut, that would kill the process.
        for image, row, checksum in zip(images.numpy(), rows, checksums, strict=True):
            if os.preadv(self._handle, [image], row * size) != size:
                raise DamagedFileError(self._path, "it is shorter than it was", _AGAIN)
            if checksum not in (-1, zlib.crc32(image)):
                raise DamagedFileError(self._path, f"image {row} differs from its checksum", _AGAIN)
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
    """A folder that `aigc data prepare` has made.

    Args:
        folder: that was made.
        stored: what it says about itself.

    Raises:
        UserError: it does not have the pixels that it says, or is damaged.
    """

    def __init__(self, folder: Path, stored: Stored) -> None:
        self.folder, self.protocol = folder, stored.protocol
        files, digest = read_files(folder)
        if stored.files_digest not in (None, digest):
            raise DamagedFileError(
                folder / FILES_FILE, f"it is not the one that {PREPARED_FILE} was written for", _AGAIN
            )
        self._files = {file.name: file for file in files}
        path = found_inside(folder, IMAGES_FILE)
        rows = 1 + max((file.row for file in self._files.values()), default=-1)
        if not path.is_file() or path.stat().st_size < rows * self.protocol.bytes_per_image:
            raise UserError(f"{path} is missing or too short.", _AGAIN)

    @classmethod
    def found(
        cls, folder: Path, shape: tuple[int, int, int], resize: str, profile: Profile = "srgb"
    ) -> "PreparedFolder | None":
        """Return the prepared folder that data of this protocol can read, or None where it is an ordinary one.

        Raises:
            UserError: it was prepared otherwise, is not complete, or its source has changed since.
        """
        stored = read_protocol(folder)
        if stored is None:
            return None
        protocol = stored.protocol
        wanted = Protocol(protocol.source, shape, resize, profile)
        if protocol != wanted:
            raise UserError(
                f"{folder} was prepared as {protocol}, and the data is to be {wanted}.",
                f"Say so by data.size, channels, resize and profile, or: {wanted.command(Path('OTHER'))}",
            )
        again = protocol.command(folder)
        if not stored.complete:
            raise UserError(f"{folder} is not complete: its preparation was interrupted.", f"It goes on with: {again}")
        prepared = cls(folder, stored)
        if changes := prepared.changes():
            what = f"{protocol.source} has changed since {folder} was prepared: {len(changes):,} of its files"
            raise UserError(f"{what}, such as {changes[0]}.", f"These alone are read again by: {again}")
        return prepared

    def changes(self) -> list[str]:
        """Return the names of source files that were added, removed or changed; none where the source is not here."""
        if not self.protocol.source.is_dir():
            return []
        said = f"{self.folder} was prepared from {self.protocol.source}: looking for changes there."
        rank_zero_only(echo)(said, error=True)
        known = {file.name: file[1:3] for file in self._files.values()}
        changed = [name for name, *state in source_files(self.protocol.source) if known.pop(name, ()) != tuple(state)]
        return changed + list(known)

    def listing(self, val_share: float, classes: str) -> Listing:
        """Return the files as `list_images` does for the source."""
        folders = {name.partition("/")[0] for name in self._files if "/" in name}
        names = PackedStrings(sorted(self._files))
        return arrange(self.protocol.source, names, folders, val_share, classes)

    @property
    def errors(self) -> dict[str, CorruptImageError]:
        """What is wrong with the files that have no image, by name."""
        bad = (file for file in self._files.values() if file.row < 0)
        return {file.name: CorruptImageError(self.protocol.source / file.name, file.reason) for file in bad}

    def sources(self, listing: Listing, max_bad: float) -> dict[str, PreparedSource]:
        """Return the images of each part of a listing.

        As where files are read: bad ones are left out, and in a large folder the next good one stands in for each, see
        `files.py`.

        Raises:
            UserError: too many are bad, or all of a part.
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
