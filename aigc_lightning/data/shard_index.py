"""What is in the shards of a dataset, and where in them: `shards.json` and `shards.npy` beside the tar files.

The shards are those of WebDataset: plain tar files in which neighbouring members with the same name up to its first dot
are one sample, such as `00017.jpg` and `00017.cls`. `shards.json` lists the shards under the keys that WebDataset's
tools use, and some of our own; `shards.npy` has a row for each sample, so that any sample is one read away.
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aigc_lightning.core.checksums import DamagedFileError, sealed, unsealed
from aigc_lightning.core.files import found_inside, open_regular, replacing
from aigc_lightning.core.untrusted import digest, file_name
from aigc_lightning.data.decode import SUFFIXES
from aigc_lightning.data.listing import part_of
from aigc_lightning.errors import UserError

#: Names of the two files, and how the names of shards end.
INDEX_FILE, TABLE_FILE = "shards.json", "shards.npy"
SHARD_SUFFIX = ".tar"
#: A row of the table: where the bytes of a sample's image are in its shard, and its label, -1 without one.
ROW = np.dtype([("offset", "<i8"), ("size", "<i8"), ("label", "<i4")])
_DIGEST_BYTES = 8
_LABEL_BYTES = 32  # of the longest file with a label

Rows = npt.NDArray[np.void]
_INDEX_AGAIN = "Run: aigc data shard --index FOLDER"


class CorruptShardError(UserError):
    """A file is no shard that can be used.

    Args:
        name: of the shard.
        reason: what is wrong with it, without a full stop.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"{name} cannot be read as a shard: {reason}.", "Write it again, or take it away.")

    def __reduce__(self) -> tuple[type["CorruptShardError"], tuple[str, str]]:
        """Pickle the arguments: an exception's own way would call the class with its message."""
        return type(self), (self.name, self.reason)


@dataclass(frozen=True)
class Shard:
    """A tar file of samples.

    Args:
        name: of the file.
        part: "train", "val" or "test".
        first: row of its first sample in the table.
        count: number of its samples.
        size: of the file in bytes.
    """

    name: str
    part: str
    first: int
    count: int
    size: int


