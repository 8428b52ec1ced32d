"""Likelihoods of models of pixels, against definitions and enumeration."""

import itertools
import math

import pytest
import torch
from aigc_lightning.losses.likelihood import discretised_logistic
from aigc_lightning.metrics.likelihood import bits_per_dim
from torch import Tensor

from aigc_autoregressive.pixels import PixelCNN, PixelRNN
from aigc_autoregressive.pixels.logistic_mixture import LogisticMixture
from aigc_autoregressive.pixels.masked_convolution import MaskedConv2d, owners
from aigc_autoregressive.pixels.pixelrnn import DiagonalBiLSTM, skewed, unskewed
from aigc_autoregressive.pixels.weight_norm import (
    WeightNormConv2d,
    WeightNormConvTranspose2d,
    Window,
    start_from_data,
)

KINDS = ["pixelcnn", "pixelrnn"]


def pixel_model(kind: str, channels: int, num_levels: int = 4, num_classes: int = 0) -> PixelCNN | PixelRNN:
    """Return a small model in float64 whose weights are far from their start."""
    model: PixelCNN | PixelRNN
    if kind == "pixelcnn":
        model = PixelCNN(channels, num_levels, width=6, num_blocks=2, num_components=3, num_classes=num_classes)
    else:
        model = PixelRNN(channels, num_levels, width=8, num_layers=2, head_width=40, num_classes=num_classes)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.double().eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def all_images(num_levels: int, channels: int, height: int, width: int) -> Tensor:
    combinations = itertools.product(range(num_levels), repeat=channels * height * width)
    return values(torch.tensor(list(combinations)), num_levels).view(-1, channels, height, width)


def values(levels: Tensor, num_levels: int = 256) -> Tensor:
    """Return levels in [-1, 1], to the accuracy of float64."""
    return levels.double() * 2 / (num_levels - 1) - 1


def test_parameters_of_the_paper_s_pixelcnn():
    with torch.device("meta"):
        model = PixelCNN(channels=3)
    assert sum(parameter.numel() for parameter in model.parameters()) == 53_659_080


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 4, 5), (4, 3, 2), (1, 1, 6), (3, 6, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_no_pixel_sees_itself_or_what_comes_after(kind, shape):
    channels, height, width = shape
    model = pixel_model(kind, channels)
    images = noise(1, *shape).requires_grad_()
    output = model(images)[0]
    for place in range(height * width):
        row, column = divmod(place, width)
        for channel in range(channels if kind == "pixelrnn" else 1):
            mine = output[channel, :, row, column] if kind == "pixelrnn" else output[:, row, column]
            (slope,) = torch.autograd.grad(mine.square().sum(), images, retain_graph=True)
            slopes = slope[0].movedim(0, -1).flatten().abs()  # in the order of the numbers
            before = place * channels + channel
            assert (slopes[before:] == 0).all()
            if before > 0:
                assert (slopes[:before] > 0).float().mean() > 0.6  # and it does see what comes before


@pytest.mark.parametrize("log_scale", [-7.0, -4.0, 0.0, 3.0])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_the_256_levels_of_a_number_have_probabilities_that_sum_to_one(log_scale, channel):
    """Summed over the last channel, the joint probability is that of the channels before."""
    mixture = LogisticMixture(channel + 1, num_components=3)
    output = noise(mixture.num_outputs)
    count = 3 * (channel + 1)
    output[3 + count : 3 + 2 * count] = log_scale
    grid = values(torch.arange(256))
    pixel = noise(channel + 1, seed=1).expand(256, -1).clone()
    pixel[:, channel] = grid
    joint = mixture.log_prob(pixel[:, :, None, None], output.view(1, -1, 1, 1).expand(256, -1, 1, 1)).flatten()
    expected = 1.0
    if channel > 0:
        logits, means, scales, rest = output.split([3, count, count, 3 * math.comb(channel + 1, 2)])
        keep = [part.view(3, channel + 1)[:, :channel].flatten() for part in (means, scales)]
        below = rest.view(3, -1)[:, : math.comb(channel, 2)].flatten()
        shorter = torch.cat([logits, *keep, below]).view(1, -1, 1, 1)
        before = LogisticMixture(channel, num_components=3)
        expected = before.log_prob(pixel[:1, :channel, None, None], shorter).exp().item()
    assert joint.exp().sum().item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_a_later_channel_s_mean_moves_with_those_before():
    mixture = LogisticMixture(3, num_components=1)
    means, log_scales, raw = (
        torch.tensor([0.1, -0.2, 0.3]),
        torch.tensor([-2.0, -1.5, -1.0]),
        torch.tensor([0.5, -1, 2]),
    )
    output = torch.cat([torch.zeros(1), means, log_scales, raw]).double()
    red, green, blue = pixel = values(torch.tensor([200, 100, 30]))
    first, second, third = raw.double().tanh()
    shifted = means.double() + torch.stack([0 * red, first * red, second * red + third * green])
    expected = discretised_logistic(pixel, shifted, log_scales.double()).sum()
    found = mixture.log_prob(torch.stack([red, green, blue]).view(1, 3, 1, 1), output.view(1, -1, 1, 1))
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(("channels", "num_levels", "size"), [(1, 4, (2, 2)), (3, 3, (1, 2)), (4, 2, (2, 1))])
@pytest.mark.parametrize("kind", KINDS)
def test_bits_per_dim_agree_with_enumeration(kind, channels, num_levels, size):
    """All images together have probability 1; the mean bits are the entropy, computed number by number."""
    model = pixel_model(kind, channels, num_levels)
    images = all_images(num_levels, channels, *size)
    with torch.no_grad():
        log_prob = model.log_prob(images).flatten(1).sum(1)
    probabilities = log_prob.exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-10)
    bits = (probabilities * bits_per_dim(log_prob, images[0].numel())).sum()
    assert bits.item() == pytest.approx(chain_entropy(probabilities, num_levels), rel=1e-10)


