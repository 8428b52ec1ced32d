"""The options that `aigc data preview`, `check` and `stats` share: which data to look at, and how much of it."""

import argparse
import math

from aigc_lightning.config.command_line import command_parser, parse, split_data_options
from aigc_lightning.errors import UserError


def data_parser(name: str, description: str, *, num: int, num_help: str) -> argparse.ArgumentParser:
    """Return the parser of a sub-command that looks at data.

    Args:
        name: name of the sub-command.
        description: description in its help.
        num: default of `--num`.
        num_help: what `--num` counts.
    """
    parser = command_parser(
        f"aigc data {name}",
        description,
        f"aigc data {name} digits",
        f"aigc data {name} image_folder --data.root photographs --num 50",
        note="--data.OPTION V sets an option of the data.",
    )
    parser.add_argument("data", nargs="?", metavar="DATA", help="a name, preset or config file")
    parser.add_argument("--num", type=int, default=num, help=f"{num_help} (default: {num})")
    return parser


def parse_data(
    parser: argparse.ArgumentParser, argv: list[str], *, most: float = math.inf
) -> tuple[argparse.Namespace, list[str]]:
    """Parse the options of a sub-command that looks at data.

    Args:
        parser: from `data_parser`, with the sub-command's own options.
        argv: the options.
        most: largest value of `--num`.

    Returns:
        The sub-command's own options, and those that name the data, for `chosen_data`.

    Raises:
        UserError: an option is wrong, or data is named twice or not at all.
    """
    own, others = split_data_options(argv)
    options = parse(parser, others)
    named = any(option.startswith("--data=") for option in own)
    if named == (options.data is not None):
        problem = "names data twice" if named else "needs data to work on"
        raise UserError(f"{parser.prog} {problem}.", f"Write {parser.prog} NAME; `aigc data` lists what is available.")
    if not 1 <= options.num <= most:
        limits = "at least 1" if most == math.inf else f"a number from 1 to {most}"
        raise UserError(f"--num is {options.num}.", f"Give {limits}.")
    return options, own if named else [f"--data={options.data}", *own]
