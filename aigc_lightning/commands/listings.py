"""`aigc models`, `aigc data` and `aigc configs`: listings that import neither torch nor any plugin."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from aigc_lightning import plugins
from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import echo


def models(argv: list[str]) -> int:
    """List the models that `--model` takes."""
    return _list("models", "model", argv)


def data(argv: list[str]) -> int:
    """List the data that `--data` takes."""
    return _list("data", "data", argv)


def configs(argv: list[str]) -> int:
    """List the presets that `--config` takes."""
    options = _options("configs", "the presets that --config takes", argv)
    rows = [{"name": name, "package": owner, "summary": first_comment(path)} for name, owner, path in plugins.presets()]
    print_rows(rows, as_json=options.json)
    return 0


def plugin_row(plugin: plugins.Plugin) -> dict[str, str]:
    """Return the row of a plugin in a listing: its unambiguous name, and whether it can be used."""
    others = plugins.clashing(plugin)
    problem = plugin.problem()
    status, note = "ok", ""
    if problem:
        status, note = ("refused" if plugin.refusal() else "broken"), problem
    elif others:
        status, note = "clash", f"{plugin.name} is also in {', '.join(other.distribution for other in others)}"
    return {
        "name": plugin.full_name if others else plugin.name,
        "kind": plugin.kind,
        "package": f"{plugin.distribution} {plugin.version}".strip(),
        "api": "" if plugin.kind in ("config", "command") else str(plugin.api),
        "status": status,
        "problem": note,
        "summary": _preset_names(plugin) if plugin.kind == "config" else plugin.summary(),
    }


def print_rows(rows: Sequence[dict[str, str]], *, as_json: bool, titles: bool = False) -> None:
    """Print rows as a table whose last column is not padded, or as JSON.

    Args:
        rows: with the same keys.
        as_json: print JSON.
        titles: print the keys above the table.
    """
    if as_json:
        echo(*json.dumps(list(rows), indent=2).split("\n"))
        return
    if titles and rows:
        rows = [{key: key.upper() for key in rows[0]}, *rows]
    rows = [{key: shown(cell) for key, cell in row.items()} for row in rows]
    widths = {key: max(len(row[key]) for row in rows) for key in rows[0]} if rows else {}
    for row in rows:
        echo("  ".join(f"{value:<{widths[key]}}" for key, value in row.items()).rstrip())


def first_comment(path: Path) -> str:
    """Return the comment in the first line of a preset, or ""."""
    with path.open(encoding="utf-8") as file:
        line = file.readline()
    return line.lstrip("# ").strip() if line.startswith("#") else ""


def _list(command: str, kind: plugins.Kind, argv: list[str]) -> int:
    options = _options(command, f"what --{kind} takes", argv)
    rows = []
    for row in map(plugin_row, plugins.plugins(kind)):
        about = row["summary"] if row["status"] in ("ok", "clash") else f"[cannot be used: {row['problem']}]"
        rows.append({"name": row["name"], "package": row["package"], "summary": about})
    print_rows(rows, as_json=options.json)
    return 0


def _options(command: str, what: str, argv: list[str]) -> argparse.Namespace:
    parser = command_parser(
        f"aigc {command}",
        f"List {what}.",
        f"aigc {command}",
        f"aigc {command} --json",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    return parse(parser, argv)


def _preset_names(plugin: plugins.Plugin) -> str:
    names = [path.stem for path in plugins.preset_files(plugin)]
    return f"Presets: {', '.join(names)}" if names else "No presets."
