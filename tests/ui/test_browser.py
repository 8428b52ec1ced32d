"""The page in headless Chromium: each panel clicked, a picture made and downloaded."""

import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def address(runs):
    """Return the address of a server in a thread."""
    import uvicorn

    from aigc_lightning.commands.ui import _listen
    from aigc_lightning.ui.server import Settings, application

    listening = _listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    settings = Settings(root=runs, token="a-secret", hosts=frozenset({f"127.0.0.1:{port}"}), port=port)
    server = uvicorn.Server(uvicorn.Config(application(settings), log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/?token=a-secret"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def browser():
    """Return Debian's Chromium."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the path")
    sandbox = [] if sys.platform != "linux" or Path.home() != Path("/root") else ["--no-sandbox"]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield opened
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_each_panel_works_without_complaints(browser, address, tmp_path, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.get_by_role("img", name="Curves").wait_for()

    page.get_by_role("tab", name="Runs").press("ArrowRight")
    page.get_by_label("Checkpoint").select_option("trained/1/checkpoints/last.ckpt")
    page.get_by_role("button", name="Sample").click()
    page.get_by_role("img", name="Sample 000003.png").wait_for()
    with page.expect_download() as download:
        page.get_by_text("Download the grid").click()
    download.value.save_as(tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.info["Source"] == "generated"
    page.get_by_role("tab", name="Walk").click()
    page.get_by_role("button", name="Walk").click()
    page.get_by_label("Frame: ").fill("5")
    page.get_by_role("img", name="5 of 16").wait_for()
    page.get_by_role("tab", name="Data").click()
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("img", name="Picture of the data").wait_for(timeout=60_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == [] and page.get_by_role("tab", name="Train").count() == 0
    assert all(url.startswith((address.partition("?")[0], "blob:")) for url in asked)
    page.close()
