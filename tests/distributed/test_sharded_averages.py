"""Under FSDP2 an average is sharded like its network and equals that of one process."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from aigc_lightning.core.ema import Ema
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.memory.sharding import ShardedStrategy
from aigc_lightning.core.run.processes import run_together
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.testing import NoiseImages


class Model(ImageModel):
    averaged_networks: ClassVar[tuple[str, ...]] = ("network",)

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images = batch["image"].flatten(1)
        loss: Tensor = (self.network(images) - images).square().mean() * self.share
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=0.05)


def trained(batch_size: int, **options: Any) -> Model:
    data = NoiseImages(1, 4, 4, num_images=64, batch_size=batch_size)
    model = Model(data.spec)
    model.ema_settings = Ema(relative_widths="0.05,0.10")
    silent_trainer(max_steps=5, **options).fit(model, data)
    return model


def one_of_two(rank: int, folder: Path) -> None:
    os.environ["LOCAL_RANK"] = str(rank)
    meeting = (folder / "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=120))
    model = trained(4, devices=2, strategy=ShardedStrategy(2))
    found: list[Tensor] = []
    for average in model.averages_of("network"):
        for value in average.parameters():
            assert isinstance(value, DTensor) and value.to_local().numel() == value.numel() // 2
            found.append(value.full_tensor().detach())
    if rank == 0:
        torch.save(found, folder / "found.pt")


@pytest.mark.slow
def test_a_sharded_average_equals_that_of_one_process(tmp_path: Path) -> None:
    run_together(one_of_two, tmp_path, count=2, limit_s=200)
    model = trained(8)
    expected = [value for average in model.averages_of("network") for value in average.parameters()]
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert len(found) == len(expected) == 8
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-5, atol=1e-6)
