import math

import pytest
import torch

from aigc_lightning.losses.contrastive import image_text, simclr, supervised_contrastive


def by_hand(vectors, labels, temperature):
    """Equation 2 of Khosla et al., term by term."""
    units = [vector / vector.norm() for vector in vectors]
    losses = []
    for i, anchor in enumerate(units):
        others = [a for a in range(len(units)) if a != i]
        total = sum(math.exp(float(anchor @ units[a]) / temperature) for a in others)
        positives = [p for p in others if labels[p] == labels[i]]
        if positives:
            terms = [-math.log(math.exp(float(anchor @ units[p]) / temperature) / total) for p in positives]
            losses.append(sum(terms) / len(positives))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_it_is_the_equation_of_the_paper(temperature):
    vectors = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)) * 3
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3])  # the last one and class 2 have no positive
    expected = by_hand(vectors.double(), labels.tolist(), temperature)
    assert supervised_contrastive(vectors, labels, temperature).item() == pytest.approx(expected, rel=1e-5)


def test_closed_forms():
    """Two classes on opposite sides: of the 3 others, one is at cosine 1 and two are at cosine -1."""
    vectors, labels = torch.tensor([[1.0, 0], [2, 0], [-1, 0], [-3, 0]]), torch.tensor([0, 0, 1, 1])
    expected = math.log(1 + 2 * math.exp(-2 / 0.5))
    assert supervised_contrastive(vectors, labels, 0.5).item() == pytest.approx(expected, rel=1e-6)
    same = torch.ones(6, 3)  # nothing can be told apart
    assert simclr(same[:3], same[3:]).item() == pytest.approx(math.log(5), rel=1e-6)


def test_simclr_is_the_equation_of_the_paper():
    """Equation 1 of Chen et al., for both views of each image."""
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)
    units = torch.nn.functional.normalize(torch.cat([first, second]), dim=1).double()
    losses = []
    for i in range(8):
        scores = {k: math.exp(float(units[i] @ units[k]) / 0.2) for k in range(8) if k != i}
        losses.append(-math.log(scores[(i + 4) % 8] / sum(scores.values())))
    assert simclr(first, second, 0.2).item() == pytest.approx(sum(losses) / 8, rel=1e-5)


def test_gradients_draw_a_class_together_and_are_finite():
    vectors = torch.tensor([[1.0, 0], [0, 1.0], [-1.0, -1.0]], requires_grad=True)
    supervised_contrastive(vectors, torch.tensor([0, 0, 1])).backward()
    assert vectors.grad is not None and bool(vectors.grad.isfinite().all())
    moved = vectors - 0.1 * vectors.grad
    similarity = torch.nn.functional.cosine_similarity
    assert similarity(moved[0], moved[1], dim=0) > similarity(vectors[0], vectors[1], dim=0)


def test_without_positives_the_loss_is_0():
    vectors = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = supervised_contrastive(vectors, torch.arange(3))
    loss.backward()
    assert loss.item() == 0 and vectors.grad is not None and not vectors.grad.any()


def test_images_are_told_by_their_texts_and_the_reverse():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(5, 3, generator=generator), torch.randn(5, 3, generator=generator)
    logits = torch.nn.functional.cosine_similarity(images[:, None], texts[None], dim=2) / 0.2
    both = [torch.nn.functional.cross_entropy(each, torch.arange(5)).item() for each in (logits, logits.T)]
    assert image_text(images, texts, "abcde", 0.2).item() == pytest.approx(sum(both) / 2, rel=1e-5)


def test_equal_texts_share_the_target():
    images = torch.tensor([[1.0, 0], [1, 0], [0, 1]])  # both images of the first text are equally near to it
    loss = image_text(images, images, ["a", "a", "b"], 0.01)
    assert loss.item() == pytest.approx(2 / 3 * math.log(2), rel=1e-4)
    assert image_text(images, images, ["a", "c", "b"], 0.01).item() > loss.item() - 1e-6
