"""The pictures of docs/ui.md: each panel at 1280 and 375 pixels, and a walk through all of them as a GIF.

    python docs/_site/screenshots.py RUNS

RUNS is a folder with the runs `dcgan_digits/1` and `autoencoder_photos/1` and the index `digits.index`. Needs the extra
`test` (Playwright) and Chromium. The page is started with `--allow-training`; nothing is trained.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright
from skimage import data

OUT = Path(__file__).parents[1] / "images" / "ui"
SIZES = {"": (1280, 800), "_narrow": (375, 740)}
LOOK = 1800  # milliseconds of a frame of the GIF


def panels(page: Any, picture: Path) -> Iterator[str]:
    """Click through the page; yield a name when there is something to see."""
    page.get_by_role("button", name="dcgan_digits/1").click()
    page.get_by_role("img", name="Curves").wait_for()
    page.wait_for_timeout(300)
    yield "runs"
    page.get_by_role("tab", name="Try").click()
    page.get_by_label("Checkpoint").select_option("dcgan_digits/1/checkpoints/last.ckpt")
    page.get_by_label("Seeds").fill("0-39")
    page.get_by_role("button", name="Sample").click()
    page.get_by_role("img", name="Sample 000039.png").wait_for()
    yield "sample"
    page.get_by_role("tab", name="Walk").click()
    page.get_by_label("To seed").fill("7")
    page.get_by_role("button", name="Walk").click()
    for frame in (2, 8, 14):
        page.get_by_label("Frame: ").fill(str(frame))
        yield f"walk {frame}"
    yield "walk"
    page.get_by_role("tab", name="Search").click()
    page.get_by_label("Index").fill("digits.index")
    page.get_by_label("sample of a seed").fill("7")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("img", name="Contact sheet").wait_for(timeout=90_000)
    yield "search"
    page.get_by_label("Checkpoint").select_option("autoencoder_photos/1/checkpoints/last.ckpt")
    page.get_by_role("tab", name="Edit").click()
    page.get_by_label("Picture", exact=True).set_input_files(picture)
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Before and after").fill("50")
    page.wait_for_timeout(300)
    yield "edit"
    page.get_by_role("tab", name="Data").click()
    page.get_by_label("Data or preset").fill("shapes")
    page.get_by_role("button", name="Stats").click()
    page.get_by_role("img", name="Picture of the data").wait_for(timeout=90_000)
    yield "data"
    page.get_by_role("tab", name="Train").click()
    page.get_by_label("Preset").select_option("dcgan_digits")
    page.get_by_label("model.width").wait_for(timeout=90_000)
    yield "train"


def walked(browser: Any, address: str, picture: Path, ending: str) -> None:
    """Save the pictures of one width, and for the wide one the GIF."""
    width, height = SIZES[ending]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
    page.goto(address)
    frames = []
    for name in panels(page, picture):
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        frames.append(shot.resize((800, 500), Image.Resampling.LANCZOS))
        if " " not in name:
            shot.save(OUT / f"{name}{ending}.webp", quality=80, method=6)
    page.close()
    if not ending:
        small = [frame.quantize(64, dither=Image.Dither.NONE) for frame in frames]
        small[0].save(OUT / "walk.gif", save_all=True, append_images=small[1:], duration=LOOK, loop=0, optimize=True)


def main() -> None:
    """Start the server and the browser."""
    command = [sys.executable, "-m", "aigc_lightning", "ui", sys.argv[1], "--port", "0", "--allow-training"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[1]
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
            picture = Path(folder) / "astronaut.png"
            Image.fromarray(data.astronaut()).crop((80, 0, 336, 256)).save(picture)
            sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
            for ending in SIZES:
                walked(browser, address, picture, ending)
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
