"""Arcs between latents."""

import math

import pytest
import torch

from aigc_lightning.inference.latent_walk import closed_walk, slerp, traversal


def test_an_arc_by_hand():
    start, end = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    for share in (0.0, 0.25, 1 / 3, 0.5, 1.0):
        angle = share * math.pi / 2
        torch.testing.assert_close(slerp(start, end, share), torch.tensor([math.cos(angle), math.sin(angle)]))


def test_arcs_of_gaussian_latents_stay_at_their_length():
    points = torch.randn((40, 512), generator=torch.Generator().manual_seed(0))
    middle = torch.stack([slerp(a, b, 0.5) for a, b in zip(points[::2], points[1::2], strict=True)])
    assert (middle.norm(dim=1) / math.sqrt(512) - 1).abs().max() < 0.1
    straight = (points[::2] + points[1::2]) / 2
    assert straight.norm(dim=1).max() < 0.8 * math.sqrt(512)


@pytest.mark.parametrize("end", [[2.0, 0.0], [-1.0, 0.0], [1.0, 1e-6], [1.0, 0.0]])
def test_directions_without_an_arc_are_joined_straight(end):
    start, end = torch.tensor([1.0, 0.0]), torch.tensor(end)
    torch.testing.assert_close(slerp(start, end, 0.25), 0.75 * start + 0.25 * end)


def test_the_ends_are_exact():
    start, end = torch.randn((2, 7), generator=torch.Generator().manual_seed(1))
    assert torch.equal(slerp(start, end, 0), start) and torch.equal(slerp(start, end, 1), end)


def test_a_walk_passes_all_points_and_closes():
    points = torch.randn((3, 5), generator=torch.Generator().manual_seed(2))
    walk = torch.cat(list(closed_walk(points, 4)))
    assert walk.shape == (12, 5) and torch.equal(walk[::4], points)
    steps = (walk.roll(-1, dims=0) - walk).norm(dim=1)
    legs = (points.roll(-1, dims=0) - points).norm(dim=1)
    assert (steps < legs.repeat_interleave(4) * 0.6).all()  # no jump, not from the last to the first either


def test_a_straight_walk_has_equal_steps():
    points = torch.randn((2, 5), generator=torch.Generator().manual_seed(2))
    walk = torch.cat(list(closed_walk(points, 4, torch.lerp)))
    steps = walk[1:5] - walk[:4]
    torch.testing.assert_close(steps, ((points[1] - points[0]) / 4).expand(4, -1))


def test_a_traversal_changes_one_coordinate():
    latent = torch.randn((1, 4), generator=torch.Generator().manual_seed(3))
    rows = traversal(latent, 2, torch.tensor([-1.0, 0.0, 5.0]))
    assert rows[:, 2].tolist() == [-1, 0, 5]
    assert torch.equal(rows[:, [0, 1, 3]], latent[:, [0, 1, 3]].expand(3, -1))


def test_latents_of_any_shape_walk_like_flat_ones():
    flat = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    shaped = flat.view(2, 3, 2, 2)
    walks = torch.cat([*closed_walk(flat, 4)]), torch.cat([*closed_walk(shaped, 4)])
    torch.testing.assert_close(walks[1].flatten(1), walks[0])
    values = torch.tensor([-1.0, 2.0])
    assert torch.equal(traversal(shaped[:1], 5, values).flatten(1), traversal(flat[:1], 5, values))
