"""Requests to http and https URLs: with logins, safe redirects and time limits. Standard library only.

The server may be hostile: it may send one byte per second, announce more than any disk holds, or redirect to another
scheme.
"""

import base64
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from aigc_lightning.core.io.patience import within
from aigc_lightning.core.io.redaction import ADDRESSES_VARIABLE, HIDDEN, meet
from aigc_lightning.errors import UserError

#: Environment variable: seconds that a file may take, whatever its size and speed, instead of the limit below.
SECONDS_VARIABLE = "AIGC_DOWNLOAD_SECONDS"
SCHEMES = ("http", "https")

_PATIENCE = 20.0  # seconds without a single byte after which a server counts as unreachable
_GRACE, _SLOWEST = 60.0, 50_000  # seconds after which the average speed must be at least so many bytes per second
_MOST_REDIRECTS = 5
_PIECE = 2**20
_LOOK_EVERY = 2**24  # bytes between two checks of the free space
_SPARE, _SPARE_SHARE = 2**26, 0.05  # bytes that a download leaves free, or this fraction of a small disk

_HOST = re.compile(r"[\w.:%\-]+")
_AS_IT_IS = "%/:@!$&'()*+,;=?~"  # characters with a meaning in a path or query


class DownloadError(Exception):
    """A file cannot be downloaded.

    Args:
        reason: why, without a full stop.
        reached: whether the server answered.
        final: whether a second attempt would fail in the same way.
    """

    def __init__(self, reason: str, *, reached: bool = True, final: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.reached, self.final = reason, reached, final


def split_address(address: str) -> SplitResult:
    """Return the parts of an http or https URL.

    Raises:
        DownloadError: it is malformed or of another scheme.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port  # parsed only on access
    except ValueError as error:
        raise DownloadError(f"the address is malformed ({error})") from error
    if parts.scheme not in SCHEMES:
        raise DownloadError("files are only read from http and https addresses")
    if not host or not _HOST.fullmatch(host):
        raise DownloadError("the address is malformed (it has no valid host name)")
    return parts._replace(path=quote(parts.path, _AS_IT_IS), query=quote(parts.query, _AS_IT_IS))


def joined(address: str, name: str) -> str:
    """Return the URL of a file in a folder given by its URL: a query stays behind the name."""
    parts = split_address(address)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}").geturl()


@contextmanager
def answered(address: str) -> Iterator[tuple[Callable[[int], bytes], int | None]]:
    """Yield a function that reads from a URL, and the number of bytes, None if the server does not report it.

    Raises:
        DownloadError: no server answers, there is no such file, or it is behind a redirect that is not followed.
    """
    if HIDDEN in address:
        raise DownloadError(f"its secret parts are hidden; give the full address, or put it into {ADDRESSES_VARIABLE}")
    meet(address)
    limit = seconds_allowed(0)
    with _translated():
        answer = within(limit, lambda: _opened(address))
    with closing(answer):
        yield lambda count: _read(answer, count), _announced(answer)


def receive(
    read: Callable[[int], bytes],
    total: int | None,
    write: Callable[[bytes], Any],
    *,
    folder: Path | None = None,
    most: int | None = None,
    advance: Callable[[int, int | None], None] = lambda done, total: None,
) -> int:
    """Copy everything and return the number of bytes.

    Args:
        read: returns up to a given number of bytes; none at the end.
        total: number of bytes announced.
        write: called with the bytes.
        folder: where they are stored; its free space is checked before and during the download.
        most: maximum number of bytes.
        advance: called with the bytes so far, and with `total`.

    Raises:
        DownloadError: it is larger than allowed or than the free space; it breaks off; it takes too long.
    """
    if most is not None and (total or 0) > most:
        raise DownloadError(f"it has {_bytes(total or 0)}, more than the {_bytes(most)} allowed")
    _check_room(folder, total or 0)
    began, done, looked = time.monotonic(), 0, 0
    while piece := read(_PIECE):
        done += len(piece)
        if most is not None and done > most:
            raise DownloadError(f"it has more than the {_bytes(most)} allowed")
        if done - looked >= _LOOK_EVERY:
            _check_room(folder, max((total or 0) - done, 0))
            looked = done
        write(piece)
        advance(done, total)
        if time.monotonic() - began > seconds_allowed(done):
            of = f" of {total:,}" if total else ""
            raise DownloadError(
                f"{done:,}{of} bytes arrived in {time.monotonic() - began:.0f} s, which is too slow; "
                f"{SECONDS_VARIABLE} sets the time limit in seconds"
            )
    if done < (total or 0):
        raise DownloadError(f"it broke off after {done} of {total} bytes", final=False)
    return done


def seconds_allowed(size: int) -> float:
    """Return the time limit in seconds for a file of this many bytes.

    Raises:
        UserError: the variable is not a number of seconds.
    """
    given = os.environ.get(SECONDS_VARIABLE)
    if not given:
        return _GRACE + size / _SLOWEST
    try:
        seconds = float(given)
        if not 0 < seconds < 1e9:
            raise ValueError
    except ValueError as error:
        raise UserError(f"{SECONDS_VARIABLE} is {given!r}.", "Give a number of seconds, such as 86400.") from error
    return seconds


def _opened(address: str) -> Any:
    """Return the response of a server after redirects."""
    login = None
    for _ in range(1 + _MOST_REDIRECTS):
        parts = split_address(address)
        origin = (parts.scheme, parts.hostname, parts.port)
        if parts.username is not None:
            login = (origin, f"{unquote(parts.username)}:{unquote(parts.password or '')}")
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
        request = Request(bare, headers={"User-Agent": "aigc_lightning"})
        if login is not None and login[0] == origin:  # no other server gets it
            request.add_header("Authorization", f"Basic {base64.b64encode(login[1].encode()).decode()}")
        try:
            return _opener().open(request, timeout=_PATIENCE)
        except HTTPError as error:
            address = _elsewhere(error, parts)
            error.close()
    raise DownloadError(f"the server redirects more than {_MOST_REDIRECTS} times")


def _elsewhere(error: HTTPError, asked: SplitResult) -> str:
    """Return the target of a redirect.

    Raises:
        HTTPError: the response is not a redirect.
        DownloadError: it redirects to another scheme.
    """
    there = error.headers.get("Location")
    if error.code not in (301, 302, 303, 307, 308) or not there:
        raise error
    try:
        target = urljoin(asked.geturl(), there)
        scheme = split_address(target).scheme
    except (DownloadError, ValueError) as wrong:
        raise DownloadError(f"the server redirects to another address: {wrong}") from error
    if (asked.scheme, scheme) == ("https", "http"):
        raise DownloadError(
            "the server redirects from https to http, where the file could be changed in transit"
        ) from error
    return target


def _opener() -> OpenerDirector:
    """Return an opener for http and https URLs only; redirects are raised as errors."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler(), HTTPDefaultErrorHandler(), HTTPErrorProcessor()):
        opener.add_handler(handler)
    return opener


def _read(answer: Any, count: int) -> bytes:
    with _translated():
        return bytes(answer.read1(count))  # what has arrived; `read` would wait for all of it


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except HTTPError as error:
        again = error.code in (408, 425, 429) or error.code >= 500
        raise DownloadError(f"{error.code} {error.reason}", final=not again) from error
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        text = str(getattr(reason, "strerror", None) or reason or type(reason).__name__).rstrip(".")
        raise DownloadError(text, reached=False, final=False) from error


def _announced(answer: Any) -> int | None:
    text = str(answer.headers.get("Content-Length") or "")
    return int(text) if text.isascii() and text.isdecimal() else None


def _check_room(folder: Path | None, needed: int) -> None:
    if folder is None:
        return
    disk = shutil.disk_usage(folder)
    free = disk.free - min(_SPARE, int(_SPARE_SHARE * disk.total))
    if free <= 0:
        raise DownloadError(f"the disk that holds {folder} is full")
    if needed > free:
        raise DownloadError(f"it needs {_bytes(needed)} but the disk that holds {folder} has {_bytes(free)} free")


def _bytes(number: float) -> str:
    if number < 1000:
        return f"{number:.0f} bytes"
    power = min(int(math.log10(number)) // 3, 5)
    return f"{number / 1000**power:,.1f} {'kMGTP'[power - 1]}B"
