"""`aigc trust keys`: keys with which pictures are signed."""

from pathlib import Path

from aigc_lightning.commands.dispatch import dispatch
from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.config.signing import FOLDER_VARIABLE, default_keys
from aigc_lightning.core.io.output import echo

_HELP = """Keys with which pictures are signed.

Usage: aigc trust keys new [FOLDER] [--name NAME]   a private root, and a key with a certificate from it

A certificate from an authority is used in the same way: put it and those between it and its root as certificates.pem,
and its key as key.pem, into a folder.

Examples:
  aigc trust keys new
  aigc trust keys new keys --name Ada"""


def main(argv: list[str]) -> int:
    """Run a sub-command of `aigc trust keys`."""
    return dispatch("aigc trust keys", argv, {"new": _new}, _HELP)


def _new(argv: list[str]) -> int:
    parser = command_parser(
        "aigc trust keys new",
        "Make a private root, and a key with a certificate from it, valid for ten years.",
        "aigc trust keys new",
        'aigc trust keys new keys --name "Ada Lovelace"',
    )
    usual = default_keys()
    parser.add_argument(
        "folder", nargs="?", type=Path, default=usual, help=f"where to write them (default: {usual})".replace("%", "%%")
    )
    parser.add_argument("--name", default="aigc_lightning user", help="who signs, as viewers show it")
    options = parse(parser, argv)

    from aigc_lightning.inference.trust.keys import PRIVATE_KEY, ROOT, make_keys

    make_keys(options.folder, options.name)
    echo(f"{options.folder / PRIVATE_KEY}: keep it to yourself: whoever has it can sign in your name.")
    echo(f"{options.folder / ROOT}: hand it to those who are to trust your signatures.")
    if options.folder != usual:
        echo(f"To sign with these keys: export {FOLDER_VARIABLE}={options.folder}")
    return 0
