"""The page in headless Chromium: each panel clicked; a picture made, edited and downloaded; a run watched."""

import re
import shutil
import threading
import time

import pytest
from PIL import Image

from aigc_lightning.cli import main

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
pytestmark = pytest.mark.slow
LAST = "trained/1/checkpoints/last.ckpt"
SOON, PROCESS = 15_000, 90_000  # milliseconds: for the page itself, and for a process that imports torch


@pytest.fixture
def served():
    """Return a function that starts a server for a folder, in a thread, and returns the address with the token."""
    import uvicorn

    from aigc_lightning.commands.ui import _listen
    from aigc_lightning.ui.server import Settings, application

    servers = []

    def start(root, **settings):
        listening = _listen("127.0.0.1", 0)
        port = listening.getsockname()[1]
        app = application(
            Settings(root=root, token="a-secret", hosts=frozenset({f"127.0.0.1:{port}"}), port=port, **settings)
        )
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        servers.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{port}/?token=a-secret"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def opened(browser, served):
    """Return a function that opens the page of a folder; afterwards nothing was logged or asked elsewhere."""
    complaints, asked, pages, own = [], [], [], []

    def open_page(root, width=1280, scheme="light", **settings):
        address = served(root, **settings)
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.set_default_timeout(SOON)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        own.append(address.partition("?")[0])
        pages.append(page)
        page.goto(address)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []
    assert all(url.startswith((*own, "blob:")) for url in asked)


def downloaded(page, link, path):
    """Save what a link gives; return the picture's texts."""
    with page.expect_download() as download:
        link.click()
    download.value.save_as(path)
    with Image.open(path) as picture:
        return picture.info


def unnamed(page):
    """Return the controls without a name for screen readers, and pictures without a text."""
    return page.evaluate("""() => [...document.querySelectorAll("input, select, textarea, button, img, canvas, iframe")]
      .filter((one) => !one.closest("[role=img]"))
      .filter((one) => !(one.labels?.length || one.ariaLabel || one.alt || one.title || one.textContent.trim()))
      .map((one) => one.outerHTML)""")


def test_a_call_is_cancelled_and_the_next_one_works(opened, runs, monkeypatch):
    def endless(loaded, *given, **options):
        for _ in range(1000):
            loaded.model.sample([0])
            time.sleep(0.02)

    page = opened(runs)
    page.get_by_role("tab", name="Try").click()
    page.get_by_label("Checkpoint").select_option(LAST)
    page.get_by_role("button", name="Sample").click()
    page.get_by_role("img", name="Sample 000003.png").wait_for()
    with monkeypatch.context() as patched:
        patched.setattr("aigc_lightning.ui.calls.write_samples", endless)
        page.get_by_role("button", name="Sample").click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("Cancelled.").wait_for()
    page.get_by_label("Seeds, such as").fill("20-23")
    page.get_by_role("button", name="Sample").click()
    page.get_by_role("img", name="Sample 000023.png").wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_samples_and_walks(opened, runs, tmp_path, width, scheme):
    page = opened(runs, width, scheme)
    page.get_by_role("img", name="Curves").wait_for()
    page.get_by_role("tab", name="Runs").press("ArrowRight")
    page.get_by_label("Checkpoint").select_option(LAST)
    page.get_by_role("button", name="Sample").click()
    page.get_by_role("img", name="Sample 000003.png").wait_for()
    info = downloaded(page, page.get_by_text("Download the grid"), tmp_path / "grid.png")
    assert info["Source"] == "generated"
    expect(page.get_by_text(f"aigc sample {runs / LAST} --seeds 0-15 --grid")).to_be_visible()
    page.get_by_role("tab", name="Walk").click()
    page.get_by_role("button", name="Walk").click()
    page.get_by_label("Frame: ").fill("5")
    page.get_by_role("img", name="5 of 16").wait_for()
    for name in ("Runs", "Try", "Data"):
        page.get_by_role("tab", name=name).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert unnamed(page) == []
    assert page.get_by_role("tab", name="Train").count() == 0


def test_runs_are_compared(opened, runs, tmp_path):
    root = tmp_path / "runs"
    for name in ("first", "second"):
        shutil.copytree(runs / "trained" / "1", root / name)
    config = (root / "second" / "config.yaml").read_text(encoding="utf-8")
    (root / "second" / "config.yaml").write_text(config.replace("width: 8", "width: 12"), encoding="utf-8")
    (root / "second" / "explained").mkdir()
    (root / "second" / "explained" / "explanation.html").write_text("<h1>Why</h1>", encoding="utf-8")
    page = opened(root)
    page.get_by_role("button", name="second").click()
    page.get_by_label("Compare first").check()
    page.get_by_role("img", name=re.compile("Curves: second.*first")).wait_for()
    page.get_by_label("Log scale").check()
    page.wait_for_timeout(200)  # the chart is made anew
    box = page.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 150, steps=4)
    page.mouse.up()
    page.get_by_role("button", name="Show all steps").click()
    page.get_by_label("Step: ").fill("0")
    page.get_by_role("img", name="0", exact=True).wait_for()
    page.get_by_label("Compared with").select_option("first")
    expect(page.get_by_label("Differences")).to_contain_text("width: 12")
    expect(page.get_by_label("Log", exact=True)).to_contain_text("End: finished")
    page.get_by_text("explained/explanation.html").click()
    expect(page.frame_locator("iframe[title*=explanation]").get_by_text("Why")).to_be_visible()
    assert unnamed(page) == []


