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
    short_names.limit()
    parser = Parser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    config = parser.parse_object({"data": {"class_path": class_path, "init_args": dict(arguments)}})
    places.check(parser, config, short_names.allowed())
    return cast(ImageDataModule, parser.instantiate(config).data)
