"""Files that are given by their address. Standard library only, but for the progress bar."""

import os
import tempfile
import time
from contextlib import ExitStack
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from aigc_lightning.core.redaction import redacted_text
from aigc_lightning.errors import UserError

_PATIENCE = 20.0  # seconds without a single byte after which a server counts as unreachable
_POLITE = 2.0  # a download that takes longer shows its progress
_PIECE = 2**20


def is_address(target: object) -> bool:
    """Whether a user means a file elsewhere and no path."""
    return "://" in str(target)


@lru_cache
def downloaded(address: str) -> Path:
    """Return a copy of the file at an http or https address; it is there until this process ends.

    Raises:
        UserError: the address is of another kind, nobody answers there, there is no such file, or it breaks off.
    """
    shown = redacted_text(address)
    if urlsplit(address).scheme not in ("http", "https"):
        raise UserError(
            f"{shown} is no address that files are read from.", "Use http or https, or download it and give the file."
        )
    folder = _folder()
    path = folder / _name(address)
    try:
        request = Request(address, headers={"User-Agent": "aigc_lightning"})
        with urlopen(request, timeout=_PATIENCE) as answer, path.open("wb") as file:
            _copy(answer, file, path.name)
    except HTTPError as error:
        raise UserError(f"{shown} cannot be read: {error.code} {error.reason}.", "Check the address.") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        text = str(getattr(reason, "strerror", None) or reason or type(reason).__name__).rstrip(".")
        raise UserError(f"{shown} cannot be reached: {text}.", "Check the address and the network.") from error
    return path


def _folder() -> Path:
    """Return a new folder that goes when this process ends."""
    kept = tempfile.TemporaryDirectory(prefix="aigc-", ignore_cleanup_errors=True)
    _kept.append(kept)
    return Path(kept.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def _name(address: str) -> str:
    """Return the name of the file, whatever the address holds."""
    name = PurePosixPath(unquote(urlsplit(address).path)).name.replace(os.sep, "_")
    return name if name.strip(".") else "checkpoint.ckpt"


def _copy(answer: Any, file: IO[bytes], name: str) -> None:
    total = int(answer.headers.get("Content-Length") or 0)
    began, done = time.monotonic(), 0
    with ExitStack() as shown:
        bar = None
        while piece := answer.read(_PIECE):
            file.write(piece)
            done += len(piece)
            if bar is None and time.monotonic() - began > _POLITE:
                bar = shown.enter_context(_bar())
                bar.add_task(name, total=total or None)
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done)
    if done < total:
        raise OSError(f"it broke off after {done} of {total} bytes")


def _bar() -> Any:
    from rich.console import Console  # short downloads need not wait for it
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    # Of several processes the first one's bar is enough.
    first = os.environ.get("RANK", os.environ.get("SLURM_PROCID", os.environ.get("LOCAL_RANK", "0"))) == "0"
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not first)
