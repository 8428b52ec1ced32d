"""The folder of a run: where it is, that it is new, and where its checkpoints are. Standard library only."""

import os
from pathlib import Path

from aigc_lightning.core.io.atomic import inside, no_follow
from aigc_lightning.core.io.download import downloaded, is_address
from aigc_lightning.errors import UserError

#: Tells the processes that a launcher starts where the first one put the run.
RUN_VARIABLE = "AIGC_RUN_FOLDER"
#: Folder of a run's checkpoints, and the names of two of them.
CHECKPOINTS = "checkpoints"
LAST, BEST = "last.ckpt", "best.ckpt"
#: Beginning of the name of a file that is there for a moment, to see whether there can be any.
PROBE = ".probe"


def run_numbers(parent: Path) -> list[int]:
    """Return the numbers of a parent's runs, in order."""
    if not parent.is_dir():
        return []
    return sorted(int(path.name) for path in parent.iterdir() if path.name.isdecimal() and path.is_dir())


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint file that a user means: a file, a run's folder for its last checkpoint, or an address.

    What is at an http or https address is downloaded for as long as this process lives.

    Raises:
        UserError: there is none, or it cannot be downloaded.
    """
    if is_address(path):
        return downloaded(str(path))
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        raise UserError(f"There is no run or checkpoint at {path}.", "Give a run folder or a .ckpt file.")
    if not path.is_dir():  # reading a FIFO or a device might never end
        raise UserError(f"{path} is neither a file nor a folder.", "Give a run folder or a .ckpt file.")
    for candidate in (path / CHECKPOINTS / LAST, path / LAST):
        if candidate.is_file():
            return candidate
    raise UserError(f"{path} holds no {CHECKPOINTS}/{LAST}.", "Give another run folder, or a .ckpt file.")


def check_writable(path: Path) -> None:
    """Check that files can be made in a folder, and that none of its own folders is a link to somewhere else.

    Raises:
        UserError: they cannot, or one of them is.
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
    """Return the error of a run's folder that cannot be written."""
    return UserError(
        f"The run folder {path} cannot be written: {error.strerror or error}.", "Choose another folder with --run DIR."
    )
