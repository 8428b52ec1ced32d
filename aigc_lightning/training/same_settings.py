"""Checking that a checkpoint is used with the settings that it was made with."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from aigc_lightning.callbacks.provenance import precision_name
from aigc_lightning.core.ema import recorded_ema
from aigc_lightning.core.io.redaction import redacted
from aigc_lightning.core.records import RECORD_KEY, check_resumable
from aigc_lightning.core.run.loop_state import check_global_batch, checked_stream
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.plugins.model_file import changes
from aigc_lightning.plugins.source import canonical
from aigc_lightning.shell import command
from aigc_lightning.training.averages import settings_of
from aigc_lightning.training.launch_check import num_devices


def check_same(checkpoint: Path, contents: dict[str, Any], values: Any) -> list[str]:
    """Check that model and data, and all else that a resumed run depends on, are set as they were for a checkpoint.

    Args:
        checkpoint: its file.
        contents: of the file.
        values: the options of the stage; those of `aigc fit` resume the run.

    Returns:
        Messages for the user about what could not be compared.

    Raises:
        UserError: something differs; the message names all of it.
    """
    made, resumes = contents[RECORD_KEY], hasattr(values, "resume")
    _check_model_class(checkpoint, made, values)
    notes = changes(made, checkpoint)
    differences = differences_between("model", made["config"], _init_args(values.model))
    if "data" in made:
        differences += _data_differences(checkpoint, contents, values, notes)
    if resumes:
        check_resumable(contents, checkpoint)
        differences += _run_differences(made, values)
    if differences:
        again = command("aigc", "fit", "--resume", checkpoint)
        others = "For other settings, start a new run without --resume."
        hint = f"{others} This one goes on with its own: {again}" if resumes else "Leave them out."
        raise UserError(f"{checkpoint} was made with other settings: {'; '.join(differences)}.", hint)
    return notes


def differences_between(
    section: str, made: dict[str, Any], given: dict[str, Any], free: Sequence[str] = ()
) -> list[str]:
    """Return what differs between two versions of a section of a config, also within objects that it contains.

    Args:
        section: its name, such as "data".
        made: the recorded values; those that only one version has are not compared.
        given: the values as they were parsed.
        free: names of values that may differ, at any depth.
    """
    found = []
    for name in sorted((made.keys() & given.keys()) - {*free}):
        then, now = made[name], _plain(given[name])
        if _is_object(then) and _is_object(now) and _is_same_class(then["class_path"], now["class_path"]):
            found += differences_between(f"{section}.{name}", then["init_args"], now["init_args"], free)
        elif redacted(then, name) != redacted(now, name):
            found.append(f"{section}.{name} is {redacted(then, name)} there and {redacted(now, name)} here")
    return found


def _check_model_class(checkpoint: Path, made: dict[str, Any], values: Any) -> None:
    given = str(values.model.class_path)
    if not _is_same_class(made["class_path"], given):
        raise UserError(
            f"{checkpoint} holds a {made['class_path']} and the config asks for a {given}.",
            "Give the config of the checkpoint's run, or another checkpoint.",
        )


def _data_differences(checkpoint: Path, contents: dict[str, Any], values: Any, notes: list[str]) -> list[str]:
    """Return how the data differ, and note if it is not known how many images a step had."""
    made = contents[RECORD_KEY]["data"]
    if not _is_same_class(made["class_path"], values.data.class_path):
        return [f"data is {made['class_path']} there and {values.data.class_path} here"]
    free = [*_data_class(values.data).free_on_resume]
    if hasattr(values, "resume"):
        if _has_same_global_batch(contents, values):
            free.append("batch_size")
        else:
            notes.append(f"{checkpoint} does not say on how many processes it was made: taken to be as many as now.")
    return differences_between("data", made["config"], _init_args(values.data), free)


def _has_same_global_batch(contents: dict[str, Any], values: Any) -> bool:
    """Check that the global batch size is the checkpoint's; return whether the checkpoint records it.

    Raises:
        UserError: the global batch size differs.
    """
    state = contents.get(_data_class(values.data).__qualname__)
    if state is None:  # written by version 0.1
        return False
    saved, batch_size = checked_stream(state), _init_args(values.data).get("batch_size")
    if isinstance(batch_size, int):
        check_global_batch(saved, batch_size, num_devices(values.trainer) * int(values.trainer.num_nodes))
    return True


def _run_differences(made: dict[str, Any], values: Any) -> list[str]:
    """Return what differs of the engine, the averages, privacy, distillation, seed and precision."""
    free = ["checkpoint_activations"]  # when they are computed again, they are the same
    found = differences_between("engine", made.get("engine", {}), values.engine.as_dict(), free)
    for name, off in {"privacy": "epsilon", "distill": "teacher"}.items():
        found += differences_between(name, made.get(name, {off: None}), values[name].as_dict())
    if "ema" in made or "engine" in made:
        found += differences_between("ema", asdict(recorded_ema(made)), asdict(settings_of(values)), ["snapshot_every"])
    if made.get("seed") != values.seed_everything:
        found.append(f"seed_everything is {made.get('seed')} there and {values.seed_everything} here")
    precision = precision_name(values.trainer.precision)
    if made.get("precision", precision) != precision:
        found.append(f"trainer.precision is {made['precision']} there and {precision} here")
    return found


def _is_same_class(one: str, other: str) -> bool:
    """Return whether two paths name the same class, which packages may re-export."""
    return one == other or canonical(one) == canonical(other)


def _data_class(data: Any) -> type[ImageDataModule]:
    module, _, name = str(data.class_path).rpartition(".")
    return cast(type[ImageDataModule], getattr(import_module(module), name))


def _init_args(section: Any) -> dict[str, Any]:
    given = section.get("init_args")
    return given.as_dict() if given is not None else {}


def _is_object(value: Any) -> bool:
    """Return whether a value of a config says how to build an object, such as data within data."""
    return isinstance(value, dict) and {"class_path", "init_args"} <= value.keys()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if hasattr(value, "as_dict"):
        return _plain(value.as_dict())
    return value
