"""Every registered built-in model and dataset passes the conformance kit, as plugins must."""

from pathlib import Path

from PIL import Image

from aigc_lightning import plugins
from aigc_lightning.commands.data_shard import main as shard
from aigc_lightning.testing import DataConformance, ModelConformance
from aigc_lightning.testing.cases import DataCase
from aigc_lightning.testing.checks import Check


class TestCNN(ModelConformance):
    model = "cnn"


class TestCycleGAN(ModelConformance):
    model = "cyclegan"
    config = "cyclegan_shapes"
    settings = ("model.width=4", "model.num_blocks=1", "model.discriminator_width=4", "model.pool_size=3")


class TestDCGAN(ModelConformance):
    model = "dcgan"


class TestAutoencoder(ModelConformance):
    model = "autoencoder"


class TestVAE(ModelConformance):
    model = "vae"


class TestPix2Pix(ModelConformance):
    model = "pix2pix"
    config = "pix2pix_shapes"
    settings = ("model.width=4", "model.discriminator_width=4")


class TestDigits(DataConformance):
    data = "digits"


class TestPhotos(DataConformance):
    data = "photos"
    settings = ("data.size=16", "data.num_train=100")


class TestDegradedImages(DataConformance):
    data = "degraded_images"


class TestShapes(DataConformance):
    data = "shapes"
    settings = ("data.size=16", "data.num_train=100")


class TestPairedShapes(DataConformance):
    data = "shapes"
    settings = ("data.size=16", "data.num_train=100", "data.task=paired")


class TestUnpairedShapes(DataConformance):
    data = "shapes"
    settings = ("data.size=16", "data.num_train=100", "data.task=unpaired")


class _FromFiles(DataConformance):
    """Data from a folder of small pictures in two folders, each with a caption beside it."""

    def _run(self, check: Check, case: DataCase) -> None:
        case.settings = (*case.settings, f"data.root={_pictures(case.folder / 'pictures')}")
        super()._run(check, case)


class TestImageFolder(_FromFiles):
    data = "image_folder"
    settings = ("data.size=16",)


class TestShards(DataConformance):
    data = "shards"
    settings = ("data.size=16",)

    def _run(self, check: Check, case: DataCase) -> None:
        folder = case.folder / "shards"
        if not folder.exists():
            assert shard([str(_pictures(case.folder / "pictures")), str(folder), "--samples", "9"]) == 0
        case.settings = (*case.settings, f"data.root={folder}")
        super()._run(check, case)


class TestPairedImages(_FromFiles):
    data = "paired_images"
    settings = ("data.size=16", "data.pairs=folders")


class TestUnpairedImages(_FromFiles):
    data = "unpaired_images"
    settings = ("data.size=16",)


class TestCaptionedImages(_FromFiles):
    data = "captioned_images"
    settings = ("data.size=16",)


def _pictures(root: Path) -> Path:
    for folder in ("A", "B"):
        (root / folder).mkdir(parents=True)
        for number in range(40):
            Image.effect_noise((20, 18), 50).convert("RGB").save(root / folder / f"{number:02d}.png")
            (root / folder / f"{number:02d}.txt").write_text(f"noise {number} of {folder}")
    return root


def test_every_built_in_model_has_a_suite_here() -> None:
    suites = {suite.model for suite in ModelConformance.__subclasses__() if suite.__module__ == __name__}
    assert {plugin.name for plugin in plugins.plugins("model") if plugin.is_builtin} == suites
