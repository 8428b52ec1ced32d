"""Files of published datasets: where they lie, that they are the right ones, and what they hold."""

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.download import fetch, progress
from aigc_lightning.core.io.http import DownloadError
from aigc_lightning.errors import UserError

_RECORD_SIZE = 1 + 3 * 32 * 32
_MOST_BYTES = 2**29  # of such a file; the largest has 170 MB


@dataclass(frozen=True)
class PublishedFile:
    """A file of a published set.

    Args:
        path: where it belongs.
        addresses: where it was published; the first that answers is taken.
        md5: of the file.
    """

    path: Path
    addresses: Sequence[str]
    md5: str

    def fetch(self) -> None:
        """Copy the file, unless it is there.

        Raises:
            DownloadError: no address has it.
        """
        if self.path.is_file():
            return
        for number, address in enumerate(self.addresses, 1):
            try:
                with progress(self.path.name) as advance, replacing(self.path) as temporary:
                    fetch(address, temporary, most=_MOST_BYTES, advance=advance)
                    self._check(temporary, address)
            except DownloadError:
                if number == len(self.addresses):
                    raise
            else:
                return

    def _check(self, path: Path, address: str) -> None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != self.md5:
            raise DownloadError(f"{address} is not the published file: its MD5 is {found} and not {self.md5}")


def read_idx(path: Path, num_dims: int) -> npt.NDArray[np.uint8]:
    """Return the array of an idx file: 2 zero bytes, type 8 (uint8), number of axes, their big-endian sizes, the bytes.

    Args:
        path: the file, gzipped when it ends in .gz.
        num_dims: number of axes that it should have.

    Raises:
        UserError: no idx file of bytes with so many axes, or cut short.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}.", "Remove the file and fetch it anew.") from error
    header_size = 4 + 4 * num_dims
    if data[:4] != bytes([0, 0, 8, num_dims]) or len(data) < header_size:
        raise UserError(f"{path} is no idx file of bytes with {num_dims} axes.", "Remove the file and fetch it anew.")
    shape = np.frombuffer(data, ">u4", num_dims, offset=4).astype(np.int64)
    expected = header_size + int(shape.prod())
    if len(data) != expected:
        what = f"{path} is damaged: it holds {len(data)} bytes, its header announces {expected}."
        raise UserError(what, "Remove the file and fetch it anew.")
    return np.frombuffer(data, np.uint8, offset=header_size).reshape(shape).copy()


def read_cifar_records(path: Path) -> npt.NDArray[np.uint8]:
    """Return the records of a binary CIFAR-10 file, uint8 (N, 3073): a label, then 3x32x32 pixels.

    Raises:
        UserError: the file is missing, empty or cut short.
    """
    hint = "Remove the folder and unpack or fetch it anew."
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.", hint) from error
    if not data or len(data) % _RECORD_SIZE:
        raise UserError(f"{path} is damaged: {len(data)} bytes are no multiple of {_RECORD_SIZE}.", hint)
    return np.frombuffer(data, np.uint8).reshape(-1, _RECORD_SIZE).copy()
