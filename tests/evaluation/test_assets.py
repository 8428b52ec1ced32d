import json
import shutil
import sys

import pytest

from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.assets import ASSETS, cache_folder, fetch_asset, find_asset


@pytest.fixture
def weights(tmp_path, publish):
    """Return a small file that stands for the published VGG-16."""
    path = tmp_path / "vgg.pth"
    path.write_bytes(b"weights" * 1000)
    publish("vgg16", path)
    return path


def test_addresses_and_hashes_are_whole():
    for asset in ASSETS.values():
        assert asset.address.startswith("https://")
        assert asset.address.endswith(asset.package.replace("_", "-") or asset.file)
        assert len(asset.sha256) == 64 and int(asset.sha256, 16)
        # Torch names files by the beginning of their hash.
        stem = asset.file.removesuffix(".pth")
        assert asset.file[-4:] != ".pth" or "-" not in stem or asset.sha256.startswith(stem.rsplit("-", 1)[1])


@pytest.mark.parametrize("options", [[], ["--path", "vgg.pth"]], ids=["download", "file"])
def test_fetch_then_list_then_find(options, weights, aigc):
    assert "not fetched" in next(line for line in aigc("assets", "list").out.splitlines() if line.startswith("vgg16"))
    done = aigc("assets", "fetch", "vgg16", *options)
    assert done.code == 0 and "checked" in done.out
    (row,) = (row for row in json.loads(aigc("assets", "list", "--json").out) if row["name"] == "vgg16")
    assert row["file"] == str(find_asset("vgg16")) == str(cache_folder() / "vgg.pth")
    assert find_asset("vgg16").read_bytes() == weights.read_bytes()


def test_another_file_is_refused_wherever_it_comes_from(weights, aigc):
    weights.write_bytes(b"other weights")
    for options in ([], ["--path", weights]):
        done = aigc("assets", "fetch", "vgg16", *options)
        assert done.code == 2 and "is not the published vgg.pth" in done.err and len(done.lines) <= 4
    assert not any(cache_folder().iterdir())  # nothing half done is left
    with pytest.raises(UserError, match="not the published"):
        find_asset("vgg16", weights)


def test_a_file_that_was_changed_in_the_cache_is_refused(weights):
    fetch_asset("vgg16").write_bytes(b"damaged")
    with pytest.raises(UserError, match="not the published"):
        find_asset("vgg16")


def test_the_cache_of_torch_hub_is_looked_at(weights, tmp_path):
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(weights, folder / "vgg.pth")
    assert find_asset("vgg16") == folder / "vgg.pth"


def test_mistakes(weights, aigc):
    weights.unlink()
    for options, message in {
        ("fetch", "vgg61"): "Did you mean vgg16?",
        ("fetch", "vgg16"): "cannot be downloaded",
        ("fetch", "vgg16", "--path", "nowhere"): "There is no file nowhere.",
        ("get", "vgg16"): "`aigc assets` has no 'get'.",
    }.items():
        done = aigc("assets", *options)
        assert done.code == 2 and message in done.err and len(done.lines) <= 4


def test_it_answers_without_torch(aigc_process):
    code = "import sys; from aigc_lightning.cli import main; main(['assets', 'list']); print('torch' in sys.modules)"
    done = aigc_process(sys.executable, "-c", code)
    assert done.out.splitlines()[-1] == "False"
