"""`aigc assets`: published weights that scores need."""

from collections.abc import Callable
from pathlib import Path

from aigc_lightning.commands.listings import print_rows
from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.io.download import progress
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.evaluation.assets import ASSETS, FOLDER_VARIABLE, fetch_asset, known, lies_at

_HELP = f"""Published weights that scores need; they are downloaded only on request.

Usage: aigc assets list [--json]              what is available, its use, and where it is
       aigc assets fetch NAME [--path FILE]   download it, or copy it from a file; checked by SHA-256

They are kept in the user's cache, or in the folder that {FOLDER_VARIABLE} names.

Examples:
  aigc assets list
  aigc assets fetch inception"""


def assets(argv: list[str]) -> int:
    """List and fetch published weights that scores need: list, fetch."""
    actions: dict[str, Callable[[list[str]], int]] = {"list": _list, "fetch": _fetch}
    if not argv or argv[0] in ("-h", "--help"):
        echo(*_HELP.split("\n"))
        return 0
    if argv[0] not in actions:
        raise UserError(f"`aigc assets` has no {argv[0]!r}.", did_you_mean(argv[0], actions))
    return actions[argv[0]](argv[1:])


def _list(argv: list[str]) -> int:
    parser = command_parser(
        "aigc assets list",
        "List weights and where they are.",
        "aigc assets list --json",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parse(parser, argv)
    rows = []
    for name, asset in ASSETS.items():
        missing = "not installed" if asset.package else "not fetched"
        row = {"name": name, "size": f"{asset.megabytes} MB", "use": asset.use, "file": str(lies_at(name) or missing)}
        rows.append(row)
    print_rows(rows, as_json=options.json, titles=True)
    return 0


def _fetch(argv: list[str]) -> int:
    parser = command_parser(
        "aigc assets fetch",
        "Put weights where scores find them.",
        "aigc assets fetch inception",
        "aigc assets fetch inception --path downloads/inception.pth",
    )
    parser.add_argument("name", help=", ".join(ASSETS))
    parser.add_argument("--path", type=Path, help="use this file instead of downloading")
    options = parse(parser, argv)
    with progress(f"{options.name}, {known(options.name).megabytes} MB") as advance:
        path = fetch_asset(options.name, options.path, advance)
    echo(f"{path}: checked, ready.")
    return 0
