"""Rebuilding models from the record of a file.

A class is only imported if an installed package has registered it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from torch import Tensor, nn

from aigc_lightning import plugins
from aigc_lightning.core.checkpoint_file import first_line
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.records import check_finite
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.plugins.model_file import changes, from_file, missing
from aigc_lightning.plugins.source import canonical

#: Components that the file of the model under construction holds, by name.
_components: ContextVar[Mapping[str, Any] | None] = ContextVar("components", default=None)


def names(record: dict[str, Any], model_class: type) -> bool:
    """Whether a record names this class, by its defining path or a registered one."""
    own, found = f"{model_class.__module__}.{model_class.__qualname__}", record["class_path"]
    if own == found or own.partition(".")[0] != found.partition(".")[0]:
        return bool(own == found)
    return canonical(found) == canonical(own)


def registered(record: dict[str, Any], origin: Path) -> plugins.Plugin:
    """Return the plugin whose model a record names.

    Raises:
        UserError: no installed package provides it.
    """
    class_path = record["class_path"]
    plugin = plugins.find_by_class_path("model", class_path)
    if plugin is None and from_file(class_path):
        what, hint = missing(class_path)
        raise UserError(f"{origin} holds {what}.", hint)
    if plugin is None:
        raise UserError(
            f"{origin} holds a {class_path}, which no installed package provides.",
            f"Install the package that has {class_path.split('.')[0]}; `aigc models` lists the installed models.",
        )
    for note in changes(record, origin):
        echo(note, error=True)
    return plugin


def build(model_class: Any, record: dict[str, Any], origin: Path) -> Any:
    """Return an untrained model of a class, a `CheckpointedModule`, with the arguments and settings of a record.

    Raises:
        UserError: the class does not take the arguments.
    """
    try:
        with recorded_components(record):
            arguments = with_dataclasses(model_class, record["config"])
            model = model_class(**{"spec": ImageSpec.from_dict(record["spec"]), **arguments})
        model.take_settings(record)
        model.configure_model()
    except UserError:
        raise
    except Exception as error:  # a class may fail in any way on another version's arguments
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        raise UserError(
            f"{model_class.__name__} cannot be built from {origin}: {error}",
            f"The file was written with {versions}; install that version, or pass arguments that the class accepts.",
        ) from error
    return model


def with_dataclasses(model_class: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments in which a mapping for a parameter that is a dataclass has become one, as in a config file."""
    arguments = dict(config)
    try:
        annotations = get_type_hints(model_class.__init__)
    except NameError:  # an annotation of something imported for type checkers alone
        return arguments
    for name, value in config.items():
        annotation = annotations.get(name)
        made = next((one for one in (annotation, *get_args(annotation)) if is_dataclass(one)), None)
        if isinstance(value, Mapping) and isinstance(made, type):
            arguments[name] = made(**value)
    return arguments


@contextmanager
def recorded_components(record: Mapping[str, Any] | None) -> Iterator[None]:
    """Let models that are built meanwhile take their embedded components from a file's record, not from addresses.

    Args:
        record: of the file; None for models built anew.
    """
    token = _components.set((record or {}).get("components"))
    try:
        yield
    finally:
        _components.reset(token)


def recorded_component(name: str) -> dict[str, Any] | None:
    """Return what the file of the model under construction says of an embedded component; None for a new model."""
    found = (_components.get() or {}).get(name)
    return found if isinstance(found, dict) and "record" in found else None


def take_weights(
    model: nn.Module, weights: dict[str, Tensor], record: dict[str, Any], origin: Path, *, strict: bool = True
) -> None:
    """Load weights into a model.

    Raises:
        UserError: they do not fit, or are not finite.
    """
    try:
        model.load_state_dict(weights, strict=strict)
    except RuntimeError as error:
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        raise UserError(
            f"The weights in {origin} do not fit {type(model).__name__}: {first_line(error, 1)}",
            f"Use the version of the package that wrote the checkpoint: {versions}",
        ) from error
    check_finite(model, weights, origin)
