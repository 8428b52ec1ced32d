import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.evaluation.assets import ASSETS
from aigc_lightning.models.cnn import CNN


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for weights in empty folders only."""
    monkeypatch.setenv("AIGC_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, serve: Callable[[Path], str]) -> Callable[[str, Path], None]:
    """Make a file the published one of an asset: its name, hash, size and address."""

    def make(name: str, path: Path) -> None:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        address, megabytes = f"{serve(path.parent)}/{path.name}", 1 + path.stat().st_size // 1_000_000
        published = replace(ASSETS[name], file=path.name, sha256=digest, address=address, megabytes=megabytes)
        monkeypatch.setitem(ASSETS, name, published)

    return make


@pytest.fixture
def cnn() -> CNN:
    """Return a classifier of 16x16 grey images whose batch norms have seen something."""
    torch.manual_seed(0)
    model = CNN(ImageSpec(1, 16, 16, ("a", "b", "c")), width=4)
    with torch.no_grad():
        model(torch.randn(32, 1, 16, 16))
    return model.eval()


@pytest.fixture
def images() -> torch.Tensor:
    """Return 150 noisy images, uint8 (150, 1, 16, 16)."""
    return torch.randint(256, (150, 1, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
