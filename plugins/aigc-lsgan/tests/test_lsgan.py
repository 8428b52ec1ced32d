"""The model keeps every promise of a plugin, and its own."""

import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.testing import ModelConformance

from aigc_lsgan.model import LSGAN


class TestLSGAN(ModelConformance):
    model = "lsgan"
    settings = ("data.batch_size=4",)


def test_discriminator_loss_is_a_half_when_it_says_0_to_all() -> None:
    model = LSGAN(ImageSpec(1, 8, 8), width=8, r1_weight=0.0)
    for parameter in model.discriminator.parameters():
        torch.nn.init.zeros_(parameter)
    images = torch.zeros(4, 1, 8, 8)
    # Equation 9 with a = 0, b = 1: (0 - 1)^2 / 2 for real images and 0 for fake ones.
    assert model.discriminator_loss(images, images).item() == pytest.approx(0.5)


def test_size_must_be_a_multiple_of_4() -> None:
    with pytest.raises(UserError, match="10x8"):
        LSGAN(ImageSpec(1, 10, 8))
