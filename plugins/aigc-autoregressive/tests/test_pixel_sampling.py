"""Pictures drawn pixel by pixel: from the distribution that the likelihood tells of, each by its own seed."""

import itertools

import pytest
import torch
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_autoregressive.levels import to_images, to_levels
from aigc_autoregressive.pixels import PixelCNN, PixelRNN, sample_pixels
from aigc_autoregressive.pixels.incremental_pixelcnn import IncrementalPixelCNN
from aigc_autoregressive.pixels.incremental_pixelrnn import IncrementalPixelRNN
from aigc_autoregressive.pixels.logistic_mixture import LogisticMixture

KINDS = ["pixelcnn", "pixelrnn"]


def pixel_model(kind: str, channels: int, num_levels: int = 4, num_classes: int = 0) -> PixelCNN | PixelRNN:
    model: PixelCNN | PixelRNN
    if kind == "pixelcnn":
        model = PixelCNN(channels, num_levels, width=6, num_blocks=2, num_components=3, num_classes=num_classes)
    else:
        model = PixelRNN(channels, num_levels, width=8, num_layers=2, head_width=40, num_classes=num_classes)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(3, 9, 10), (1, 5, 7), (4, 2, 2), (1, 1, 5), (1, 6, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_pixel_by_pixel_equals_the_whole_network(kind, shape):
    model = pixel_model(kind, shape[0], num_classes=3).double()
    images = torch.rand(2, *shape, dtype=torch.float64) * 2 - 1
    labels = torch.tensor([0, 2])
    drawn = torch.zeros_like(images)  # so that nothing can be seen before its time
    with torch.no_grad():
        expected = model(images, labels)
        cnn = IncrementalPixelCNN(model, 2, shape[1:], labels) if kind == "pixelcnn" else None
        rnn = IncrementalPixelRNN(model, 2, shape[2], labels) if kind == "pixelrnn" else None
        for row, column in itertools.product(range(shape[1]), range(shape[2])):
            if cnn is not None:
                close(cnn.output_at(drawn, row, column), expected[:, :, row, column])
                drawn[:, :, row, column] = images[:, :, row, column]
            else:
                rnn.begin(drawn, row, column)
                for channel in range(shape[0]):
                    close(rnn.logits_at(drawn, row, column)[:, channel], expected[:, channel, :, row, column])
                    drawn[:, channel, row, column] = images[:, channel, row, column]


@pytest.mark.parametrize(
    ("kind", "channels", "size"), [("pixelcnn", 3, (1, 1)), ("pixelcnn", 1, (2, 2)), ("pixelrnn", 2, (1, 2))]
)
def test_pictures_are_drawn_with_their_probabilities(kind, channels, size):
    model, num_levels = pixel_model(kind, channels), 4
    combinations = torch.tensor(list(itertools.product(range(num_levels), repeat=channels * size[0] * size[1])))
    images = to_images(combinations, num_levels).view(-1, channels, *size)
    with torch.no_grad():
        expected = model.log_prob(images).flatten(1).sum(1).double().exp() * 20000
    assert chi_square(sample_pixels(model, range(20000), size), num_levels, expected) < 1


def chi_square(drawn: Tensor, num_levels: int, expected: Tensor) -> float:
    """Return the statistic as a share of its 0.1 % limit (Wilson and Hilferty)."""
    levels = to_levels(drawn, num_levels).flatten(1)
    places = num_levels ** torch.arange(levels.shape[1] - 1, -1, -1)
    counts = torch.bincount((levels * places).sum(1), minlength=len(expected))
    likely = expected > 5
    degrees = int(likely.sum()) - 1
    limit = degrees * (1 - 2 / (9 * degrees) + 3.09 * (2 / (9 * degrees)) ** 0.5) ** 3
    return ((counts - expected).square() / expected)[likely].sum().item() / limit


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_one_picture_in_any_batch(kind):
    model = pixel_model(kind, channels=3, num_classes=2).double()  # batches of other sizes round otherwise
    together = sample_pixels(model, [4, 5, 6], (3, 4), labels=torch.tensor([0, 1, 0]))
    alone = sample_pixels(model, [5], (3, 4), labels=torch.tensor([1]))
    assert torch.equal(together[1], alone[0])
    assert len(together.unique(dim=0)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_given_pixels_stay_and_those_before_them_are_drawn_as_ever(kind):
    model = pixel_model(kind, channels=1)
    given = to_images(torch.randint(4, (2, 1, 4, 4)), 4)
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[:, 2:] = True
    mask[1, 0, 1] = True
    completed = sample_pixels(model, [1, 2], (4, 4), known=(given, mask))
    free = sample_pixels(model, [1, 2], (4, 4))
    assert torch.equal(completed.movedim(1, -1)[mask], given.movedim(1, -1)[mask])
    assert torch.equal(completed[0, :, :2], free[0, :, :2])
    assert torch.equal(completed[1, :, 0, 0], free[1, :, 0, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_progress_tells_of_each_pixel_and_temperature_0_needs_no_seed(kind):
    model, seen = pixel_model(kind, channels=1), []
    images = sample_pixels(model, [1, 2], (2, 3), temperature=0.0, progress=lambda *numbers: seen.append(numbers))
    assert torch.equal(images[0], images[1])
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("kind", KINDS)
def test_classes_must_be_given_where_there_are_classes_and_only_there(kind):
    images = torch.zeros(1, 1, 2, 2)
    for model, labels, message in [
        (pixel_model(kind, 1, num_classes=3), None, "one of 3 classes"),
        (pixel_model(kind, 1), torch.tensor([1]), "without classes"),
    ]:
        with pytest.raises(UserError, match=message):
            model.log_prob(images, labels)
        with pytest.raises(UserError, match=message):
            sample_pixels(model, [1], (2, 2), labels=labels)


def test_a_pixel_is_drawn_within_a_level_of_its_logistic():
    """With one component of a narrow scale, channels follow their means."""
    mixture = LogisticMixture(2, num_components=1)
    output = torch.tensor([[0.0, 0.2, -0.1, -7.0, -7.0, 0.5]])
    pixel = mixture.draw(output, torch.full((1, 3), 0.5, dtype=torch.float64))
    second = -0.1 + torch.tensor(0.5).tanh() * pixel[0, 0]
    assert abs(pixel[0, 0] - 0.2) <= 1 / 255 and abs(pixel[0, 1] - second) <= 1 / 255
