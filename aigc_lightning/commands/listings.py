"""`aigc models`, `aigc data` and `aigc configs`: what there is. Neither torch nor any plugin is imported."""

import argparse
import json
from pathlib import Path
from typing import get_args

from aigc_lightning import plugins
from aigc_lightning.commands.parsing import parse


def models(argv: list[str]) -> int:
    """List the models that `--model` takes."""
    return _list("models", "model", argv)


def data(argv: list[str]) -> int:
    """List the data that `--data` takes."""
    return _list("data", "data", argv)


def configs(argv: list[str]) -> int:
    """List the presets that `--config` takes."""
    options = _options("configs", "the presets that --config takes", argv)
    rows = [
        {"name": name, "package": owner, "summary": _first_comment(path)} for name, owner, path in plugins.presets()
    ]
    _print(rows, options.json)
    return 0


def _list(command: str, kind: plugins.Kind, argv: list[str]) -> int:
    assert kind in get_args(plugins.Kind)
    options = _options(command, f"what --{kind} takes", argv)
    rows = [
        {"name": plugin.name, "package": f"{plugin.distribution} {plugin.version}", "summary": plugin.summary()}
        for plugin in plugins.plugins(kind)
    ]
    _print(rows, options.json)
    return 0


def _options(command: str, what: str, argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(f"aigc {command}", description=f"List {what}.", exit_on_error=False)
    parser.add_argument("--json", action="store_true", help="as JSON")
    return parse(parser, argv)


def _print(rows: list[dict[str, str]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    widths = {key: max((len(row[key]) for row in rows), default=0) for key in ("name", "package")}
    for row in rows:
        print(f"{row['name']:<{widths['name']}}  {row['package']:<{widths['package']}}  {row['summary']}".rstrip())


def _first_comment(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()
