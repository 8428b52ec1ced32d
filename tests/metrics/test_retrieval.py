import pytest
import torch

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.retrieval import retrieval, text_retrieval


def on_circle(*degrees):
    angles = torch.tensor(degrees, dtype=torch.float32).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_scores_by_hand():
    # From 0 degrees the others come in the order 10 (b), 25 (a), 45 (b), 70 (a).
    found = retrieval(on_circle(0, 10, 25, 45, 70), torch.tensor([0, 1, 0, 1, 0]), (1, 2))
    assert found.recalls[0].tolist() == [0, 1]
    assert found.precisions[0].item() == pytest.approx((1 / 2 + 2 / 4) / 2)
    # From 10 degrees: 0 (a), 25 (a), 45 (b), 70 (a).
    assert found.recalls[1].tolist() == [0, 0] and found.precisions[1].item() == pytest.approx(1 / 3)


def test_separate_classes_score_1_and_the_query_itself_is_excluded():
    perfect = retrieval(on_circle(0, 1, 90, 91), torch.tensor([4, 4, 7, 7]))
    assert perfect.recalls.mean() == 1 and perfect.precisions.mean() == 1
    crossed = retrieval(on_circle(0, 90, 1, 91), torch.tensor([4, 4, 7, 7]), (1,))
    assert crossed.recalls.sum() == 0


def test_random_vectors_score_what_chance_does():
    labels = torch.arange(1000) % 2
    found = retrieval(torch.randn(1000, 50, generator=torch.Generator().manual_seed(0)), labels, (1, 5))
    assert found.recalls[:, 0].mean().item() == pytest.approx(0.5, abs=0.05)
    assert found.recalls[:, 1].mean().item() == pytest.approx(1 - 0.5**5, abs=0.03)
    assert found.precisions.mean().item() == pytest.approx(0.5, abs=0.03)


def test_lengths_do_not_matter_and_single_images_are_no_queries():
    vectors, labels = on_circle(0, 20, 30, 70), torch.tensor([0, 1, 0, 2])
    found = retrieval(vectors, labels)
    assert found.queries.tolist() == [0, 2]
    scaled = retrieval(vectors * torch.tensor([[1.0], [9.0], [0.1], [5.0]]), labels)
    assert torch.equal(scaled.precisions, found.precisions)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(UserError, match="same class"):
        retrieval(on_circle(0, 1), torch.tensor([0, 1]))
    with pytest.raises(UserError, match="not finite"):
        retrieval(torch.full((2, 2), torch.nan), torch.tensor([0, 0]))


def test_captions_find_their_images():
    images, texts = on_circle(0, 40, 90, 100), on_circle(10, 10, 85, 60)
    found = text_retrieval(texts, images, ["a", "a", "b", "c"], (1, 2))
    assert found.queries.tolist() == [0, 2, 3]  # each caption once
    assert found.recalls.tolist() == [[1, 1], [1, 1], [0, 0]]
    # From 10 degrees: 0 (a), 40 (a). From 85: 90 (b). From 60: 40, 90 and 100 (c).
    assert found.precisions.tolist() == pytest.approx([1, 1, 1 / 3])
