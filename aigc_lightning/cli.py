"""The front door: choose a command, and print every error in one place.

Nothing heavy is imported before the command is known, so that help and listings answer at once.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from aigc_lightning import __version__, plugins
from aigc_lightning.errors import UserError

USER_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run `aigc` and return its exit code: 0, 2 for a user's mistake, 130 after Ctrl-C, 1 for anything else."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with _leaving_imports_at_once():
            return _dispatch(arguments)
    except UserError as error:
        return _report(error, debug)
    except KeyboardInterrupt:  # outside training, which saves first and ends by itself
        if debug:
            raise
        print("\nInterrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as in `aigc models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder without permission, a name that is too long
        if error.strerror is None:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        return _report(UserError(f"{where}{error.strerror}.", "Check the path, its permissions and the disk."), debug)


@contextmanager
def _leaving_imports_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process where it imports something; elsewhere it is Python's own exception.

    In the middle of an import, libraries take that exception for a missing module and go on with half of themselves.
    """
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        caller = frame
        while caller is not None:
            if caller.f_code.co_filename.startswith("<frozen importlib"):
                os.write(2, b"\nInterrupted.\n")
                os._exit(130)
            caller = caller.f_back
        usual(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, usual)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"aigc_lightning {__version__}")
        return 0
    if arguments[0].startswith("-"):
        raise UserError(f"{arguments[0]} comes before a command.", "Write `aigc COMMAND OPTIONS`; see aigc --help.")
    command: Callable[[list[str]], Any] = plugins.find("command", arguments[0]).load()
    return int(command(arguments[1:]) or 0)


def _help() -> str:
    commands = plugins.plugins("command")
    rows = [(command.full_name if plugins.clashing(command) else command.name, command) for command in commands]
    width = max((len(name) for name, _ in rows), default=0)
    listing = "\n".join(f"  {name:<{width}}  {_about(command)}" for name, command in rows)
    return f"""aigc_lightning {__version__}: train, judge and use image-generation and image-editing models

Usage: aigc COMMAND [OPTIONS]

Commands:
{listing}

Start with:
  aigc fit --config dcgan_digits     train a GAN on handwritten digits, about two minutes on a laptop
  aigc COMMAND --help                what a command takes
  --debug with any command           show the traceback of an error"""


def _about(command: plugins.Plugin) -> str:
    """Return a command's summary, or what keeps it from running: a broken command is shown, not hidden."""
    problem = command.problem()
    return f"[{command.distribution} cannot be used: {problem}]" if problem else command.summary()


def _report(error: UserError, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
        return USER_ERROR
    lines = [line for text in (f"Error: {error.what}", error.hint) for line in text.splitlines() if line.strip()]
    print("\n".join(line[:400] for line in lines[:4]), file=sys.stderr)
    return USER_ERROR
