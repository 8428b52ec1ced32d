"""Files given by a URL. Standard library only, except for the progress bar."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.http import SCHEMES, DownloadError, answered, receive
from aigc_lightning.core.io.redaction import redacted_address
from aigc_lightning.core.io.untrusted import file_name
from aigc_lightning.errors import UserError

_POLITE = 2.0  # a download that takes longer shows its progress
_kept: list[tempfile.TemporaryDirectory[str]] = []


def is_address(target: object) -> bool:
    """Whether the user gave a URL rather than a path."""
    return "://" in str(target)


@lru_cache
def downloaded(address: str) -> Path:
    """Return a copy of the file at an http or https URL; it exists until this process ends.

    Raises:
        UserError: the URL is malformed or of another scheme, no server answers, there is no such file, there is no
            space for it, or the download breaks off or takes too long.
    """
    if address.partition("://")[0].lower() not in SCHEMES:
        raise UserError(
            f"{redacted_address(address)} is not an address that files can be read from.",
            "Use http or https, or download it and give the file.",
        )
    path = _folder() / _name(address)
    try:
        with progress(path.name) as advance:
            fetch(address, path, advance=advance)
    except DownloadError as error:
        verb = "read" if error.reached else "reached"
        hint = "Check the address" + ("." if error.reached else " and the network.")
        raise UserError(
            f"{redacted_address(address)} cannot be {verb}: {error.reason}.", f"{hint} Or get the file another way."
        ) from error
    return path


def fetch(
    address: str,
    path: Path,
    *,
    most: int | None = None,
    advance: Callable[[int, int | None], None] = lambda done, total: None,
) -> None:
    """Download the file at an http or https URL; an incomplete copy is removed.

    Args:
        address: URL of the file.
        path: where to put it.
        most: maximum size in bytes.
        advance: called with the bytes so far and the total, None if the server does not report it.

    Raises:
        DownloadError: it cannot be downloaded.
        OSError: it cannot be written.
    """
    try:
        with answered(address) as (read, total), path.open("wb") as file:
            receive(read, total, file.write, folder=path.parent, most=most, advance=advance)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):  # network errors are DownloadErrors
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function for `fetch` that shows a progress bar once a download takes more than a moment."""
    began, bar = time.monotonic(), None
    with ExitStack() as bars:

        def advance(done: int, total: int | None) -> None:
            nonlocal bar
            if bar is None and time.monotonic() - began > _POLITE:
                bar = bars.enter_context(_bar())
                bar.add_task(shown(name), total=total)
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done)

        yield advance


def _folder() -> Path:
    """Return a new folder that is removed when this process ends."""
    kept = tempfile.TemporaryDirectory(prefix="aigc-", ignore_cleanup_errors=True)
    _kept.append(kept)
    return Path(kept.name)


def _name(address: str) -> str:
    """Return a safe file name for any URL."""
    try:
        return file_name(PurePosixPath(unquote(urlsplit(address).path)).name, address)
    except ValueError:
        return "checkpoint.ckpt"


def _bar() -> Any:
    from rich.console import Console  # short downloads need not wait for this import
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    # One bar is enough for several processes.
    first = os.environ.get("RANK", os.environ.get("SLURM_PROCID", os.environ.get("LOCAL_RANK", "0"))) == "0"
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not first)
