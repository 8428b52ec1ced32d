"""`aigc doctor resume`: whether a stopped and resumed run equals one that was never stopped."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from aigc_lightning.config.command_line import command_parser, parse_known
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.run.folder import CHECKPOINTS, LAST, RUN_VARIABLE
from aigc_lightning.errors import UserError
from aigc_lightning.training.launch_check import ended_together

_SHOWN = 10
_STOP = "aigc_lightning.testing.stopping.StopBySignal"


def main(argv: list[str]) -> int:
    """Train without a stop, from a checkpoint and after a signal, and compare the final checkpoints bit for bit.

    Raises:
        UserError: one of the runs fails, or the checkpoints differ.
    """
    parser = command_parser(
        "aigc doctor resume",
        "Check that a stopped and resumed run equals one that was never stopped, bit for bit.",
        "aigc doctor resume --config dcgan_digits",
        "aigc doctor resume --config dcgan_digits --steps 20 --stop 9",
        note="All other options are those of `aigc fit`, such as --config C or --trainer.devices 2.",
    )
    parser.add_argument("--steps", type=int, default=7, help="batches of the whole run (default: 7)")
    parser.add_argument("--stop", type=int, default=3, help="batches before the stop (default: 3)")
    options, rest = parse_known(parser, argv)
    if not 0 < options.stop < options.steps:
        raise UserError(f"The stop after {options.stop} of {options.steps} batches is not inside the run.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _check(folder, [*rest, "--trainer.max_steps", str(options.steps)], options.stop)
    echo(f"The runs that resumed after {options.stop} of {options.steps} batches equal the other bit for bit.")
    return 0


def _check(folder: Path, options: list[str], stop: int) -> None:
    """Train without a stop, from a checkpoint of the middle, and with a stop by a signal."""
    whole, copy, stopped = (folder / name for name in ("whole", "copy", "stopped"))
    _fit("1/4 a run without a stop", options, whole, "--checkpoints.keep_every_n_steps", str(stop))
    middle = whole / CHECKPOINTS / f"step_{stop:07d}.ckpt"
    _fit(f"2/4 the same from its checkpoint of step {stop}", options, copy, "--resume", str(middle))
    _compare(whole, copy, f"the checkpoint of step {stop}")
    signalled = [f"--trainer.callbacks+={_STOP}", f"--trainer.callbacks.step={stop}"]
    code = _fit(f"3/4 a run that gets SIGTERM at batch {stop}", options, stopped, *signalled, stops=True)
    if code == 0:
        echo("4/4 left out: the run ended before its processes had agreed to stop; try more --steps.")
        return
    _fit("4/4 the stopped run, resumed", options, stopped, "--resume")
    _compare(whole, stopped, "SIGTERM")


def _compare(whole: Path, resumed: Path, start: str) -> None:
    differences = _compared(whole, resumed)
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise UserError(
            f"The run resumed from {start} differs in {len(differences)} places: "
            f"{', '.join(differences[:_SHOWN])}{more}.",
            "Whatever changes while a model trains must be in its buffers or in on_save_checkpoint, "
            "and what is random must come from self.noise or torch.",
        )


def _fit(label: str, rest: list[str], folder: Path, *more: str, stops: bool = False) -> int:
    """Run `aigc fit` and return its exit code, 0 unless it stops by a signal and may."""
    echo(f"{label} ...", flush=True)
    options = [*rest, "--run", str(folder), *more]
    environment = {name: value for name, value in os.environ.items() if name != RUN_VARIABLE}
    command = [sys.executable, "-m", "aigc_lightning", "fit", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    with ended_together(process):
        _, errors = process.communicate()
    if process.returncode and not (stops and process.returncode == 128 + signal.SIGTERM):
        lines = errors.strip().splitlines()
        cause = lines[0].removeprefix("Error: ") if lines else f"exit code {process.returncode}"
        raise UserError(f"`aigc fit` failed: {cause}", *lines[1:2])
    return process.returncode


def _compared(first: Path, second: Path) -> list[str]:
    from aigc_lightning.core.checkpoint import read_checkpoint
    from aigc_lightning.testing.exactness import different_tensors

    return different_tensors(*(read_checkpoint(folder / CHECKPOINTS / LAST) for folder in (first, second)))
