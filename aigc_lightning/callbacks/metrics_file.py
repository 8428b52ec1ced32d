"""The run's metrics in `metrics.csv`: one row per step, one column per metric, readable during the run."""

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from aigc_lightning.core.io.atomic import found_inside, no_follow, replacing
from aigc_lightning.core.io.output import csv_cell

#: Its name in the run's folder.
METRICS_FILE = "metrics.csv"

Rows = dict[int, dict[str, str]]


class MetricsFile(Logger):
    """Writes `metrics.csv`.

    Values of the same step share a row. Rows are written to the file as soon as they are logged, so a killed run keeps
    them. A resumed run appends to its file; `rewind` drops what was logged after the step from which it resumes.

    Args:
        run_folder: the folder of the run.
    """

    def __init__(self, run_folder: Path) -> None:
        super().__init__()
        self.path = Path(run_folder) / METRICS_FILE
        self._columns: list[str] | None = None  # of the file, without `step`; None until it has been read
        self._step, self._cells = -1, dict[str, str]()  # the last row
        self._start, self._end = 0, 0  # bytes before and up to the end of the last row

    @property
    def name(self) -> str:
        """Nothing: the run's folder is the name."""
        return ""

    @property
    def version(self) -> str:
        """Nothing: the run's folder is the version."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Put values into the row of a step; without a step, into the last row."""
        if self._columns is None:
            self._write(*_read(self.path))
        step = max(self._step, 0) if step is None else step
        cells = {csv_cell(name): f"{float(value):.9g}" for name, value in metrics.items()}
        if step < self._step or not set(cells) <= set(self._columns or ()):
            self._insert(step, cells)
        else:
            self._put(step, cells)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run's folder holds its config."""

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Drop the rows after a step, which are about to be computed again."""
        columns, rows = _read(self.path)
        self._write(columns, {number: cells for number, cells in rows.items() if number <= step})

    def _put(self, step: int, cells: dict[str, str]) -> None:
        """Append a row, or rewrite the last row with more cells."""
        if step == self._step:
            cells = {**self._cells, **cells}
        else:
            self._start = self._end
        line = _line([str(step), *(cells.get(name, "") for name in self._columns or ())]).encode()
        with open(self.path, "r+b", opener=no_follow) as file:
            file.seek(self._start)
            file.write(line)  # over the old row, so that a kill in between cannot lose it
            file.truncate()
        self._step, self._cells, self._end = step, cells, self._start + len(line)

    def _insert(self, step: int, cells: dict[str, str]) -> None:
        """Rewrite the file with an earlier row changed or with more columns."""
        columns, rows = _read(self.path)
        rows[step] = {**rows.get(step, {}), **cells}
        self._write(list(dict.fromkeys([*columns, *cells])), rows)

    def _write(self, columns: list[str], rows: Rows) -> None:
        lines = [_line(["step", *columns]).encode()]
        for number in sorted(rows):
            lines.append(_line([str(number), *(rows[number].get(name, "") for name in columns)]).encode())
        with replacing(self.path) as temporary:
            temporary.write_bytes(b"".join(lines))
        self._columns, self._step = columns, max(rows, default=-1)
        self._cells = rows.get(self._step, {})
        self._end = sum(map(len, lines))
        self._start = self._end - len(lines[-1]) if rows else self._end


def read_metrics(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Return each metric's steps and values, in the order of the columns.

    Args:
        path: a `metrics.csv`, possibly one that a run is still writing.
    """
    columns, rows = _read(path)
    series: dict[str, tuple[list[int], list[float]]] = {name: ([], []) for name in columns}
    for step, cells in rows.items():
        for name, cell in cells.items():
            series[name][0].append(step)
            series[name][1].append(float(cell))
    return series


def _read(path: Path) -> tuple[list[str], Rows]:
    """Return columns and rows; an unfinished last line is left out, and a missing file counts as empty."""
    path = found_inside(path.parent, path.name)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = [line for line in csv.reader(io.StringIO(text[: text.rfind("\n") + 1])) if line]
    if not lines:
        return [], {}
    (_, *columns), *body = lines
    rows: Rows = {}
    for step, *cells in body:
        if step.isdecimal() and len(cells) == len(columns):
            rows[int(step)] = {name: cell for name, cell in zip(columns, cells, strict=True) if cell}
    return columns, rows


def _line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
