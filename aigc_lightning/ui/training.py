"""Starting and stopping runs from the page: one at a time, and one more that waits."""

import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aigc_lightning import plugins, shell
from aigc_lightning.core.run.folder import run_numbers
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.ui.asked import Asked
from aigc_lightning.ui.calls import AIGC
from aigc_lightning.ui.paths import check_value
from aigc_lightning.ui.worker import BusyError, Job, Worker
from aigc_lightning.yaml_file import parse_yaml

#: Options of the trainer that the form offers; others name folders, or are for several machines.
_TRAINER = ("max_steps", "max_epochs", "max_time", "precision", "accelerator", "val_check_interval")
_SECTIONS = ("engine", "ema", "privacy", "grids", "checkpoints")


@dataclass
class _Run:
    name: str
    command: list[str]
    process: "subprocess.Popen[bytes] | None" = None


class Training:
    """Runs `aigc fit` in a process of its own.

    Args:
        roots: folders that may be read, the folder of the runs first.
        worker: reads the options of presets.
        logs: private folder for what the processes print.
    """

    def __init__(self, roots: list[Path], worker: Worker, logs: Path) -> None:
        self._roots, self._worker, self._logs = roots, worker, logs
        self._current: _Run | None = None
        self._next: _Run | None = None
        self._lock = threading.Lock()
        self._forms: dict[str, dict[str, Any]] = {}

    def form(self, asked: Asked) -> str:
        """Read the options of a preset with their values; the answer has them by name."""
        preset = _preset(asked)

        def work(job: Job) -> dict[str, Any]:
            printed = job.run([*AIGC, "fit", "--config", preset, "--print_config"], self._roots[0])
            self._forms[preset] = _fields(parse_yaml(printed))
            return self._forms[preset]

        return self._worker.add(work, "")

    def start(self, asked: Asked) -> dict[str, Any]:
        """Start a run, or let it wait until the current one has ended; options are those of the form that differ.

        Raises:
            BusyError: one is waiting already.
            UserError: an option is unknown, or leads out of the folders.
        """
        preset, options = _preset(asked), asked.options()
        for name, value in options.items():
            if name not in self._forms.get(preset, {}):
                raise UserError(f"The form has no option {name!r}.", "Choose the preset again.")
            check_value(value, self._roots)
        with self._lock:
            if self._is_running() and self._next is not None:
                raise BusyError
            number = max(run_numbers(self._roots[0] / preset), default=0) + 1 + self._is_running()
            name = f"{preset}/{number}"
            flags = [f"--{option}={value}" for option, value in options.items()]
            run = _Run(name, ["fit", "--config", preset, *flags, "--run", str(self._roots[0] / name)])
            if self._is_running():
                self._next = run
                return {"waiting": name}
            self._begin(run)
        return {"started": name}

    def stop(self) -> None:
        """Ask the current run to save and end, as Ctrl-C does; a waiting one is dropped."""
        with self._lock:
            self._next = None
            if self._current is not None and self._current.process is not None and self._is_running():
                with suppress(OSError):
                    self._current.process.send_signal(signal.SIGINT)

    def status(self) -> dict[str, Any]:
        """Return the current run, the waiting one, and what a run that could not start has printed."""
        with self._lock:
            current, process = self._current, self._current.process if self._current else None
            return {
                "current": current.name if current and self._is_running() else None,
                "waiting": self._next.name if self._next else None,
                "command": shell.command("aigc", *current.command) if current else "",
                "code": process.poll() if process else None,
                "printed": self._printed(),
            }

    def _is_running(self) -> bool:
        process = self._current.process if self._current else None
        return process is not None and process.poll() is None

    def _begin(self, run: _Run) -> None:
        with (self._logs / "fit.txt").open("wb") as log:
            # A group of its own: Ctrl-C in the terminal of the server ends the server, which then ends the run.
            run.process = subprocess.Popen(
                [*AIGC, *run.command],
                cwd=self._roots[0],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._current = run
        threading.Thread(target=self._follow, args=(run.process,), daemon=True).start()

    def _follow(self, process: "subprocess.Popen[bytes]") -> None:
        process.wait()
        with self._lock:
            if self._next is not None:
                run, self._next = self._next, None
                self._begin(run)

    def _printed(self) -> str:
        path = self._logs / "fit.txt"
        return path.read_bytes()[-4000:].decode("utf-8", "replace") if path.exists() else ""


def _preset(asked: Asked) -> str:
    """Return the name of a preset.

    Raises:
        UserError: there is none of this name; files are not read.
    """
    names, preset = [name for name, _, _ in plugins.presets()], asked.text("preset")
    if preset not in names:
        raise UserError(f"There is no preset {preset!r}.", did_you_mean(preset, names) or "Choose one from the list.")
    return preset


def _fields(config: Any) -> dict[str, Any]:
    """Return the options that the form offers, by their names on the command line, with their values."""
    found: dict[str, Any] = {"seed_everything": config.get("seed_everything")}
    for section in ("model", "data"):
        values = (config.get(section) or {}).get("init_args") or {}
        found |= {f"{section}.{name}": value for name, value in values.items()}
    found |= {f"trainer.{name}": (config.get("trainer") or {}).get(name) for name in _TRAINER}
    for section in _SECTIONS:
        values = config.get(section)
        found |= {f"{section}.{name}": value for name, value in values.items()} if isinstance(values, dict) else {}
    return {name: value for name, value in found.items() if not isinstance(value, dict)}
