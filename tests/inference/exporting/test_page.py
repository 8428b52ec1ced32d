"""A page that runs an exported generator in a browser: its files, its mistakes, and what it draws."""

import io
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from aigc_lightning.core.image_model import seeded_normal
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.inference.exporting.page import _RUNTIME
from aigc_lightning.inference.loaded_model import LoadedModel

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


@pytest.fixture
def fake(folder):
    """Return a folder with files that have the names of onnxruntime-web's."""
    (folder / "dist").mkdir()
    for name in _RUNTIME:
        (folder / "dist" / name).write_text("")
    return folder / "dist"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """Return onnxruntime-web's files, from the npm registry; skip where it cannot be reached."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, which onnxruntime-web comes by")
    place = tmp_path_factory.mktemp("npm")
    try:
        done = subprocess.run([npm, "pack", "--silent", "onnxruntime-web"], cwd=place, capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("the npm registry does not answer")
    if done.returncode:
        pytest.skip("onnxruntime-web cannot be got from the npm registry")
    with tarfile.open(next(place.glob("*.tgz"))) as archive:
        for name in _RUNTIME:
            file = archive.extractfile(f"package/dist/{name}")
            assert file is not None
            (place / name).write_bytes(file.read())
    return place


def test_a_page_is_written_from_files_beside_it_alone(aigc, trained, fake):
    done = aigc("export", trained, "--format", "onnx", "--page", "site", "--runtime", fake)
    assert done.code == 0 and "http.server" in done.out, done.err
    about = json.loads(Path("site/about.json").read_text())
    assert about["keyed"] is True and about["latents"] == [4] and about["origin"]["sha256"]
    for path in (path for path in Path("site").iterdir() if path.suffix in (".html", ".js", ".css")):
        assert not re.search(r"(?:https?:)?//[\w-]+\.[\w./-]+", path.read_text(encoding="utf-8")), path
    page = Path("site/index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page and "unsafe-inline" not in page and " style=" not in page
    assert aigc("export", trained, "--format", "onnx", "--page", "site", "--runtime", fake).code == 0  # again


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "onnx", "--page", "site"], "npm install onnxruntime-web"),
        (["--format", "onnx", "--page", "site", "--runtime", "nowhere"], "nowhere has no ort.wasm.min.mjs"),
        (["--page", "site"], "--format onnx"),
        (["--format", "onnx", "--runtime", "dist"], "--page FOLDER"),
        (["--format", "onnx", "--page", "site", "--graph", "decode"], "--graph has no effect"),
        (["--format", "onnx", "--page", ".", "--runtime", "dist"], "holds other files"),
    ],
)
def test_mistakes(aigc, trained, fake, options, words):
    done = aigc("export", trained, *options)
    assert done.code == 2 and words in done.err and len(done.lines) <= 4


def test_a_classifier_has_no_page(aigc, judge, fake):
    for runtime in (("--runtime", fake), ()):  # nobody installs one in vain
        done = aigc("export", judge, "--format", "onnx", "--page", "site", *runtime)
        assert done.code == 2 and "does not make images of latents" in done.err


@pytest.mark.slow
def test_the_page_makes_the_pictures_of_the_command(aigc, trained, folder, runtime, serve, browser):
    assert aigc("export", trained, "--format", "onnx", "--page", "site", "--runtime", runtime).code == 0
    page = browser.new_page(viewport={"width": 375, "height": 700})
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    address = serve(folder / "site")
    page.goto(f"{address}/index.html")
    page.get_by_text("Ready.").wait_for(timeout=30_000)
    noise = page.evaluate(
        "async () => { const { normal } = await import('./noise.js');"
        " return [[0, 4], [3, 15], [7, 100], [2 ** 40, 35]].map(([seed, count]) => [...normal(seed, count)]); }"
    )
    for (seed, count), values in zip([(0, 4), (3, 15), (7, 100), (2**40, 35)], noise, strict=True):
        torch.testing.assert_close(torch.tensor(values), seeded_normal([seed], count)[0], rtol=0, atol=1e-5)
    values = page.evaluate(
        "async () => { const { load } = await import('./generator.js'); const { images } = await load();"
        " return (await images([3, 5, 20])).map((one) => [...one]); }"
    )
    model: Any = LoadedModel(trained).model
    expected = model.sample([3, 5, 20])
    torch.testing.assert_close(torch.tensor(values).reshape(expected.shape), expected, rtol=0, atol=1e-4)
    page.get_by_label("Seeds").fill("3,5,20")
    page.get_by_role("button", name="Make pictures").click()
    page.get_by_text("3 made in").wait_for()
    with page.expect_download() as download:
        page.get_by_text("Download").click()
    with Image.open(io.BytesIO(Path(download.value.path()).read_bytes())) as grid:
        assert grid.size == (16, 16) and grid.info["Source"] == "generated"
        assert json.loads(grid.info["aigc"])["seeds"] == "3,5,20"
        first = torch.frombuffer(bytearray(grid.convert("L").crop((0, 0, 8, 8)).tobytes()), dtype=torch.uint8)
    assert (first.int() - torch.as_tensor(to_uint8(expected[0])).flatten().int()).abs().max() <= 1
    page.get_by_label("Seeds").fill("x")
    page.get_by_role("button", name="Make pictures").click()
    page.get_by_text("Write seeds").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.close()
    assert complaints == [] and all(url.startswith((address, "blob:", "data:")) for url in asked)
