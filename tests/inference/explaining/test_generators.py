"""Directions and channels of a generator whose network is known."""

import pytest
import torch
from torch import nn

from aigc_lightning.core import keyed
from aigc_lightning.core.directions import regressed_directions
from aigc_lightning.errors import UserError
from aigc_lightning.inference.explaining.generators import Latents, ablate, directions, effect, moved


class Known(nn.Module):
    """An image of two quarters: coordinate 2 of the latent brightens the left, coordinate 0 half as much the right."""

    sampling_chunk = 8

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.read.weight.zero_()
            self.read.weight[0, 2], self.read.weight[1, 0] = 1.0, 0.5
        self.draw = nn.Conv2d(2, 2, 1, bias=False)
        nn.init.eye_(self.draw.weight[:, :, 0, 0])

    @property
    def device(self):
        return torch.device("cpu")

    def inference(self):
        return torch.no_grad()

    def sample(self, seeds):
        return self.decode(self.latents(seeds))

    def latents(self, seeds):
        return torch.cat([keyed.normal((1, 4), seed) for seed in seeds])

    def decode(self, latents, labels=None):
        with torch.no_grad():
            halves = self.draw(self.read(latents)[:, :, None, None])  # (B, 2, 1, 1)
            left, right = (0.2 * halves[:, [side]].expand(-1, 1, 8, 4) for side in (0, 1))
            return torch.cat([left, right], dim=3).clamp(-1, 1)


@pytest.mark.parametrize("method", ["pca", "sefa"])
def test_the_direction_that_changes_most_comes_first(method):
    found = directions(Known(), method, 2)
    assert found.shape == (2, 4) and torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-5)
    assert found[0, 2].abs() > 0.98 and found[1, 0].abs() > 0.98


def test_sefa_needs_a_layer_that_reads_the_latents(monkeypatch):
    model = Known()
    monkeypatch.setattr(model, "decode", lambda latents, labels=None: torch.zeros(len(latents), 1, 8, 8))
    with pytest.raises(UserError, match="SeFa finds no directions"):
        directions(model, "sefa", 2)


def brightness(images):
    """The probability of "left" and "right"."""
    left, right = images[:, 0, :, :4].mean(dim=(1, 2)), images[:, 0, :, 4:].mean(dim=(1, 2))
    return torch.stack([left, right], dim=1).mul(20).softmax(1)


def test_effects_are_measured_in_pixels_and_classes():
    latents = Latents(Known(), range(16))
    left = effect(latents, torch.tensor([0.0, 0, 1, 0]), brightness)
    assert left.classes is not None and left.classes[0] > 0.9 and left.classes[1] < -0.9
    nothing = effect(latents, torch.tensor([0.0, 1, 0, 0]), brightness)
    assert nothing.change == 0 and left.change > 0.3
    assert moved(latents, torch.tensor([0.0, 0, 1, 0]), 3).shape == (3, 1, 8, 8)


def test_a_silenced_channel_takes_its_class_away():
    units = ablate(Latents(Known(), range(32)), brightness)
    assert units.layer == "draw" and units.falls.shape == (2, 2)
    assert units.falls[0, 0] > 0.1 and units.falls[0, 0] > units.falls[1, 0]


def test_regression_finds_the_latents_of_components():
    latents = keyed.normal((500, 3), 1)
    drawn = torch.cat([3 * latents[:, 1:2], latents[:, :1], torch.zeros(500, 4)], dim=1)
    found = regressed_directions(latents, drawn, 2)
    assert found[0, 1] > 0.99 and found[1, 0] > 0.99
