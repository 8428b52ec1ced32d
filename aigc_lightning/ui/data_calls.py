"""What the panel Data does: the sub-commands of `aigc data`, each in a process of its own."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aigc_lightning import plugins, shell
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.ui.asked import Asked
from aigc_lightning.ui.calls import AIGC
from aigc_lightning.ui.paths import check_value
from aigc_lightning.ui.worker import Job, Worker

_ACTIONS = ("preview", "check", "stats")


class DataCalls:
    """Looks at data.

    Args:
        roots: folders that may be read, the folder of the runs first.
        worker: does the jobs.
    """

    def __init__(self, roots: Sequence[Path], worker: Worker) -> None:
        self._roots, self._worker = roots, worker

    def look(self, asked: Asked) -> str:
        """Preview data, check it or compute its statistics.

        Raises:
            UserError: there is no such data, or an option leads out of the folders.
        """
        action, name, options = asked.text("action"), asked.text("data"), asked.options()
        if action not in _ACTIONS:
            raise UserError(f"There is no action {action!r}.", did_you_mean(action, _ACTIONS))
        known = [*(plugin.name for plugin in plugins.plugins("data")), *(row[0] for row in plugins.presets())]
        if name not in known:
            raise UserError(f"There is no data {name!r}.", did_you_mean(name, known) or "Choose one from the list.")
        for value in options.values():
            check_value(value, self._roots)
        number = asked.number("num", 32 if action == "preview" else 1000, 1, 1024 if action == "preview" else 100_000)
        command = ["data", action, name, "--num", str(number), *_data_flags(options)]

        def work(job: Job) -> Any:
            if action == "check":
                return json.loads(job.run([*AIGC, *command, "--json"], self._roots[0], codes=(0, 1)))
            out = ["--out", str(job.folder / f"{action}.png")]
            if action == "stats":
                return json.loads(job.run([*AIGC, *command, *out, "--json"], self._roots[0]))
            return job.run([*AIGC, *command, *out], self._roots[0]).rpartition(": ")[2].strip()

        return self._worker.add(work, shell.command("aigc", *command))


def _data_flags(options: Mapping[str, str]) -> list[str]:
    return [f"--data.{name}={value}" for name, value in options.items()]
