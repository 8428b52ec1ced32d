import math
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import cross_entropy

from aigc_lightning.losses.arcface import arcface, cosines


def test_cosines_do_not_depend_on_lengths():
    vectors, centres = torch.tensor([[3.0, 0], [1, 1]]), torch.tensor([[2.0, 0], [0, 5]])
    root = math.sqrt(0.5)
    torch.testing.assert_close(cosines(vectors, centres), torch.tensor([[1.0, 0], [root, root]]))


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.5, 2.6])
def test_it_is_the_equation_of_the_paper(angle):
    """exp(s cos(t + m)) over the same and the other class's exp(s cos t)."""
    cosine, scale, margin = torch.tensor([[math.cos(angle), 0.2]]), 8.0, 0.5
    right, other = math.exp(scale * math.cos(angle + margin)), math.exp(scale * 0.2)
    expected = -math.log(right / (right + other))
    assert arcface(cosine, torch.tensor([0]), scale, margin).item() == pytest.approx(expected, rel=1e-4)


def test_without_a_margin_it_is_the_cross_entropy():
    cosine = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.tensor([0, 1, 2, 3, 0])
    torch.testing.assert_close(arcface(cosine, labels, 10.0, 0.0), cross_entropy(10 * cosine, labels))


def test_the_logit_falls_with_the_angle_to_the_end():
    """Beyond pi - margin the cosine of the sum alone would rise again."""
    angles = torch.linspace(0, math.pi, 200)
    losses = [arcface(torch.tensor([[math.cos(angle), 0.0]]), torch.tensor([0]), 5.0).item() for angle in angles]
    assert all(later > earlier for earlier, later in pairwise(losses))


def test_gradients_are_finite_where_an_angle_is_0():
    cosine = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
    arcface(cosine, torch.tensor([0, 0])).backward()
    assert cosine.grad is not None and bool(cosine.grad.isfinite().all())
