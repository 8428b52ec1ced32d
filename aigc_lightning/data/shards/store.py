"""Access to the files of a sharded dataset: in a folder, or at a URL and copied to this machine."""

import hashlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aigc_lightning.core.io.atomic import found_inside, inside, open_regular, private_folder, replacing
from aigc_lightning.core.io.http import DownloadError, receive
from aigc_lightning.core.io.redaction import redacted_address
from aigc_lightning.data.shards.address import ShardAddress
from aigc_lightning.data.shards.index import INDEX_FILE, SHARD_SUFFIX, TABLE_FILE, Shard, ShardIndex
from aigc_lightning.data.shards.scan import CorruptShardError
from aigc_lightning.errors import UserError

_MOST_INDEX = 2**28  # maximum size of `shards.json`: three million shards
_TRIES, _PAUSE_S = 3, 1.0  # for a download; the pause doubles after each attempt
_SPARE = 0.1  # fraction of the free disk space that copies leave unused


@dataclass
class LocalStore:
    """Shards in a folder.

    Args:
        folder: the folder.
    """

    folder: Path

    @property
    def where(self) -> str:
        """The folder, for messages."""
        return str(self.folder)

    def index(self) -> ShardIndex | None:
        """Return the content of `shards.json`, or None if it does not exist.

        Raises:
            UserError: there is no such folder, or the file cannot be used.
        """
        if not self.folder.is_dir():
            raise UserError(
                f"There is no folder {self.folder}.", "Check data.root; `aigc data shard SRC DST` creates it."
            )
        path = found_inside(self.folder, INDEX_FILE)
        return ShardIndex.from_json(path.read_bytes(), str(path)) if path.is_file() else None

    def table(self, index: ShardIndex) -> Path:
        """Return the path of the table."""
        return found_inside(self.folder, TABLE_FILE)

    def path(self, shard: Shard) -> Path:
        """Return the path of a shard's file."""
        return self.folder / shard.name

    def problem(self, shard: Shard) -> str:
        """Return what is visibly wrong with a shard without reading it, "" for nothing."""
        try:
            size = found_inside(self.folder, shard.name).stat().st_size
        except OSError as error:
            return (error.strerror or str(error)).lower()
        except UserError as error:
            return error.what.rstrip(".")
        return "" if size == shard.size else f"it has {size:,} bytes, but {INDEX_FILE} says {shard.size:,}"

    def open(self, shard: Shard) -> int:
        """Return a descriptor of the shard's file.

        Raises:
            CorruptShardError: it is missing or has the wrong size.
        """
        path = self.folder / shard.name
        problem = self.problem(shard)
        if problem:
            raise CorruptShardError(str(path), problem)
        return _descriptor(path)


