"""Profilers that write their report to a file in the run's folder rather than to a log."""

from pathlib import Path

from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from aigc_lightning.errors import UserError, did_you_mean

#: Subfolder of the run folder for the reports.
FOLDER = "profile"
_PROFILERS: dict[str, type[Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}


def profiler(given: str | Profiler | None, run_folder: Path) -> Profiler | None:
    """Return the requested profiler, set up to write into the run's folder.

    Args:
        given: a name, a profiler, or None for none.
        run_folder: the folder of the run.

    Raises:
        UserError: there is no profiler of this name.
    """
    if given is None:
        return None
    if isinstance(given, str) and given.lower() not in _PROFILERS:
        raise UserError(f"There is no profiler {given!r}.", did_you_mean(given, _PROFILERS))
    made = _PROFILERS[given.lower()]() if isinstance(given, str) else given
    made.dirpath = run_folder / FOLDER
    made.filename = made.filename or "report"
    return made


def reports(run_folder: Path) -> list[Path]:
    """Return the profiler's reports in a run folder."""
    return sorted((run_folder / FOLDER).glob("*.txt"))
