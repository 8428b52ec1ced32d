"""The statistics of styles: exact values and invariances."""

import pytest
import torch
from torch import Tensor

from aigc_style import statistics


def maps(seed: int = 0, size: tuple[int, int] = (5, 7)) -> Tensor:
    return torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_gram_matrix_is_the_mean_product_of_channels() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])
    expected = torch.tensor([[[(1 + 4) / 2, (3 - 2) / 2], [(3 - 2) / 2, (9 + 1) / 2]]])
    torch.testing.assert_close(statistics.gram(features), expected)


def test_gram_matrices_do_not_depend_on_where_things_are() -> None:
    features = maps()
    order = torch.randperm(35)
    permuted = features.flatten(2)[:, :, order].view_as(features)
    torch.testing.assert_close(statistics.gram(permuted), statistics.gram(features))
    assert not torch.allclose(statistics.gram(features.roll(1, dims=1)), statistics.gram(features))


def test_a_mask_leaves_out_what_is_black() -> None:
    features, mask = maps(), torch.zeros(1, 1, 5, 7, dtype=torch.float64)
    mask[..., :3] = 1
    torch.testing.assert_close(statistics.gram(features, mask), statistics.gram(features[..., :3]))


def test_adain_gives_the_mean_and_the_deviation_of_the_style() -> None:
    content, style = maps(0), 3 * maps(1, (9, 4)) + 2
    mean, deviation = statistics.moments(style)
    found_mean, found_deviation = statistics.moments(statistics.adain(content, mean, deviation))
    torch.testing.assert_close(found_mean, mean)
    torch.testing.assert_close(found_deviation, deviation, rtol=1e-4, atol=1e-4)
    order = content.flatten(2).argsort(dim=2)  # what is lighter stays lighter
    assert torch.equal(statistics.adain(content, mean, deviation).flatten(2).argsort(dim=2), order)


def test_the_content_itself_as_style_changes_nothing() -> None:
    content = maps()
    torch.testing.assert_close(statistics.adain(content, *statistics.moments(content)), content)


def test_the_weights_of_layers_sum_to_one() -> None:
    assert statistics.layer_weights(None, 4) == [0.25] * 4
    assert statistics.layer_weights([2, 6], 2) == [0.25, 0.75]


def test_a_loss_is_zero_for_the_style_one_without_features_and_independent_of_the_weights_scale() -> None:
    grams = [statistics.gram(maps(seed)) for seed in range(3)]
    assert statistics.gram_loss(grams, grams).tolist() == [0, 0]
    nothing = [torch.zeros_like(one) for one in grams]
    torch.testing.assert_close(statistics.gram_loss(nothing, grams), torch.ones(2, dtype=torch.float64))
    other = [grams[1], grams[2], grams[0]]
    once, twice = (statistics.gram_loss(other, grams, [scale, 2 * scale, 0]) for scale in (1, 5))
    torch.testing.assert_close(once, twice)
    scaled = statistics.gram_loss([100 * other[0], *other[1:]], [100 * grams[0], *grams[1:]])
    torch.testing.assert_close(scaled, statistics.gram_loss(other, grams))  # a layer's unit does not count


def test_the_content_loss_is_zero_for_the_content_and_one_for_its_mean() -> None:
    wanted = maps()
    assert statistics.content_loss(wanted, wanted).tolist() == [0, 0]
    mean = wanted.mean(dim=(2, 3), keepdim=True).expand_as(wanted)
    torch.testing.assert_close(statistics.content_loss(mean, wanted), torch.ones(2).double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(5, 7), (20, 11)])
def test_matched_colors_have_the_moments_of_the_style(size: tuple[int, int]) -> None:
    image, style = maps(0)[:1, :3] / 10, maps(1, size)[:1, :3] / 20 + 0.1
    matched = statistics.match_colors(image, style)
    assert matched.shape == image.shape
    torch.testing.assert_close(matched.mean(dim=(2, 3)), style.mean(dim=(2, 3)))


@pytest.mark.parametrize("contrast", [1.0, 0.1])  # bands of fine details have little
def test_palettes_are_taken_over_and_the_own_one_changes_nothing(contrast: float) -> None:
    images, style = contrast * maps()[:, :3], contrast * (0.3 * maps(1, (6, 4))[:, :3] + 0.2)
    wanted = statistics.palette(style)
    (found,) = statistics.match_palettes([images], statistics.Palette(*(part[None] for part in wanted)))
    for one, other in zip(statistics.palette(found), wanted, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=3e-2)
    own = statistics.Palette(*(part[None] for part in statistics.palette(images)))
    (same,) = statistics.match_palettes([images], own)
    torch.testing.assert_close(same, images, atol=1e-3 * contrast, rtol=0)
