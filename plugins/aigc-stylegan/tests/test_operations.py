"""Operations against their definitions, and their derivatives against differences."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import conv2d, conv_transpose2d

from aigc_stylegan.convolution import convolve, convolve_up
from aigc_stylegan.filtering import Blur, Downsample, Upsample
from aigc_stylegan.generator import demodulation, modulated_convolution
from aigc_stylegan.layers import (
    EqualizedConv2d,
    EqualizedLinear,
    MappingNetwork,
    activate,
    minibatch_deviation,
    pixel_norm,
)
from aigc_stylegan.path_length import path_lengths

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8


def numbers(*shape: int, seed: int = 0, grad: bool = True) -> Tensor:
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.requires_grad_(grad)


def between(image: Tensor) -> Tensor:
    """Put a row and a column of zeros after each pixel."""
    result = image.new_zeros(2 * image.shape[0], 2 * image.shape[1])
    result[::2, ::2] = image
    return result


def filtered(image: Tensor, start: int, step: int, size: tuple[int, int]) -> Tensor:
    """Sum over the 4x4 window whose corner is at (start + i step, start + j step), zeros being outside."""
    result = image.new_zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            for a in range(4):
                for b in range(4):
                    row, column = start + i * step + a, start + j * step + b
                    if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                        result[i, j] += TAPS[a] * TAPS[b] * image[row, column]
    return result


@pytest.mark.parametrize("kind", ["up", "down", "blur"])
def test_filters_are_their_definition(kind: str) -> None:
    images = numbers(2, 2, 4, 6, grad=False)
    layer, one = {
        "up": (Upsample(), lambda image: 4 * filtered(between(image), -2, 1, (8, 12))),
        "down": (Downsample(), lambda image: filtered(image, -1, 2, (2, 3))),
        "blur": (Blur(padding=2, gain=3.0), lambda image: 3 * filtered(image, -2, 1, (5, 7))),
    }[kind]
    expected = torch.stack([torch.stack([one(channel) for channel in image]) for image in images])
    assert torch.allclose(layer.double()(images), expected)


def test_resampling_keeps_a_constant_and_the_place_of_a_ramp() -> None:
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    inside = (..., slice(4, -4), slice(4, -4))
    assert torch.allclose(Downsample()(torch.ones(1, 1, 16, 16))[0, 0, 1:-1, 1:-1], torch.ones(6, 6))
    doubled = Upsample()(ramp)[inside]
    assert torch.allclose(doubled, ((torch.arange(32.0) + 0.5) / 2 - 0.5).expand(1, 1, 32, 32)[inside])


@pytest.mark.parametrize("layer", [Upsample(), Downsample(), Blur(padding=1), EqualizedConv2d(2, 2, 3, down=True)])
def test_derivatives_of_filters(layer: torch.nn.Module) -> None:
    images = numbers(1, 2, 4, 4)
    assert gradcheck(layer.double(), images)
    assert gradgradcheck(layer, images)


def directly(features: Tensor, weight: Tensor, styles: Tensor, demodulate: bool, up: bool) -> Tensor:
    """Equations 1 and 3, for each image with weights of its own."""
    results = []
    for image, style in zip(features, styles, strict=True):
        own = weight * style[None, :, None, None]
        if demodulate:
            own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:  # all shifts of the flipped kernel over the pixels with zeros between them
            spread = torch.stack([between(channel) for channel in image])[:, :-1, :-1]
            results.append(conv2d(spread[None], own.flip(2, 3), padding=own.shape[-1] - 1))
        else:
            results.append(conv2d(image[None], own, padding=own.shape[-1] // 2))
    return torch.cat(results)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_convolution_is_its_definition(demodulate: bool, up: bool) -> None:
    features, weight, styles = numbers(3, 2, 4, 5), numbers(4, 2, 3, 3, seed=1), numbers(3, 2, seed=2)
    found = modulated_convolution(features, weight, styles, up=up)
    with torch.no_grad():  # takes another way through PyTorch
        assert torch.allclose(modulated_convolution(features, weight, styles, up=up), found)
    if demodulate:
        found = found * demodulation(weight, styles)[:, :, None, None]
    assert torch.allclose(found, directly(features, weight, styles, demodulate, up))


@pytest.mark.parametrize("up", [False, True])
def test_derivatives_of_modulated_convolution(up: bool) -> None:
    inputs = numbers(2, 2, 2, 3), numbers(2, 2, 3, 3, seed=1), numbers(2, 2, seed=2)

    def run(features: Tensor, weight: Tensor, styles: Tensor) -> Tensor:
        convolved = modulated_convolution(features, weight, styles, up=up)
        return convolved * demodulation(weight, styles)[:, :, None, None]

    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


@pytest.mark.parametrize(("stride", "padding", "size"), [(1, 1, 3), (2, 0, 3), (1, 0, 1)])
def test_convolutions_and_their_second_derivatives_are_those_of_pytorch(stride: int, padding: int, size: int) -> None:
    features, weight = numbers(2, 3, 5, 7), numbers(4, 3, size, size, seed=1)

    def derivatives(result: Tensor) -> list[Tensor]:
        slopes = torch.autograd.grad(result.square().sum(), [features, weight], create_graph=True)
        total = sum((slope.square() * slope).sum() for slope in slopes)
        return [result, *slopes, *torch.autograd.grad(total, [features, weight])]

    ours = derivatives(convolve(features, weight, stride, padding, scale=0.7))
    theirs = derivatives(conv2d(features, 0.7 * weight, stride=stride, padding=padding))
    assert all(torch.allclose(one, other) for one, other in zip(ours, theirs, strict=True))
    if stride == 2:
        ours = derivatives(convolve_up(features, weight))
        theirs = derivatives(conv_transpose2d(features, weight.transpose(0, 1), stride=2))
        assert all(torch.allclose(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("up", [False, True])
def test_convolutions_are_differentiable_as_often_as_one_likes(up: bool) -> None:
    features, weight = numbers(1, 2, 3, 3), numbers(2, 2, 3, 3, seed=1)
    run = convolve_up if up else convolve
    assert gradcheck(run, (features, weight))
    assert gradgradcheck(run, (features, weight))


def test_path_length_is_the_jacobian_times_the_noise() -> None:
    matrix, styles, noise = numbers(1 * 2 * 8, 3 * 4), numbers(2, 3, 4, seed=1), numbers(2, 1, 2, 8, seed=2)

    def images(values: Tensor) -> Tensor:
        return (values.flatten(1).square() @ matrix.T).view(-1, 1, 2, 8)

    # d/ds_j of sum_i y_i m_ij s_j^2, over sqrt(16) pixels; the mean square over 3 layers.
    slope = noise.flatten(1) @ matrix * 2 * styles.flatten(1) / 4
    expected = slope.view(2, 3, 4).square().sum(dim=2).mean(dim=1).sqrt()
    assert torch.allclose(path_lengths(images(styles), styles, noise), expected)
    assert gradcheck(
        lambda weights: path_lengths((styles * weights).view(2, 1, 2, 6), styles, numbers(2, 1, 2, 6)),
        numbers(2, 3, 4, seed=3),
    )


def test_equalized_layers_keep_unit_variance_whatever_their_size() -> None:
    torch.manual_seed(0)
    for layer, values in (
        (EqualizedLinear(400, 300), torch.randn(200, 400)),
        (EqualizedLinear(400, 300, lr_multiplier=0.01), torch.randn(200, 400)),
        (EqualizedConv2d(100, 80, 3), torch.randn(8, 100, 16, 16)),
    ):
        inside = layer(values)[..., 1:-1, 1:-1] if values.ndim == 4 else layer(values)
        assert inside.var().item() == pytest.approx(1, abs=0.05)
    assert activate(torch.randn(10**5)).square().mean().item() == pytest.approx(1.04, abs=0.03)


def test_a_smaller_multiplier_learns_slower_by_it() -> None:
    layer = EqualizedLinear(3, 2, bias=1.0, lr_multiplier=0.1)
    before = layer(torch.zeros(1, 3))
    assert torch.allclose(before, torch.ones(1, 2))
    with torch.no_grad():
        layer.bias += 0.5
    assert torch.allclose(layer(torch.zeros(1, 3)), torch.full((1, 2), 1.05))


def test_pixel_norm_forgets_lengths() -> None:
    values = numbers(4, 8, grad=False)
    assert torch.allclose(pixel_norm(values).square().mean(dim=1), torch.ones(4, dtype=torch.float64))
    assert torch.allclose(pixel_norm(values), pixel_norm(3 * values))


def test_mapping_needs_class_and_latent() -> None:
    network, latents = MappingNetwork(8, 6, num_classes=3, num_layers=2), torch.randn(4, 8)
    first = network(latents, torch.tensor([0, 1, 2, 0]))
    assert first.shape == (4, 6)
    assert not torch.allclose(first[:1], network(latents[:1], torch.tensor([1])))
    assert MappingNetwork(0, 6, num_classes=3)(None, torch.tensor([2])).shape == (1, 6)


def test_minibatch_deviation() -> None:
    features = torch.zeros(7, 2, 1, 2)
    features[4:] = torch.tensor([1.0, 3.0, 5.0])[:, None, None, None]
    found = minibatch_deviation(features, group_size=4)
    assert torch.equal(found[:, :2], features)
    assert torch.allclose(found[:4, 2], torch.full((4, 1, 2), 1e-4))  # equal images
    assert torch.allclose(found[4:, 2], torch.full((3, 1, 2), (8 / 3) ** 0.5))  # what remains: 1, 3, 5
    images = torch.randn(8, 2, 3, 3)
    halves = torch.cat([minibatch_deviation(half) for half in images.split(4)])
    assert torch.allclose(minibatch_deviation(images), halves)
