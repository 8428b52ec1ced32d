"""Parsing helpers shared by the commands; standard library only."""

import argparse
import os
import re
from collections.abc import Sequence

from aigc_lightning.errors import UserError, did_you_mean

#: Epilog of the help of commands that take a model's own options.
MODEL_OPTIONS = "Options of the model itself are given as --NAME VALUE; `aigc plugins show MODEL` lists them."
#: Title of the last part of every help.
EXAMPLES = "Examples"
_MOST_SEEDS = 1_000_000


class _Help(argparse.HelpFormatter):
    """Wraps paragraphs of one line, and keeps those that are laid out already."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = (
            part if "\n" in part else super(_Help, self)._fill_text(part, width, indent) for part in text.split("\n\n")
        )
        return "\n\n".join(paragraphs)


def command_parser(
    prog: str, about: str | None, *examples: str, note: str = "", usage: str | None = None
) -> argparse.ArgumentParser:
    """Return the parser of a command, for `parse`; its help ends with examples.

    Args:
        prog: the command, such as "aigc sample".
        about: what it does; paragraphs are separated by blank lines.
        *examples: command lines that work when pasted, but for the names of files.
        note: shown below the options.
        usage: how it is called, if argparse cannot tell.
    """
    parts = [note, "\n  ".join([f"{EXAMPLES}:", *examples]) if examples else ""]
    return argparse.ArgumentParser(
        prog,
        usage=usage,
        description=about,
        epilog="\n\n".join(part for part in parts if part),
        formatter_class=_Help,
        exit_on_error=False,
    )


def parse(parser: argparse.ArgumentParser, argv: list[str], *, intermixed: bool = False) -> argparse.Namespace:
    """Parse a command's options.

    Args:
        parser: from `command_parser`.
        argv: the options.
        intermixed: allow options between positional arguments, as in `a.png --out b c.png`.

    Raises:
        UserError: an option is unknown, missing or of the wrong type.
    """
    options, extra = parse_known(parser, argv, intermixed=intermixed)
    if extra:
        raise UserError(
            f"{parser.prog} does not know {extra[0]!r}.",
            did_you_mean(extra[0], option_names(parser)) or f"See: {parser.prog} --help",
        )
    return options


def parse_known(
    parser: argparse.ArgumentParser, argv: list[str], *, intermixed: bool = False
) -> tuple[argparse.Namespace, list[str]]:
    """Parse the options of a command that passes unknown ones on; return those unchanged.

    Args:
        parser: from `command_parser`.
        argv: the options.
        intermixed: see `parse`.

    Raises:
        UserError: an option is missing or has the wrong type.
    """
    parser.allow_abbrev = False  # a misspelt option must not match another one by its prefix
    parser.error = _raise  # type: ignore[method-assign,assignment]
    parser._negative_number_matcher = re.compile(r"-\.?\d")  # also values such as -3..3; no option begins like this
    try:
        read = parser.parse_known_intermixed_args if intermixed else parser.parse_known_args
        options, extra = read(argv)
    except argparse.ArgumentError as error:
        raise UserError(f"{parser.prog}: {error}", f"See: {parser.prog} --help") from error
    return options, extra


def seed_list(text: str) -> list[int]:
    """Return the seeds of a text such as "0-15" or "3,7,20-29", in the order written.

    Raises:
        UserError: it is not a list of non-negative numbers and ranges.

    Examples:
        >>> seed_list("3,7,20-23")
        [3, 7, 20, 21, 22, 23]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise UserError(f"The seeds {text!r} are not numbers and ranges.", "Write 0-15, or 3,7,20-29.")
        if int(last or first) - int(first) + len(seeds) >= _MOST_SEEDS:
            raise UserError(f"The seeds {text!r} are more than a million.", "Make them in several calls.")
        if int(last or first) >= 2**63:
            raise UserError(f"A seed of {text!r} has more than 63 bits.", "Give smaller numbers.")
        seeds += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(seeds))


def option_names(parser: argparse.ArgumentParser) -> list[str]:
    """Return a parser's option strings, such as ["-h", "--help"]."""
    return [name for action in parser._actions for name in action.option_strings]


def refuse_special_files(argv: Sequence[str]) -> None:
    """Refuse option values that are FIFOs or devices, which would block when read as configs.

    Raises:
        UserError: a value is one.
    """
    for argument in argv:
        for value in (argument, argument.partition("=")[2]):
            if os.path.exists(value) and not os.path.isfile(value) and not os.path.isdir(value):
                raise UserError(f"{value} is neither a file nor a folder.", "Write it to a file, and give that.")


def split_model_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split off the options unknown to a parser, which may belong to the model.

    Args:
        parser: with the command's own options.
        argv: the options; each unknown option takes one value.

    Returns:
        Values by name, such as {"trunc": "0.7"} for `--trunc 0.7`, and the remaining arguments.

    Raises:
        UserError: an unknown option without a value.
    """
    known = option_names(parser)
    given: dict[str, str] = {}
    others: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if argument == "--":  # no options follow
            return given, [*others, argument, *rest]
        if not name.startswith("--") or name in known:
            others.append(argument)
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                hint = did_you_mean(name, known) or f"An option of the model is written {name} VALUE."
                raise UserError(f"{parser.prog} does not know {name!r} without a value.", hint)
            value = rest.pop(0)
        given[name.removeprefix("--").replace("-", "_")] = value
    return given, others


def split_data_options(argv: list[str]) -> tuple[list[str], list[str]]:
    """Split a command line into its `--data...` options, each as `--option=value`, and everything else.

    Raises:
        UserError: an option without a value.
    """
    own: list[str] = []
    others: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        name, equals, _ = argument.partition("=")
        if name != "--data" and not name.startswith("--data."):
            others.append(argument)
        elif equals:
            own.append(argument)
        elif rest:
            own.append(f"{argument}={rest.pop(0)}")
        else:
            raise UserError(f"{argument} has no value.", "Give the name of the data, see: aigc data")
    return own, others


def _raise(message: str) -> None:
    raise argparse.ArgumentError(None, message)