@dataclass(frozen=True)
class ShardIndex:
    """The shards of a dataset.

    Args:
        shards: in the order of their rows.
        class_names: the name of each label in order; empty when the images have no labels.
        digest: of the table, by which a copy of it is known.
    """

    shards: tuple[Shard, ...]
    class_names: tuple[str, ...]
    digest: str

    def to_json(self) -> str:
        """Return the text of `shards.json`."""
        listed = [
            {"url": shard.name, "nsamples": shard.count, "part": shard.part, "bytes": shard.size}
            for shard in self.shards
        ]
        record = {"wids_version": 1, "table": self.digest, "class_names": list(self.class_names), "shardlist": listed}
        return json.dumps(sealed(record), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "ShardIndex":
        """Rebuild what `to_json` gave.

        Raises:
            UserError: the text is something else, damaged, or names files outside of the folder.
        """
        hint = "Remove it, and run `aigc data shard --index FOLDER` where the shards lie."
        try:
            record = unsealed(json.loads(text), where, hint)
            shards, first = [], 0
            for entry in record["shardlist"]:
                name, count = file_name(entry["url"], where, SHARD_SUFFIX), int(entry["nsamples"])
                shards.append(Shard(name, str(entry["part"]), first, count, int(entry["bytes"])))
                first += count
            if len({shard.name for shard in shards}) < len(shards):
                raise ValueError("a shard is listed twice")
            table = digest(record["table"], where, 2 * _DIGEST_BYTES)
            return cls(tuple(shards), tuple(record["class_names"]), table)
        except UserError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = f"{where} was not written by `aigc data shard`: {type(error).__name__} {error}."
            raise UserError(what, hint) from error


def build_index(
    folder: Path, class_names: Sequence[str] = (), watch: Callable[[Sequence[str]], Any] = iter
) -> tuple[ShardIndex, Rows, list[CorruptShardError]]:
    """Read the tar headers of all shards of a folder.

    Args:
        folder: with files that end in .tar; the beginning of a name, such as `val-`, says which part it is of.
        class_names: the name of each label in order; numbers where none are given and all samples have labels.
        watch: is given the names and returns them one by one, such as a progress bar.

    Returns:
        The index, its table, and what is wrong with the shards that were left out.

    Raises:
        UserError: the folder has no shards, or only bad ones.
    """
    names = sorted(path.name for path in folder.glob(f"*{SHARD_SUFFIX}"))
    if not names:
        packed = sorted(path.name for path in folder.glob("*.t*gz"))
        hint = f"Unpack {packed[0]} and the others with gunzip." if packed else "Write some: aigc data shard SRC DST"
        raise UserError(f"{folder} has no file that ends in .tar.", hint)
    shards: list[Shard] = []
    tables: list[Rows] = []
    bad: list[CorruptShardError] = []
    first = 0
    for name in watch(names):
        try:
            rows = scan_shard(found_inside(folder, file_name(name, folder)))
        except UserError as error:
            bad.append(
                error if isinstance(error, CorruptShardError) else CorruptShardError(name, error.what.rstrip("."))
            )
            continue
        word = re.match(r"[A-Za-z]*", name)
        part = part_of(word.group() if word else "") or "train"
        shards.append(Shard(name, part, first, len(rows), (folder / name).stat().st_size))
        tables.append(rows)
        first += len(rows)
    if not shards:
        raise bad[0]
    table = np.concatenate(tables)
    if not class_names and (table["label"] >= 0).all():
        class_names = [str(label) for label in range(int(table["label"].max()) + 1)]
    return ShardIndex(tuple(shards), tuple(class_names), _digest(table)), table, bad


def scan_shard(path: Path) -> Rows:
    """Return a row for each sample of a shard that has an image, from the headers of the tar file.

    Raises:
        CorruptShardError: the file is no tar file, ends too early, or has no images.
    """
    rows: list[tuple[int, int, int]] = []
    key, image, label = "", None, -1
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            end = os.fstat(file.fileno()).st_size
            for member in tar:
                if not member.isreg():
                    continue
                if member.offset_data + member.size > end:
                    raise tarfile.ReadError("it ends too early")
                folder, slash, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                if folder + slash + stem != key:
                    rows += [(*image, label)] if image else []
                    key, image, label = folder + slash + stem, None, -1
                if f".{suffix}".lower().endswith(SUFFIXES):
                    image = image or (member.offset_data, member.size)
                elif suffix.lower() == "cls":
                    stored = tar.extractfile(member)
                    label = int(stored.read(_LABEL_BYTES)) if stored is not None else -1
            rows += [(*image, label)] if image else []
            # A file that was cut between two members looks whole to the module; a whole one ends in empty blocks.
            if tar.offset + 512 > end or not rows:
                raise tarfile.ReadError("it ends too early" if rows else "it has no images")
    except (tarfile.TarError, OSError, ValueError) as error:
        raise CorruptShardError(str(path), _reason(error)) from error
    return np.array(rows, ROW)


def write_index(folder: Path, index: ShardIndex, table: Rows) -> None:
    """Write both files; `shards.json` last, so that a folder that has it is complete."""
    with replacing(folder / TABLE_FILE) as temporary:
        temporary.write_bytes(_table_bytes(table))
    with replacing(folder / INDEX_FILE) as temporary:
        temporary.write_text(index.to_json(), encoding="utf-8")


def read_table(path: Path, index: ShardIndex) -> Rows:
    """Return the table, of which only what is used is read from the disk.

    Raises:
        UserError: it is missing, damaged or another table.
    """
    expected = sum(shard.count for shard in index.shards)
    try:
        with open_regular(path) as file:
            found = hashlib.file_digest(file, _hash).hexdigest()
        if found != index.digest:
            raise DamagedFileError(path, f"it is not the table that {INDEX_FILE} was written for", _INDEX_AGAIN)
        table: Rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", _INDEX_AGAIN) from error
    if table.dtype != ROW or table.shape != (expected,):
        raise UserError(f"{path} does not belong to the {INDEX_FILE} beside it.", _INDEX_AGAIN)
    return table


def _digest(table: Rows) -> str:
    found = _hash()
    found.update(_table_bytes(table))
    return found.hexdigest()


def _hash() -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=_DIGEST_BYTES)


def _table_bytes(table: Rows) -> bytes:
    stream = BytesIO()
    np.save(stream, table, allow_pickle=False)
    return stream.getvalue()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).rstrip(".") or type(error).__name__
