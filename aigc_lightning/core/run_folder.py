"""The folder of a run: where it is, that it is new, and where its checkpoints are. Standard library only."""

import os
from pathlib import Path

from aigc_lightning.core.download import downloaded, is_address
from aigc_lightning.errors import UserError

#: Tells the processes that a launcher starts where the first one put the run.
RUN_VARIABLE = "AIGC_RUN_FOLDER"
#: Folder of a run's checkpoints, and the names of two of them.
CHECKPOINTS = "checkpoints"
LAST, BEST = "last.ckpt", "best.ckpt"


def new_run(parent: Path) -> Path:
    """Create and return the next numbered folder of a parent, such as runs/dcgan_digits/3.

    Raises:
        UserError: the folder cannot be written.
    """
    number = max(run_numbers(parent), default=0) + 1
    while True:
        try:
            (parent / str(number)).mkdir(parents=True)
        except FileExistsError:  # another run started at the same moment
            number += 1
        except OSError as error:
            raise _unwritable(parent, error) from error
        else:
            return parent / str(number)


def chosen_run(path: Path) -> Path:
    """Create and return a folder that the user chose, or its next numbered sibling where it already holds a run.

    Raises:
        UserError: the folder cannot be written, or is a file.
    """
    path = path if path.name not in ("", "..") else path.resolve()  # `.` has no name that could get a number
    if path.is_file():
        raise UserError(f"The run folder {path} is a file.", "Choose another folder with --run.")
    if not path.exists() or not any(path.iterdir()):
        return own_run(path)
    number = 2
    while path.with_name(f"{path.name}-{number}").exists():
        number += 1
    return chosen_run(path.with_name(f"{path.name}-{number}"))


def own_run(path: Path) -> Path:
    """Create and return a folder that belongs to one run alone, whatever it holds.

    Raises:
        UserError: the folder cannot be written, or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    check_writable(path)
    return path


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
    for candidate in (path / CHECKPOINTS / LAST, path / LAST):
        if candidate.is_file():
            return candidate
    raise UserError(f"{path} holds no {CHECKPOINTS}/{LAST}.", "Give another run folder, or a .ckpt file.")


def check_writable(path: Path) -> None:
    """Check that files can be made in a folder.

    Raises:
        UserError: they cannot.
    """
    probe = path / f".{os.getpid()}.probe"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"The run folder {path} cannot be written: {error.strerror}.", "Choose another folder with --run DIR."
    )
