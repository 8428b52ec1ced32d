import pytest
import torch

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.few_shot import few_shot


def test_separate_classes_are_recognised_and_noise_is_chance():
    labels = torch.arange(30).repeat_interleave(4)
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(30)[labels]
    assert few_shot(centres + 0.01 * torch.randn(120, 30, generator=generator), labels, 20, 1, 20).accuracy == 1
    found = few_shot(torch.randn(120, 30, generator=generator), labels, 20, 1, 2000)
    assert found.accuracy == pytest.approx(1 / 20, abs=0.01)


def test_lengths_do_not_matter_and_episodes_are_always_the_same():
    generator = torch.Generator().manual_seed(0)
    vectors, labels = torch.randn(40, 8, generator=generator), torch.arange(10).repeat(4)
    first = few_shot(vectors, labels, 5, 2, 50)
    assert first == few_shot(vectors * torch.rand(40, 1, generator=generator), labels, 5, 2, 50)
    assert first != few_shot(vectors, labels, 5, 2, 50, seed=1) and first.stderr > 0


def test_the_mean_of_several_examples_is_what_counts():
    """A class on both sides of an axis is on it in the mean; single examples mislead."""
    angle = torch.tensor([0.9, -0.9, 0.0])
    own = torch.stack([angle.cos(), angle.sin()], dim=1)
    vectors, labels = torch.cat([own, -own]), torch.arange(2).repeat_interleave(3)
    assert few_shot(vectors, labels, 2, 2, 50).accuracy == 1


def test_too_few_classes_are_named():
    with pytest.raises(UserError, match=r"20 classes of at least 2 images, but 3"):
        few_shot(torch.randn(8, 2), torch.tensor([0, 0, 1, 1, 2, 2, 3, 4]))
