"""The run folder: its place, its number and its checkpoints. Standard library only."""

import os
from pathlib import Path

from aigc_lightning.core.io.atomic import inside, no_follow
from aigc_lightning.core.io.download import downloaded, is_address
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

#: Environment variable that tells the processes of a launcher where the first one created the run.
RUN_VARIABLE = "AIGC_RUN_FOLDER"
#: Folder of a run's checkpoints, and the names of two of them.
CHECKPOINTS = "checkpoints"
LAST, BEST = "last.ckpt", "best.ckpt"
#: Prefix of a temporary file's name that tests whether the folder is writable.
PROBE = ".probe"


def run_numbers(parent: Path) -> list[int]:
    """Return the run numbers in a parent folder, in order."""
    if not parent.is_dir():
        return []
    return sorted(int(path.name) for path in parent.iterdir() if path.name.isdecimal() and path.is_dir())


def run_folder(path: Path) -> Path:
    """Return the run that a user means by a folder: itself, or the newest of the numbered runs in it with checkpoints.

    `aigc fit` numbers the runs of a config, so that `runs/dcgan_digits` has 1, 2 and so on. Links are passed over.
    """
    if (path / CHECKPOINTS).exists() or (path / LAST).exists():
        return path
    runs = [path / str(number) for number in run_numbers(path)]
    found = [run for run in runs if (run / CHECKPOINTS / LAST).is_file() and not run.is_symlink()]
    return found[-1] if found else path


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint file that a user means: a file, a run folder (its last checkpoint) or a URL.

    A folder of numbered runs stands for the newest of them. A file at an http or https URL is downloaded and kept until
    this process ends.

    Raises:
        UserError: there is no checkpoint, or it cannot be downloaded.
    """
    if is_address(path):
        return downloaded(str(path))
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        raise UserError(f"There is no run or checkpoint at {path}.", "Give a run folder or a .ckpt file.")
    if not path.is_dir():  # reading a FIFO or a device might block forever
        raise UserError(f"{path} is neither a file nor a folder.", "Give a run folder or a .ckpt file.")
    run = run_folder(path)
    if run != path:
        echo(f"The newest run in {path} is {run}.", error=True)
    for candidate in (run / CHECKPOINTS / LAST, run / LAST):
        if candidate.is_file():
            return candidate
    raise UserError(f"{path} has no {CHECKPOINTS}/{LAST}.", "Give another run folder, or a .ckpt file.")


def check_writable(path: Path) -> None:
    """Check that a folder is writable and that none of its own folders is a link to somewhere else.

    Raises:
        UserError: it is not writable, or one of them is a link.
    """
    probe = path / f"{PROBE}.{os.getpid()}.tmp"
    try:
        probe.unlink(missing_ok=True)
        open(probe, "x", opener=no_follow).close()
        probe.unlink()
        folders = [entry.name for entry in os.scandir(path) if entry.is_dir()]
    except OSError as error:
        raise unwritable(path, error) from error
    for name in folders:
        inside(path, name, "any file")


def unwritable(path: Path, error: OSError) -> UserError:
    """Return the error for a run folder that cannot be written to."""
    return UserError(
        f"The run folder {path} cannot be written: {error.strerror or error}.", "Choose another folder with --run DIR."
    )
