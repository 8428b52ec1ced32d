"""The file format of a prepared folder, see `data/folders/prepared.py`."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from aigc_lightning.core.io.atomic import found_inside
from aigc_lightning.core.io.checksums import DamagedFileError, sealed, unsealed
from aigc_lightning.core.io.untrusted import relative_name
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.decode import Profile, resize_rule
from aigc_lightning.data.folders.listing import PREPARED_FILE, image_files
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command

#: Names of the files beside `PREPARED_FILE`.
FILES_FILE, IMAGES_FILE = "files.jsonl", "images.u8"
_FORMAT = 2  # of the files; 1 had no checksums, other numbers are rejected
PREPARE_AGAIN = "Run the same `aigc data prepare` again; intact images are kept."


class PreparedFile(NamedTuple):
    """A source file and the location of its image.

    Args:
        name: relative to the source folder, in POSIX form.
        size: of the source file in bytes.
        modified: time of its last modification in nanoseconds.
        row: row of its image, -1 for none.
        reason: why it has no image, without a full stop.
        checksum: CRC-32 of its image; -1 if unknown.
    """

    name: str
    size: int
    modified: int
    row: int
    reason: str = ""
    checksum: int = -1


@dataclass(frozen=True)
class Protocol:
    """How the images are made from the files.

    Args:
        source: the source folder.
        shape: (C, H, W).
        resize: the resize rule, see `decode.resize_rule`.
        profile: "srgb" if colours are converted, "keep" if not; see `decode`.
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
        """Return a readable form: `64x64 RGB, crop`."""
        return f"{ImageSpec(*self.shape)}, {self.resize}" + (", profile keep" if self.profile == "keep" else "")

    def command(self, target: Path) -> str:
        """Return the command that prepares or completes a folder with this protocol."""
        channels, height, width = self.shape
        size = [height] if height == width else [height, width]
        rest = [] if channels == 3 else ["--channels", channels]
        rest += [] if self.resize == "crop" else ["--resize", self.resize]
        rest += [] if self.profile == "srgb" else ["--profile", self.profile]
        return command("aigc", "data", "prepare", self.source, target, "--size", *size, *rest)

    def to_json(self, files_digest: str | None) -> str:
        """Return the text of `prepared.json`.

        Args:
            files_digest: of `files.jsonl`, see `digest_of`; None while the preparation is incomplete.
        """
        record = {"format": _FORMAT, "source": str(self.source), "shape": list(self.shape), "resize": self.resize}
        record |= {"profile": self.profile, "complete": files_digest is not None, "files": files_digest}
        return json.dumps(sealed(record), indent=1) + "\n"


class Stored(NamedTuple):
    """A prepared folder's description of itself.

    Args:
        protocol: how its images are made.
        complete: whether the preparation finished.
        files_digest: of `files.jsonl`; None if unknown.
    """

    protocol: Protocol
    complete: bool
    files_digest: str | None


def read_protocol(folder: Path) -> Stored | None:
    """Return a folder's description of its preparation, or None if it was not prepared at all.

    Raises:
        UserError: the description cannot be used.
    """
    path, again = found_inside(folder, PREPARED_FILE), "Remove the folder, and prepare it again."
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] not in (1, _FORMAT):
            raise ValueError(f"format {record['format']}, but this version reads up to {_FORMAT}")
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
    """Return the profile option; earlier versions did not convert colours and did not record this."""
    return "srgb" if record.get("profile") == "srgb" else "keep"


def read_files(folder: Path) -> tuple[list[PreparedFile], str]:
    """Return the finished files and the digest of all lines; lines truncated by a crash are skipped.

    Raises:
        UserError: the list names files outside the source.
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
    """Parse a line; None if it is incomplete."""
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
    """Yield name, size and modification time of each image file that training on a folder can use, sorted.

    Size and time are 0 where there is no file behind the name.

    Raises:
        UserError: no such folder, or no images in it.
    """
    for name in image_files(source).names:
        try:
            status = os.stat(source / name)
        except OSError:  # a link to nothing, or removed since: reading it says so
            yield name, 0, 0
        else:
            yield name, status.st_size, status.st_mtime_ns
