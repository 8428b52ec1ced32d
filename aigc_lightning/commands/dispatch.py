"""Sub-commands, such as `check` of `aigc data`."""

from collections.abc import Callable, Mapping

from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError, did_you_mean

#: Takes the arguments after its name, and returns the exit code.
SubCommand = Callable[[list[str]], int]


def dispatch(
    command: str,
    argv: list[str],
    sub_commands: Mapping[str, SubCommand],
    help_text: str,
    default: SubCommand | None = None,
) -> int:
    """Run the sub-command that a command line names, and return its exit code.

    Args:
        command: the command as written, such as "aigc data".
        argv: the arguments after the command.
        sub_commands: the sub-commands by name.
        help_text: printed for `--help`, and for an empty command line if there is no default.
        default: runs if the command line is empty or begins with an option.

    Raises:
        UserError: there is no such sub-command.
    """
    first = argv[0] if argv else None
    if first in ("-h", "--help") or (first is None and default is None):
        echo(*help_text.split("\n"))
        return 0
    if default is not None and (first is None or first.startswith("-")):
        return default(argv)
    if first not in sub_commands:
        raise UserError(f"`{command}` has no {first!r}.", did_you_mean(str(first), sub_commands))
    return sub_commands[str(first)](argv[1:])
