"""What a model computes once from its training data."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.testing import NoiseImages, exactness


class Scaled(ImageModel):
    """Divides images by their standard deviation; its network begins with random numbers that no key determines."""

    averaged_networks = ("network",)
    calls = 0
    scale: Tensor

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.network = nn.Linear(16, 1, bias=False)
        self.register_buffer("scale", torch.zeros(()))

    def setup_from_data(self, data: Any) -> None:
        type(self).calls += 1
        assert not torch.is_grad_enabled()
        self.scale.copy_(data.training_batch(10)["image"].std())
        self.network.weight.normal_(generator=torch.Generator().manual_seed(self.global_rank))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.network(batch["image"].flatten(1) / self.scale)
        return loss.square().mean() * self.share

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def build(batch_size: int) -> tuple[Scaled, NoiseImages]:
    data = NoiseImages(1, 4, 4, num_images=16, batch_size=batch_size)
    return Scaled(data.spec), data


def test_all_processes_have_what_the_first_has_computed(tmp_path: Path) -> None:
    runs = [exactness.train(build, 8, 3, tmp_path / str(count), processes=count) for count in (1, 2)]
    one, two = (run.saved["state_dict"] for run in runs)
    images = NoiseImages(1, 4, 4, num_images=16).training_batch(10)["image"]
    assert one["scale"] == two["scale"] == images.std()
    assert torch.allclose(one["network.weight"], two["network.weight"], rtol=1e-5)


def test_averages_begin_with_it(tmp_path: Path) -> None:
    model, data = build(8)
    first = torch.empty(1, 16).normal_(generator=torch.Generator().manual_seed(0))
    seen = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            seen.append(pl_module.averaged("network").weight.clone())

    exactness.train(lambda size: (model, data), 8, 1, tmp_path, callbacks=[Look()])
    assert torch.equal(seen[0], first)


def test_a_resumed_run_keeps_it(tmp_path: Path) -> None:
    whole = exactness.train(build, 8, 4, tmp_path / "whole")
    half = exactness.train(build, 8, 2, tmp_path / "half")
    Scaled.calls = 0
    resumed = exactness.train(build, 8, 4, tmp_path / "resumed", resume=half.checkpoint)
    assert Scaled.calls == 0
    assert exactness.different_tensors(whole.saved, resumed.saved) == []
