"""Spectral normalisation against torch's and against the singular value itself."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from aigc_lightning.networks.spectral_norm import spectral_norm


def both(layer):
    """Return two copies of a layer with the same state: one normalised by ours, the other by torch's."""
    one, other = spectral_norm(copy.deepcopy(layer)), parametrizations.spectral_norm(copy.deepcopy(layer))
    other.load_state_dict(one.state_dict())  # the names in checkpoints are the same
    return one, other


def original(layer):
    return layer.get_parameter("parametrizations.weight.original")


def vectors(layer):
    """Return what normalises the weight."""
    return layer.get_submodule("parametrizations.weight.0")


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 8, 4), (2, 3, 9, 9)),
        (nn.Conv2d(3, 8, 4).to(memory_format=torch.channels_last), (2, 3, 9, 9)),
        (nn.Linear(6, 4), (5, 6)),
        (nn.Conv2d(4, 1, 3), (2, 4, 5, 5)),
    ],
)
def test_passes_and_gradients_are_torchs(layer, shape):
    one, other = both(layer)
    inputs = torch.randn(shape)
    for training in (True, True, False):
        one.train(training)
        other.train(training)
        outputs = [layer(inputs) - layer(2 * inputs).square() for layer in (one, other)]  # used twice, as a GAN does
        torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-4)
        gradients = [
            torch.autograd.grad(output.sum(), original(layer))[0]
            for output, layer in zip(outputs, (one, other), strict=True)
        ]
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4 * gradients[1].abs().max().item())
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=1e-5, atol=1e-5)


def test_vectors_without_power_iterations_rest():
    """As the checks of micro-batches need them."""
    layer = spectral_norm(nn.Linear(6, 4))
    vectors(layer).n_power_iterations = 0
    before = copy.deepcopy(layer.state_dict())
    torch.testing.assert_close(layer(torch.eye(6)), layer.eval()(torch.eye(6)))
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


def test_the_largest_singular_value_becomes_1():
    layer = spectral_norm(nn.Linear(12, 7))
    for _ in range(200):
        layer(torch.zeros(1, 12))
    assert torch.linalg.matrix_norm(layer.eval().weight, 2).item() == pytest.approx(1, abs=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    layer = spectral_norm(nn.Linear(5, 4)).double().eval()

    def normalized(weight):  # with the vectors at rest, as in equation 9 of the paper
        return vectors(layer)(weight)

    weight = original(layer)
    assert torch.autograd.gradcheck(normalized, (weight,))


def test_a_second_derivative_by_the_weight_is_refused():
    layer = spectral_norm(nn.Linear(5, 4))
    weight = original(layer)
    (slope,) = torch.autograd.grad(layer.weight.pow(2).sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_a_weight_of_zeros_keeps_the_vectors_finite():
    layer = spectral_norm(nn.Linear(3, 2))
    nn.init.zeros_(original(layer))
    layer(torch.ones(1, 3))
    assert all(buffer.isfinite().all() for buffer in layer.buffers())
