"""Text output, escaped so that no control characters reach a screen, log, page or table.

File names, class names, captions, records and server responses are untrusted. A terminal obeys escape sequences in
them, a line feed could forge a log line, and a spreadsheet evaluates a cell that begins with an equals sign. So all
text passes through one of these functions on its way out. Standard library only.
"""

import logging
import sys
import traceback
import warnings
from collections.abc import Mapping
from html import escape
from types import TracebackType

from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.redaction import redacted_text

#: First characters of cells that spreadsheets take for formulas, from the OWASP page on CSV injection.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def echo(*lines: object, error: bool = False, end: str = "\n", flush: bool = False) -> None:
    """Print lines with control characters escaped and secrets hidden; the only place that prints.

    Args:
        lines: each printed as one line, whatever it contains.
        error: print to standard error instead of standard output.
        end: printed after the last line.
        flush: flush the stream.
    """
    text = "\n".join(shown(redacted_text(str(line))) for line in lines)
    print(text, end=end, flush=flush, file=sys.stderr if error else sys.stdout)


def html(text: object) -> str:
    """Escape a text for an HTML page, between tags or in a quoted attribute."""
    return escape(shown(redacted_text(str(text))))


def csv_cell(text: str) -> str:
    """Escape a text for a CSV cell so that no spreadsheet takes it for a formula; not meant for numbers."""
    cell = shown(redacted_text(text))
    return f"'{cell}" if text.startswith(_FORMULA) else cell


class SafeFormatter(logging.Formatter):
    """Formats log records; lines after the first are indented, so that no text can look like another record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted record."""
        return _block(super().format(record))


def safe_messages() -> None:
    """Route Python's own messages (warnings, uncaught errors, loggers without a handler) through this module."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(SafeFormatter())
    warnings.formatwarning = _warning
    sys.excepthook = _uncaught


def traceback_text(error: BaseException) -> str:
    """Return an error with its traceback as text."""
    return _block("".join(traceback.format_exception(error)).rstrip("\n"))


def plain_metadata(text: Mapping[str, str]) -> dict[str, str]:
    """Return the texts to store in a picture or film, by keyword, without secrets."""
    return {keyword: redacted_text(value) for keyword, value in text.items()}


def _block(text: str) -> str:
    """Escape each line of a multi-line text such as a traceback."""
    first, *rest = redacted_text(text).split("\n")
    return "\n".join([shown(first), *("    " + shown(line) for line in rest)])


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"{shown(filename)}:{lineno}: {category.__name__}: {_block(str(message))}\n"


def _uncaught(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, where)
        return
    sys.stderr.write(traceback_text(error.with_traceback(where)) + "\n")
