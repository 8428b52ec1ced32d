import math

import pytest
import torch

from aigc_lightning.core.views import NUM_DRAWS, Views, view
from aigc_lightning.errors import UserError


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def halves(count=1):
    return torch.full((count, NUM_DRAWS), 0.5)


def test_draws_in_the_middle_change_nothing_but_the_crop():
    given = images(2, 3, 8, 12)
    torch.testing.assert_close(view(given, halves(2), Views(1.0, 30.0, 20.0, color=0.5)), given, atol=1e-5, rtol=1e-5)


def test_half_a_turn_turns_images_of_any_shape():
    given, draws = images(1, 1, 6, 10), halves()
    draws[:, 0] = 1
    torch.testing.assert_close(view(given, draws, Views(1.0, 180.0)), given.flip(2, 3), atol=1e-4, rtol=1e-4)


def test_a_quarter_turn_of_a_square():
    given, draws = images(1, 1, 8, 8), halves()
    draws[:, 0] = 0.75
    turned = view(given, draws, Views(1.0, 180.0))
    assert any(torch.allclose(turned, torch.rot90(given, turns, (2, 3)), atol=1e-4) for turns in (1, 3))


def test_flips_mirror_and_crops_stay_inside():
    given, draws = images(1, 1, 8, 8), halves()
    draws[:, 3] = 0.1
    torch.testing.assert_close(view(given, draws, Views(1.0, flip=True)), given.flip(3), atol=1e-5, rtol=1e-5)
    draws = halves()
    draws[:, 2], draws[:, 4], draws[:, 5] = 0, 0, 1  # half of the side, at the left and the bottom
    window = view(given, draws, Views(0.5))
    assert window.min() >= given[..., 4:, :4].min() - 1e-5 and window.max() <= given[..., 4:, :4].max() + 1e-5


def test_a_shear_keeps_the_middle_row():
    given, draws = images(1, 1, 9, 9), halves()
    draws[:, 1] = 1
    sheared = view(given, draws, Views(1.0, shear=math.degrees(math.atan(0.25))))
    torch.testing.assert_close(sheared[..., 4, :], given[..., 4, :], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sheared[..., 8, :-1], given[..., 8, 1:], atol=1e-4, rtol=1e-4)


def test_views_stay_in_range_and_images_do_not_affect_each_other():
    given = images(4, 3, 8, 8)
    draws = torch.rand(4, NUM_DRAWS, generator=torch.Generator().manual_seed(1))
    settings = Views(0.4, 20.0, 10.0, True, 1.0)
    varied = view(given, draws, settings)
    assert varied.abs().max() <= 1 and not torch.allclose(varied, given, atol=0.1)
    torch.testing.assert_close(view(given[2:3], draws[2:3], settings), varied[2:3])


@pytest.mark.parametrize(
    "wrong", [{"crop": 0.0}, {"crop": 1.1}, {"rotate": -1.0}, {"shear": 90.0}, {"color": 2.0}], ids=str
)
def test_numbers_out_of_range_are_named(wrong):
    with pytest.raises(UserError, match=rf"model\.views\.{next(iter(wrong))}"):
        Views(**wrong)
