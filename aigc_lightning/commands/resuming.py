"""Where a run lives, and which checkpoint it goes on from."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from aigc_lightning import plugin_source
from aigc_lightning.commands.arguments import Request
from aigc_lightning.core.checkpoint import read_checkpoint, step_of
from aigc_lightning.core.launch import agreed
from aigc_lightning.core.redaction import redacted
from aigc_lightning.core.run_folder import (
    CHECKPOINTS,
    LAST,
    RUN_VARIABLE,
    chosen_run,
    find_checkpoint,
    new_run,
    run_numbers,
)
from aigc_lightning.errors import UserError

RUNS = Path("runs")


def run_and_checkpoint(values: Any, request: Request) -> tuple[Path | None, Path]:
    """Return the checkpoint that `aigc fit` goes on from, if any, and the run's folder.

    Raises:
        UserError: there is nothing to resume, or the folder cannot be written.
    """
    checkpoint = None if values.resume is None else _to_resume(values, request)
    shared = os.environ.get(RUN_VARIABLE)
    if shared:  # a process that another process of the run has started
        return checkpoint, Path(shared)
    folder = Path(agreed("run folder", lambda: str(_folder(values.run, checkpoint, RUNS / request.name))))
    os.environ[RUN_VARIABLE] = str(folder.resolve())
    return checkpoint, folder


def _folder(chosen: str | None, checkpoint: Path | None, parent: Path) -> Path:
    """Return the folder that a run goes on in, or a new one."""
    if checkpoint is not None and checkpoint.parent.name == CHECKPOINTS:
        former = checkpoint.parent.parent
        if chosen is None or Path(chosen).resolve() == former.resolve():
            return former
    return new_run(parent) if chosen is None else chosen_run(Path(chosen))


def run_of_checkpoint(values: Any, request: Request) -> tuple[Path | None, Path]:
    """Return the checkpoint that a stage uses, if any, and the folder for its results."""
    checkpoint = None if values.checkpoint is None else find_checkpoint(values.checkpoint)
    if values.run is not None:
        return checkpoint, Path(values.run)
    if checkpoint is None:
        raise UserError("No checkpoint is given.", "Add --checkpoint RUN_FOLDER_OR_FILE.")
    return checkpoint, checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINTS else checkpoint.parent


def check_same(record: dict[str, Any], values: Any, checkpoint: Path) -> None:
    """Refuse to go on with other settings of the model, engine or data than the checkpoint's.

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
    differences = _differences("model", made["config"], _init_args(values.model))
    if "data" in made:
        if _is_same_class(made["data"]["class_path"], values.data.class_path):
            differences += _differences("data", made["data"]["config"], _init_args(values.data), _free(values.data))
        else:
            differences.append(f"data is {made['data']['class_path']} there and {values.data.class_path} here")
    if hasattr(values, "resume"):
        _check_resumable(record, checkpoint)
        differences += _differences("engine", made.get("engine", {}), values.engine.as_dict())
        if made.get("seed") != values.seed_everything:
            differences.append(f"seed_everything is {made.get('seed')} there and {values.seed_everything} here")
    if differences:
        raise UserError(
            f"{checkpoint} was made with other settings: {'; '.join(differences)}.",
            "A run goes on with the settings it began with. Leave them out, or start a new run without --resume.",
        )


def _check_resumable(record: dict[str, Any], checkpoint: Path) -> None:
    missing = [key for key in ("global_step", "loops", "optimizer_states", "lr_schedulers") if key not in record]
    if missing:
        raise UserError(
            f"{checkpoint} holds no {' and no '.join(missing)}, so training cannot go on from it.",
            "Give a checkpoint that `aigc fit` wrote.",
        )


def _is_same_class(one: str, other: str) -> bool:
    """Whether two paths name one class: packages may also offer it where it is not defined."""
    return one == other or plugin_source.canonical(one) == plugin_source.canonical(other)


def _to_resume(values: Any, request: Request) -> Path:
    if values.resume != "latest":
        target = Path(values.resume)
    elif values.run is not None:
        target = Path(values.run)
    else:
        parent = RUNS / request.name
        numbers = [n for n in run_numbers(parent) if (parent / str(n) / CHECKPOINTS).is_dir()]
        if not numbers:
            raise UserError(f"There is no run to resume in {parent}.", "Start one without --resume.")
        target = parent / str(numbers[-1])
    return target if target.is_file() else newest_loadable(target)


def newest_loadable(run: Path) -> Path:
    """Return a run's checkpoint of the latest step that can be read, and say which cannot be.

    Raises:
        UserError: none can be read.
    """
    steps = {path: step_of(path) for path in sorted((run / CHECKPOINTS).glob("*.ckpt"))}
    if not steps:
        find_checkpoint(run)  # says what is missing
    damaged = [path for path, step in steps.items() if step < 0]
    for path in [*damaged, *sorted(steps.keys() - set(damaged), key=lambda path: (-steps[path], path.name != LAST))]:
        try:
            read_checkpoint(path)
        except UserError as error:
            print(f"Passed over {path}: {error.what}")
        else:
            return path
    raise UserError(f"No checkpoint in {run / CHECKPOINTS} can be read.", "Start a new run without --resume.")


def _init_args(section: Any) -> dict[str, Any]:
    given = section.get("init_args")
    return given.as_dict() if given is not None else {}


def _free(data: Any) -> tuple[str, ...]:
    module, _, name = str(data.class_path).rpartition(".")
    return tuple(getattr(import_module(module), name).free_on_resume)


def _differences(section: str, made: dict[str, Any], given: dict[str, Any], free: tuple[str, ...] = ()) -> list[str]:
    shared = (name for name in sorted(made.keys() & given.keys()) if name not in free)
    pairs = [(name, redacted(made[name], name), redacted(_plain(given[name]), name)) for name in shared]
    return [f"{section}.{name} is {then} there and {now} here" for name, then, now in pairs if then != now]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "as_dict"):
        return value.as_dict()
    return value
