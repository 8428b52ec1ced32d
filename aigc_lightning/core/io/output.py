"""What leaves the program as text: control characters in it reach no screen, log, page or table.

File names, class names, captions, records and answers of servers are written by others. A terminal obeys escape
sequences in them, a log would show a forged line after a line feed, and a spreadsheet computes a cell that begins with
an equals sign. So every text passes one of these functions on its way out. Standard library only.
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

#: With what a cell begins that spreadsheets take for a formula, by the OWASP page on CSV injection.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def echo(*lines: object, error: bool = False, end: str = "\n", flush: bool = False) -> None:
    """Print lines, control characters shown and secrets hidden; the one place that prints.

    Args:
        lines: one line each, whatever they hold.
        error: print to the standard error instead of the standard output.
        end: what follows the last line.
        flush: let the text be seen at once.
    """
    text = "\n".join(shown(redacted_text(str(line))) for line in lines)
    print(text, end=end, flush=flush, file=sys.stderr if error else sys.stdout)


def html(text: object) -> str:
    """Return a text for an HTML page, between tags or in a quoted attribute."""
    return escape(shown(redacted_text(str(text))))


def csv_cell(text: str) -> str:
    """Return a text for a cell of a CSV file that no spreadsheet takes for a formula; not meant for numbers."""
    cell = shown(redacted_text(text))
    return f"'{cell}" if text.startswith(_FORMULA) else cell


class SafeFormatter(logging.Formatter):
    """Formats log records; what follows the first line is indented, so that no text can look like another record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        return _block(super().format(record))


def safe_messages() -> None:
    """Let Python's own messages (warnings, uncaught errors, records of loggers without a handler) pass this module."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(SafeFormatter())
    warnings.formatwarning = _warning
    sys.excepthook = _uncaught


def traceback_text(error: BaseException) -> str:
    """Return an error with its traceback as text."""
    return _block("".join(traceback.format_exception(error)).rstrip("\n"))


def plain_metadata(text: Mapping[str, str]) -> dict[str, str]:
    """Return texts that a picture or film is to carry, by keyword, without secrets."""
    return {keyword: redacted_text(value) for keyword, value in text.items()}


def _block(text: str) -> str:
    """Return a text of several lines, such as a traceback, of which each is escaped."""
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
