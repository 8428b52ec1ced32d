"""Checkpoints: tensors and plain values that say how to build the model again.

Nothing in a file is executed: files are read with `weights_only`, and a class is only imported when an installed
package has registered it.
"""

import hashlib
import json
import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from aigc_lightning import plugins
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.checkpointed import CheckpointedModule
from aigc_lightning.core.engine.player import Engine
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.atomic import open_regular
from aigc_lightning.core.io.checksums import check_archive, read_tensors, write_tensors
from aigc_lightning.core.records import RECORD_KEY, check_finite, check_record, check_size, check_weights
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.plugins.source import canonical

_ANOTHER = "Take another checkpoint of the run, such as best.ckpt."
Model = TypeVar("Model", bound=CheckpointedModule)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, on the CPU, after a look at its checksums.

    Raises:
        UserError: it cannot be read, is damaged, holds more than tensors and plain values, or is not ours.
    """
    if path.suffix == ".safetensors":
        raise UserError(
            f"{path} holds weights alone.", "Use it with `aigc sample`; here, give a run folder or a .ckpt."
        )
    check_archive(path, _ANOTHER)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds objects that could run code: {_first_line(error)}",
            "Only checkpoints of tensors and plain values are loaded. Take another one, such as best.ckpt.",
        ) from error
    except Exception as error:  # bytes that are no checkpoint can make the reader stumble anywhere
        raise UserError(f"{path} cannot be read as a checkpoint: {_first_line(error)}", _ANOTHER) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise UserError(f"{path} was not written by aigc_lightning.", "Give a checkpoint that `aigc fit` wrote.")
    check_size(checkpoint, path)
    check_record(checkpoint.get(RECORD_KEY), path)
    check_weights(checkpoint["state_dict"], path)
    return checkpoint


def step_of(path: Path) -> int:
    """Return the number of steps that a checkpoint's run had done, -1 if it cannot be read; reads no tensor."""
    try:
        check_archive(path, _ANOTHER, suffix="data.pkl")
        step = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]
    except Exception:  # bytes that are no checkpoint can make the reader stumble anywhere
        return -1
    return step if isinstance(step, int) else -1


def load_model(path: str | Path) -> ImageModel:
    """Return the model of a checkpoint, an exported .safetensors file or a run's folder, ready for inference.

    Raises:
        UserError: the file cannot be used, its model belongs to a package that is not installed, or the weights do
            not fit the model or are not finite.
    """
    return load_with_record(find_checkpoint(path))[0]


def load_with_record(file: Path) -> tuple[ImageModel, dict[str, Any]]:
    """Return the model of a file as `load_model` does, and the record of how it was made.

    The record of a checkpoint has `step` as well, the number of steps that were done.

    Raises:
        UserError: see `load_model`.
    """
    record, weights = _read(file)
    model = build_model(record, file)
    _take_weights(model, weights, record, file)
    return model.eval(), record


def load_as(model_class: type[Model], path: str | Path, overrides: dict[str, Any], *, strict: bool = True) -> Model:
    """Return the model of a checkpoint as an instance of a class, in the mode in which it is built.

    Args:
        model_class: the class that the file names, or a base of it; it need not be registered.
        path: see `load_model`.
        overrides: arguments of the model that replace the recorded ones.
        strict: whether all weights must be there and fit.

    Raises:
        UserError: as for `load_model`; the file holds a model of another class; the class takes no such argument.
    """
    file = find_checkpoint(path)
    record, weights = _read(file)
    found = model_class if _names(record, model_class) else _registered(record, file).load()
    if not issubclass(found, model_class):
        raise UserError(
            f"{file} holds a {record['class_path']}, which is no {model_class.__name__}.",
            f"Load it by {found.__name__}.load_from_checkpoint, or by ImageModel.load_from_checkpoint.",
        )
    model = _build(cast(type[ImageModel], found), {**record, "config": {**record["config"], **overrides}}, file)
    _take_weights(model, weights, record, file, strict=strict)
    return cast(Model, model)


def build_model(record: dict[str, Any], origin: Path) -> ImageModel:
    """Return an untrained model as a checkpoint's record describes it.

    Args:
        record: what `ImageModel.provenance` gave.
        origin: the file, for messages.

    Raises:
        UserError: no installed package has registered the model, or it does not take the recorded arguments.
    """
    return _build(_registered(record, origin).load(), record, origin)


def save_weights(model: ImageModel, path: Path, extra: dict[str, Any]) -> None:
    """Write a model's weights and record as safetensors, the format for handing models to others.

    Args:
        model: the model.
        path: a new file that ends in .safetensors.
        extra: plain values to add to the record.
    """
    record = json.dumps({**model.provenance(), **extra})
    write_tensors(path, model.state_dict(), {RECORD_KEY: record})


def file_hash(path: Path) -> str:
    """Return the first 16 hexadecimal digits of a file's SHA-256."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _names(record: dict[str, Any], model_class: type[CheckpointedModule]) -> bool:
    """Whether a record names this class, by the path where it is defined or one under which it is offered."""
    own, found = f"{model_class.__module__}.{model_class.__qualname__}", record["class_path"]
    if own == found or own.partition(".")[0] != found.partition(".")[0]:
        return bool(own == found)
    return canonical(found) == canonical(own)


def _registered(record: dict[str, Any], origin: Path) -> plugins.Plugin:
    class_path = record["class_path"]
    plugin = plugins.find_by_class_path("model", class_path)
    if plugin is None:
        raise UserError(
            f"{origin} holds a {class_path}, which no installed package brings.",
            f"Install the package that has {class_path.split('.')[0]}; `aigc models` lists what there is.",
        )
    return plugin


def _build(model_class: type[ImageModel], record: dict[str, Any], origin: Path) -> ImageModel:
    try:
        model = model_class(**{"spec": ImageSpec.from_dict(record["spec"]), **record["config"]})
        if isinstance(model, AdversarialModel):
            known = {item.name for item in fields(Engine)}
            kept = {name: value for name, value in record.get("engine", {}).items() if name in known}
            model.engine = Engine(**kept)
        model.configure_model()
    except UserError:
        raise
    except Exception as error:  # whatever a class makes of another version's arguments
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        raise UserError(
            f"{model_class.__name__} cannot be built from {origin}: {error}",
            f"The file was written with {versions}; install that version, or give arguments that the class takes.",
        ) from error
    return model


def _take_weights(
    model: ImageModel, weights: dict[str, Tensor], record: dict[str, Any], origin: Path, *, strict: bool = True
) -> None:
    try:
        model.load_state_dict(weights, strict=strict)
    except RuntimeError as error:
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        raise UserError(
            f"The weights in {origin} do not fit {type(model).__name__}: {_first_line(error, 1)}",
            f"Use the version of the package that wrote the checkpoint: {versions}",
        ) from error
    check_finite(model, weights, origin)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the record and the weights of a checkpoint or an export."""
    if path.suffix != ".safetensors":
        checkpoint = read_checkpoint(path)
        return {**checkpoint[RECORD_KEY], "step": checkpoint.get("global_step")}, checkpoint["state_dict"]
    hint = "Export it again."
    try:
        weights, metadata = read_tensors(path, hint)
        record = json.loads(metadata[RECORD_KEY])
    except UserError:
        raise
    except (OSError, KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path} was not written by `aigc export`: {_first_line(error)}", hint) from error
    check_size(record, path)
    check_record(record, path)
    return record, weights


def _first_line(error: Exception, number: int = 0) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[min(number, len(lines) - 1)][:200]
