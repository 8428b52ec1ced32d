import math

import pytest
import torch

from aigc_lightning.metrics.path_length import perceptual_path_length, slerp


def latents(count=200, size=16):
    return torch.randn(2, count, size, generator=torch.Generator().manual_seed(0))


def squared(a, b):
    return (a - b).square().flatten(1).sum(dim=1)


def test_slerp_keeps_the_length_and_ends_at_the_ends():
    first, second = latents()
    unit = [points / points.norm(dim=1, keepdim=True) * 4 for points in (first, second)]
    torch.testing.assert_close(slerp(first, second, torch.zeros(200)), unit[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(slerp(first, second, torch.ones(200)), unit[1], atol=1e-5, rtol=0)
    half = slerp(first, second, torch.full((200,), 0.5))
    torch.testing.assert_close(half.norm(dim=1), torch.full((200,), 4.0))
    torch.testing.assert_close(squared(half, unit[0]), squared(half, unit[1]), atol=1e-3, rtol=0)


def test_for_a_linear_generator_it_is_the_squared_length_of_the_arcs():
    first, second = latents()
    first, second = first.double(), second.double()
    angles = torch.nn.functional.cosine_similarity(first, second).acos()
    arcs = 16 * angles**2 * 9  # the sphere has radius 4, the generator enlarges by 3
    kept = arcs[(arcs >= arcs.quantile(0.01)) & (arcs <= arcs.quantile(0.99))]
    found = perceptual_path_length(lambda z: 3 * z, first, second, squared, batch_size=33)
    assert found.mean == pytest.approx(kept.mean().item(), rel=1e-3)
    assert found.std == pytest.approx(kept.std(correction=0).item(), rel=1e-2)


def test_straight_paths_and_the_class_of_each_path():
    first, second = latents()
    labels = [path % 2 for path in range(200)]

    def decode(points, classes):
        return points * (1 + torch.tensor(classes))[:, None]  # class 1 is twice as large

    found = perceptual_path_length(
        decode, first.double(), second.double(), squared, labels=labels, straight=True, batch_size=33
    )
    exact = squared(first, second) * torch.tensor([1 + 3 * label for label in labels])
    kept = exact[(exact >= exact.quantile(0.01)) & (exact <= exact.quantile(0.99))]
    assert found.mean == pytest.approx(kept.mean().item(), rel=1e-3)


def test_float32_is_enough_and_the_step_does_not_matter():
    first, second = latents()
    exact = perceptual_path_length(torch.sin, first.double(), second.double(), squared)
    assert perceptual_path_length(torch.sin, first, second, squared).mean == pytest.approx(exact.mean, rel=0.01)
    coarse = perceptual_path_length(torch.sin, first.double(), second.double(), squared, epsilon=1e-3)
    assert coarse.mean == pytest.approx(exact.mean, rel=0.01)


def test_a_jump_counts_and_the_places_depend_on_the_seed():
    first, second = latents()
    smooth = perceptual_path_length(torch.tanh, first, second, squared).mean
    rough = perceptual_path_length(lambda z: torch.tanh(5 * z), first, second, squared).mean
    assert rough > 2 * smooth
    other = perceptual_path_length(torch.tanh, first, second, squared, seed=1).mean
    assert other != smooth and math.isclose(other, smooth, rel_tol=0.1)
