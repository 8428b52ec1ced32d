"""How long the page of `aigc ui` takes in headless Chromium: first paint, a digit, and curves of 10,000 rows.

    python benchmarks/page.py RUN [--times 9] [--threads 1]

RUN is a run of `dcgan_digits`. The server is a process of its own; each figure is measured in the page, from a click
to the frame that shows the result. Medians and extremes of several times are printed, with the machine's load.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from aigc_lightning.core.run.machine import machine_line

ROWS = 10_000
#: Resolves with the milliseconds from a click on what a selector and a text find to the frame after a condition holds.
UNTIL = """([selector, text, condition]) => new Promise((resolve) => {
  const holds = new Function(`return ${condition}`), began = performance.now();
  const end = () => resolve(performance.now() - began);
  const look = () => requestAnimationFrame(holds() ? end : look);
  [...document.querySelectorAll(selector)].find((one) => one.textContent.includes(text)).click();
  look();
})"""


def long_run(folder: Path) -> None:
    """Write a run whose log has 10,000 rows of two losses."""
    folder.mkdir()
    noise = random.Random(0)
    rows = [f"{step},{noise.random():.9g},{1 + noise.random():.9g}" for step in range(ROWS)]
    (folder / "metrics.csv").write_text("\n".join(["step,train/a_loss,train/b_loss", *rows, ""]), encoding="utf-8")
    (folder / "config.yaml").write_text("{}\n", encoding="utf-8")


def shown(name: str, values: list[float]) -> None:
    """Print a line."""
    print(
        f"{name:44} {statistics.median(values):5.0f} ms  ({min(values):.0f} to {max(values):.0f}, {len(values)} times)"
    )


def measured(browser: Any, address: str, times: int) -> None:
    """Print all figures."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    page, first = context.new_page(), []
    for _ in range(times):
        page.goto(address)
        page.get_by_role("tab", name="Runs").wait_for()
        page.wait_for_function("performance.getEntriesByType('paint').length > 1")
        first.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    shown("first contentful paint", first)
    opened, read = [], []
    for _ in range(times):
        page.get_by_role("button", name="digits").click()
        page.get_by_role("img", name="Curves: train/d").wait_for()
        page.evaluate("performance.clearResourceTimings()")
        condition = "document.querySelector('[aria-label^=\"Curves: train/a\"] canvas')"
        opened.append(page.evaluate(UNTIL, ["nav button", "long", condition]))
        read.append(page.evaluate("performance.getEntries().find((one) => one.name.includes('/metrics')).duration"))
    shown(f"a run of {ROWS} rows chosen, its curves drawn", opened)
    shown("  of this reading the rows", read)
    page.get_by_role("tab", name="Try").click()
    page.get_by_label("Checkpoint").select_option("digits/checkpoints/last.ckpt")
    page.get_by_label("Seeds").fill("3")
    page.get_by_role("button", name="Sample").click()
    page.get_by_role("img", name="Sample 000003.png").wait_for()
    digits = []
    for seed in range(10, 10 + times):
        page.get_by_label("Seeds").fill(str(seed))
        loaded = f"(document.querySelector(\"img[alt='Sample 0000{seed}.png']\")?.naturalWidth ?? 0) > 0"
        digits.append(page.evaluate(UNTIL, ["button.main", "Sample", loaded]))
    shown("a digit sampled, its model loaded", digits)


def main() -> None:
    """Start the server and the browser, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1, help="of the server's models (default: 1)")
    options = parser.parse_args()
    print(machine_line())
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(options.run, Path(folder) / "digits")
        long_run(Path(folder) / "long")
        command = [sys.executable, "-m", "aigc_lightning", "ui", folder, "--port", "0"]
        threads = {"OMP_NUM_THREADS": str(options.threads)}
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads})
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[1]
            print(f"load {os.getloadavg()[0]:.1f}")
            with sync_playwright() as started:
                sandbox = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
                browser = started.chromium.launch(executable_path=chromium, args=sandbox)
                measured(browser, address, options.times)
                browser.close()
            print(f"load {os.getloadavg()[0]:.1f}")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
