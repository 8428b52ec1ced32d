"""What the page shows of runs, read from their folders; nothing is ever written there."""

import difflib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from aigc_lightning.callbacks.metrics_file import METRICS_FILE, read_metrics
from aigc_lightning.core.io.atomic import open_regular
from aigc_lightning.core.run.folder import BEST, CHECKPOINTS, LAST
from aigc_lightning.core.run.lock import holder_of
from aigc_lightning.core.run.log import LOG_FILE
from aigc_lightning.errors import UserError
from aigc_lightning.ui.kept import Kept
from aigc_lightning.ui.paths import confined
from aigc_lightning.yaml_file import parse_yaml

_DEPTH, _MOST_RUNS = 4, 1000
_LOG_BYTES, _TEXT_BYTES = 32 * 2**10, 2**20
_ENDS = re.compile(r" (?:INFO|ERROR) End: (\w+)")
_MARKS = ("config.yaml", METRICS_FILE, LOG_FILE)
_RECEIPT = re.compile(r"scores.*\.json")
_PAGES = ("report.html", "explanation.html")  # of `aigc evaluate` and `aigc explain`
_MOST_SERIES = 8  # runs whose curves are kept

#: Steps and values by metric.
Series = dict[str, tuple[list[int], list[float]]]


class Runs:
    """All runs below a folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: dict[str, tuple[float, int]] = {}  # when a living run was first seen, and at which step
        self._series = Kept(_series, _MOST_SERIES)
        self._newest = Kept(self._read_newest, _MOST_RUNS)
        self._configs = Kept(_config, _MOST_RUNS)

    def summaries(self) -> list[dict[str, Any]]:
        """Return a line for each run, the one that changed last first."""
        found = [(changed, self.summary(name)) for name, changed in self._folders()]
        return [summary for _, summary in sorted(found, key=lambda item: -item[0])]

    def summary(self, name: str) -> dict[str, Any]:
        """Return a run's state and progress.

        Args:
            name: its path below the root.

        Raises:
            NotThereError: there is no such folder.
        """
        folder = confined(self.root, name)
        step, last = self._newest.get(folder / METRICS_FILE)
        config = self._configs.get(folder / "config.yaml")
        total = _steps_asked(config)
        state = _state(folder)
        return {
            "run": name,
            "state": state,
            "step": step,
            "steps": total,
            "eta": self._seconds_left(name, step, total) if state == "running" else None,
            "model": str(_section(config, "model").get("class_path", "")).rpartition(".")[2],
            "data": str(_section(config, "data").get("class_path", "")).rpartition(".")[2],
            "changed": datetime.fromtimestamp(_changed(folder)).astimezone().isoformat(" ", "minutes"),
            "checkpoints": _checkpoints(folder),
            "last": last,
        }

    def detail(self, name: str) -> dict[str, Any]:
        """Return everything about a run apart from its curves."""
        folder = confined(self.root, name)
        grids = [f"grids/{path.name}" for path in _files(folder / "grids") if path.suffix == ".png"]
        reports = [path for path in _nested(folder) if path.name in _PAGES]
        return {
            **self.summary(name),
            "log": _tail(folder / LOG_FILE),
            "config": _text(folder / "config.yaml"),
            "grids": grids,
            "reports": [path.relative_to(folder).as_posix() for path in reports],
            "receipts": _receipts(folder),
            "films": [path.name for path in _files(folder) if path.name in ("timelapse.gif", "losses.png")],
        }

    def metrics(self, name: str) -> Series:
        """Return each metric's steps and values."""
        return self._series.get(confined(self.root, name) / METRICS_FILE)

    def _read_newest(self, path: Path) -> tuple[int, dict[str, float]]:
        """Return the last step of a file of metrics, and the last value of each."""
        series = self._series.get(path)
        last = {key: values[-1] for key, (_, values) in series.items() if values}
        return max((steps[-1] for steps, _ in series.values() if steps), default=0), last

    def difference(self, first: str, second: str) -> list[str]:
        """Return the lines in which the configs of two runs differ, in the unified format."""
        old, new = (_text(confined(self.root, name) / "config.yaml").splitlines() for name in (first, second))
        return list(difflib.unified_diff(old, new, first, second, lineterm="", n=2))

    def checkpoints(self) -> list[str]:
        """Return what can be tried: paths of checkpoints and exported files below the root."""
        found = [f"{name}/{path}" for name, _ in self._folders() for path in _checkpoints(confined(self.root, name))]
        loose = [path.name for path in _files(self.root) if path.suffix in (".ckpt", ".safetensors")]
        return [*found, *loose]

    def _folders(self) -> Iterator[tuple[str, float]]:
        """Yield the paths of runs below the root, and when they changed; links are not followed."""
        count = 0
        for path, folders, files in os.walk(self.root):
            place = Path(path).relative_to(self.root)
            is_run = sum(mark in files for mark in _MARKS) > 1
            folders[:] = sorted(name for name in folders if not is_run and not name.startswith("."))
            if len(place.parts) >= _DEPTH:
                folders.clear()
            if is_run:
                yield place.as_posix(), _changed(Path(path))
                count += 1
                if count == _MOST_RUNS:
                    return

    def _seconds_left(self, name: str, step: int, total: int | None) -> float | None:
        """Return the seconds until the last step at the speed since this server first saw the run."""
        now = time.monotonic()
        began, first = self._seen.setdefault(name, (now, step))
        if step < first:  # another run in the same folder
            self._seen[name] = (now, step)
        if total is None or step <= first:
            return None
        return (total - step) * (now - began) / (step - first)


