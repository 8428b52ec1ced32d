"""The index of a dataset's shards: `shards.json` and `shards.npy` beside the tar files.

The shards are in WebDataset's format: plain tar files in which consecutive members with the same name up to its first
dot form a sample, such as `00017.jpg` and `00017.cls`. `shards.json` lists the shards under the keys of WebDataset's
tools and some of our own; `shards.npy` has a row for each sample, so that any sample takes one read.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from aigc_lightning.core.io.atomic import found_inside, open_regular, replacing
from aigc_lightning.core.io.checksums import DamagedFileError, sealed, unsealed
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.untrusted import digest, file_name
from aigc_lightning.data.folders.layouts import part_of
from aigc_lightning.data.folders.litter import is_litter
from aigc_lightning.data.shards.scan import ROW, CorruptShardError, LeftOut, Rows, scan_shard
from aigc_lightning.errors import UserError

#: Names of the two files, and the extension of shards.
INDEX_FILE, TABLE_FILE = "shards.json", "shards.npy"
SHARD_SUFFIX = ".tar"
_DIGEST_BYTES = 8
_INDEX_AGAIN = "Run: aigc data shard --index FOLDER"


@dataclass(frozen=True)
class Shard:
    """A tar file of samples.

    Args:
        name: name of the file.
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
        shards: the shards, in the order of their rows.
        class_names: the name of each label in order; empty if the images have no labels.
        digest: digest of the table, which identifies copies of it.
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
        """Parse the result of `to_json`.

        Raises:
            UserError: the text is not an index, is damaged, or names files outside the folder.
        """
        hint = "Remove it, and run `aigc data shard --index FOLDER` where the shards are."
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


@dataclass(frozen=True)
class BuiltIndex:
    """The result of scanning the headers of all shards in a folder.

    Args:
        index: index of the usable shards.
        table: rows of their samples.
        bad: errors of the other shards.
        left_out: unused images, by shard name.
        unlabelled: number of samples without a class if others have one; the images then have no labels.
    """

    index: ShardIndex
    table: Rows
    bad: list[CorruptShardError]
    left_out: dict[str, list[LeftOut]]
    unlabelled: int

    def notes(self) -> list[str]:
        """Return remarks for the user, one sentence each."""
        found = [f"Left out {shown(error.name)}: {error.reason}." for error in self.bad]
        for name, items in self.left_out.items():
            first = f"{shown(items[0].member)}: {items[0].reason}"
            found.append(f"{shown(name)}: {len(items)} images are left out, such as {first}.")
        if self.unlabelled:
            count = f"{self.unlabelled:,} of {len(self.table):,} images"
            found.append(f"{count} have no class, so the images have no labels.")
        return found


def build_index(
    folder: Path, class_names: Sequence[str] = (), watch: Callable[[Sequence[str]], Any] = iter
) -> BuiltIndex:
    """Read the tar headers of all shards in a folder.

    Args:
        folder: folder with .tar files; a prefix of the name, such as `val-`, says which part a shard belongs to.
        class_names: the name of each label in order; numbers if none are given and all samples have labels.
        watch: iterates over the names, such as a progress bar.

    Raises:
        UserError: the folder has no usable shards.
    """
    names = shard_names(folder)
    if not names:
        packed = sorted(path.name for path in folder.glob("*.t*gz"))
        hint = f"Unpack {packed[0]} and the others with gunzip." if packed else "Write some: aigc data shard SRC DST"
        raise UserError(f"{shown(folder)} has no file that ends in .tar.", hint)
    shards: list[Shard] = []
    tables: list[Rows] = []
    bad: list[CorruptShardError] = []
    left_out: dict[str, list[LeftOut]] = {}
    first = 0
    for name in watch(names):
        try:
            scanned = scan_shard(found_inside(folder, file_name(name, folder)))
        except UserError as error:
            bad.append(
                error if isinstance(error, CorruptShardError) else CorruptShardError(name, error.what.rstrip("."))
            )
            continue
        word = re.match(r"[A-Za-z]*", name)
        part = part_of(word.group() if word else "") or "train"
        shards.append(Shard(name, part, first, len(scanned.rows), (folder / name).stat().st_size))
        tables.append(scanned.rows)
        first += len(scanned.rows)
        if scanned.left_out:
            left_out[name] = scanned.left_out
    if not shards:
        raise bad[0]
    table = np.concatenate(tables)
    unlabelled = int((table["label"] < 0).sum())
    if not class_names and not unlabelled:
        class_names = [str(label) for label in range(int(table["label"].max()) + 1)]
    some = 0 if unlabelled == len(table) else unlabelled
    return BuiltIndex(ShardIndex(tuple(shards), tuple(class_names), _digest(table)), table, bad, left_out, some)


def shard_names(folder: Path) -> list[str]:
    """Return the sorted names of the tar files in a folder."""
    names = (path.name for path in folder.glob(f"*{SHARD_SUFFIX}"))
    return sorted(name for name in names if not is_litter(name))


def write_index(folder: Path, index: ShardIndex, table: Rows) -> None:
    """Write both files, `shards.json` last, so that a folder that has it is complete."""
    with replacing(folder / TABLE_FILE) as temporary:
        temporary.write_bytes(_table_bytes(table))
    with replacing(folder / INDEX_FILE) as temporary:
        temporary.write_text(index.to_json(), encoding="utf-8")


def read_table(path: Path, index: ShardIndex) -> Rows:
    """Return the memory-mapped table.

    Raises:
        UserError: it is missing, damaged or belongs to another index.
    """
    expected = sum(shard.count for shard in index.shards)
    try:
        with open_regular(path) as file:
            found = hashlib.file_digest(file, _hash).hexdigest()
        if found != index.digest:
            raise DamagedFileError(path, f"it does not match {INDEX_FILE}", _INDEX_AGAIN)
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
