"""`aigc data`: list data, and look at it before training does. Nothing heavy is imported before it is needed."""

import argparse
from importlib import import_module

from aigc_lightning.commands import listings
from aigc_lightning.config.command_line import parse, split_data_options
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError, did_you_mean

_HELP = """List data, and look at it before training does.

Usage: aigc data [--json]                        what --data takes
       aigc data preview DATA [--out grid.png]   a picture of what a model sees, varied as in training
       aigc data check DATA                      bad files, sizes, duplicates, overlap of training and held-out images
       aigc data stats DATA [--out stats.png]    numbers, sizes, brightness and balance of classes
       aigc data prepare SRC DST --size 64       a large folder's images at one size in one file, for image_folder
       aigc data shard SRC DST                   a folder of images as tar shards, for `--data shards`

DATA is a name (see: aigc data), a preset, or a config file; --data.OPTION V sets its options, as in
`aigc data preview paired_images --data.root facades --data.direction BtoA`."""
_ACTIONS = {
    "preview": "aigc_lightning.commands.data.preview",
    "check": "aigc_lightning.commands.data.check",
    "stats": "aigc_lightning.commands.data.stats",
    "prepare": "aigc_lightning.commands.data.prepare",
    "shard": "aigc_lightning.commands.data.shard",
}


def data(argv: list[str]) -> int:
    """List the data that `--data` takes; preview, check and stats look at it, prepare and shard pack it."""
    if argv and argv[0] in ("-h", "--help"):
        echo(*_HELP.split("\n"))
        return 0
    if not argv or argv[0].startswith("-"):
        return listings.data(argv)
    if argv[0] not in _ACTIONS:
        hint = did_you_mean(argv[0], _ACTIONS) or f"It has {', '.join(_ACTIONS)}; without any it lists data."
        raise UserError(f"`aigc data` has no {argv[0]!r}.", hint)
    return int(import_module(_ACTIONS[argv[0]]).main(argv[1:]))


def parse_data(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse the options of a command that works on data.

    Args:
        parser: with the command's own options.
        argv: the options.

    Returns:
        The command's own options, and those that name the data, for `chosen_data`.

    Raises:
        UserError: an option is wrong, or data is named twice or not at all.
    """
    parser.add_argument("data", nargs="?", metavar="DATA", help="a name, preset or config file")
    parser.epilog = "--data.OPTION V sets an option of the data."
    own, others = split_data_options(argv)
    options = parse(parser, others)
    named = any(option.startswith("--data=") for option in own)
    if named == (options.data is not None):
        problem = "names data twice" if named else "needs data to work on"
        raise UserError(f"{parser.prog} {problem}.", f"Write {parser.prog} NAME; `aigc data` lists what there is.")
    return options, own if named else [f"--data={options.data}", *own]
