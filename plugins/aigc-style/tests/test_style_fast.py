"""`style_fast`: the network, its losses and its options."""

from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.testing import ModelConformance
from torch.nn import functional

from aigc_style.bands import band_palettes
from aigc_style.features import StyleFeatures
from aigc_style.networks.transform import TransformNet
from aigc_style.pictures import read_style
from aigc_style.statistics import resized
from aigc_style.style_fast import StyleFast


class TestStyleFast(ModelConformance):
    model = "style_fast"
    settings = ("model.width=4", "model.num_blocks=1", "model.style=brick", "model.style_size=32", "data.size=32")


def test_all_sizes_show_the_same_layers(network: str) -> None:
    features = StyleFeatures(network)
    for size in (8, 16, 33, 64):
        layers = features(torch.zeros(1, 3, size, size))
        assert [found.shape[1] for found in layers.style] == [6, 4, 8, 16, 32]
        assert layers.content.shape[1] == 32


def made(**options: Any) -> StyleFast:
    return StyleFast(ImageSpec(3, 32, 32), **{"width": 4, "num_blocks": 1, "style_size": 32, **options})


def test_the_network_has_the_parameters_of_the_paper() -> None:
    assert sum(parameter.numel() for parameter in TransformNet().parameters()) == 1_679_235


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (33, 47), (64, 64)])
def test_any_size_is_kept(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size) * 2 - 1
    found = made().eval().edit(images)
    assert found.shape == images.shape and found.abs().max() <= 1


def test_a_constant_image_shows_no_checkerboard() -> None:
    network = TransformNet(3, 4, 1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    found = network(torch.full((1, 3, 32, 32), 0.3))
    assert found.std(dim=(2, 3)).max() < 1e-4


def test_the_losses_are_those_of_the_style(network: str) -> None:
    model = made(feature_network=network, style="brick")
    model.setup("fit")
    assert model.components["style"]["sha256"] and model.components["feature_network"]["sha256"]
    model.forward = lambda images: images  # type: ignore[method-assign]
    losses = model.losses(torch.rand(2, 3, 32, 32))
    assert losses.content.tolist() == [0, 0] and losses.style.min() > 0
    torch.testing.assert_close(losses.total(0.5), losses.style)


def test_edits_have_the_contrast_and_the_colours_of_the_style_at_their_size() -> None:
    model = made(style="brick")
    model.setup("fit")
    picture, _ = read_style("brick")
    photo = torch.rand(1, 3, 48, 80) * 2 - 1
    for size in ((128, 128), (90, 130)):  # one of the sizes that are measured, and one between two
        styled = model.eval().edit(functional.interpolate(photo, size, mode="bicubic"))
        wanted, found = (band_palettes(one).covariance for one in (resized(picture, size), styled))
        torch.testing.assert_close(found[-1], wanted[-1], atol=0.01, rtol=0.15)
        errors, sizes = (one.flatten(1).norm(dim=1) for one in (found - wanted, wanted))
        assert (errors[:4] < 0.35 * sizes[:4] + 1e-3).all()
    restored = made(style="brick")
    restored.load_state_dict(model.state_dict())
    torch.testing.assert_close(restored.eval().edit(photo), model.edit(photo))


def test_what_it_cannot_learn_from_is_refused() -> None:
    with pytest.raises(UserError, match="single images"):
        StyleFast(ImageSpec(3, 32, 32, task="paired"))
    with pytest.raises(UserError, match=r"model\.style_size is 0"):
        made(style_size=0)
    with pytest.raises(UserError, match="no style 'bricks'"):
        model = made(style="bricks")
        model.setup("fit")
