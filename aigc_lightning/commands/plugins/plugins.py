"""`aigc plugins`: see, judge and start plugins."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from aigc_lightning import plugins as registry
from aigc_lightning.commands.listings import plugin_row, print_rows
from aigc_lightning.config.command_line import parse
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.shell import command

_HELP = """See, judge and start plugins.

Usage: aigc plugins list [KIND] [--json]      all plugins and whether they can be used; imports none of them
       aigc plugins show NAME [--kind KIND]   options, presets, paper and abilities of one
       aigc plugins check NAME [--full]       run the conformance kit on a plugin or on all of a package
       aigc plugins new NAME [--kind KIND]    write a package to start from: model, edit or data

KIND is model, data, config, callback or command. A name may be written PACKAGE:NAME.
AIGC_PLUGINS=a,b uses the packages a and b alone; AIGC_PLUGINS=-a leaves out a. It is read before any import."""


def plugins(argv: list[str]) -> int:
    """See, judge and start plugins: list, show, check, new."""
    actions: dict[str, Callable[[list[str]], int]] = {"list": _list, "show": _show, "check": _check, "new": _new}
    if not argv or argv[0] in ("-h", "--help"):
        echo(*_HELP.split("\n"))
        return 0
    if argv[0] not in actions:
        raise UserError(f"`aigc plugins` has no {argv[0]!r}.", did_you_mean(argv[0], actions))
    return actions[argv[0]](argv[1:])


def _list(argv: list[str]) -> int:
    kinds = get_args(registry.Kind)
    parser = _parser("list", "List all plugins and whether they can be used.")
    parser.add_argument("kind", nargs="?", choices=kinds, help=", ".join(kinds))
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parse(parser, argv)
    found = [
        plugin for kind in kinds if options.kind in (None, kind) for plugin in registry.plugins(kind)
    ]  # the order of kinds, then built-in ones first
    rows = [plugin_row(plugin) for plugin in found]
    if not options.json:
        rows = [
            {
                **{key: text for key, text in row.items() if key != "problem"},
                "summary": row["problem"] or row["summary"],
            }
            for row in rows
        ]
    print_rows(rows, as_json=options.json, titles=True)
    unknown = registry.unknown_in_allow_variable()
    if unknown:
        echo(f"Note: AIGC_PLUGINS names {', '.join(unknown)}, and no plugin package is called so.", error=True)
    return 0


def _show(argv: list[str]) -> int:
    parser = _parser("show", "Show the options, presets, paper and abilities of a plugin.")
    parser.add_argument("name", help="a name, PACKAGE:NAME or a class path")
    parser.add_argument("--kind", choices=get_args(registry.Kind), help="where several kinds share the name")
    options = parse(parser, argv)

    from aigc_lightning.commands.plugins.show import page

    echo(*page(one_plugin(options.name, options.kind)).split("\n"))
    return 0


def _check(argv: list[str]) -> int:
    parser = _parser("check", "Run the conformance kit on a plugin, or on all plugins of a package.")
    parser.add_argument("name", help="a name, PACKAGE:NAME, a class path or a package")
    parser.add_argument("--full", action="store_true", help="also run the slow checks")
    parser.add_argument("--config", help="the preset to train with (default: the first that the package has for it)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=V", help="such as --set model.width=8")
    options = parse(parser, argv)
    targets = [one_plugin(options.name)] if not _is_package(options.name) else _of_package(options.name)

    from aigc_lightning.commands.plugins.check import run_checks  # imports torch, which a mistake need not wait for

    return run_checks(targets, full=options.full, config=options.config, settings=options.set)


def _new(argv: list[str]) -> int:
    parser = _parser("new", "Write a package to start from, with tests that pass.")
    parser.add_argument("name", help="of the model or data, such as sparkle: letters, digits and -")
    parser.add_argument("--kind", choices=("model", "edit", "data"), default="model", help="(default: model, a GAN)")
    parser.add_argument("--out", type=Path, default=Path(), help="the folder to put the package's folder in (here)")
    options = parse(parser, argv)

    from aigc_lightning.commands.plugins.new import write_package

    folder = write_package(options.name, options.kind, options.out)
    stem = folder.name.removeprefix("aigc-").replace("-", "_")
    preset = f"dcgan_{stem}" if options.kind == "data" else f"{stem}_digits"
    echo(f"{folder} is ready. Next:")
    for step in (("pip", "install", "-e", folder), ("pytest", folder), ("aigc", "fit", "--config", preset)):
        echo(f"  {command(*step)}")
    return 0


def one_plugin(name: str, kind: registry.Kind | None = None) -> registry.Plugin:
    """Return the plugin that a user means, of any kind.

    Raises:
        UserError: nothing has this name, or several plugins have it.
    """
    if kind is not None:
        return registry.find_by_class_path(kind, name) or registry.find(kind, name)
    found, reasons = [], []
    for each in get_args(registry.Kind):
        try:
            found.append(registry.find_by_class_path(each, name) or registry.find(each, name))
        except UserError as error:
            reasons.append(error)
    if len(found) > 1:  # a package's presets are often called like its model, which is what a user means
        found = [plugin for plugin in found if plugin.kind != "config"]
    if len(found) == 1:
        return found[0]
    if found:
        kinds = " and ".join(f"a {plugin.kind}" for plugin in found)
        raise UserError(f"{name!r} is {kinds}.", f"Add --kind {found[0].kind} or --kind {found[-1].kind}.")
    telling = [error for error in reasons if not error.what.startswith("There is no ")]
    if telling:
        raise telling[0]
    every = [plugin.name for each in get_args(registry.Kind) for plugin in registry.plugins(each)]
    raise UserError(f"There is no plugin called {name!r}.", did_you_mean(name, every) or "See: aigc plugins list")


def _is_package(name: str) -> bool:
    return bool(_of_package(name))


def _of_package(name: str) -> list[registry.Plugin]:
    every = (plugin for kind in get_args(registry.Kind) for plugin in registry.plugins(kind))
    return [plugin for plugin in every if plugin.distribution == registry.normalized(name)]


def _parser(action: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(f"aigc plugins {action}", description=description, exit_on_error=False)
