"""Choosing the folder of a run and the checkpoint to resume from."""

import math
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import yaml

from aigc_lightning.callbacks.provenance import precision_name
from aigc_lightning.config.request import Request, value_of
from aigc_lightning.core.checkpoint import read_checkpoint, step_of
from aigc_lightning.core.ema import recorded_ema
from aigc_lightning.core.io.atomic import remove_pieces
from aigc_lightning.core.io.download import is_address
from aigc_lightning.core.io.redaction import redacted
from aigc_lightning.core.records import RECORD_KEY, check_resumable
from aigc_lightning.core.run.folder import CHECKPOINTS, LAST, RUN_VARIABLE, find_checkpoint, run_folder, run_numbers
from aigc_lightning.core.run.launch import agreed
from aigc_lightning.core.run.lock import RunLock, claim, claim_chosen, claim_new
from aigc_lightning.core.run.log import say
from aigc_lightning.core.run.loop_state import check_global_batch, checked_stream
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.plugins.model_file import changes
from aigc_lightning.plugins.source import canonical
from aigc_lightning.shell import command
from aigc_lightning.training.averages import settings_of
from aigc_lightning.training.launch_check import num_devices

RUNS = Path("runs")
#: Sections of a config, and where a record keeps them.
_RECORDED = {"engine": "engine", "ema": "ema", "privacy": "privacy", "distill": "distill", "seed_everything": "seed"}


@dataclass(frozen=True)
class Start:
    """The folder of a run, and the checkpoint to resume from.

    Args:
        folder: the run folder.
        checkpoint: the checkpoint to resume from; None for a new run.
        notes: messages for the user about what was found there.
    """

    folder: Path
    checkpoint: Path | None
    notes: list[str] = field(default_factory=list)


def start_of_run(values: Any, request: Request, resources: ExitStack) -> Start:
    """Return the run folder of `aigc fit`, locked for this run, and the checkpoint to resume from.

    Args:
        values: the options.
        request: the prepared command line.
        resources: releases the folder when closed.

    Raises:
        UserError: there is nothing to resume, another process is training in the folder, or it cannot be written.
    """
    shared = os.environ.get(RUN_VARIABLE)
    if shared:  # started by another process of the run
        target = _target(values, request)
        return Start(Path(shared), _checkpoint(target, []) if target else None)
    notes: list[str] = []

    def choose() -> str:
        target = _target(values, request)
        lock = _claimed(values, target, RUNS / request.name)
        resources.callback(lock.release)
        remove_pieces(lock.folder, own=CHECKPOINTS)
        notes.extend([lock.note] if lock.note else [])
        return f"{_checkpoint(target, notes) if target else ''}\n{lock.folder}"

    checkpoint, folder = agreed("checkpoint and run folder", choose).split("\n")
    os.environ[RUN_VARIABLE] = str(Path(folder).resolve())
    if is_address(values.resume):
        return Start(Path(folder), find_checkpoint(values.resume), notes)  # every process downloads its own copy
    return Start(Path(folder), Path(checkpoint) if checkpoint else None, notes)


def take_from_record(request: Request) -> None:
    """Use a checkpoint's record of its run in place of a config, and tell the user.

    Args:
        request: the prepared command line; its `record_of` is a checkpoint without a config beside it.

    Raises:
        UserError: the checkpoint cannot be read, or does not record the data.
    """
    assert request.record_of is not None
    record = read_checkpoint(request.record_of)[RECORD_KEY]
    sections = {"model": record, "data": record.get("data")}
    config: dict[str, Any] = {
        name: {"class_path": section["class_path"], "init_args": section["config"]}
        for name, section in sections.items()
        if section
    }
    config |= {name: record[key] for name, key in _RECORDED.items() if key in record}
    if "data" not in config and value_of(request.argv, "--data") is None:
        raise UserError(f"{request.record_of} does not say which data its run used.", "Add --data NAME.")
    request.recorded = config
    request.argv[:0] = ["--config", yaml.safe_dump(config, default_flow_style=True, width=math.inf)]
    classes = {name: config[name]["class_path"].rpartition(".")[2] for name in sections if name in config}
    request.name = "_".join(classes.values()).lower()
    data = ", ".join(f"{key} {value}" for key, value in redacted(config.get("data", {}).get("init_args", {})).items())
    shown = {"data": f" ({data})"} if data else {}
    found = ", ".join(f"{name} {classes[name]}{shown.get(name, '')}" for name in classes)
    say(f"{request.record_of} has no config.yaml beside it. By its record: {found}. The rest has its defaults.")


