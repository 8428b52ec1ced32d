"""Every registered built-in model and dataset passes the conformance kit, as plugins must."""

import struct
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lightning import plugins
from aigc_lightning.commands.data.encode import main as encode
from aigc_lightning.commands.data.prepare import main as prepare
from aigc_lightning.commands.data.shard import main as shard
from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.folders import files
from aigc_lightning.models.autoencoder import Autoencoder
from aigc_lightning.testing import DataConformance, ModelConformance
from aigc_lightning.testing.cases import DataCase
from aigc_lightning.testing.checks import Check


class TestCNN(ModelConformance):
    model = "cnn"
    settings = ("model.width=4", "data.batch_size=8")


class TestCycleGAN(ModelConformance):
    model = "cyclegan"
    config = "cyclegan_shapes"
    settings = ("model.width=4", "model.num_blocks=1", "model.discriminator_width=4", "model.pool_size=3")


class TestDCGAN(ModelConformance):
    model = "dcgan"
    settings = ("model.width=8", "data.batch_size=8")


class TestAutoencoder(ModelConformance):
    model = "autoencoder"
    settings = ("model.width=4", "data.batch_size=8")


class TestVAE(ModelConformance):
    model = "vae"
    settings = ("model.width=4", "data.batch_size=8")


class TestMetric(ModelConformance):
    model = "metric"
    config = "metric_digits"
    settings = ("model.width=4", "model.loss=arcface")


class TestPix2Pix(ModelConformance):
    model = "pix2pix"
    config = "pix2pix_shapes"
    settings = ("model.width=4", "model.discriminator_width=4")


class TestDigits(DataConformance):
    data = "digits"


class TestPhotos(DataConformance):
    data = "photos"
    settings = ("data.size=16", "data.num_train=100")


class TestCanaryImages(DataConformance):
    data = "canary_images"


class TestWeightedImages(DataConformance):
    data = "weighted_images"


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


class TestImagesThatStayInTheirFiles(TestImageFolder):
    @pytest.fixture(autouse=True)
    def no_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "MEMORY_LIMIT", 0)


class _Made(DataConformance):
    """Data that a command makes from pictures."""

    settings: ClassVar[Sequence[str]] = ("data.size=16",)

    def make(self, pictures: str, folder: str) -> int:
        raise NotImplementedError

    def _run(self, check: Check, case: DataCase) -> None:
        folder = case.folder / "made"
        assert self.make(str(_pictures(case.folder / "pictures")), str(folder)) == 0
        case.settings = (*case.settings, f"data.root={folder}")
        super()._run(check, case)


class TestShards(_Made):
    data = "shards"

    def make(self, pictures: str, folder: str) -> int:
        return shard([pictures, folder, "--samples", "9"])


class TestPreparedFolder(_Made):
    data = "image_folder"

    def make(self, pictures: str, folder: str) -> int:
        return prepare([pictures, folder, "--size", "16"])


class TestEncodedImages(_Made):
    data = "encoded_images"
    settings = ()

    def make(self, pictures: str, folder: str) -> int:
        stage = Path(folder).parent / "stage.safetensors"
        torch.manual_seed(0)
        save_weights(Autoencoder(ImageSpec(3, 16, 16), width=2, num_halvings=1, code_channels=2), stage, {})
        return encode([str(stage), pictures, folder])


class TestPairedImages(_FromFiles):
    data = "paired_images"
    settings = ("data.size=16", "data.pairs=folders")


class TestUnpairedImages(_FromFiles):
    data = "unpaired_images"
    settings = ("data.size=16",)


class TestCaptionedImages(_FromFiles):
    data = "captioned_images"
    settings = ("data.size=16",)


class _Published(DataConformance):
    """Published sets, in files of their form with noise for pictures."""

    def write(self, folder: Path) -> None:
        generator = np.random.default_rng(0)
        for part, count in (("train", 40), ("t10k", 10)):
            for stem, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
                head = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
                values = generator.integers(10, size=shape, dtype=np.uint8)
                (folder / f"{part}-{stem}-ubyte").write_bytes(head + values.tobytes())

    def _run(self, check: Check, case: DataCase) -> None:
        self.write(case.folder)
        case.settings = (*case.settings, f"data.root={case.folder}")
        super()._run(check, case)


class TestMNIST(_Published):
    data = "mnist"


class TestFashionMNIST(_Published):
    data = "fashion_mnist"


class TestOmniglot(_Published):
    data = "omniglot"

    def write(self, folder: Path) -> None:
        buffer = BytesIO()
        Image.effect_noise((105, 105), 50).save(buffer, "PNG")
        with zipfile.ZipFile(folder / "images_background.zip", "w") as file:
            for alphabet in ("A", "B", "C"):
                for drawer in range(12):
                    file.writestr(f"images_background/{alphabet}/character01/{drawer}.png", buffer.getvalue())


class TestCIFAR10(_Published):
    data = "cifar10"

    def write(self, folder: Path) -> None:
        (folder / "cifar-10-batches-bin").mkdir()
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
            records = np.random.default_rng(0).integers(10, size=(8, 3073), dtype=np.uint8)
            (folder / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(records.tobytes())


def _pictures(root: Path) -> Path:
    for folder in ("A", "B"):
        (root / folder).mkdir(parents=True)
        for number in range(40):
            Image.effect_noise((20, 18), 50).convert("RGB").save(root / folder / f"{number:02d}.png")
            (root / folder / f"{number:02d}.txt").write_text(f"noise {number} of {folder}")
    return root


@pytest.mark.parametrize("kind", ["model", "data"])
def test_everything_built_in_has_a_suite_here(kind: Literal["model", "data"]) -> None:
    suites = [suite for suite in globals().values() if isinstance(suite, type) and suite.__name__.startswith("Test")]
    tried = {getattr(suite, kind, None) for suite in suites}
    assert {plugin.name for plugin in plugins.plugins(kind) if plugin.is_builtin} == tried - {None}
