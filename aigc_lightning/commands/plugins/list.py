"""`aigc plugins list`: all plugins and whether they can be used. Imports none of them."""

from typing import get_args

from aigc_lightning import plugins
from aigc_lightning.commands.listings import plugin_row, print_rows
from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.io.output import echo


def main(argv: list[str]) -> int:
    """List all plugins and whether they can be used."""
    kinds = get_args(plugins.Kind)
    parser = command_parser(
        "aigc plugins list",
        main.__doc__,
        "aigc plugins list",
        "aigc plugins list editor --json",
    )
    parser.add_argument("kind", nargs="?", choices=kinds, help=", ".join(kinds))
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parse(parser, argv)
    chosen = kinds if options.kind is None else [options.kind]
    rows = [plugin_row(plugin) for kind in chosen for plugin in plugins.plugins(kind)]
    if not options.json:
        for row in rows:
            row["summary"] = row.pop("problem") or row["summary"]
    print_rows(rows, as_json=options.json, titles=True)
    unknown = plugins.unknown_in_allow_variable()
    if unknown:
        echo(f"Note: AIGC_PLUGINS names {', '.join(unknown)}, but no plugin package has this name.", error=True)
    return 0
