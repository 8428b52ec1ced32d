"""The front door: choose a command, and print every error in one place.

Nothing heavy is imported before the command is known, so that help and listings answer at once.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from aigc_lightning import __version__, plugins
from aigc_lightning.core.io.atomic import is_full
from aigc_lightning.core.io.output import echo, safe_messages, traceback_text
from aigc_lightning.core.io.redaction import meet
from aigc_lightning.core.run.memory import keep_memory
from aigc_lightning.core.run.waiting import limit_spinning
from aigc_lightning.errors import UserError, debugging

USER_ERROR = 2
_LONGEST = 800  # characters of a line of a message
#: Commands that decide by the device whether to keep the memory that they free.
_STAGES = ("fit", "validate", "test", "predict")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `aigc` and return its exit code.

    It is 0, 2 for what a user can mend (a mistake, a full disk, a file without permission), 130 after Ctrl-C, and 1 for
    anything else.
    """
    safe_messages()
    arguments = list(sys.argv[1:] if argv is None else argv)
    meet(arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    token = debugging.set(debug)
    try:
        with _leaving_imports_at_once():
            return _dispatch(arguments)
    except UserError as error:
        return _report(error, debug)
    except KeyboardInterrupt:  # outside training, which saves first and ends by itself
        if debug:
            raise
        echo("", "Interrupted.", error=True)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as in `aigc models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder without permission, a name that is too long
        if error.strerror is None:
            raise
        return _report(_about_file(error).with_traceback(error.__traceback__), debug)
    finally:
        debugging.reset(token)


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
        echo(*_help().split("\n"))
        return 0
    if arguments[0] in ("-V", "--version"):
        echo(f"aigc_lightning {__version__}", *_packages())
        return 0
    if arguments[0].startswith("-"):
        raise UserError(f"{arguments[0]} comes before a command.", "Write `aigc COMMAND OPTIONS`; see aigc --help.")
    limit_spinning()
    command: Callable[[list[str]], Any] = plugins.find("command", arguments[0]).load()
    if arguments[0] not in _STAGES:
        keep_memory()
    return int(command(_without_model_files(arguments[1:])) or 0)


def _without_model_files(arguments: list[str]) -> list[str]:
    """Register the models of all `--model-file FILE.py:CLASS`, and return the other arguments."""
    others: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if name != "--model-file":
            others.append(argument)
            continue
        if not equals and not rest:
            raise UserError("--model-file has no value.", "Give FILE.py:CLASS, such as my_file.py:MyGAN.")
        plugins.register_model_file(value if equals else rest.pop(0))
    return others


def _packages() -> list[str]:
    """Return a line for each package of plugins, with its version."""
    others = (plugin for kind in plugins.GROUPS for plugin in plugins.plugins(kind) if not plugin.is_builtin)
    return sorted({f"{plugin.distribution} {plugin.version}" for plugin in others})


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
  --debug with any command           show the traceback of an error
  --model-file FILE.py:CLASS         with any command: use this model of a file that you trust"""


def _about(command: plugins.Plugin) -> str:
    """Return a command's summary, or what keeps it from running: a broken command is shown, not hidden."""
    problem = command.problem()
    return f"[{command.distribution} cannot be used: {problem}]" if problem else command.summary()


def _about_file(error: OSError) -> UserError:
    where = f"{error.filename}: " if error.filename is not None else ""
    hint = "Check the path, its permissions and the disk."
    if is_full(error):
        hint = "Make room on that disk, or choose another one; what was complete before is still there."
    return UserError(f"{where}{(error.strerror or str(error)).rstrip('.')}.", hint)


def _report(error: UserError, debug: bool) -> int:
    if debug:
        echo(*traceback_text(error).split("\n"), error=True)
        return USER_ERROR
    echo(*(line[:_LONGEST] for line in (f"Error: {error.what}", error.hint) if line.strip()), error=True)
    return USER_ERROR
