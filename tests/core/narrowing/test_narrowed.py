"""Narrower models with the strongest channels of wider ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.narrowing.narrowed import begin_with, narrowed
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.models.autoencoder import Autoencoder
from aigc_lightning.models.cnn import CNN
from aigc_lightning.models.cyclegan import CycleGAN
from aigc_lightning.models.dcgan import DCGAN
from aigc_lightning.models.vae import VAE

SPEC = ImageSpec(1, 16, 16, class_names=("a", "b", "c"))


def _made(model: ImageModel) -> Any:
    model.configure_model()
    return model.eval()


def _models() -> dict[str, ImageModel]:
    torch.manual_seed(0)
    degraded, unpaired = replace(SPEC, task="restoration"), replace(SPEC, task="unpaired")
    return {
        "dcgan": DCGAN(SPEC, width=4, conditioning="projection", discriminator_norm="spectral"),
        "cnn": CNN(SPEC, width=4),
        "autoencoder": Autoencoder(degraded, width=4, num_halvings=1),
        "vae": VAE(SPEC, width=4),
        "cyclegan": CycleGAN(unpaired, width=4, num_blocks=1, discriminator_width=4, discriminator_layers=1),
    }


@pytest.mark.parametrize("name", _models())
def test_nothing_left_out_gives_an_equal_model_and_half_left_out_a_smaller_one(name: str) -> None:
    model = _made(_models()[name])
    same = narrowed(model, 0, Path("x"))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), same.state_dict().values(), strict=True))
    small = narrowed(model, 0.5, Path("x"))
    assert small.provenance()["config"]["width"] == 2
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    assert begin_with(small, model) == []  # of all networks, discriminators too


def test_channels_that_do_nothing_are_the_ones_left_out() -> None:
    model = _made(DCGAN(SPEC, width=4, conditioning="auxiliary"))
    layers = model.generator.layers
    for norm in (layers[1], layers[4]):  # every other channel is 0 after its norm
        assert isinstance(norm, nn.BatchNorm2d)
        norm.weight.data[::2] = 0
    model.reset_averages()
    small: Any = narrowed(model, 0.5, Path("x"))
    torch.testing.assert_close(small.sample([0, 1, 2, 3]), model.sample([0, 1, 2, 3]), rtol=0, atol=1e-6)
    assert torch.equal(small.generator.layers[1].weight, layers[1].weight[1::2])


def test_residual_channels_are_left_out_in_all_layers_of_a_stream() -> None:
    model = _made(Autoencoder(replace(SPEC, task="restoration"), width=4, num_halvings=1))
    network = model.network
    for name, parameter in network.named_parameters():  # the odd channels of everything are 0
        if name.startswith("last"):
            parameter.data.normal_()
        elif parameter.ndim == 1:
            parameter.data[1::2] = 0
        else:
            outputs = parameter.data.movedim(1 if name.startswith("doublings") else 0, 0)
            outputs[1::2] = 0
    small: Any = narrowed(model, 0.5, Path("x"))
    images = torch.rand(2, 1, 16, 16) * 2 - 1
    assert not torch.equal(model.edit(images), images)
    torch.testing.assert_close(small.edit(images), model.edit(images), rtol=0, atol=1e-5)


def test_a_network_of_other_layers_keeps_its_weights_and_is_named() -> None:
    teacher, student = _made(CNN(SPEC, width=4)), _made(DCGAN(SPEC, width=4))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert begin_with(student, teacher) == ["discriminator", "generator"]
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_a_model_without_a_width_is_refused() -> None:
    model = _made(DCGAN(SPEC, width=4))
    del model._init_values["width"]
    with pytest.raises(UserError, match="no option `width`"):
        narrowed(model, 0.5, Path("x"))
