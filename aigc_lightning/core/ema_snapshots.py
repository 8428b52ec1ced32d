"""Snapshots of power-function averages in a run's folder, from which averages of other widths are made."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from aigc_lightning.core.ema import check_width, exponent_of
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.atomic import inside
from aigc_lightning.core.io.checksums import DamagedFileError, read_tensors, read_texts, write_tensors
from aigc_lightning.core.records import RECORD_KEY, check_record, first_mismatch
from aigc_lightning.errors import UserError

#: Folder of the snapshots in a run's folder.
FOLDER = "ema"
_KEY = "snapshot"
_HINT = "Leave this file out: move it to another folder."


@dataclass(frozen=True)
class Snapshot:
    """What a snapshot is of.

    Args:
        width: relative width of the averages.
        step: training steps done.
        updates: for each averaged network, the number of updates of its average.
    """

    width: float
    step: int
    updates: dict[str, int]

    @property
    def exponent(self) -> float:
        """The exponent of the power function."""
        return exponent_of(self.width)


def save_snapshots(model: ImageModel, run: Path, step: int) -> None:
    """Write a file for each width, such as `ema/step_0001000_0.050.safetensors`.

    Args:
        model: in training, with power-function averages.
        run: the run's folder.
        step: training steps done.
    """
    for number, width in enumerate(model.ema_settings.widths):
        averages = {name: model.averages_of(name)[number] for name in model.averages}
        tensors = {f"{name}.{key}": value for name in averages for key, value in averages[name].state_dict().items()}
        record = {**model.provenance(), _KEY: asdict(Snapshot(width, step, model.average_updates()))}
        path = inside(run, FOLDER, f"step_{step:07d}_{width:.3f}.safetensors")
        write_tensors(path, tensors, {RECORD_KEY: json.dumps(record)})


def find_snapshots(run: Path, made: Mapping[str, Any]) -> dict[Path, Snapshot]:
    """Return what the snapshots in a run's folder are of, in the order of their names.

    Args:
        run: the run's folder.
        made: the record of the run's model.

    Raises:
        UserError: a file is no snapshot of this model.
    """
    return {path: _described(path, made) for path in sorted((run / FOLDER).glob("*.safetensors"))}


def read_snapshot(path: Path) -> dict[str, Tensor]:
    """Return the weights and buffers in a snapshot, after its checksum is verified, by network and name.

    Raises:
        UserError: the file is damaged.
    """
    return read_tensors(path, _HINT)[0]


def _described(path: Path, made: Mapping[str, Any]) -> Snapshot:
    try:
        record = json.loads(read_texts(path, _HINT)[RECORD_KEY])
    except (KeyError, ValueError, RecursionError) as error:
        raise DamagedFileError(path, "it has no record", _HINT) from error
    check_record(record, path)
    found = first_mismatch(record, {_KEY: {"width": float, "step": int, "updates": {str: int}}})
    if found or not all(record[_KEY]["updates"].values()):
        raise UserError(f"{path} is no snapshot of averages{f': {found}' if found else ''}.", _HINT)
    if any(record[name] != made[name] for name in ("class_path", "config", "spec")):
        raise UserError(f"{path} is of another model than the run's checkpoint.", _HINT)
    check_width(record[_KEY]["width"], str(path))
    return Snapshot(**{name: record[_KEY][name] for name in ("width", "step", "updates")})
