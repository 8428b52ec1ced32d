"""All image files go through `data/decode.py`, with the same options everywhere."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files.icc_writer import DISPLAY_P3, rgb_profile
from image_files.table import noise
from image_files.tiff_writer import tiff
from PIL import Image

from aigc_lightning.cli import main
from aigc_lightning.data.decode import decode
from aigc_lightning.data.folders.captioned_images import CaptionedImages
from aigc_lightning.data.folders.image_folder import ImageFolder
from aigc_lightning.data.folders.paired_images import PairedImages
from aigc_lightning.data.folders.unpaired_images import UnpairedImages
from aigc_lightning.data.shards.shards import Shards
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.image_sets import FolderImages

ROOT = Path(__file__).parents[3]
P3 = rgb_profile(DISPLAY_P3, 2.2)
# Files that read pictures which the package itself has just made, or what is no picture, or run without the package.
_OWN = {
    "aigc_lightning/callbacks/loggers.py": "a grid of the run, for TensorBoard",
    "aigc_lightning/core/exported_files.py": "the files beside exported programs, which have Pillow alone",
    "aigc_lightning/core/io/film.py": "all frames of a film, for its watermark",
    "aigc_lightning/core/io/pictures.py": "grids of the run, for a timelapse",
    "aigc_lightning/data/corruptions.py": "a JPEG in memory, to spoil a picture",
    "aigc_lightning/evaluation/robustness.py": "a JPEG in memory, to spoil a picture",
    "plugins/aigc-trust/src/aigc_trust/attacks.py": "a JPEG in memory, to spoil a picture",
}
# Files that read what is written beside the pixels, or check an upload, and never use these.
_METADATA = {
    "aigc_lightning/inference/trust/text_record.py",
    "aigc_lightning/inference/deidentification.py",
    "aigc_lightning/ui/uploads.py",
}


def test_nothing_else_opens_image_files():
    reads = re.compile(r"Image\.open|\bimread\b|decode_image|decode_jpeg|decode_png|read_image|default_loader")
    files = [*ROOT.glob("aigc_lightning/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
    assert len(files) > 100
    found = {path.relative_to(ROOT).as_posix() for path in files if reads.search(path.read_text(encoding="utf-8"))}
    found.discard("aigc_lightning/data/decoding/formats.py")  # where it says why not
    assert found == set(_OWN) | _METADATA


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder of wide-gamut PNGs, 12-bit TIFFs, and 16-bit PNGs that are a key's width from being opaque."""
    folder = tmp_path_factory.mktemp("wide")
    for number in range(8):
        colors = Image.fromarray(noise(24, 24, 3, seed=number).astype(np.uint8))
        colors.save(folder / f"{number}.png", icc_profile=P3)
        (folder / f"{number}.txt").write_text("colours")
    (folder / "deep.tif").write_bytes(tiff(noise(24, 24, 1, 4096), 12))
    (folder / "deep.txt").write_text("grey")
    return folder


def sources(root, work, profile):
    """Yield each kind of data with the names of its files in order."""
    options = {"size": 16, "profile": profile}
    yield ImageFolder(root, **options), "image"
    yield CaptionedImages(root, **options), "image"
    yield PairedImages(root, pairs="grey", **options), "target"
    domains = work / "domains"
    for domain in ("A", "B"):
        (domains / domain).mkdir(parents=True, exist_ok=True)
        for path in root.glob("*.png"):
            (domains / domain / path.name).write_bytes(path.read_bytes())
    yield UnpairedImages(domains, **options), "image_a"


@pytest.mark.parametrize("profile", ["srgb", "keep"])
def test_all_data_read_alike(root, tmp_path, profile):
    for data, key in sources(root, tmp_path, profile):
        listing = data.listings()[0]
        batch = next(iter(data.val_dataloader()))
        for number, name in enumerate(listing.parts["val"]):
            expected = decode(listing.root / name, size=(16, 16), profile=profile)
            shown = (batch[key][number] + 1) * 127.5
            assert torch.equal(shown.round().to(torch.uint8), expected), (type(data), name)


@pytest.mark.parametrize("profile", ["srgb", "keep"])
def test_prepared_folders_and_shards_read_alike(root, tmp_path, profile):
    prepared, packed = tmp_path / "prepared", tmp_path / "shards"
    command = ["data", "prepare", str(root), str(prepared), "--size", "16", "--workers", "1", "--profile", profile]
    assert main(command) == 0
    made, plain = (ImageFolder(folder, size=16, profile=profile).train_source() for folder in (prepared, root))
    assert torch.equal(made.images(range(len(made))), plain.images(range(len(plain))))
    other: Any = "keep" if profile == "srgb" else "srgb"
    with pytest.raises(UserError, match="was prepared as 16x16 RGB, crop"):
        ImageFolder(prepared, size=16, profile=other).train_source()
    assert main(["data", "shard", str(root), str(packed), "--samples", "3"]) == 0
    shards, folder = Shards(str(packed), size=16, profile=profile), ImageFolder(root, size=16, profile=profile)
    assert pixels(shards) == pixels(folder)


def pixels(data):
    """Return the images of data, in whatever order."""
    images = [source.images(range(len(source))) for source in (data.train_source(), data.val_source())]
    return {image.numpy().tobytes() for image in torch.cat(images)}


def test_a_folder_that_an_earlier_version_prepared_is_of_kept_numbers(root, tmp_path):
    options = ["--size", "16", "--workers", "1", "--profile", "keep"]
    assert main(["data", "prepare", str(root), str(tmp_path / "p"), *options]) == 0
    record = json.loads((tmp_path / "p" / "prepared.json").read_text())
    earlier = {"format": 1, **{key: record[key] for key in ("source", "shape", "resize", "complete")}}
    (tmp_path / "p" / "prepared.json").write_text(json.dumps(earlier))
    assert len(ImageFolder(tmp_path / "p", size=16, profile="keep").train_source()) > 0
    with pytest.raises(UserError, match="profile keep, but the data is configured as 16x16 RGB, crop"):
        ImageFolder(tmp_path / "p", size=16).train_source()


def test_evaluation_reads_alike(root):
    images = FolderImages(root)
    for number, name in enumerate(images.files):
        assert torch.equal(images.read([number])[0][0], decode(root / name))


def test_other_treatments_of_profiles_are_refused(root):
    with pytest.raises(UserError, match=r'data\.profile is "adobe"'):
        ImageFolder(root, profile="adobe")  # type: ignore[arg-type]  # on purpose
