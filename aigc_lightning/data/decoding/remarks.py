"""Oddities of readable files: collected per file instead of being written to the screen.

Pillow uses Python's `warnings`, which name a line of Pillow rather than the file; libtiff writes to the process's
stderr; tifffile logs. Here all of them are captured, each in the thread that reads the file.
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
    """A library found that a file is damaged but continued."""


def remark(text: str) -> None:
    """Add a remark about the file being read; does nothing if no one is collecting."""
    remarks = _remarks.get()
    if remarks is not None and text not in remarks:
        remarks.append(text)


class Listening:
    """Yields the list that collects the remarks of a `with` block: short sentences without a full stop."""

    def __enter__(self) -> list[str]:
        if not isinstance(warnings.showwarning, _Listener):  # others may replace it, such as `catch_warnings`
            warnings.showwarning = _Listener(warnings.showwarning)
        remarks: list[str] = []
        self._token = _remarks.set(remarks)
        return remarks

    def __exit__(self, *_: object) -> None:
        _remarks.reset(self._token)


class _Listener:
    """Stands in for `warnings.showwarning`.

    Args:
        before: the function that it replaces, and calls while no one is collecting.
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
        """Handle a warning."""
        if _remarks.get() is None:
            self._before(message, category, filename, lineno, file, line)
            return
        remark(" ".join(str(message).split()).rstrip("."))
        # Python shows a line's warning only once, but the next file needs it as well.
        module = sys.modules.get(f"PIL.{PurePath(filename).stem}")
        getattr(module, "__warningregistry__", {}).clear()


@contextmanager
def watching_libtiff() -> Iterator[None]:
    """Raise an error at the end of the block if libtiff reported one: Pillow ignores some.

    Raises:
        DamagedError: with libtiff's message.
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
    """Replace libtiff's handlers, which write to stderr; return the objects that must stay alive for that.

    Does nothing if Pillow was built with a statically linked libtiff.
    """
    try:
        library = ctypes.CDLL(PIL._imaging.__file__)  # also resolves the symbols of the libraries that it needs
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
        """Pass records through while no one is collecting."""
        if _remarks.get() is None:
            return True
        remark(record.getMessage())
        return False


@cache
def hear_tifffile() -> None:
    """Capture what tifffile logs."""
    logging.getLogger("tifffile").addFilter(_LogFilter())