@dataclass
class RemoteStore:
    """Shards at a URL: http, https, or a cloud storage supported by fsspec, such as s3:// or gs://.

    Each shard is downloaded once to this machine, by whichever process needs it first, and read from there. If the
    copies exceed their size limit, the least recently opened ones are removed.

    Args:
        address: URL of the folder.
        cache: folder for the copies of all URLs, on a local disk; None for one in the temporary folder.
        limit: maximum size in bytes of the copies of this URL.
    """

    address: str
    cache: Path | None
    limit: int

    @property
    def where(self) -> str:
        """The URL for messages, without its secrets and its query."""
        return redacted_address(self.address).partition("?")[0]

    @cached_property
    def folder(self) -> Path:
        """Folder for the copies of this URL.

        Raises:
            UserError: it cannot be created, or somebody else can write to it.
        """
        cache = private_folder(default_cache()) if self.cache is None else self.cache
        name = hashlib.blake2b(self.address.encode(), digest_size=8).hexdigest()
        folder = inside(cache, name, INDEX_FILE).parent
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def index(self) -> ShardIndex:
        """Return the content of `shards.json`, always downloaded again, so that a dataset may grow between two runs.

        Raises:
            UserError: the server does not respond, or has no such file.
        """
        where = self._shown(INDEX_FILE)
        pieces: list[bytes] = []
        try:
            with self._source.opened(INDEX_FILE) as (read, total):
                receive(read, total, pieces.append, most=_MOST_INDEX)
            text = b"".join(pieces)
        except DownloadError as error:
            raise UserError(
                f"{where} cannot be read: {_said(error)}.",
                "Check data.root; `aigc data shard --index FOLDER` writes the file where the shards are.",
            ) from error
        return ShardIndex.from_json(text, where)

    def table(self, index: ShardIndex) -> Path:
        """Return the path of a copy of the table.

        Raises:
            UserError: it cannot be downloaded.
        """
        path = self.folder / f"{index.digest}.npy"
        try:
            self._copy(TABLE_FILE, path)
        except CorruptShardError as error:
            raise UserError(f"{error.name} cannot be read: {error.reason}.", "Check data.root.") from error
        return path

    def path(self, shard: Shard) -> Path:
        """Return the path of a shard's copy, which exists once it has been opened."""
        return self.folder / shard.name

    def problem(self, shard: Shard) -> str:
        """Return "": a shard is checked when it is downloaded."""
        return ""

    def open(self, shard: Shard) -> int:
        """Return a descriptor of a copy of the shard.

        Raises:
            CorruptShardError: it cannot be downloaded, or has the wrong size.
        """
        path = self.folder / shard.name
        while True:
            self._copy(shard.name, path, shard.size)
            try:
                handle = _descriptor(path)
            except FileNotFoundError:  # removed by another process that needed the space
                continue
            os.utime(path)
            return handle

    @cached_property
    def _source(self) -> ShardAddress:
        return ShardAddress(self.address)

    def _shown(self, name: str) -> str:
        return f"{self.where.rstrip('/')}/{name}"

    def _copy(self, name: str, path: Path, size: int | None = None) -> None:
        """Download a file unless there is a copy; one process downloads while the others wait."""
        from filelock import FileLock

        if _is_copy(path, size):
            return
        with FileLock(path.with_name(f"{path.name}.lock")):
            if not _is_copy(path, size):
                self._make_room(size or 0)
                self._fetch(name, path, size)

    def _fetch(self, name: str, path: Path, size: int | None) -> None:
        for number in range(_TRIES):
            try:
                with replacing(path) as temporary, temporary.open("wb") as file:
                    with self._source.opened(name) as (read, total):
                        found = receive(read, total, file.write, folder=self.folder, most=size)
                    if size not in (None, found):
                        raise DownloadError(f"it has {found:,} bytes, but {INDEX_FILE} says {size:,}")
                return
            except DownloadError as error:
                if number == _TRIES - 1 or error.final:
                    raise CorruptShardError(self._shown(name), error.reason) from error
                time.sleep(_PAUSE_S * 2**number)
            except OSError as error:
                reason = f"it cannot be copied to {path}: {error.strerror}"
                raise CorruptShardError(self._shown(name), reason) from error

    def _make_room(self, needed: int) -> None:
        copies = []
        for path in self.folder.glob(f"*{SHARD_SUFFIX}"):
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
            path.unlink(missing_ok=True)  # processes that have it open can still read it
            taken -= size


def default_cache() -> Path:
    """Return the default folder for copies, in the temporary folder, which clusters put on a local disk."""
    return Path(tempfile.gettempdir()) / f"aigc-shards-{os.getuid() if hasattr(os, 'getuid') else 'copies'}"


def _is_copy(path: Path, size: int | None) -> bool:
    """Whether a file exists and has the right size, if known; a link is not a copy of ours."""
    return path.is_file() and not path.is_symlink() and size in (None, path.stat().st_size)


def _descriptor(path: Path) -> int:
    with open_regular(path) as file:
        return os.dup(file.fileno())


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
