"""Where the files of a sharded dataset are: in a folder, or behind an address and then copied to this machine."""

import hashlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aigc_lightning.core.files import replacing
from aigc_lightning.data.shard_index import INDEX_FILE, TABLE_FILE, CorruptShardError, Shard, ShardIndex
from aigc_lightning.errors import UserError

_TRIES, _PAUSE_S = 3, 1.0  # of a copy; the pause doubles after each
_SPARE = 0.1  # share of the free disk that copies leave to others


@dataclass
class LocalStore:
    """Shards in a folder.

    Args:
        folder: that holds them.
    """

    folder: Path

    @property
    def where(self) -> str:
        """The folder, as a person knows it."""
        return str(self.folder)

    def index(self) -> ShardIndex | None:
        """Return what `shards.json` says, None where there is none.

        Raises:
            UserError: there is no such folder, or the file cannot be used.
        """
        if not self.folder.is_dir():
            raise UserError(
                f"There is no folder {self.folder}.", "Check data.root; `aigc data shard SRC DST` makes it."
            )
        path = self.folder / INDEX_FILE
        return ShardIndex.from_json(path.read_bytes(), str(path)) if path.is_file() else None

    def table(self, index: ShardIndex) -> Path:
        """Return the path of the table."""
        return self.folder / TABLE_FILE

    def problem(self, shard: Shard) -> str:
        """Return what can be seen to be wrong with a shard without reading it, "" for nothing."""
        try:
            size = (self.folder / shard.name).stat().st_size
        except OSError as error:
            return (error.strerror or str(error)).lower()
        return "" if size == shard.size else f"it has {size:,} bytes, {INDEX_FILE} says {shard.size:,}"

    def open(self, shard: Shard) -> int:
        """Return a descriptor of the shard's file.

        Raises:
            CorruptShardError: it is missing or has another size.
        """
        problem = self.problem(shard)
        if problem:
            raise CorruptShardError(str(self.folder / shard.name), problem)
        return os.open(self.folder / shard.name, os.O_RDONLY)


@dataclass
class RemoteStore:
    """Shards behind an address that fsspec knows, such as https://, s3:// or gs://.

    Each shard is copied once to this machine, whichever of its processes asks first, and read there. When the copies
    take more room than they may, those that were not opened for longest are removed.

    Args:
        address: of the folder.
        cache: folder for the copies of all addresses, on a disk of this machine.
        limit: bytes that the copies of this address may take.
    """

    address: str
    cache: Path
    limit: int

    @property
    def where(self) -> str:
        """The address."""
        return self.address

    @cached_property
    def folder(self) -> Path:
        """Folder for the copies of this address."""
        return self.cache / hashlib.blake2b(self.address.encode(), digest_size=8).hexdigest()

    def index(self) -> ShardIndex:
        """Return what `shards.json` says; it is fetched anew, so that a dataset may grow between two runs.

        Raises:
            UserError: the address does not answer, or has no such file.
        """
        where = f"{self.address.rstrip('/')}/{INDEX_FILE}"
        try:
            text = self._filesystem.cat_file(where)
        except Exception as error:  # each file system has errors of its own
            raise UserError(
                f"{where} cannot be read: {_said(error)}.",
                "Check data.root; `aigc data shard --index FOLDER` writes the file where the shards lie.",
            ) from error
        return ShardIndex.from_json(text, where)

    def table(self, index: ShardIndex) -> Path:
        """Return the path of a copy of the table.

        Raises:
            UserError: it cannot be copied.
        """
        path = self.folder / f"{index.digest}.npy"
        try:
            self._copy(TABLE_FILE, path)
        except CorruptShardError as error:
            raise UserError(f"{error.name} cannot be read: {error.reason}.", "Check data.root.") from error
        return path

    def problem(self, shard: Shard) -> str:
        """Return nothing: a shard is looked at when it is copied."""
        return ""

    def open(self, shard: Shard) -> int:
        """Return a descriptor of a copy of the shard.

        Raises:
            CorruptShardError: it cannot be copied, or has another size.
        """
        path = self.folder / shard.name
        while True:
            self._copy(shard.name, path, shard.size)
            try:
                handle = os.open(path, os.O_RDONLY)
            except FileNotFoundError:  # removed by another process that needed the room
                continue
            os.utime(path)
            return handle

    @cached_property
    def _filesystem(self) -> Any:
        from fsspec.core import url_to_fs

        try:
            return url_to_fs(self.address)[0]
        except (ImportError, ValueError) as error:
            raise UserError(
                f"{self.address} cannot be read: {_said(error)}.", "Install what fsspec asks for."
            ) from error

    def _copy(self, name: str, path: Path, size: int | None = None) -> None:
        """Copy a file unless there is a copy; of several processes one copies and the others wait."""
        from filelock import FileLock

        if path.is_file() and size in (None, path.stat().st_size):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock")):
            if not path.is_file() or size not in (None, path.stat().st_size):
                self._make_room(size or 0)
                self._fetch(name, path, size)

    def _fetch(self, name: str, path: Path, size: int | None) -> None:
        where = f"{self.address.rstrip('/')}/{name}"
        for number in range(_TRIES):
            try:
                with replacing(path) as temporary:
                    self._filesystem.get_file(where, str(temporary))
                    found = temporary.stat().st_size
                    if size not in (None, found):
                        raise OSError(f"it has {found:,} bytes, {INDEX_FILE} says {size:,}")
                return
            except Exception as error:  # each file system has errors of its own
                if number == _TRIES - 1 or isinstance(error, FileNotFoundError):
                    raise CorruptShardError(where, _said(error)) from error
                time.sleep(_PAUSE_S * 2**number)

    def _make_room(self, needed: int) -> None:
        copies = []
        for path in self.folder.glob("*.tar"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process was faster
                continue
            copies.append((status.st_atime, status.st_size, path))
        taken = sum(size for _, size, _ in copies)
        limit = min(self.limit, taken + int((1 - _SPARE) * shutil.disk_usage(self.folder).free))
        for _, size, path in sorted(copies):
            if taken + needed <= limit:
                return
            path.unlink(missing_ok=True)  # who has it open reads on
            taken -= size


def default_cache() -> Path:
    """Return the folder for copies: in the temporary folder, which clusters put on a disk of the node."""
    return Path(tempfile.gettempdir()) / f"aigc-shards-{os.getuid() if hasattr(os, 'getuid') else 'copies'}"


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
