"""How long people wait: `aigc --help`, and `aigc fit` from the enter key to the end of the first step.

    python benchmarks/startup.py [--runs 5] [--config dcgan_digits] [--imports]

Each is a process of its own, started several times after one that warms the disk's cache up; medians are shown. On a
machine that has other work to do, the processor's time says more than the clock's. `--imports` lists the packages that
take longest to import.
"""

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lightning.pytorch as pl

STARTED = "STARTUP_BEGAN"  # the variable in which a run is told when it was started


class FirstStep(pl.Callback):
    """Ends the process when the first step is done, and prints the seconds until then."""

    def on_train_batch_end(self, *_: object) -> None:
        """Print and end."""
        print(f"\nFirst step after {time.time() - float(os.environ[STARTED]):.3f} s", flush=True)
        os._exit(0)  # what follows, such as the saving of the run, is not the start


def first_step(config: str, folder: Path) -> list[str]:
    """Return the command of a run that ends after its first step."""
    callback = '[{"class_path": "startup.FirstStep"}]'
    run = ["--config", config, "--trust-config", f"--trainer.callbacks={callback}", "--run", str(folder)]
    return [*aigc(), "fit", *run]


def aigc() -> list[str]:
    """Return the installed program."""
    return [str(Path(sys.executable).with_name("aigc"))]


def environment_with(cache: Path) -> dict[str, str]:
    """Return the variables of a process that may keep Python's compiled files, as installed programs have them."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": path, "PYTHONPYCACHEPREFIX": str(cache), STARTED: repr(time.time())}
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}, **own}


def measured(command: list[str], cache: Path) -> tuple[float, float]:
    """Return the seconds by the clock and those of the processor that a command takes."""
    environment = environment_with(cache)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    said = re.search(r"First step after ([\d.]+) s", done.stdout)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(said[1]) if said else seconds, worked


def imports(command: list[str], cache: Path, most: int = 25) -> list[tuple[str, float]]:
    """Return the packages that a command imports by the seconds that their own modules take."""
    timed = [sys.executable, "-X", "importtime", *command]
    done = subprocess.run(timed, capture_output=True, text=True, check=False, env=environment_with(cache))
    own: dict[str, float] = {}
    for micros, module in re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", done.stderr, re.MULTILINE):
        package = module.partition(".")[0]
        own[package] = own.get(package, 0) + int(micros) / 1e6
    return sorted(own.items(), key=lambda item: -item[1])[:most]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--config", default="dcgan_digits")
    parser.add_argument("--imports", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows: dict[str, list[tuple[float, float]]] = {"aigc --help": [], f"first step of {options.config}": []}
        help_row, step_row = rows.values()
        cache = Path(name) / "cache"
        for number in range(options.runs + 1):
            help_row.append(measured([*aigc(), "--help"], cache))
            step_row.append(measured(first_step(options.config, Path(name) / str(number)), cache))
        print(f"{'':<32}{'clock':>10}{'processor':>12}")
        for label, times in rows.items():
            clock, worked = (statistics.median(column) for column in zip(*times[1:], strict=True))
            print(f"{label:<32}{clock:>8.2f} s{worked:>10.2f} s")
        if options.imports:
            print("\nimports of the run, seconds of their own")
            for package, seconds in imports(first_step(options.config, Path(name) / "imports"), cache):
                print(f"{package:<32}{seconds:>8.2f} s")


if __name__ == "__main__":
    main()
