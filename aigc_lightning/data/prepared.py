"""A folder's images at one size in one file, for folders too large to be decoded at each visit.

`aigc data prepare` writes three files: `prepared.json` says what was done, `files.jsonl` has a line for each source
file, and `images.u8` the pixels, image after image. Training reads the same pictures as from the folder.
Shapes: C channels, H and W height and width in pixels.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.decode import CorruptImageError
from aigc_lightning.data.listing import PREPARED_FILE, Listing, arrange, list_images
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command

#: Names of the files beside `PREPARED_FILE`.
FILES_FILE, IMAGES_FILE = "files.jsonl", "images.u8"
_FORMAT = 1  # of the files; other numbers are refused


class PreparedFile(NamedTuple):
    """A source file, and where its image is.

    Args:
        name: relative to the source folder, in POSIX form.
        size: of the source file in bytes.
        modified: time of its last change in nanoseconds.
        row: place of its image, -1 for none.
        reason: why there is none, without a full stop.
    """

    name: str
    size: int
    modified: int
    row: int
    reason: str = ""


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

    def to_json(self, *, complete: bool) -> str:
        """Return the text of `prepared.json`."""
        record = {"format": _FORMAT, "source": str(self.source), "shape": list(self.shape), "resize": self.resize}
        return json.dumps({**record, "complete": complete}, indent=1) + "\n"


def read_protocol(folder: Path) -> tuple[Protocol, bool] | None:
    """Return how a folder was prepared and whether that is complete, or None where it was not prepared at all.

    Raises:
        UserError: what it says about itself cannot be used.
    """
    path = folder / PREPARED_FILE
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        channels, height, width = (int(number) for number in record["shape"])
        if record["format"] != _FORMAT:
            raise ValueError(f"format {record['format']}")
        protocol = Protocol(Path(record["source"]), (channels, height, width), str(record["resize"]))
        return protocol, bool(record["complete"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be used: {type(error).__name__} {error}.", "Remove the folder, and prepare it again."
        ) from error


def read_files(folder: Path) -> list[PreparedFile]:
    """Return the files that are done; a last line that was cut by a crash is passed over."""
    path = folder / FILES_FILE
    if not path.is_file():
        return []
    files = []
    with path.open(encoding="ascii") as lines:
        for line in lines:
            if line.endswith("\n"):
                files.append(PreparedFile(*json.loads(line)))
    return files


def lines_of(files: Iterable[PreparedFile]) -> Iterator[str]:
    """Yield the line of each file."""
    return (json.dumps(file if file.reason else file[:4]) + "\n" for file in files)


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
        labels: int64 (N,), or None.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], rows: Tensor, labels: Tensor | None) -> None:
        self._path, self._shape, self._rows, self._labels = path, shape, rows, labels

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
            UserError: the file has become shorter, or cannot be read.
        """
        images = torch.empty((len(indices), *self._shape), dtype=torch.uint8)
        size = math.prod(self._shape)
        # Not a memory map: where a file is cut, that would kill the process.
        for image, row in zip(images.numpy(), self._rows[torch.as_tensor(indices)].tolist(), strict=True):
            if os.preadv(self._handle, [image], row * size) != size:
                raise UserError(f"{self._path} is shorter than it was.", "Prepare the folder again.")
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
        protocol: how.

    Raises:
        UserError: it does not have the pixels that it says.
    """

    def __init__(self, folder: Path, protocol: Protocol) -> None:
        self.folder, self.protocol = folder, protocol
        self._files = {file.name: file for file in read_files(folder)}
        path = folder / IMAGES_FILE
        rows = 1 + max((file.row for file in self._files.values()), default=-1)
        if not path.is_file() or path.stat().st_size < rows * protocol.bytes_per_image:
            raise UserError(f"{path} is missing or too short.", f"Remove {folder / PREPARED_FILE}, and prepare again.")

    @classmethod
    def found(cls, folder: Path, shape: tuple[int, int, int], resize: str) -> "PreparedFolder | None":
        """Return the prepared folder that data of this shape and rule can read, or None where it is an ordinary one.

        Raises:
            UserError: it was prepared otherwise, is not complete, or its source has changed since.
        """
        read = read_protocol(folder)
        if read is None:
            return None
        protocol, complete = read
        if (protocol.shape, protocol.resize) != (shape, resize):
            wanted = Protocol(protocol.source, shape, resize)
            raise UserError(
                f"{folder} was prepared as {protocol}, and the data is to be {wanted}.",
                f"Say so by data.size, data.channels and data.resize, or: {wanted.command(Path('OTHER'))}",
            )
        again = protocol.command(folder)
        if not complete:
            raise UserError(f"{folder} is not complete: its preparation was interrupted.", f"It goes on with: {again}")
        prepared = cls(folder, protocol)
        if changes := prepared.changes():
            what = f"{protocol.source} has changed since {folder} was prepared: {len(changes):,} of its files"
            raise UserError(f"{what}, such as {changes[0]}.", f"These alone are read again by: {again}")
        return prepared

    def changes(self) -> list[str]:
        """Return the names of source files that were added, removed or changed; none where the source is not here."""
        if not self.protocol.source.is_dir():
            return []
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
        return PreparedSource(self.folder / IMAGES_FILE, self.protocol.shape, rows, labels)
