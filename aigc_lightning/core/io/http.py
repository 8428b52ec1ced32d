"""Asking http and https addresses: with a login, without strange redirects, and never for ever. Standard library only.

Who answers may be a stranger: one that sends a byte a second, announces more than any disk holds, or sends us on to
another kind of address.
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

#: How many seconds a file may take, whatever its size and the speed, in place of the limit below.
SECONDS_VARIABLE = "AIGC_DOWNLOAD_SECONDS"
SCHEMES = ("http", "https")

_PATIENCE = 20.0  # seconds without a single byte after which a server counts as unreachable
_GRACE, _SLOWEST = 60.0, 50_000  # after so many seconds, so many bytes a second have to have come on the average
_MOST_REDIRECTS = 5
_PIECE = 2**20
_LOOK_EVERY = 2**24  # bytes between two looks at the free space
_SPARE, _SPARE_SHARE = 2**26, 0.05  # bytes that a download leaves free, or this share of a small disk

_HOST = re.compile(r"[\w.:%\-]+")
_AS_IT_IS = "%/:@!$&'()*+,;=?~"  # characters of a path or query that mean something there


class DownloadError(Exception):
    """A file cannot be had from where it should be.

    Args:
        reason: why, without a full stop.
        reached: whether somebody has answered.
        final: whether it would be the same at a second try.
    """

    def __init__(self, reason: str, *, reached: bool = True, final: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.reached, self.final = reason, reached, final


def split_address(address: str) -> SplitResult:
    """Return the parts of an http or https address.

    Raises:
        DownloadError: it is malformed or of another kind.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port  # which are read here alone
    except ValueError as error:
        raise DownloadError(f"it is no proper address ({error})") from error
    if parts.scheme not in SCHEMES:
        raise DownloadError("files are read from http and https addresses alone")
    if not host or not _HOST.fullmatch(host):
        raise DownloadError("it is no proper address (there is no such name of a machine)")
    return parts._replace(path=quote(parts.path, _AS_IT_IS), query=quote(parts.query, _AS_IT_IS))


def joined(address: str, name: str) -> str:
    """Return the address of a file in a folder that is given by its address: a query stays behind the name."""
    parts = split_address(address)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}").geturl()


@contextmanager
def answered(address: str) -> Iterator[tuple[Callable[[int], bytes], int | None]]:
    """Give a function that reads what is at an address, and how many bytes there are, None if the server does not say.

    Raises:
        DownloadError: nobody answers there, there is nothing, or it is elsewhere by a way that is not taken.
    """
    if HIDDEN in address:
        raise DownloadError(f"its secret parts are hidden; give it whole, or put it into {ADDRESSES_VARIABLE}")
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
    """Read to the end and return the number of bytes.

    Args:
        read: returns some bytes, up to a number; none at the end.
        total: how many bytes were announced.
        write: is given the bytes.
        folder: where they are kept; room is looked for before and meanwhile.
        most: bytes that there may be.
        advance: called with the bytes so far, and with `total`.

    Raises:
        DownloadError: there is more than there may be or than there is room for; it breaks off; it takes too long.
    """
    if most is not None and (total or 0) > most:
        raise DownloadError(f"it has {_bytes(total or 0)}, and {_bytes(most)} are the most that it may have")
    _check_room(folder, total or 0)
    began, done, looked = time.monotonic(), 0, 0
    while piece := read(_PIECE):
        done += len(piece)
        if most is not None and done > most:
            raise DownloadError(f"it has more than the {_bytes(most)} that it may have")
        if done - looked >= _LOOK_EVERY:
            _check_room(folder, max((total or 0) - done, 0))
            looked = done
        write(piece)
        advance(done, total)
        if time.monotonic() - began > seconds_allowed(done):
            of = f" of {total:,}" if total else ""
            raise DownloadError(
                f"{done:,}{of} bytes came in {time.monotonic() - began:.0f} s, which is too slow; {SECONDS_VARIABLE} "
                "sets the seconds that a file may take"
            )
    if done < (total or 0):
        raise DownloadError(f"it broke off after {done} of {total} bytes", final=False)
    return done


def seconds_allowed(size: int) -> float:
    """Return how long a file of so many bytes may take.

    Raises:
        UserError: the variable is set to something else than a number of seconds.
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
    """Return the answer of a server, after redirects."""
    login = None
    for _ in range(1 + _MOST_REDIRECTS):
        parts = split_address(address)
        origin = (parts.scheme, parts.hostname, parts.port)
        if parts.username is not None:
            login = (origin, f"{unquote(parts.username)}:{unquote(parts.password or '')}")
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
        request = Request(bare, headers={"User-Agent": "aigc_lightning"})
        if login is not None and login[0] == origin:  # nobody else gets it
            request.add_header("Authorization", f"Basic {base64.b64encode(login[1].encode()).decode()}")
        try:
            return _opener().open(request, timeout=_PATIENCE)
        except HTTPError as error:
            address = _elsewhere(error, parts)
            error.close()
    raise DownloadError(f"it sends us on more than {_MOST_REDIRECTS} times")


def _elsewhere(error: HTTPError, asked: SplitResult) -> str:
    """Return where an answer sends us.

    Raises:
        HTTPError: it does not send us anywhere.
        DownloadError: it sends us to another kind of address.
    """
    there = error.headers.get("Location")
    if error.code not in (301, 302, 303, 307, 308) or not there:
        raise error
    try:
        target = urljoin(asked.geturl(), there)
        scheme = split_address(target).scheme
    except (DownloadError, ValueError) as wrong:
        raise DownloadError(f"it sends us on to another place: {wrong}") from error
    if (asked.scheme, scheme) == ("https", "http"):
        raise DownloadError(
            "it sends us on from https to http, where anybody on the way could change the file"
        ) from error
    return target


def _opener() -> OpenerDirector:
    """Return what opens http and https addresses and nothing else; redirects come out as errors."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler(), HTTPDefaultErrorHandler(), HTTPErrorProcessor()):
        opener.add_handler(handler)
    return opener


def _read(answer: Any, count: int) -> bytes:
    with _translated():
        return bytes(answer.read1(count))  # what has come, while `read` would wait for all of it


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
        raise DownloadError(f"the disk of {folder} is full")
    if needed > free:
        raise DownloadError(f"it needs {_bytes(needed)} and the disk of {folder} has {_bytes(free)} free")


def _bytes(number: float) -> str:
    if number < 1000:
        return f"{number:.0f} bytes"
    power = min(int(math.log10(number)) // 3, 5)
    return f"{number / 1000**power:,.1f} {'kMGTP'[power - 1]}B"
