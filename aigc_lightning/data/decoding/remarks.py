"""What is odd about a file that can be read all the same: collected for the file, instead of written to the screen.

Pillow warns by Python's `warnings`, which name a line of Pillow and not the file; libtiff writes to the process's
stderr; tifffile logs. Here all of them are heard, each in the thread that reads the file.
"""

import ctypes
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import PurePath
from typing import Any, TextIO

import PIL._imaging

_remarks: ContextVar[list[str] | None] = ContextVar("remarks", default=None)


class DamagedError(ValueError):
    """A library found that a file is damaged, and went on."""


def remark(text: str) -> None:
    """Note something about the file that is being read; does nothing where nobody listens."""
    remarks = _remarks.get()
    if remarks is not None and text not in remarks:
        remarks.append(text)


class Listening:
    """Gives the list to which the remarks of a `with` block are added: short sentences without a full stop."""

    def __enter__(self) -> list[str]:
        if not isinstance(warnings.showwarning, _Listener):  # others may take its place, such as `catch_warnings`
            warnings.showwarning = _Listener(warnings.showwarning)
        remarks: list[str] = []
        self._token = _remarks.set(remarks)
        return remarks

    def __exit__(self, *_: object) -> None:
        _remarks.reset(self._token)


class _Listener:
    """Stands in for `warnings.showwarning`.

    Args:
        before: what it takes the place of, and calls while nobody listens.
    """

    def __init__(self, before: Callable[..., None]) -> None:
        self._before = before

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Take a warning."""
        if _remarks.get() is None:
            self._before(message, category, filename, lineno, file, line)
            return
        remark(" ".join(str(message).split()).rstrip("."))
        # Python shows the warnings of a line once; the next file has to be told as well.
        module = sys.modules.get(f"PIL.{PurePath(filename).stem}")
        getattr(module, "__warningregistry__", {}).clear()


@contextmanager
def watching_libtiff() -> Iterator[None]:
    """Raise an error at the end of the block where libtiff reported one: Pillow passes over some.

    Raises:
        DamagedError: libtiff's words.
    """
    _hear_libtiff()
    errors: list[str] = []
    token = _libtiff_errors.set(errors)
    try:
        yield
    except OSError as error:
        raise DamagedError(errors[0] if errors else str(error)) from error
    finally:
        _libtiff_errors.reset(token)
    if errors:
        raise DamagedError(errors[0])


_libtiff_errors: ContextVar[list[str] | None] = ContextVar("libtiff_errors", default=None)
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


@cache
def _hear_libtiff() -> list[Any]:
    """Take the place of libtiff's handlers, which write to stderr; return what has to stay alive for that.

    Does nothing where Pillow was built with a libtiff of its own inside.
    """
    try:
        library = ctypes.CDLL(PIL._imaging.__file__)  # finds the names of the libraries that it needs, too
        setters = [library.TIFFSetErrorHandler, library.TIFFSetWarningHandler]
        format_text = ctypes.cdll.msvcrt._vsnprintf if sys.platform == "win32" else ctypes.CDLL(None).vsnprintf
    except (AttributeError, OSError):
        return []
    handlers = [_handler(format_text, is_error=True), _handler(format_text, is_error=False)]
    for setter, handler in zip(setters, handlers, strict=True):
        setter.restype, setter.argtypes = ctypes.c_void_p, [_HANDLER]
        setter(handler)
    return handlers


def _handler(format_text: Any, *, is_error: bool) -> Any:
    def hear(_: bytes | None, pattern: bytes | None, values: int | None) -> None:
        buffer = ctypes.create_string_buffer(512)
        format_text(buffer, ctypes.c_size_t(len(buffer)), ctypes.c_char_p(pattern), ctypes.c_void_p(values))
        text = buffer.value.decode("utf-8", "replace").strip().rstrip(".")
        errors = _libtiff_errors.get()
        if is_error and errors is not None:
            errors.append(text)
        else:
            remark(text)

    return _HANDLER(hear)


class _LogFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Let through what is said while nobody listens."""
        if _remarks.get() is None:
            return True
        remark(record.getMessage())
        return False


@cache
def hear_tifffile() -> None:
    """Hear what tifffile logs."""
    logging.getLogger("tifffile").addFilter(_LogFilter())
