"""Startup time: of `aigc --help`, and of `aigc fit` until the end of the first step.

    python benchmarks/startup.py [--runs 5] [--config dcgan_digits] [--files 200000] [--imports]

With `--files`, runs on two folders of small PNGs in ten classes are also started: one with that many files, and one
with a hundredth of them. Each runs in its own process, several times after one that warms up the disk cache; medians
are shown. On a busy machine, CPU time is more meaningful than wall time. `--imports` lists the slowest imports.
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
from io import BytesIO
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
from PIL import Image

from aigc_lightning.core.run.machine import machine_line

STARTED = "STARTUP_BEGAN"  # the variable that tells a run when it was started


class FirstStep(pl.Callback):
    """Ends the process after the first step, and prints the seconds until then."""

    def on_train_batch_end(self, *_: object) -> None:
        """Print and end."""
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        print(f"\nFirst step after {time.time() - float(os.environ[STARTED]):.3f} s, {held:.0f} MiB", flush=True)
        os._exit(0)  # what follows, such as saving the run, does not belong to the startup


def first_step(settings: list[str], folder: Path) -> list[str]:
    """Return the command of a run with these options that ends after its first step."""
    callback = '[{"class_path": "startup.FirstStep"}]'
    run = ["--trust-config", f"--trainer.callbacks={callback}", "--run", str(folder)]
    return [*aigc(), "fit", *settings, *run]


def fill(root: Path, count: int) -> list[str]:
    """Write this many PNGs of 32x32 pixels of noise; return the options of a run on them."""
    random = np.random.default_rng(0)
    contents = []
    for _ in range(64):
        buffer = BytesIO()
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    for number in range(10):
        (root / f"class{number}").mkdir(parents=True)
    for number in range(count):
        (root / f"class{number % 10}" / f"{number:07d}.png").write_bytes(contents[number % len(contents)])
    return [
        "--model",
        "dcgan",
        "--model.width",
        "8",
        "--data",
        "image_folder",
        "--data.root",
        str(root),
        "--data.size",
        "32",
    ]


def aigc() -> list[str]:
    """Return the command of the installed program."""
    return [str(Path(sys.executable).with_name("aigc"))]


def environment_with(cache: Path) -> dict[str, str]:
    """Return the environment of a process that may cache Python bytecode, as installed programs do."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": path, "PYTHONPYCACHEPREFIX": str(cache), STARTED: repr(time.time())}
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}, **own}


def measured(command: list[str], cache: Path) -> tuple[float, float, float]:
    """Return the wall and CPU seconds that a command takes, and the MiB of a run (0 for other commands)."""
    environment = environment_with(cache)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    said = re.search(r"First step after ([\d.]+) s, (\d+) MiB", done.stdout)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (float(said[1]), worked, float(said[2])) if said else (seconds, worked, 0)


def imports(command: list[str], cache: Path, most: int = 25) -> list[tuple[str, float]]:
    """Return the packages that a command imports, with the seconds that their own modules take."""
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
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--imports", action="store_true")
    options = parser.parse_args()
    print(machine_line())
    with tempfile.TemporaryDirectory() as name:
        settings = {f"first step of {options.config}": ["--config", options.config]}
        for count in (options.files // 100, options.files) if options.files else ():
            settings[f"first step on {count:,} files"] = fill(Path(name) / f"{count}_files", count)
        rows: dict[str, list[tuple[float, float, float]]] = {label: [] for label in ("aigc --help", *settings)}
        cache = Path(name) / "cache"
        for number in range(options.runs + 1):
            rows["aigc --help"].append(measured([*aigc(), "--help"], cache))
            for label, given in settings.items():
                rows[label].append(measured(first_step(given, Path(name) / f"{number} {label}"), cache))
        print(f"{'':<32}{'clock':>10}{'processor':>12}{'memory':>13}")
        for label, times in rows.items():
            clock, worked, held = (statistics.median(column) for column in zip(*times[1:], strict=True))
            print(f"{label:<32}{clock:>8.2f} s{worked:>10.2f} s" + (f"{held:>9,.0f} MiB" if held else ""))
        if options.imports:
            print("\nimports of the run, own seconds")
            given = ["--config", options.config]
            for package, seconds in imports(first_step(given, Path(name) / "imports"), cache):
                print(f"{package:<32}{seconds:>8.2f} s")


if __name__ == "__main__":
    main()