def _claimed(values: Any, target: Path | None, parent: Path) -> RunLock:
    """Lock the folder of the resumed run, or a new one."""
    chosen = None if values.run is None else Path(values.run)
    former = _run_of(target) if target is not None else None
    if former is not None and (chosen is None or chosen.resolve() == former.resolve()):
        return claim(former)
    if chosen is not None and values.resume == "auto":
        return claim(chosen)  # an earlier attempt without a checkpoint belongs to this run
    return claim_new(parent) if chosen is None else claim_chosen(chosen)


def _run_of(target: Path) -> Path | None:
    """Return the run folder of a checkpoint or folder, or None for a file outside of one."""
    folder = target.parent if target.is_file() else target / CHECKPOINTS
    return folder.parent if folder.name == CHECKPOINTS else None


def trial_folder(values: Any, resources: ExitStack) -> Path:
    """Return a temporary folder for `fast_dev_run`, which tries a few batches and is not a run.

    Args:
        values: the options of the stage.
        resources: closed when the stage ends.

    Raises:
        UserError: an option asks to keep or resume something.
    """
    for name in ("run", "resume", "trainer.profiler"):
        if values.get(name) is not None:
            raise UserError(
                f"trainer.fast_dev_run and {name} are both given, and a trial of a few batches keeps nothing.",
                "Leave one of them out, or use --trainer.max_steps in place of fast_dev_run.",
            )
    shared = os.environ.get(RUN_VARIABLE)
    if shared:  # started by another process of the trial run
        return Path(shared)
    folder = resources.enter_context(TemporaryDirectory(prefix="aigc_trial_", ignore_cleanup_errors=True))
    os.environ[RUN_VARIABLE] = folder
    return Path(folder)


def run_of_checkpoint(values: Any, request: Request) -> tuple[Path | None, Path]:
    """Return the checkpoint that a stage uses, if any, and the folder for its results."""
    checkpoint = None if values.checkpoint is None else find_checkpoint(values.checkpoint)
    if values.run is not None:
        return checkpoint, Path(values.run)
    if checkpoint is None:
        raise UserError("No checkpoint is given.", "Add --checkpoint RUN_FOLDER_OR_FILE.")
    if is_address(values.checkpoint):
        return checkpoint, Path()
    return checkpoint, checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINTS else checkpoint.parent


def check_same(record: dict[str, Any], values: Any, checkpoint: Path) -> list[str]:
    """Check that the settings of the model, engine and data are those of the checkpoint.

    Returns:
        Messages for the user about what could not be compared.

    Raises:
        UserError: they differ; the message names each difference.
    """
    made = record["aigc"]
    given_model = str(values.model.class_path)
    if not _is_same_class(made["class_path"], given_model):
        raise UserError(
            f"{checkpoint} holds a {made['class_path']} and the config asks for a {given_model}.",
            "Give the config of the checkpoint's run, or another checkpoint.",
        )
    notes, differences = changes(made, checkpoint), _differences("model", made["config"], _init_args(values.model))
    goes_on = hasattr(values, "resume")
    if "data" in made:
        if _is_same_class(made["data"]["class_path"], values.data.class_path):
            counted = goes_on and _same_global_batch(record, values)
            free = (*_data_class(values.data).free_on_resume, *(["batch_size"] if counted else []))
            differences += _differences("data", made["data"]["config"], _init_args(values.data), free)
            if goes_on and not counted:
                notes.append(
                    f"{checkpoint} does not say on how many processes it was made: taken to be as many as now."
                )
        else:
            differences.append(f"data is {made['data']['class_path']} there and {values.data.class_path} here")
    if goes_on:
        check_resumable(record, checkpoint)
        free = ("checkpoint_activations",)  # when they are computed again, they are the same
        differences += _differences("engine", made.get("engine", {}), values.engine.as_dict(), free)
        for name, off in {"privacy": "epsilon", "distill": "teacher"}.items():
            differences += _differences(name, made.get(name, {off: None}), values[name].as_dict())
        if "ema" in made or "engine" in made:
            now = asdict(settings_of(values))
            differences += _differences("ema", asdict(recorded_ema(made)), now, ("snapshot_every",))
        if made.get("seed") != values.seed_everything:
            differences.append(f"seed_everything is {made.get('seed')} there and {values.seed_everything} here")
        if made.get("precision", precision := precision_name(values.trainer.precision)) != precision:
            differences.append(f"trainer.precision is {made['precision']} there and {precision} here")
    if differences:
        again = f"A run goes on with its own settings: {command('aigc', 'fit', '--resume', checkpoint)}"
        hint = f"{again}\nFor other settings, start a new run without --resume." if goes_on else "Leave them out."
        raise UserError(f"{checkpoint} was made with other settings: {'; '.join(differences)}.", hint)
    return notes


