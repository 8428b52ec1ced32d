"""`aigc doctor resume`: whether a stopped and resumed run equals one that was never stopped."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from aigc_lightning.config.command_line import parse_known
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.run.folder import CHECKPOINTS, LAST, RUN_VARIABLE
from aigc_lightning.errors import UserError
from aigc_lightning.training.launch_check import ended_together

_SHOWN = 10


def main(argv: list[str]) -> int:
    """Train once without and once with a stop, and compare the final checkpoints bit for bit.

    Raises:
        UserError: one of the runs fails, or the checkpoints differ.
    """
    parser = argparse.ArgumentParser(
        "aigc doctor resume",
        description="Check that a stopped and resumed run equals one that was never stopped, bit for bit.",
        epilog="All other options are those of `aigc fit`, such as --config C or --trainer.devices 2.",
        exit_on_error=False,
    )
    parser.add_argument("--steps", type=int, default=7, help="batches of the whole run (default: 7)")
    parser.add_argument("--stop", type=int, default=3, help="batches before the stop (default: 3)")
    options, rest = parse_known(parser, argv)
    if not 0 < options.stop < options.steps:
        raise UserError(f"The stop after {options.stop} of {options.steps} batches is not inside the run.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _fit("1/3 a run without a stop", rest, options.steps, folder / "whole")
        _fit(f"2/3 a run that stops after {options.stop} batches", rest, options.stop, folder / "stopped")
        _fit("3/3 the stopped run, resumed", rest, options.steps, folder / "stopped", "--resume")
        differences = _compared(folder / "whole", folder / "stopped")
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise UserError(
            f"The resumed run differs in {len(differences)} places: {', '.join(differences[:_SHOWN])}{more}.",
            "State that changes during training must be in buffers or in on_save_checkpoint, "
            "and random numbers must come from self.noise or torch.",
        )
    echo(f"The run that was stopped after {options.stop} of {options.steps} batches equals the other bit for bit.")
    return 0


def _fit(label: str, rest: list[str], max_steps: int, folder: Path, *more: str) -> None:
    echo(f"{label} ...", flush=True)
    options = [*rest, "--trainer.max_steps", str(max_steps), "--run", str(folder), *more]
    environment = {name: value for name, value in os.environ.items() if name != RUN_VARIABLE}
    command = [sys.executable, "-m", "aigc_lightning", "fit", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    with ended_together(process):
        _, errors = process.communicate()
    if process.returncode:
        lines = errors.strip().splitlines()
        cause = lines[0].removeprefix("Error: ") if lines else f"exit code {process.returncode}"
        raise UserError(f"`aigc fit` failed: {cause}", *lines[1:2])


def _compared(first: Path, second: Path) -> list[str]:
    from aigc_lightning.core.checkpoint import read_checkpoint
    from aigc_lightning.testing.exactness import different_tensors

    return different_tensors(*(read_checkpoint(folder / CHECKPOINTS / LAST) for folder in (first, second)))