def chain_entropy(probabilities: Tensor, num_levels: int) -> float:
    """Return the mean entropy of a number given those before it, in bits, from the table of all images."""
    dims = round(math.log(len(probabilities), num_levels))
    table = probabilities.view([num_levels] * dims)
    total, marginal = 0.0, [table.sum(list(range(place, dims))) if place < dims else table for place in range(dims + 1)]
    for place in range(dims):
        conditional = marginal[place + 1] / marginal[place].unsqueeze(-1)
        total -= (marginal[place + 1] * conditional.log2()).sum().item()
    return total / dims


@pytest.mark.parametrize("kind", KINDS)
def test_classes_change_the_probabilities(kind):
    model = pixel_model(kind, channels=1, num_classes=3)
    images = noise(2, 1, 4, 4)
    first, second = (model.log_prob(images, torch.tensor(labels)) for labels in ([0, 1], [0, 2]))
    assert torch.equal(first[0], second[0]) and not torch.allclose(first[1], second[1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_loss_is_about_that_of_uniform_pixels(kind):
    images = noise(8, 1, 8, 8).float()
    model = PixelCNN(1, width=16, num_blocks=1) if kind == "pixelcnn" else PixelRNN(1, width=16, num_layers=2)
    if kind == "pixelcnn":
        start_from_data(model, images)
    bits = bits_per_dim(model.eval().log_prob(images).flatten(1).sum(1), 64).mean()
    assert 7.5 < bits < 10


def test_weight_norm_is_its_definition():
    layer = WeightNormConv2d(3, 5, Window(2, 1, 1)).double()
    layer.gain.data = noise(5)
    weight = layer.weight()
    assert torch.allclose(weight.flatten(1).norm(dim=1), layer.gain.abs())
    scaled = layer.direction * 3
    layer.direction.data = scaled
    assert torch.allclose(layer.weight(), weight)
    transposed = WeightNormConvTranspose2d(3, 5, Window(2, 1, 1), stride=2).double()
    assert torch.allclose(transposed.weight().transpose(0, 1).flatten(1).norm(dim=1), transposed.gain)
    assert transposed(noise(1, 3, 4, 6)).shape == (1, 5, 8, 12)


def test_layers_start_from_the_statistics_of_data():
    model = PixelCNN(1, width=8, num_blocks=1, dropout=0.0)
    images = noise(16, 1, 8, 8).float()
    start_from_data(model, images, None)
    seen: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, WeightNormConv2d):
            layer.register_forward_hook(lambda layer, inputs, output, name=name: seen.update({name: output}))
    model(images)
    assert seen.keys() >= {"start.left", "up.2.1.left.extra", "grow.0.above", "output"}
    layers = dict(model.named_modules())
    for name, result in seen.items():
        deviation, mean = torch.std_mean(result, dim=(0, 2, 3))
        assert mean.abs().max() < 1e-3, name
        assert torch.allclose(deviation, torch.full_like(deviation, layers[name].start_scale), rtol=1e-2), name


def test_masks_divide_features_among_the_channels():
    assert owners(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    first = MaskedConv2d(3, 6, 3, num_groups=3, sees_own=False).mask[:, :, 1, 1]
    assert first.tolist() == [[0, 0, 0]] * 2 + [[1, 0, 0]] * 2 + [[1, 1, 0]] * 2
    gates = MaskedConv2d(3, 6, 1, num_groups=3, repeats=2).mask[:, :, 0, 0]
    assert gates.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]] * 2