def _series(path: Path) -> Series:
    """Return what a file of metrics holds; nothing if it cannot be read."""
    try:
        open_regular(path).close()
        return read_metrics(path)
    except (OSError, ValueError, UserError):
        return {}


def _state(folder: Path) -> str:
    """Return "running", by the run's lock, or how its log ends: "finished", "failed" or "stopped"."""
    if holder_of(folder) is not None:
        return "running"
    ends = _ENDS.findall(_tail(folder / LOG_FILE))
    if not ends or ends[-1] in ("KeyboardInterrupt", "SystemExit"):
        return "stopped"
    return "finished" if ends[-1] == "finished" else "failed"


def _receipts(folder: Path) -> list[dict[str, Any]]:
    """Return the files of scores in a run, with their content."""
    found = []
    for path in _nested(folder):
        if _RECEIPT.fullmatch(path.name):
            with suppress(ValueError, RecursionError):
                found.append({"file": path.relative_to(folder).as_posix(), "content": json.loads(_text(path))})
    return found


def _nested(folder: Path) -> list[Path]:
    """Return the files of a folder and of the folders in it."""
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.is_symlink()]
    return [*_files(folder), *(file for path in inner for file in _files(path))]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir() or folder.is_symlink():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())


def _checkpoints(folder: Path) -> list[str]:
    names = [path.name for path in _files(folder / CHECKPOINTS) if path.suffix == ".ckpt"]
    first = [name for name in (LAST, BEST) if name in names]
    exports = [path.name for path in _files(folder) if path.suffix == ".safetensors"]
    return [*(f"{CHECKPOINTS}/{name}" for name in dict.fromkeys([*first, *names])), *exports]


def _config(path: Path) -> dict[str, Any]:
    with suppress(UserError):
        content = parse_yaml(_text(path))
        if isinstance(content, dict):
            return content
    return {}


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}


def _steps_asked(config: dict[str, Any]) -> int | None:
    steps = _section(config, "trainer").get("max_steps")
    return steps if isinstance(steps, int) and steps > 0 else None


def _changed(folder: Path) -> float:
    times = []
    for name in (*_MARKS, "."):
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times, default=0.0)


def _text(path: Path) -> str:
    """Return at most a megabyte of a text file; "" if there is none."""
    if path.is_symlink():
        return ""
    with suppress(OSError), open_regular(path) as file:
        return file.read(_TEXT_BYTES).decode("utf-8", "replace")
    return ""


def _tail(path: Path) -> str:
    """Return the last lines of a log."""
    if path.is_symlink():
        return ""
    with suppress(OSError), open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LOG_BYTES))
        text = file.read().decode("utf-8", "replace")
        return text if size <= _LOG_BYTES else text.partition("\n")[2]
    return ""
