"""Checkpoints: tensors and plain values that describe how to rebuild the model.

Nothing in a file is executed: files are read with `weights_only`, and a class is only imported if an installed
package has registered it.
"""

import json
from pathlib import Path
from typing import Any, cast

from aigc_lightning.core.checkpoint_file import file_hash, read_checkpoint, read_record, step_of
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.checksums import write_tensors
from aigc_lightning.core.rebuilding import build, registered, take_weights
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.core.run.folder import find_checkpoint

__all__ = ["build_model", "file_hash", "load_model", "load_with_record", "read_checkpoint", "save_weights", "step_of"]


def load_model(path: str | Path) -> ImageModel:
    """Return the model of a checkpoint, an exported .safetensors file or a run's folder, ready for inference.

    Raises:
        UserError: the file cannot be used, its model belongs to a package that is not installed, or the weights do
            not fit the model or are not finite.
    """
    return load_with_record(find_checkpoint(path))[0]


def load_with_record(file: Path) -> tuple[ImageModel, dict[str, Any]]:
    """Return the model of a file as `load_model` does, and the record of how it was made.

    The record of a checkpoint also has `step`, the number of training steps done.

    Raises:
        UserError: see `load_model`.
    """
    record, weights = read_record(file)
    model = build_model(record, file)
    take_weights(model, weights, record, file)
    return model.eval(), record


def build_model(record: dict[str, Any], origin: Path) -> ImageModel:
    """Return an untrained model built from a checkpoint's record.

    Args:
        record: as returned by `ImageModel.provenance`.
        origin: the file, for messages.

    Raises:
        UserError: no installed package has registered the model, or it does not take the recorded arguments.
    """
    return cast(ImageModel, build(registered(record, origin).load(), record, origin))


def save_weights(model: ImageModel, path: Path, extra: dict[str, Any]) -> None:
    """Write a model's weights and record as safetensors, the format for sharing models.

    Args:
        model: the model.
        path: a new file that ends in .safetensors.
        extra: plain values to add to the record.
    """
    record = json.dumps({**model.provenance(), **extra})
    write_tensors(path, model.state_dict(), {RECORD_KEY: record})