def _same_global_batch(record: dict[str, Any], values: Any) -> bool:
    """Check that the global batch size is the checkpoint's; return whether the checkpoint records it.

    Raises:
        UserError: the global batch size differs.
    """
    state = record.get(_data_class(values.data).__qualname__)
    if state is None:  # written by version 0.1
        return False
    saved, batch_size = checked_stream(state), _init_args(values.data).get("batch_size")
    if isinstance(batch_size, int):
        check_global_batch(saved, batch_size, num_devices(values.trainer) * int(values.trainer.num_nodes))
    return True


def _is_same_class(one: str, other: str) -> bool:
    """Return whether two paths name the same class, which packages may re-export."""
    return one == other or canonical(one) == canonical(other)


def _target(values: Any, request: Request) -> Path | None:
    """Return the run folder or file that `--resume` refers to, or None without it or if "auto" finds nothing."""
    if values.resume is None:
        return None
    if is_address(values.resume):
        return find_checkpoint(values.resume)
    if values.resume not in ("auto", "latest"):
        target = run_folder(Path(values.resume))
    elif values.run is not None:
        target = Path(values.run)
    else:
        parent = RUNS / request.name
        numbers = [n for n in run_numbers(parent) if (parent / str(n) / CHECKPOINTS).is_dir()]
        if not numbers and values.resume == "auto":
            return None
        if not numbers:
            raise UserError(f"There is no run to resume in {parent}.", "Start one without --resume.")
        target = parent / str(numbers[-1])
    if target.is_file():
        return target
    if not any((target / CHECKPOINTS).glob("*.ckpt")):
        return None if values.resume == "auto" else find_checkpoint(target)  # which says what is missing
    return target


def _checkpoint(target: Path, notes: list[str]) -> Path:
    """Return the checkpoint of a target; skipped checkpoints are added to the notes."""
    return target if target.is_file() else newest_loadable(target, notes)


def newest_loadable(run: Path, notes: list[str]) -> Path:
    """Return a run's latest undamaged checkpoint, and note which others are damaged.

    Args:
        run: the run folder, with at least one checkpoint.
        notes: gets a line for each skipped checkpoint, and one for the checkpoint used instead.

    Raises:
        UserError: all are damaged.
    """
    steps = {path: step_of(path) for path in sorted((run / CHECKPOINTS).glob("*.ckpt"))}
    # Checkpoints whose step cannot be read come first, so that the notes name them.
    order = sorted(steps, key=lambda path: (steps[path] >= 0, -steps[path], path.name != LAST))
    damaged: list[str] = []
    for path in order:
        try:
            read_checkpoint(path)
        except UserError as error:
            damaged.append(f"Passed over: {error.what}")
        else:
            taken = [f"Going on from {path}, which is of step {steps[path]:,}."] if damaged else []
            notes += [*damaged, *taken]
            return path
    raise UserError(
        f"No checkpoint in {run / CHECKPOINTS} can be read. {damaged[0]}", "Start a new run without --resume."
    )


def _init_args(section: Any) -> dict[str, Any]:
    given = section.get("init_args")
    return given.as_dict() if given is not None else {}


def _data_class(data: Any) -> type[ImageDataModule]:
    module, _, name = str(data.class_path).rpartition(".")
    return cast(type[ImageDataModule], getattr(import_module(module), name))


def _differences(section: str, made: dict[str, Any], given: dict[str, Any], free: tuple[str, ...] = ()) -> list[str]:
    found = []
    for name in sorted((made.keys() & given.keys()) - {*free}):
        then, now = made[name], _plain(given[name])
        if _is_section(then) and _is_section(now) and _is_same_class(then["class_path"], now["class_path"]):
            found += _differences(f"{section}.{name}", then["init_args"], now["init_args"], free)
        elif redacted(then, name) != redacted(now, name):
            found.append(f"{section}.{name} is {redacted(then, name)} there and {redacted(now, name)} here")
    return found


def _is_section(value: Any) -> bool:
    """Return whether a value of a config is a nested object, such as data within data."""
    return isinstance(value, dict) and {"class_path", "init_args"} <= value.keys()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if hasattr(value, "as_dict"):
        return _plain(value.as_dict())
    return value
