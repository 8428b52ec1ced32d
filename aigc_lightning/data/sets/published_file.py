"""Files of published datasets: downloading, verifying and parsing them."""

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
_MOST_BYTES = 2**29  # maximum size of such a file; the largest has 170 MB


@dataclass(frozen=True)
class PublishedFile:
    """A file of a published dataset.

    Args:
        path: where to store it.
        addresses: URLs of the file; the first that responds is used.
        md5: MD5 of the file.
    """

    path: Path
    addresses: Sequence[str]
    md5: str

    def fetch(self) -> None:
        """Download the file, unless it exists.

        Raises:
            DownloadError: no URL provides it.
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
            raise DownloadError(f"{address} is not the published file: its MD5 is {found} instead of {self.md5}")


def read_idx(path: Path, num_dims: int) -> npt.NDArray[np.uint8]:
    """Read an idx file: 2 zero bytes, type 8 (uint8), number of axes, their big-endian sizes, the data.

    Args:
        path: the file, gzipped if it ends in .gz.
        num_dims: expected number of axes.

    Raises:
        UserError: it is not an idx file of bytes with this number of axes, or is truncated.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}.", "Remove the file and download it again.") from error
    header_size = 4 + 4 * num_dims
    if data[:4] != bytes([0, 0, 8, num_dims]) or len(data) < header_size:
        raise UserError(f"{path} is not an idx file with {num_dims} axes.", "Remove the file and download it again.")
    shape = np.frombuffer(data, ">u4", num_dims, offset=4).astype(np.int64)
    expected = header_size + int(shape.prod())
    if len(data) != expected:
        what = f"{path} is damaged: it has {len(data)} bytes, but its header announces {expected}."
        raise UserError(what, "Remove the file and download it again.")
    return np.frombuffer(data, np.uint8, offset=header_size).reshape(shape).copy()


def read_cifar_records(path: Path) -> npt.NDArray[np.uint8]:
    """Read a binary CIFAR-10 file as uint8 (N, 3073): a label, then 3x32x32 pixels.

    Raises:
        UserError: the file is missing, empty or truncated.
    """
    hint = "Remove the folder and unpack or download it again."
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.", hint) from error
    if not data or len(data) % _RECORD_SIZE:
        raise UserError(f"{path} is damaged: {len(data)} bytes are not a multiple of {_RECORD_SIZE}.", hint)
    return np.frombuffer(data, np.uint8).reshape(-1, _RECORD_SIZE).copy()
