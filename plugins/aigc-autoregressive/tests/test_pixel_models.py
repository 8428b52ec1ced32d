"""`pixelcnn` and `pixelrnn` keep every promise of a plugin; their likelihoods and completions are what they say."""

import math
from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.core.chunks import sampled
from aigc_lightning.testing import ModelConformance
from torch import Tensor

from aigc_autoregressive.levels import to_images
from aigc_autoregressive.models.pixelcnn import PixelCNNModel
from aigc_autoregressive.models.pixelrnn import PixelRNNModel

SPEC = ImageSpec(1, 8, 8, class_names=("a", "b", "c"))
LEVELS = "model.num_levels=256"  # those of the images that the kit makes up


class TestPixelCNN(ModelConformance):
    model = "pixelcnn"
    settings = ("model.width=4", "model.num_blocks=1", "model.num_components=2", "model.dropout=0", LEVELS)
    left_out = {"can_be_exported": "it draws pixel by pixel and computes parts of its network each time"}


@pytest.mark.slow
class TestPixelRNN(ModelConformance):
    model = "pixelrnn"
    settings = ("model.width=4", "model.num_layers=1", "model.head_width=8", LEVELS)


def made(kind: str = "cnn", spec: ImageSpec = SPEC, **options: Any) -> PixelCNNModel | PixelRNNModel:
    torch.manual_seed(0)
    model: PixelCNNModel | PixelRNNModel
    if kind == "cnn":
        model = PixelCNNModel(spec, **{"width": 8, "num_blocks": 1, "num_components": 2, **options})
    else:
        model = PixelRNNModel(spec, **{"width": 8, "num_layers": 1, "head_width": 16, **options})
    for name, parameter in model.network.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.ones_(parameter)
        else:
            torch.nn.init.normal_(parameter, std=0.3)
    model.configure_model()
    return model.eval()


def all_images(num_levels: int) -> Tensor:
    """Return every image of 2x2 pixels."""
    numbers = torch.arange(num_levels**4)
    digits = [numbers // num_levels**place % num_levels for place in range(4)]
    return to_images(torch.stack(digits, 1).view(-1, 1, 2, 2), num_levels)


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
@pytest.mark.parametrize("conditions", ["none", "labels"])
def test_the_probabilities_of_all_images_sum_to_1(kind, conditions):
    spec = ImageSpec(1, 2, 2, class_names=("a", "b", "c"))
    model = made(kind, spec, num_levels=4, conditions=conditions)
    images = all_images(4)
    found = model.log_likelihood(images)
    assert found.dtype == torch.float64 and found.exp().sum().item() == pytest.approx(1, abs=1e-5)
    if conditions == "labels":
        by_class = torch.stack([model.log_likelihood(images, [label] * len(images)) for label in range(3)])
        assert torch.allclose(found.exp(), by_class.exp().mean(0), atol=1e-9)
        assert not torch.allclose(by_class[0], by_class[1], atol=1e-2)


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
def test_images_that_the_levels_do_not_include_have_probability_0(kind):
    model = made(kind, num_levels=17)
    eight_bit = (torch.arange(17) * 255 / 16).round() / 127.5 - 1  # as an 8-bit file holds the levels
    images = eight_bit[torch.randint(0, 17, (2, 1, 8, 8), generator=torch.Generator().manual_seed(1))]
    images[1, 0, 3, 3] = 100 / 127.5 - 1
    first, second = model.log_likelihood(images).tolist()
    assert math.isfinite(first) and second == -math.inf


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
def test_a_completion_keeps_what_is_outside_and_knows_what_comes_before(kind):
    model = made(kind, num_levels=17)
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    masks = torch.zeros(2, 1, 8, 8)
    masks[:, :, 4:6] = 1
    completed = model.edit(images, masks, seeds=[1, 2])
    kept = masks == 0
    assert torch.equal(completed[kept], images[kept])
    assert not torch.equal(completed, model.edit(images, masks, seeds=[3, 4]))
    below, above = images.clone(), images.clone()
    below[:, :, 6:] = 0.5
    above[:, :, :4] = 0.5
    inside = masks == 1
    assert torch.equal(model.edit(images)[:, :, :4], images[:, :, :4])  # by default the lower half is drawn
    assert torch.equal(model.edit(below, masks, seeds=[1, 2])[inside], completed[inside])
    assert not torch.equal(model.edit(above, masks, seeds=[1, 2])[inside], completed[inside])


def test_a_completion_draws_the_class_by_what_is_known_of_the_image(monkeypatch):
    model = made(conditions="labels")
    given = torch.tensor([0.0, 0.6, 0.4]).log()[:, None, None, None].expand(-1, 40, 8, 8) / 32
    monkeypatch.setattr(model, "_by_class", lambda images: given)
    masks = torch.zeros(40, 1, 8, 8)
    masks[:, :, 4:] = 1  # 32 pixels are known
    drawn = model._likely_classes(torch.zeros(40, 1, 8, 8), masks[:, 0] == 1, range(40))
    assert drawn.bincount(minlength=3)[0] == 0 and 15 <= drawn.bincount(minlength=3)[1] <= 33


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
def test_a_seed_is_one_image_in_any_company_and_classes_matter(kind):
    model = made(kind, conditions="labels")
    many = sampled(model, [3, 9, 4], [1, 0, 2])
    assert torch.equal(sampled(model, [9], [0])[0], many[1])
    assert not torch.equal(sampled(model, [9], [1])[0], many[1])
    assert torch.equal(sampled(model, [9])[0], many[1])  # seed mod 3 is class 0
    assert not torch.equal(sampled(model, [9], [0], temperature=0.5)[0], many[1])


def test_training_starts_from_the_statistics_of_the_data():
    class Data:
        def training_batch(self, count: int) -> dict[str, Tensor]:
            return {"image": torch.rand(64, 1, 8, 8), "label": torch.arange(64) % 3}

    model = made(conditions="labels")
    model.setup_from_data(Data())
    batch = Data().training_batch(64)
    output = model.network(batch["image"], batch["label"])
    assert abs(output.mean().item()) < 0.2 and 0.7 < output.std().item() < 1.4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"conditions": "labels", "spec": ImageSpec(1, 8, 8)}, "needs a label"),
        ({"spec": ImageSpec(1, 8, 8, task="paired")}, "single images"),
        ({"num_levels": 1}, "num_levels"),
        ({"num_levels": 300}, "num_levels"),
        ({"beta2": 1.0}, "beta2"),
        ({"lr": -1.0}, "lr"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_what_does_not_go_together_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        PixelCNNModel(**{"spec": SPEC, **options})


def test_a_width_below_the_number_of_channels_is_refused():
    with pytest.raises(UserError, match="width is 2"):
        PixelRNNModel(ImageSpec(3, 8, 8), width=2)


def test_wrong_requests_are_refused():
    model = made()
    with pytest.raises(UserError, match="without classes"):
        model.sample([0], [1])
    with pytest.raises(UserError, match="without classes"):
        model.log_likelihood(torch.zeros(1, 1, 8, 8), [1])
    with pytest.raises(UserError, match="temperature"):
        model.sample([0], temperature=-1.0)
    with pytest.raises(UserError, match="9x8"):
        model.log_likelihood(torch.zeros(1, 1, 9, 8))
