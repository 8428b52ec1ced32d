"""Style transfer by optimisation."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from aigc_style.features import StyleFeatures
from aigc_style.optimizing import CHUNK, Settings, Style, num_levels, stylize


def image(seed: int, size: tuple[int, int] = (48, 64)) -> Tensor:
    small = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    return interpolate(small, size, mode="bicubic").clamp(0, 1) * 1.6 - 0.8


def result(features: StyleFeatures, photo: Tensor, styles: list[Style], **changed: Any) -> Tensor:
    how = Settings(**{"steps": 10, "levels": 1, **changed})
    return list(stylize(photo, styles, features, how))[-1].image


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_loss_falls(features: StyleFeatures, optimizer: Any) -> None:
    states = list(stylize(image(0), [Style(image(1))], features, Settings(20, 1, optimizer)))
    assert [state.done for state in states] == list(range(CHUNK, 21, CHUNK))
    assert states[-1].style < 0.6 * states[0].style
    assert states[-1].image.shape == (1, 3, 48, 64) and states[-1].image.abs().max() <= 1


def test_a_photograph_in_its_own_style_stays_as_it_is(features: StyleFeatures) -> None:
    photo = image(0)
    state = list(stylize(photo, [Style(photo)], features, Settings(5, 1)))[-1]
    assert state.style < 1e-9 and state.content < 1e-9
    torch.testing.assert_close(state.image, photo, rtol=0, atol=1e-4)


def test_a_pyramid_ends_at_the_full_size(features: StyleFeatures) -> None:
    photo = image(0, (97, 130))
    states = list(stylize(photo, [Style(image(1))], features, Settings(5, 3)))
    assert [tuple(state.image.shape[2:]) for state in states] == [(49, 65), (97, 130)]
    assert [state.done for state in states] == [5, 10]
    assert num_levels(97, 130, 3) == 2 and num_levels(512, 512, 3) == 3 and num_levels(20, 20, 3) == 1


def test_several_styles_are_mixed_by_their_weights(features: StyleFeatures) -> None:
    photo, one, other = image(0), image(1), image(2)
    alone = result(features, photo, [Style(one)])
    assert torch.equal(result(features, photo, [Style(one, 3.0), Style(other, 0.0)]), alone)
    assert torch.allclose(result(features, photo, [Style(one, 1.0), Style(one, 5.0)]), alone, atol=1e-3)
    assert not torch.allclose(result(features, photo, [Style(one), Style(other)]), alone, atol=1e-2)


def test_outside_of_the_masks_the_photograph_stays_exactly(features: StyleFeatures) -> None:
    photo, left, right = image(0), torch.zeros(1, 1, 48, 64), torch.zeros(1, 1, 48, 64)
    left[..., :20], right[..., 40:] = 1, 1
    found = result(features, photo, [Style(image(1), 1.0, left), Style(image(2), 1.0, right)])
    assert torch.equal(found[..., 20:40], photo[..., 20:40])
    assert not torch.allclose(found[..., :20], photo[..., :20], atol=0.02)
    assert not torch.allclose(found[..., 40:], photo[..., 40:], atol=0.02)


def test_colors_can_be_kept(features: StyleFeatures) -> None:
    photo = 0.5 * image(0)
    change = result(features, photo, [Style(image(1))], keep_colors=True) - photo
    assert change.abs().max() > 0.02
    inside = (photo + change).abs().amax(dim=1, keepdim=True) < 0.99  # what was not clipped
    apart = (change - change.mean(dim=1, keepdim=True)).abs() * inside
    assert apart.max() < 1e-5  # all channels change alike: the differences between them are the photograph's


def test_the_mirrored_problem_has_the_mirrored_result(features: StyleFeatures) -> None:
    """With red and blue exchanged too, the network sees the same two views, and each needs its own mask."""

    def mirrored(images: Tensor) -> Tensor:
        return images.flip((1, 3))

    photo, style = image(0), (image(1) + mirrored(image(1))) / 2
    mask = torch.zeros(1, 1, 48, 64)
    mask[..., :20] = 1
    found = result(features, photo, [Style(style, 1.0, mask)], content_weight=0.0)
    other = result(features, mirrored(photo), [Style(style, 1.0, mirrored(mask))], content_weight=0.0)
    assert (found - photo).abs().max() > 0.05
    torch.testing.assert_close(mirrored(other), found, rtol=0, atol=1e-3)