def test_a_picture_is_edited_with_a_painted_mask(opened, conditional, folder, tmp_path):
    conditional("Filler")
    page = opened(folder)
    Image.new("RGB", (32, 24), (200, 40, 40)).save(tmp_path / "red.png")
    Image.new("RGB", (16, 16), (40, 40, 200)).save(tmp_path / "blue.png")
    page.get_by_role("tab", name="Try").click()
    page.get_by_label("Checkpoint").select_option("Filler.safetensors")
    page.get_by_role("tab", name="Edit").click()
    page.get_by_label("Picture", exact=True).set_input_files(tmp_path / "red.png")
    page.get_by_label("Reference").set_input_files(tmp_path / "blue.png")
    page.get_by_role("button", name="Edit").click()
    expect(page.get_by_role("alert")).to_contain_text("Paint over")
    box = page.get_by_label("Mask").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    page.get_by_label("width").fill("10")
    page.get_by_role("button", name="Add").click()
    page.get_by_label("strength").fill("0.5")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Before and after").fill("20")
    info = downloaded(page, page.get_by_text("Download"), tmp_path / "edited.png")
    assert "edited" in info["Description"].lower()
    with Image.open(tmp_path / "edited.png") as edited:
        assert edited.size == (32, 24) and edited.getpixel((31, 0)) == (200, 40, 40)  # outside of the mask
        assert edited.getpixel((9, 12)) != (200, 40, 40)
    expect(page.get_by_text("--mask mask.png --reference reference.png")).to_contain_text("--strength 0.5")
    assert unnamed(page) == []


def test_an_index_is_searched(opened, runs, judge, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(runs / "trained" / "1", root / "trained" / "1")
    data = ["digits", "--data.size", "8", "--part", "val"]
    assert main(["index", str(judge), *data, "--out", str(root / "digits.index")]) == 0
    page = opened(root)
    page.get_by_role("tab", name="Try").click()
    search = page.get_by_role("tab", name="Search")
    before = search.bounding_box()
    page.get_by_label("Checkpoint").select_option(LAST)
    search.click()
    expect(page.get_by_role("tab", name="Sample")).to_be_enabled()  # the model is known
    assert search.bounding_box()["x"] == before["x"]  # no other tab comes below a pointer that is about to click
    page.get_by_label("Index").fill("digits.index")
    page.get_by_label("sample of a seed").fill("3")
    page.get_by_label("Results").fill("5")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("img", name="Contact sheet").wait_for(timeout=PROCESS)
    assert page.locator("table tr").count() == 5
    expect(page.get_by_text("aigc search")).to_contain_text("--num 5")


def test_data_are_previewed_checked_and_counted(opened, runs):
    page = opened(runs)
    page.get_by_role("tab", name="Data").click()
    page.get_by_label("Data or preset").fill("shapes")
    page.get_by_label("Options").fill("size 16")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("alert")).to_contain_text("NAME = VALUE")
    page.get_by_label("Options").fill("size = 16")
    page.get_by_label("How many").fill("40")
    for action in ("Preview", "Check", "Stats"):
        page.get_by_role("button", name=action).click()
        expect(page.get_by_text(f"aigc data {action.lower()} shapes --num 40")).to_be_visible()
        expect(page.get_by_role("status").get_by_text("Done.")).to_be_visible(timeout=PROCESS)
        if action != "Check":
            page.get_by_role("img", name="Picture of the data").wait_for()
        if action != "Preview":
            expect(page.locator("table tr").first).to_be_visible()


def test_a_run_is_watched_while_it_trains(opened, tmp_path):
    page = opened(tmp_path, allow_training=True)
    page.get_by_role("tab", name="Train").click()
    page.get_by_label("Preset").select_option("dcgan_digits")
    page.get_by_label("model.width").fill("8", timeout=PROCESS)
    page.get_by_text("privacy", exact=True).click()
    expect(page.get_by_label("privacy.epsilon")).to_have_value("null")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("dcgan_digits/1 is running.")).to_be_visible()
    page.get_by_role("tab", name="Runs").click()
    page.get_by_role("img", name="Curves").wait_for(timeout=PROCESS)
    page.get_by_role("img", name="0", exact=True).wait_for()
    state = page.get_by_role("status").first
    expect(state).to_contain_text("running")
    before = re.search(r"step \d+ ", state.text_content() or "")
    assert before is not None
    expect(state).not_to_contain_text(before[0], timeout=PROCESS)
    page.get_by_role("tab", name="Train").click()
    page.get_by_role("button", name="Save and stop").click()
    expect(page.get_by_text("None.")).to_be_visible(timeout=PROCESS)
    page.get_by_role("tab", name="Runs").click()
    expect(page.get_by_role("status").first).to_contain_text("stopped")
    assert "width: 8" in (tmp_path / "dcgan_digits" / "1" / "config.yaml").read_text(encoding="utf-8")