def test_skewing_makes_columns_of_diagonals():
    features = torch.arange(12.0).view(1, 3, 4)
    expected = torch.tensor([[0, 1, 2, 3, 0, 0], [0, 4, 5, 6, 7, 0], [0, 0, 8, 9, 10, 11.0]])
    assert torch.equal(skewed(features)[0], expected)
    assert torch.equal(unskewed(skewed(features), 4), features)


def test_the_diagonal_lstm_is_its_recursion():
    width, height, columns = 2, 3, 4
    layer = DiagonalBiLSTM(width, channels=1).double()
    features = noise(1, 2 * width, height, columns)
    inputs = [gates(features)[0] for gates in layer.inputs]  # (4F, H, W) for each direction

    def states(direction: int) -> Tensor:
        """Return the states (F, H, W) of the direction whose neighbour is to the left, or to the right."""
        weight = layer.recurrence.weight[4 * width * direction : 4 * width * (direction + 1)]  # (4F, F, 2)
        hidden: dict[tuple[int, int], Tensor] = {}
        cell: dict[tuple[int, int], Tensor] = {}
        nothing = torch.zeros(width, dtype=torch.float64)
        steps = range(columns) if direction == 0 else reversed(range(columns))
        order = [(row, column) for column in steps for row in range(height)]
        for row, column in order:
            beside = (row, column - 1) if direction == 0 else (row, column + 1)
            outside = not 0 <= beside[1] < columns
            side = (nothing, nothing) if outside else (hidden[beside], cell[beside])
            above = hidden[row - 1, column] if row > 0 else nothing
            gates = inputs[direction][:, row, column] + weight[:, :, 0] @ above + weight[:, :, 1] @ side[0]
            hidden[row, column], cell[row, column] = lstm(gates, side[1])
        return torch.stack([torch.stack([hidden[r, c] for c in range(columns)], -1) for r in range(height)], -2)

    def lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        output, forget, enter, content = gates.chunk(4)
        cell = forget.sigmoid() * cell + enter.sigmoid() * content.tanh()
        return output.sigmoid() * cell.tanh(), cell

    with torch.no_grad():
        from_left, from_right = states(0), states(1)
        from_above = torch.cat([torch.zeros_like(from_right[:, :1]), from_right[:, :-1]], dim=1)
        expected = features[0] + layer.output((from_left + from_above)[None])[0]
        assert torch.allclose(layer(features)[0], expected)


def test_models_train_in_half_precision_autocast():
    for kind in KINDS:
        model = pixel_model(kind, channels=1).float().train()
        with torch.autocast("cpu", torch.bfloat16):
            loss = -model.log_prob(noise(2, 1, 4, 4).float()).mean()
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters()), kind
