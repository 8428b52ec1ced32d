"""The data that a command works on, chosen by name and options, by a config, or by a run."""

from pathlib import Path
from typing import Any, cast

import yaml

from aigc_lightning import plugins
from aigc_lightning.config import explain, places, short_names
from aigc_lightning.config.command_line import refuse_special_files
from aigc_lightning.config.parser import Parser
from aigc_lightning.config.recorded_options import settle
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.yaml_file import read_yaml


def chosen_data(options: list[str], recorded: dict[str, Any] | None = None, origin: str = "") -> ImageDataModule:
    """Build data from `--data` options, which override what a run recorded.

    Args:
        options: such as ["--data=digits", "--data.size=16"]; `--data` also takes a preset or a config file with a
            `data` section.
        recorded: the `data` of a checkpoint's record: its class is used unless an option names another, and its
            arguments are used if the class stays the same.
        origin: where the record comes from, for error messages.

    Raises:
        UserError: there is no such data, its options are wrong, or the record names an address.
    """
    refuse_special_files(options)
    short_names.limit()
    given = next((option.partition("=")[2] for option in options if option.startswith("--data=")), None)
    section = _section(given) if given is not None else None
    by_record: dict[str, Any] = {}
    if section is None and recorded is not None and (given is None or _is_class(given, recorded["class_path"])):
        section, given = {"class_path": recorded["class_path"], "init_args": recorded["config"]}, None
        by_record = {"data": section}
    if section is None and given is None:
        raise UserError("No data is named.", "Add --data NAME; `aigc data` lists what is available.")
    parser = Parser(exit_on_error=False, allow_abbrev=False)
    parser.add_subclass_arguments(ImageDataModule, "data", required=True)
    rest = [option for option in options if section is None or not option.startswith("--data=")]
    with explain.explained("fit"):
        start = [f"--data={yaml.safe_dump(section, default_flow_style=True).strip()}"] if section else []
        values = parser.parse_args(start + rest)
        places.check(parser, values, short_names.allowed())
        settle(values, by_record, origin, options)
        return cast(ImageDataModule, parser.instantiate_classes(values)["data"])


def _section(given: str) -> dict[str, Any] | None:
    """Return the data section of a config file or preset, or None if a name of a class is given."""
    path = Path(given)
    if not path.is_file():
        if any(plugins.normalized(item.name) == plugins.normalized(given) for item in plugins.plugins("data")):
            return None
        presets = {name: preset for name, _, preset in plugins.presets()}
        if given not in presets:
            return None
        path = presets[given]
    config = read_yaml(path)
    section = config.get("data") if isinstance(config, dict) else None
    if isinstance(section, str):
        section = {"class_path": section}
    if not isinstance(section, dict) or "class_path" not in section:
        raise UserError(f"{path} has no section data: with a class_path.", "Give another config, or --data NAME.")
    return section


def _is_class(given: str, class_path: str) -> bool:
    """Return whether a name given by the user refers to the class at a path."""
    if given == class_path:
        return True
    known = plugins.find_by_class_path("data", class_path)
    return known is not None and plugins.normalized(given) in (
        plugins.normalized(known.name),
        plugins.normalized(known.full_name),
    )
