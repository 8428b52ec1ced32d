"""Building data from the `data` section of a config."""

from collections.abc import Mapping
from typing import Any, cast

from aigc_lightning.config import places, short_names
from aigc_lightning.config.parser import Parser
from aigc_lightning.data.base import ImageDataModule


def build_data(class_path: str, arguments: Mapping[str, Any]) -> ImageDataModule:
    """Build the data named by a config or a checkpoint, including nested objects among its arguments.

    Args:
        class_path: class path of the data.
        arguments: its arguments as in YAML; an object among them is a mapping of `class_path` and `init_args`.

    Raises:
        UserError: the data rejects its arguments, or they name something that a config may not name.
        ArgumentError: an argument is unknown or of the wrong type.
    """
    parser = Parser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    return cast(ImageDataModule, _instantiated(parser, {"class_path": class_path, "init_args": dict(arguments)}))


def built_arguments(data_class: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of data with the nested objects among them built, and with the defaults of the others.

    Args:
        data_class: the data's class.
        arguments: see `build_data`.

    Raises:
        UserError: as `build_data`.
        ArgumentError: as `build_data`.
    """
    parser = Parser(exit_on_error=False)
    parser.add_class_arguments(data_class, "data", instantiate=False)
    return dict(vars(_instantiated(parser, dict(arguments))))


def _instantiated(parser: Parser, section: dict[str, Any]) -> Any:
    short_names.limit()
    config = parser.parse_object({"data": section})
    places.check(parser, config, short_names.allowed())
    return parser.instantiate(config).data
