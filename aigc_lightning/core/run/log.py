"""The log file of a run: messages, warnings and errors with timestamps."""

import logging
import socket
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from aigc_lightning import __version__, shell
from aigc_lightning.core.io.atomic import no_follow
from aigc_lightning.core.io.output import SafeFormatter, echo
from aigc_lightning.core.io.redaction import redacted_text
from aigc_lightning.core.run.folder import check_writable

#: Its name in the run folder; the other processes of a run write `log_rank1.txt` and so on.
LOG_FILE = "log.txt"
#: Loggers whose records are written.
_LOGGERS = ("aigc_lightning", "lightning.pytorch", "lightning.fabric")
_log = logging.getLogger(__name__)
_folders: list[Path | None] = [None]  # of the runs whose logs are being written


def say(line: str) -> None:
    """Print a line in the first process, and write it to the run's log."""
    rank_zero_info(line)  # for the log; the console is quiet
    rank_zero_only(echo)(line, flush=True)


class _LogFile(logging.FileHandler):
    """A log file that is never written through a link and whose failure never ends a run."""

    def __init__(self, path: Path) -> None:
        self._fails = False
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(SafeFormatter("%(asctime)s %(levelname)s %(message)s"))

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=no_follow)  # type: ignore[return-value]  # text

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (its name in logging)
        """Report once that lines are missing, as on a full disk; the base class would print a traceback for each."""
        if not self._fails:
            self._fails = True
            echo(f"{self.baseFilename} cannot be written: {sys.exc_info()[1]}. The run continues.", error=True)


@contextmanager
def run_log(folder: Path, command: Sequence[str]) -> Iterator[None]:
    """Write the start, log lines, warnings, and the end or the error of the block to the run's `log.txt`.

    A resumed run appends to its file. Secrets are hidden.

    Args:
        folder: the existing run folder.
        command: the command and its options, for the first line.

    Raises:
        UserError: the folder cannot be written.
    """
    check_writable(folder)
    rank = getattr(rank_zero_only, "rank", 0)
    with continued_log(folder, rank) as handler:
        where = f"process {rank} on {socket.gethostname()}"
        line = redacted_text(shell.command(*command))
        _log.info("Start: %s (aigc_lightning %s, %s)", line, __version__, where)
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception):
                text = "".join(traceback.format_exception(error)).rstrip()
                _write(handler, logging.ERROR, f"End: {type(error).__name__}\n{text}")
            else:
                _log.info("End: %s", f"{type(error).__name__} {error}".rstrip())
            raise
        _log.info("End: finished")


def logged_folder() -> Path | None:
    """Return the folder of the run that is being logged, so that child processes can write to it as well."""
    return _folders[-1]


@contextmanager
def continued_log(folder: Path, rank: int) -> Iterator[logging.Handler]:
    """Write log lines and warnings of the block to the log of a process of a run."""
    handler = _LogFile(folder / (f"log_rank{rank}.txt" if rank else LOG_FILE))
    with ExitStack() as undo:
        undo.callback(_close, handler)
        for name in _LOGGERS:
            _attach(logging.getLogger(name), handler, undo)
        _follow_warnings(handler, undo)
        _folders.append(folder)
        undo.callback(_folders.pop)
        yield handler


def _attach(logger: logging.Logger, handler: logging.Handler, undo: ExitStack) -> None:
    if not logger.hasHandlers() and logging.lastResort:
        # Python prints warnings of loggers without a handler; our handler must not suppress that.
        logger.addHandler(logging.lastResort)
        undo.callback(logger.removeHandler, logging.lastResort)
    logger.addHandler(handler)
    undo.callback(logger.removeHandler, handler)
    undo.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.INFO)


def _follow_warnings(handler: logging.Handler, undo: ExitStack) -> None:
    shown = warnings.showwarning

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        _write(handler, logging.WARNING, f"{category.__name__}: {message}")
        shown(message, category, *place, **more)

    warnings.showwarning = show
    undo.callback(setattr, warnings, "showwarning", shown)


def _close(handler: logging.Handler) -> None:
    with suppress(OSError):  # no space left for the rest of the buffer
        handler.close()


def _write(handler: logging.Handler, level: int, text: str) -> None:
    """Write to the file only: the screen has it already."""
    handler.handle(logging.LogRecord(__name__, level, __file__, 0, text, None, None))
