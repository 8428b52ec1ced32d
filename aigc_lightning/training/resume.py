"""Choosing the folder of a run and the checkpoint to resume from."""

import math
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from aigc_lightning.config.request import Request, value_of
from aigc_lightning.core.checkpoint import read_checkpoint, step_of
from aigc_lightning.core.io.atomic import remove_pieces
from aigc_lightning.core.io.download import is_address
from aigc_lightning.core.io.redaction import redacted
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.core.run.folder import CHECKPOINTS, LAST, RUN_VARIABLE, find_checkpoint, run_folder, run_numbers
from aigc_lightning.core.run.launch import agreed
from aigc_lightning.core.run.lock import RunLock, claim, claim_chosen, claim_new
from aigc_lightning.core.run.log import say
from aigc_lightning.errors import UserError

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
