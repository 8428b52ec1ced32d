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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from aigc_lightning.core.checksums import DamagedFileError, sealed, unsealed
from aigc_lightning.core.files import found_inside
from aigc_lightning.core.output import echo
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.core.untrusted import relative_name
from aigc_lightning.data.decode import CorruptImageError, resize_rule
from aigc_lightning.data.listing import PREPARED_FILE, Listing, arrange, list_images
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
    """

    source: Path
    shape: tuple[int, int, int]
    resize: str

    @property
    def bytes_per_image(self) -> int:
        """C * H * W."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        """Say it as a person would: `64x64 RGB, crop`."""
        return f"{ImageSpec(*self.shape)}, {self.resize}"

    def command(self, target: Path) -> str:
        """Return the command that makes or completes it in a folder."""
        channels, height, width = self.shape
        size = [height] if height == width else [height, width]
        rest = [] if channels == 3 else ["--channels", channels]
        rest += [] if self.resize == "crop" else ["--resize", self.resize]
        return command("aigc", "data", "prepare", self.source, target, "--size", *size, *rest)

    def to_json(self, files_digest: str | None) -> str:
        """Return the text of `prepared.json`.

        Args:
            files_digest: of `files.jsonl`, see `digest_of`; None where the preparation is not complete.
        """
        record = {"format": _FORMAT, "source": str(self.source), "shape": list(self.shape), "resize": self.resize}
        return (
            json.dumps(sealed({**record, "complete": files_digest is not None, "files": files_digest}), indent=1) + "\n"
        )


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
        protocol = Protocol(Path(record["source"]), (channels, height, width), str(record["resize"]))
        resize_rule(protocol.resize)
        return Stored(protocol, bool(record["complete"]), record.get("files"))
    except DamagedFileError:
        raise
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be used: {type(error).__name__} {reason}.", again) from error


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
    parts = list_images(source, 0.1, "none").parts
    for name in sorted(name for members in parts.values() for name in members):
        status = os.stat(source / name)
        yield name, status.st_size, status.st_mtime_ns


class PreparedSource:
    """Prepared images; each is one read of the file that has them all.

    Args:
        path: of that file.
        shape: (C, H, W).
        rows: int64 (N,) places of the images.
        checksums: int64 (N,) CRC-32 of each; -1 where it is not known.
        labels: int64 (N,), or None.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], rows: Tensor, checksums: Tensor, labels: Tensor | None
    ) -> None:
        self._path, self._shape, self._rows, self._labels = path, shape, rows, labels
        self._checksums = checksums

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
    def found(cls, folder: Path, shape: tuple[int, int, int], resize: str) -> "PreparedFolder | None":
        """Return the prepared folder that data of this shape and rule can read, or None where it is an ordinary one.

        Raises:
            UserError: it was prepared otherwise, is not complete, or its source has changed since.
        """
        stored = read_protocol(folder)
        if stored is None:
            return None
        protocol = stored.protocol
        if (protocol.shape, protocol.resize) != (shape, resize):
            wanted = Protocol(protocol.source, shape, resize)
            raise UserError(
                f"{folder} was prepared as {protocol}, and the data is to be {wanted}.",
                f"Say so by data.size, data.channels and data.resize, or: {wanted.command(Path('OTHER'))}",
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
        return arrange(self.protocol.source, sorted(self._files), folders, val_share, classes)

    @property
    def errors(self) -> dict[str, CorruptImageError]:
        """What is wrong with the files that have no image, by name."""
        bad = (file for file in self._files.values() if file.row < 0)
        return {file.name: CorruptImageError(self.protocol.source / file.name, file.reason) for file in bad}

    def source(self, names: Sequence[str], labels: Tensor | None) -> PreparedSource:
        """Return the images of these files."""
        rows = torch.tensor([self._files[name].row for name in names])
        checksums = torch.tensor([self._files[name].checksum for name in names])
        return PreparedSource(self.folder / IMAGES_FILE, self.protocol.shape, rows, checksums, labels)
