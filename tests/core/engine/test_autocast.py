"""Gradients are computed without autocast."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.engine.autocast import without_autocast
from aigc_lightning.losses.penalties import r1
from aigc_lightning.testing import NoiseImages
from aigc_lightning.testing.exactness import train


def test_autocast_stops_and_goes_on():
    first, second = torch.ones(2, 2), torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        with without_autocast(first.device):
            assert (first @ second).dtype == torch.float32
        assert (first @ second).dtype == torch.bfloat16
    with without_autocast(first.device):
        assert (first @ second).dtype == torch.float32


class Watched(AdversarialModel):
    """Notes whether autocast is on in forward and in backward passes."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.generator, self.discriminator = nn.Linear(2, 64), nn.Linear(64, 1)
        self.seen: dict[str, list[bool]] = {"forward": [], "backward": []}

    def note(self, when: str) -> None:
        self.seen[when].append(torch.is_autocast_enabled("cpu"))

    def adversarial_step(self, batch: Any) -> None:
        fake = self.generator(self.noise(len(batch["image"]), 2))
        fake.register_hook(lambda slope: self.note("backward"))
        self.note("forward")
        self.update("generator", lambda: self.discriminator(fake).mean())

    def configure_optimizers(self) -> list[SGD]:
        return [SGD(getattr(self, name).parameters(), lr=0.1) for name in self.players]


def test_the_engine_goes_backward_without_autocast(tmp_path):
    made: list[Watched] = []

    def make(batch_size: int) -> tuple[Watched, NoiseImages]:
        data = NoiseImages(channels=1, height=8, width=8, batch_size=batch_size)
        made.append(Watched(data.spec))
        return made[-1], data

    train(make, 4, 2, tmp_path, precision="bf16-mixed")
    assert made[0].seen == {"forward": [True, True], "backward": [False, False]}


def test_penalties_take_slopes_without_autocast():
    seen: list[bool] = []

    def critic(images: Tensor) -> Tensor:
        values = images.flatten(1) @ weight
        values.register_hook(lambda slope: seen.append(torch.is_autocast_enabled("cpu")))
        return values

    weight = torch.ones(4, 1, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert r1(critic, torch.rand(2, 1, 2, 2)).item() == 4
    assert seen == [False]
