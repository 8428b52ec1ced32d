"""Maps of a classifier whose answer is known to depend on one place alone."""

import pytest
import torch
from torch import Tensor, nn

from aigc_lightning.core import keyed
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.inference.explaining.attribution import (
    attributions,
    deletion_insertion,
    grad_cam,
    integrated_gradients,
    mean_colour,
    occlusion,
    randomised,
    rank_correlation,
)
from aigc_lightning.models.cnn import CNN


class Corner(nn.Module):
    """Class 1 is recognised by brightness in the upper left quarter of a 16x16 image."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.constant_(self.convolution.weight, 1 / 9)

    def forward(self, images: Tensor) -> Tensor:
        features = self.convolution(images).tanh()
        score = 8 * features[:, 0, :8, :8].mean(dim=(1, 2))
        return torch.stack([-score, score], dim=1)


@pytest.fixture(scope="module")
def image():
    image = 0.3 * keyed.normal((1, 16, 16), 4).clamp(-2, 2) - 0.3
    image[:, :8, :8] = 0.8
    return image


def inside(map_):
    positive = map_.clamp(min=0)
    return float(positive[:9, :9].sum() / positive.sum())


def test_integrated_gradients_are_complete_and_lie_where_the_answer_comes_from(image):
    network = Corner()
    found = integrated_gradients(network, image, 1)
    with torch.no_grad():
        ends = network(torch.stack([image, mean_colour(image).expand_as(image)]))[:, 1]
    assert float(found.sum()) == pytest.approx(float(ends[0] - ends[1]), rel=1e-3)
    assert inside(found) > 0.99


def test_occlusion_and_grad_cam_have_the_size_of_the_image(image):
    assert inside(occlusion(Corner(), image, 1)) > 0.9
    found = grad_cam(Corner(), image, 1)
    assert found.shape == (16, 16) and found.min() >= 0
    with pytest.raises(UserError, match="no convolutions"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(256, 2)), image, 1)


def test_the_right_order_deletes_and_inserts_faster_than_another(image):
    network = Corner()
    right = torch.zeros(16, 16)
    right[:8, :8] = 1
    deleted, inserted = deletion_insertion(network, image, 1, right)
    deleted_last, inserted_last = deletion_insertion(network, image, 1, -right)
    assert 0 <= deleted < deleted_last <= 1 and 0 <= inserted_last < inserted <= 1


def test_rank_correlation_is_spearmans():
    first = torch.tensor([[1.0, 2, 3, 5]])
    assert rank_correlation(first, first**3) == pytest.approx(1)
    assert rank_correlation(first, -first) == pytest.approx(-1)
    assert rank_correlation(first, torch.tensor([[2.0, 1, 4, 3]])) == pytest.approx(0.6)
    assert rank_correlation(first, torch.ones(1, 4)) == 0


def test_random_weights_are_the_same_each_time_and_leave_the_model_alone():
    torch.manual_seed(0)
    model = CNN(ImageSpec(1, 8, 8, ("a", "b")), width=4).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = randomised(model), randomised(model)
    weights = model.head.weight
    assert torch.equal(first.head.weight, second.head.weight) and not torch.equal(first.head.weight, weights)
    state = torch.get_rng_state()
    found = attributions(model, torch.rand(1, 8, 8) * 2 - 1, 1)
    torch.set_rng_state(state)
    assert list(found) == ["integrated gradients", "Grad-CAM", "occlusion", "random order"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(0 <= check.deletion <= 1 and -1 <= check.randomised <= 1.0001 for check in found.values())


def test_a_model_without_gradients_is_refused(monkeypatch):
    model = CNN(ImageSpec(1, 8, 8, ("a", "b")), width=4).eval()
    monkeypatch.setattr(CNN, "classify", lambda self, images: torch.ones(len(images), 2))
    with pytest.raises(UserError, match="logits of classify"):
        attributions(model, torch.zeros(1, 8, 8), 0)
