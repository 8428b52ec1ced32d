"""Checkpoints: tensors and plain values that say how to build the model again.

Nothing in a file is executed: files are read with `weights_only`, and a class is only imported when an installed
package has registered it.
"""

import hashlib
import json
import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from aigc_lightning import plugins
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.engine import Engine
from aigc_lightning.core.files import replacing
from aigc_lightning.core.image_model import RECORD_KEY, ImageModel
from aigc_lightning.core.run_folder import find_checkpoint
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, on the CPU.

    Raises:
        UserError: it cannot be read, is damaged, holds more than tensors and plain values, or is not ours.
    """
    if path.suffix == ".safetensors":
        raise UserError(
            f"{path} holds weights alone.", "Use it with `aigc sample`; here, give a run folder or a .ckpt."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged, or holds objects that could run code: {_first_line(error)}",
            "Only checkpoints of tensors and plain values are loaded. Take another one, such as best.ckpt.",
        ) from error
    except Exception as error:  # bytes that are no checkpoint can make the reader stumble anywhere
        raise UserError(
            f"{path} cannot be read as a checkpoint; it may be cut short: {_first_line(error)}",
            "Take another checkpoint of the run, such as best.ckpt.",
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise UserError(f"{path} was not written by aigc_lightning.", "Give a checkpoint that `aigc fit` wrote.")
    _check_record(checkpoint.get(RECORD_KEY), path)
    return checkpoint


def step_of(path: Path) -> int:
    """Return the number of steps that a checkpoint's run had done, -1 if it cannot be read; reads no tensor."""
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception:  # bytes that are no checkpoint can make the reader stumble anywhere
        return -1


def load_model(path: str | Path) -> ImageModel:
    """Return the model of a checkpoint, an exported .safetensors file or a run's folder, ready for inference.

    Raises:
        UserError: the file cannot be used, its model belongs to a package that is not installed, or the weights do
            not fit the model.
    """
    file = find_checkpoint(path)
    record, weights = _read_export(file) if file.suffix == ".safetensors" else _read_weights(file)
    model = build_model(record, file)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"The weights in {file} do not fit {type(model).__name__}: {_first_line(error, 1)}",
            "Use the version of the package that wrote the checkpoint: "
            + ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        ) from error
    return model.eval()


def build_model(record: dict[str, Any], origin: Path) -> ImageModel:
    """Return an untrained model as a checkpoint's record describes it.

    Args:
        record: what `ImageModel.provenance` gave.
        origin: the file, for messages.

    Raises:
        UserError: no installed package has registered the model, or it does not take the recorded arguments.
    """
    class_path = str(record["class_path"])
    plugin = plugins.find_by_class_path("model", class_path)
    if plugin is None:
        raise UserError(
            f"{origin} holds a {class_path}, which no installed package brings.",
            f"Install the package that has {class_path.split('.')[0]}; `aigc models` lists what there is.",
        )
    model_class = plugin.load()
    try:
        model = cast(ImageModel, model_class(ImageSpec.from_dict(record["spec"]), **record["config"]))
        if isinstance(model, AdversarialModel):
            known = {item.name for item in fields(Engine)}
            kept = {name: value for name, value in record.get("engine", {}).items() if name in known}
            model.engine = Engine(**kept)
        model.configure_model()
    except UserError:
        raise
    except Exception as error:  # whatever a class makes of another version's arguments
        raise UserError(
            f"{class_path} {plugin.version} cannot be built from {origin}: {error}",
            f"The checkpoint was written with {record['versions']}; install that version.",
        ) from error
    return model


def save_weights(model: ImageModel, path: Path, extra: dict[str, Any]) -> None:
    """Write a model's weights and record as safetensors, the format for handing models to others.

    Args:
        model: the model.
        path: a new file that ends in .safetensors.
        extra: plain values to add to the record.
    """
    weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    record = json.dumps({**model.provenance(), **extra})
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata={RECORD_KEY: record})


def file_hash(path: Path) -> str:
    """Return the first 16 hexadecimal digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _read_weights(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    checkpoint = read_checkpoint(path)
    return checkpoint[RECORD_KEY], checkpoint["state_dict"]


def _read_export(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})[RECORD_KEY])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} was not written by `aigc export`: {_first_line(error)}", "Export it again.") from error
    _check_record(record, path)
    return record, weights


#: What a record holds at least, and what it may hold.
_RECORD = {"class_path": str, "config": dict, "spec": dict, "versions": dict}
_MORE = {"engine": dict, "data": dict}


def _check_record(record: Any, path: Path) -> None:
    """Refuse a file that does not say how its model is built."""
    held = record if isinstance(record, dict) else {}
    wrong = [name for name, kind in _RECORD.items() if not isinstance(held.get(name), kind)]
    wrong += [name for name, kind in _MORE.items() if not isinstance(held.get(name, kind()), kind)]
    if wrong:
        raise UserError(
            f"{path} was not written by aigc_lightning: its record has no proper {wrong[0]}.",
            "Give a checkpoint that `aigc fit` or `aigc export` wrote.",
        )


def _first_line(error: Exception, number: int = 0) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[min(number, len(lines) - 1)][:200]
