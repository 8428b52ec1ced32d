"""`aigc plugins show`: a description of one plugin."""

import inspect
import re
from collections.abc import Mapping, Sequence
from textwrap import fill, indent
from typing import Any, get_args

from aigc_lightning import plugins
from aigc_lightning.commands.listings import first_comment, plugin_row
from aigc_lightning.commands.plugins.find import one_plugin
from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.docstrings import argument_texts
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError
from aigc_lightning.plugins.source import definition

_WIDTH = 110
#: Commands to which a model adds options, and the methods that declare them.
_COMMANDS = {
    "sample": "sample",
    "edit": "edit",
    "interpolate": "decode",
    "evaluate": "log_likelihood",
    "explain": "attention_maps",
}


def main(argv: list[str]) -> int:
    """Show the options, presets, paper and capabilities of a plugin."""
    parser = command_parser(
        "aigc plugins show",
        main.__doc__,
        "aigc plugins show dcgan",
        "aigc plugins show digits --kind data",
    )
    parser.add_argument("name", help="a name, PACKAGE:NAME or a class path")
    parser.add_argument("--kind", choices=get_args(plugins.Kind), help="kind, if several share the name")
    options = parse(parser, argv)
    echo(*page(one_plugin(options.name, options.kind)).split("\n"))
    return 0


def page(plugin: plugins.Plugin) -> str:
    """Return the description of a plugin, which is imported; no other plugin is."""
    row = plugin_row(plugin)
    lines = [f"{row['name']}: {row['summary']}".rstrip(": "), ""]
    facts = {"kind": plugin.kind, "package": row["package"], "class": plugin.class_path, "API": row["api"]}
    facts["status"] = f"{row['status']}: {row['problem']}" if row["problem"] else row["status"]
    found = definition(plugin.value)
    if found:
        facts |= {"paper": found.paper, "source": str(found.path)}
    target: Any = None
    if plugin.kind != "config" and not plugin.refusal():
        try:
            target = plugin.load()
        except UserError as error:
            facts["status"] = f"broken: {error.what}"
    if plugin.kind == "model" and target is not None:
        facts["capabilities"] = ", ".join(_capabilities(target)) or "none"
        facts["channels"] = ", ".join(map(str, target.channels))
    lines += [f"{key:<12} {value}" for key, value in facts.items() if value]
    lines += _presets(plugin)
    if isinstance(target, type):
        lines += _options(plugin, target)
        if plugin.kind == "model":
            lines += _command_options(target)
    elif plugin.kind == "command":
        lines += ["", f"Its options: aigc {row['name']} --help"]
    return "\n".join(lines)


def option_table(target: type) -> list[tuple[str, str, str, str]]:
    """Return (name, type, default, description) of every argument of a class except the spec."""
    parameters = {name: value for name, value in inspect.signature(target).parameters.items() if name != "spec"}
    return _table(parameters, argument_texts(target))


def _options(plugin: plugins.Plugin, target: type) -> list[str]:
    rows = option_table(target)
    if not rows:
        return ["", "It has no options."]
    prefix = {"model": "--model.", "data": "--data."}.get(plugin.kind, "")
    return ["", "Options", *_described(rows, prefix)]


def _command_options(target: type) -> list[str]:
    """Return the options that a model adds to commands."""
    from aigc_lightning.core.capabilities import CONDITIONS
    from aigc_lightning.core.method_options import method_options

    lines = []
    for command, name in _COMMANDS.items():
        method = getattr(target, name, None)
        if not method:
            continue
        texts = argument_texts(method)
        conditions = CONDITIONS.get(name, {})
        given = [name for name in inspect.signature(method).parameters if name in conditions]
        about = [f"  {conditions[name]}  {texts.get(name, '')}".rstrip() for name in given]
        about += _described(_table(method_options(method), texts), "--")
        if about:
            lines += ["", f"Options of aigc {command}", *about]
    return lines


def _table(parameters: Mapping[str, inspect.Parameter], texts: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """Return (name, type, default, description) of each parameter."""
    rows = []
    for name, parameter in parameters.items():
        kind = "" if parameter.annotation is parameter.empty else _type_name(parameter.annotation)
        default = "required" if parameter.default is parameter.empty else repr(parameter.default)
        rows.append((name, kind, default, texts.get(name, "")))
    return rows


def _described(rows: Sequence[tuple[str, str, str, str]], prefix: str) -> list[str]:
    """Return lines that describe options."""
    lines = []
    for name, kind, default, text in rows:
        head = f"  {prefix}{name}"
        about = f"{kind}, default {default}" if default != "required" else f"{kind}, required"
        lines.append(f"{head}  ({about})" if kind else f"{head}  ({default})")
        if text:
            lines.append(indent(fill(text, _WIDTH - 6), "      "))
    return lines


def _presets(plugin: plugins.Plugin) -> list[str]:
    rows = [(name, owner, first_comment(path)) for name, owner, path in plugins.presets_of(plugin)]
    if plugin.kind == "config":
        rows = [(path.stem, plugin.distribution, first_comment(path)) for path in plugins.preset_files(plugin)]
    if not rows:
        return []
    width = max(len(name) for name, _, _ in rows)
    return ["", "Presets", *(f"  {name:<{width}}  {text}".rstrip() for name, _, text in rows)]


def _capabilities(target: type) -> list[str]:
    from aigc_lightning.core.capabilities import capabilities

    return capabilities(target)


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type):
        return annotation.__name__
    return re.sub(r"\b(?:typing|collections\.abc)\.|\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", str(annotation))
