import pytest
import torch

from aigc_lightning.metrics.nearest_classes import knn_accuracy


def test_votes_by_hand():
    """On a line of directions: the 0 amid 1s is outvoted, and one 1 has more 0s around it."""
    angles = torch.tensor([0.0, 0.01, 0.02, 0.5, 0.51, 0.52, 0.53])
    labels = torch.tensor([0, 0, 0, 1, 0, 1, 1])
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([1.0, 5, 2, 3, 1, 7, 1])[:, None]
    assert knn_accuracy(vectors, labels, k=3) == pytest.approx(6 / 7)
    # k = 1: 3 and 5 may have either neighbour, but each is nearest to image 4 or to a 1.
    assert knn_accuracy(vectors[:3], labels[:3], k=1) == 1


def test_a_draw_goes_to_the_nearest():
    angles = torch.tensor([0.0, 0.1, -0.2, 3.0])
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    one_each = torch.tensor([5, 5, 7, 9])
    assert knn_accuracy(vectors, one_each, k=2) == pytest.approx(2 / 4)


def test_noise_is_chance_and_k_is_cut_to_what_is_there():
    vectors = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    assert knn_accuracy(vectors, torch.arange(2000) % 2) == pytest.approx(0.5, abs=0.05)
    assert knn_accuracy(vectors[:2], torch.tensor([3, 3]), k=5) == 1
