"""A feature network that tests can have without a download, and small pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from aigc_lightning import ImageSpec
from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.models.cnn import CNN
from PIL import Image

from aigc_style.features import StyleFeatures


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start each test with the same weights."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the file of a small `cnn`, untrained, of maps at 1, 1/2, 1/4 and 1/8 of the size."""
    torch.manual_seed(0)
    model = CNN(ImageSpec(3, 32, 32, ("a", "b")), width=4)
    path = tmp_path_factory.mktemp("network") / "cnn.safetensors"
    save_weights(model, path, {})
    return str(path)


@pytest.fixture
def features(network: str) -> StyleFeatures:
    """Return the layers of the small network."""
    return StyleFeatures(network)


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a picture: smooth colours from a seed, or one colour."""

    def write(name: str, size: tuple[int, int] = (64, 48), seed: int = 0, color: int | None = None) -> Path:
        small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        if color is not None:
            image = Image.new("L", size, color)
        image.save(tmp_path / name)
        return tmp_path / name

    return write
