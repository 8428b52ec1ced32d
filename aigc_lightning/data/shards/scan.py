"""Scanning a shard from the headers of its tar file.

The rules are those of WebDataset: consecutive members with the same name up to its first dot form a sample, and the
rest of each name, in lower case, is the field's name. The **image** of a sample is the field whose whole name is an
image extension, such as `jpg`: the one that WebDataset's `to_tuple("jpg;jpeg;...;pnm")` takes, with the extensions in
the order of `decode.SUFFIXES`. Without such a field, the first of fields such as `depth.png` is used. Other images of a
sample are skipped and reported.
"""

import os
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aigc_lightning.core.io.atomic import open_regular
from aigc_lightning.core.io.escape import shown
from aigc_lightning.data.decode import SUFFIXES
from aigc_lightning.data.folders.litter import is_litter_path
from aigc_lightning.errors import UserError

#: A row of the table: the position of the sample's image in its shard, and its label, -1 if it has none.
ROW = np.dtype([("offset", "<i8"), ("size", "<i8"), ("label", "<i4")])
#: The largest accepted class number; each number up to it becomes a class.
LARGEST_LABEL = 999_999

Rows = npt.NDArray[np.void]

_SAMPLE = re.compile(r"((?:.*/|)[^./]+)\.([^/]*)", re.DOTALL)
_LABEL_BYTES = 32


class CorruptShardError(UserError):
    """A file is not a usable shard.

    Args:
        name: name of the shard.
        reason: what is wrong with it, without a full stop.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"{shown(name)} cannot be read as a shard: {reason}.", "Write it again, or remove it.")

    def __reduce__(self) -> tuple[type["CorruptShardError"], tuple[str, str]]:
        """Pickle the arguments: by default an exception is rebuilt from its message."""
        return type(self), (self.name, self.reason)


class LeftOut(NamedTuple):
    """An unused image in a shard.

    Args:
        member: its name in the shard.
        reason: why, without a full stop.
    """

    member: str
    reason: str


@dataclass
class ScannedShard:
    """The content of a shard.

    Args:
        rows: one row per sample with an image.
        members: names of the images.
        left_out: unused images.
    """

    rows: Rows
    members: list[str]
    left_out: list[LeftOut]


@dataclass
class _Sample:
    """A sample under construction: its images by field, and its label."""

    key: str = ""
    images: dict[str, str] = field(default_factory=dict)
    label: int = -1


def scan_shard(path: Path) -> ScannedShard:
    """Scan a shard.

    Members that are links to other members count like these.

    Raises:
        CorruptShardError: the file is not a tar file, is truncated, has no images, or has a class that is not a number
            from 0 to `LARGEST_LABEL`.
    """
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            return _Scan(tar, os.fstat(file.fileno()).st_size).run()
    except (tarfile.TarError, OSError, ValueError, ArithmeticError, LookupError) as error:
        raise CorruptShardError(str(path), _reason(error)) from error


class _Scan:
    def __init__(self, tar: tarfile.TarFile, end: int) -> None:
        self._tar, self._end = tar, end
        self._places: dict[str, tuple[int, int]] = {}  # positions of the bytes of regular members
        self._links: dict[str, str] = {}
        self._found: list[tuple[str, int]] = []  # the image of each sample, and its label
        self._left_out: list[LeftOut] = []
        self._sample = _Sample()

    def run(self) -> ScannedShard:
        for member in self._tar:
            parts = _SAMPLE.fullmatch(member.name)
            if parts is not None and not member.isdir() and not is_litter_path(member.name):
                self._take(member, parts[1], parts[2].lower())
        self._finish_sample()
        rows, members = [], []
        for name, label in self._found:
            place = self._place(name)
            if place is None:
                self._left_out.append(LeftOut(name, f"it is a link to {shown(self._links[name])}, which is missing"))
            else:
                rows.append((*place, label))
                members.append(name)
        # A file truncated between two members looks complete to tarfile; a complete one ends with empty blocks.
        if self._tar.offset + 512 > self._end or not rows:
            raise tarfile.ReadError("it ends too early" if rows else self._without_images())
        return ScannedShard(np.array(rows, ROW), members, self._left_out)

    def _take(self, member: tarfile.TarInfo, key: str, name_of_field: str) -> None:
        if member.isreg() and not member.issparse():
            if member.offset_data + member.size > self._end:
                raise tarfile.ReadError("it ends too early")
            self._places.setdefault(member.name, (member.offset_data, member.size))
        elif member.islnk():
            self._links[member.name] = member.linkname
        elif member.issym():
            self._links[member.name] = normpath(join(dirname(member.name), member.linkname))
        if key != self._sample.key:
            self._finish_sample()
            self._sample = _Sample(key)
        if f".{name_of_field}".endswith(SUFFIXES):
            self._take_image(member, name_of_field)
        elif name_of_field == "cls":
            self._sample.label = self._label(member)

    def _take_image(self, member: tarfile.TarInfo, name_of_field: str) -> None:
        if member.issparse():
            self._left_out.append(LeftOut(member.name, "it is stored as a sparse file"))
        elif member.name not in self._places and member.name not in self._links:
            self._left_out.append(LeftOut(member.name, "it is not a regular file"))
        elif name_of_field in self._sample.images:
            self._left_out.append(LeftOut(member.name, f"its sample has two fields {shown(name_of_field)}"))
        else:
            self._sample.images[name_of_field] = member.name

    def _finish_sample(self) -> None:
        if not self._sample.images:
            return
        images = self._sample.images
        endings = (suffix[1:] for suffix in SUFFIXES)
        chosen = next((images[ending] for ending in endings if ending in images), next(iter(images.values())))
        self._found.append((chosen, self._sample.label))
        reason = f"the image of its sample {shown(self._sample.key)} is {shown(chosen)}"
        self._left_out += [LeftOut(name, reason) for name in images.values() if name != chosen]

    def _label(self, member: tarfile.TarInfo) -> int:
        try:
            stored = self._tar.extractfile(member)
        except KeyError:  # a broken link
            stored = None
        text = b"" if stored is None else stored.read(_LABEL_BYTES).strip()
        if not re.fullmatch(rb"\d+", text) or int(text) > LARGEST_LABEL:
            held = shown(text.decode("utf-8", "surrogateescape")) or "nothing"
            raise ValueError(f"{shown(member.name)} holds {held}, not a class number from 0 to {LARGEST_LABEL}")
        return int(text)

    def _place(self, name: str) -> tuple[int, int] | None:
        for _ in range(len(self._links) + 1):  # links may point to links, but not endlessly
            if name not in self._links:
                break
            name = self._links[name]
        return self._places.get(name)

    def _without_images(self) -> str:
        first = next(iter(self._left_out), None)
        return f"{shown(first.member)} is not used: {first.reason}" if first else "it has no images"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).rstrip(".") or type(error).__name__
