import pytest
import torch

from aigc_lightning.losses.reconstruction import absolute, charbonnier, squared

IMAGES = torch.tensor([[0.0, 0.5], [1.0, -1.0]]).view(2, 1, 1, 2)
TARGETS = torch.tensor([[0.0, 0.0], [0.0, 0.0]]).view(2, 1, 1, 2)


def test_errors_by_hand_one_value_an_image():
    assert absolute(IMAGES, TARGETS).tolist() == [0.25, 1.0]
    assert squared(IMAGES, TARGETS).tolist() == [0.125, 1.0]
    expected = [(0.1 + (0.25 + 0.01) ** 0.5) / 2, (1 + 0.01) ** 0.5]
    assert charbonnier(IMAGES, TARGETS, scale=0.1).tolist() == pytest.approx(expected)


def test_charbonnier_is_near_the_absolute_error_and_has_a_slope_of_zero_at_zero():
    images = IMAGES.clone().requires_grad_()
    found = charbonnier(images, TARGETS)
    torch.testing.assert_close(found, absolute(IMAGES, TARGETS), atol=1e-3, rtol=0)
    found.sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad[0, 0, 0, 0] == 0
