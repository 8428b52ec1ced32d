"""Files in a folder given by a URL: http and https with our own client, cloud storage through fsspec."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aigc_lightning.core.io.http import SCHEMES, DownloadError, answered, joined
from aigc_lightning.core.io.redaction import meet, redacted_address
from aigc_lightning.errors import UserError

#: Protocols that only store files. Others in fsspec read local files, start programs or expand untrusted templates.
_STORAGES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "oci", "oss")


@dataclass
class ShardAddress:
    """The URL of a folder.

    Args:
        address: such as https://host/folder or s3://bucket/folder; a query is appended to each file's URL.

    Raises:
        UserError: it is malformed or has an unsupported scheme.
    """

    address: str

    def __post_init__(self) -> None:
        scheme = self.address.partition("://")[0]
        if scheme not in (*SCHEMES, *_STORAGES):
            raise UserError(
                f"{redacted_address(self.address)} is not supported for shards.",
                f"Use one of {', '.join((*SCHEMES, *_STORAGES))}, or a folder.",
            )
        self._is_web = scheme in SCHEMES
        if self._is_web:
            try:
                joined(self.address, "")
            except DownloadError as error:
                raise UserError(
                    f"{redacted_address(self.address)} cannot be read: {error.reason}.", "Check data.root."
                ) from error

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[Callable[[int], bytes], int | None]]:
        """Yield a function that reads a file, and its size in bytes, None if unknown.

        Args:
            name: of the file.

        Raises:
            DownloadError: it cannot be downloaded.
        """
        if self._is_web:
            with answered(joined(self.address, name)) as answer:
                yield answer
            return
        meet(self.address)
        with closing(self._file(name)) as file:
            yield lambda count: _read(file, count), getattr(file, "size", None)

    def _file(self, name: str) -> Any:
        try:
            return self._storage.open(f"{self.address.rstrip('/')}/{name}", "rb")
        except UserError:
            raise
        except Exception as error:  # each storage has its own errors
            raise _as_download_error(error) from error

    @cached_property
    def _storage(self) -> Any:
        from fsspec.core import url_to_fs  # a slow import

        try:
            return url_to_fs(self.address)[0]
        except (ImportError, ValueError) as error:
            raise UserError(
                f"{redacted_address(self.address)} cannot be read: {_said(error)}.",
                "Install what fsspec needs.",
            ) from error


def _read(file: Any, count: int) -> bytes:
    try:
        return bytes(file.read(count))
    except Exception as error:
        raise _as_download_error(error) from error


def _as_download_error(error: Exception) -> DownloadError:
    return DownloadError(_said(error), final=isinstance(error, FileNotFoundError))


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
