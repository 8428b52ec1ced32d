"""`inpaint` keeps every promise of a plugin, and fills holes from what is around them."""

import math
from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.testing import ModelConformance
from torch import nn

from aigc_restore.inpainting import push_pull, spectral
from aigc_restore.inpainting.choice import FILLINGS, NETWORKS
from aigc_restore.inpainting.fourier import SpectralTransform
from aigc_restore.inpainting.partial import PartialConvolution
from aigc_restore.losses.style import gram, style
from aigc_restore.models.inpaint import Inpaint, hole_psnr, log_hole_error

SPEC = ImageSpec(3, 32, 32, task="restoration", masks=True)
TINY = {"partial": {"width": 4, "num_levels": 2}, "gated": {"width": 2}, "fourier": {"width": 4, "num_blocks": 1}}
SMALL = ("model.network_options={width: 4, num_blocks: 1}", "data.data.size=32", "data.data.num_train=16")


class TestInpaint(ModelConformance):
    model = "inpaint"
    config = "inpaint_photos"
    settings = SMALL


@pytest.mark.slow
class TestAdversarialInpaint(ModelConformance):
    model = "inpaint"
    config = "inpaint_photos"
    settings = (
        *SMALL,
        "model.network=partial",
        "model.network_options={width: 4, num_levels: 2}",
        "model.adversarial_weight=0.1",
        "model.discriminator_width=8",
    )


def made(network: str, **options: Any) -> Inpaint:
    model = Inpaint(SPEC, network, network_options=TINY[network], **options)
    model.configure_model()
    for module in model.modules():  # the last layers start at 0
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    return model.eval()


def holes(count: int = 2, size: int = 32) -> torch.Tensor:
    masks = torch.zeros(count, 1, size, size)
    masks[0, :, 4:14, 9:25] = 1
    masks[-1, :, size // 2 :] = 1
    return masks


@pytest.mark.parametrize("network", NETWORKS)
def test_a_hole_is_filled_whatever_was_in_it_and_the_rest_stays(network):
    model, masks = made(network), holes()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    filled = model.edit(images, masks)
    assert torch.equal(filled, model.edit(torch.where(masks > 0, torch.rand_like(images), images), masks))
    assert torch.equal(torch.where(masks > 0, images, filled), images)
    assert (filled - push_pull.push_pull(images, masks).clamp(-1, 1)).abs().max() > 1e-3  # the network has a say
    assert filled.isfinite().all() and model.edit(images, torch.ones_like(masks)).isfinite().all()


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_learn_to_fill_better_than_smoothly(network):
    ramp = torch.linspace(-1, 1, 32)
    images = (torch.sin(9 * ramp)[:, None] * torch.sin(7 * ramp)).expand(2, 3, 32, 32)
    masks, model = holes(), Inpaint(SPEC, network, network_options=TINY[network])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    errors = []
    for _ in range(60):
        error = (model.generator(images, masks) - images).abs()
        optimizer.zero_grad()
        (6 * (error * masks).mean() + (error * (1 - masks)).mean()).backward()
        optimizer.step()
        errors.append(float((error * masks).mean().detach()))
    assert errors[-1] < 0.8 * errors[0]


def test_the_logarithm_counts_each_image_alike():
    images, targets = torch.zeros(2, 3, 8, 8, requires_grad=True), torch.zeros(2, 3, 8, 8)
    targets[0], targets[1] = 0.4, 0.04
    masks = torch.zeros(2, 1, 8, 8)
    masks[..., :3, :] = 1
    loss = log_hole_error(images, targets, masks)
    scores = hole_psnr(images.detach(), targets, masks).mean() * math.log(10) / 10
    assert float(loss.detach()) == pytest.approx(math.log(4) - float(scores), abs=0.04)
    loss.backward()
    sizes = (images.grad.abs() * targets.abs()).flatten(1).sum(1)
    assert float(sizes[0]) == pytest.approx(float(sizes[1]), rel=0.1) and not images.grad[..., 3:, :].any()


def test_the_mean_over_orientations_keeps_the_surroundings_and_turns_with_the_image():
    model, masks = made("gated"), holes()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    filled = model.edit(images, masks, ensemble=True)
    assert torch.equal(torch.where(masks > 0, images, filled), images)
    turned = model.edit(images.rot90(1, (2, 3)), masks.rot90(1, (2, 3)), ensemble=True)
    torch.testing.assert_close(turned, filled.rot90(1, (2, 3)), atol=1e-5, rtol=0)
    assert (filled - model.edit(images, masks)).abs().max() > 1e-3


@pytest.mark.parametrize("stride", [1, 2])
def test_with_everything_known_a_partial_convolution_is_a_convolution(stride):
    layer = PartialConvolution(3, 5, stride=stride)
    features = torch.randn(2, 3, 9, 9)
    output, known = layer(features, torch.ones(2, 1, 9, 9))
    torch.testing.assert_close(output, layer.convolution(features))
    assert known.all()


def test_a_partial_convolution_scales_up_what_is_known():
    layer = PartialConvolution(1, 1)
    nn.init.constant_(layer.convolution.weight, 1)
    nn.init.constant_(layer.convolution.bias, 0.5)
    known = torch.zeros(1, 1, 5, 5)
    known[..., 2, 2] = 1
    output, found = layer(torch.full((1, 1, 5, 5), 2.0), known)
    assert output[0, 0, 2, 2] == 2 * 9 + 0.5 and output[0, 0, 0, 0] == 0
    assert found.sum() == 9


def test_a_smooth_filling_continues_flat_images_and_keeps_what_is_known():
    masks = holes()
    images = torch.tensor([0.3, -0.5]).view(2, 1, 1, 1).expand(2, 3, 32, 32)
    torch.testing.assert_close(push_pull.push_pull(torch.where(masks > 0, 9.0, images), masks), images)
    noise = torch.rand(2, 3, 13, 7)
    cut = holes(2, 13)[..., :7]
    found = push_pull.push_pull(noise, cut)
    assert torch.equal(torch.where(cut > 0, noise, found), noise)
    assert not push_pull.push_pull(noise, torch.ones_like(cut)).any()


def test_a_filling_is_smoother_than_means_of_what_is_around(monkeypatch):
    masks, images = holes(), torch.linspace(0, 3, 32).sin().expand(2, 3, 32, 32)
    smooth = push_pull.push_pull(images, masks)
    monkeypatch.setattr(push_pull, "_STEPS", 0)
    bends = [push_pull._laplacian(one).square().sum() for one in (smooth, push_pull.push_pull(images, masks))]
    assert bends[0] < 0.5 * bends[1]


def psnr(found: torch.Tensor, images: torch.Tensor, masks: torch.Tensor) -> float:
    return float(hole_psnr(found, images, masks).mean())


@pytest.mark.parametrize(("height", "width"), [(40, 64), (110, 40)])
def test_a_spectral_filling_continues_stripes_whatever_was_in_the_hole(height, width):
    rows = torch.arange(height)[:, None] + 0 * torch.arange(width)
    images = torch.sin(2 * math.pi * rows / 6).expand(2, 3, height, width) * 0.8
    masks = torch.zeros(2, 1, height, width)
    masks[0, :, 9:27, 10:30] = 1
    masks[1, :, height - 25 : height - 10, 5:20] = 1
    found = spectral.spectral(torch.where(masks > 0, 9.0, images), masks)
    assert torch.equal(torch.where(masks > 0, images, found), images)
    assert torch.equal(found, spectral.spectral(images, masks))
    assert psnr(found, images, masks) > psnr(push_pull.push_pull(images, masks), images, masks) + 10
    alone = spectral.spectral(images[1:], masks[1:])
    torch.testing.assert_close(alone[0], found[1], atol=1e-4, rtol=0)


def test_a_spectral_filling_of_nothing_is_smooth():
    masks = holes()
    flat = torch.tensor([0.3, -0.5]).view(2, 1, 1, 1).expand(2, 3, 32, 32)
    torch.testing.assert_close(spectral.spectral(torch.where(masks > 0, 9.0, flat), masks), flat, atol=1e-4, rtol=0)
    assert not spectral.spectral(flat, torch.ones_like(masks)).any()
    assert torch.equal(spectral.spectral(flat, torch.zeros_like(masks)), flat)
    pixel = torch.ones(1, 3, 1, 1)
    assert torch.equal(spectral.spectral(pixel, torch.zeros(1, 1, 1, 1)), pixel)


def test_the_basis_of_windows_is_orthonormal_and_its_blur_keeps_even_spectra():
    basis = spectral._Basis((9, 12), 1.5, torch.zeros(1, dtype=torch.float64))
    pixels = torch.randn(1, 3, 9, 12, dtype=torch.float64)
    torch.testing.assert_close(basis.filtered(pixels, torch.ones(1, 1, 9, 12)), pixels)
    even = torch.full((1, 1, 9, 12), 2.0, dtype=torch.float64)
    torch.testing.assert_close(basis.blurred(even), even)
    laplacian = -push_pull._laplacian(pixels)
    tension = push_pull.TENSION * laplacian - push_pull._laplacian(laplacian)
    torch.testing.assert_close(basis.filtered(pixels, 1 / basis.prior), tension, atol=1e-4, rtol=0)


def test_conjugate_gradients_find_the_mean_in_the_hole():
    basis = spectral._Basis((8, 7), 1.5, torch.zeros(1, dtype=torch.float64))
    pixels, unknown = torch.randn(1, 1, 8, 7, dtype=torch.float64), torch.zeros(1, 1, 8, 7, dtype=torch.float64)
    unknown[..., 2:5, 1:6] = 1
    spectrum = basis.prior * (0.5 + torch.rand(1, 1, 8, 7, dtype=torch.float64))
    units = torch.eye(56, dtype=torch.float64).view(56, 1, 8, 7)
    covariance = basis.filtered(units, spectrum).view(56, 56)
    hole = unknown.flatten() > 0
    known = torch.linalg.solve(covariance[~hole][:, ~hole], pixels.flatten()[~hole])
    found = spectral._solved(pixels, unknown, basis, spectrum, 40)
    torch.testing.assert_close(found.flatten()[hole], covariance[hole][:, ~hole] @ known, atol=1e-6, rtol=0)
    assert torch.equal(found.flatten()[~hole], pixels.flatten()[~hole])


def test_training_starts_from_the_filling_that_is_named():
    masks, images = holes(), torch.rand(2, 3, 32, 32)
    for name, function in FILLINGS.items():
        model = Inpaint(SPEC, "gated", network_options=TINY["gated"], filling=name)
        torch.testing.assert_close(model.generator(images, masks), function(images, masks), atol=0, rtol=0)


def test_a_spectral_transform_sees_the_whole_image():
    layer = SpectralTransform(4)
    features = torch.randn(1, 4, 12, 10, requires_grad=True)
    output = layer(features)
    assert output.shape == features.shape
    output[0, 0, 0, 0].backward()
    assert (features.grad.abs().sum(1) > 0).float().mean() > 0.5  # where the activations do not stop it


def test_gram_matrices_forget_places_and_know_textures():
    features = torch.randn(2, 3, 4, 5)
    shuffled = features.flatten(2)[..., torch.randperm(20)].view(2, 3, 4, 5)
    torch.testing.assert_close(gram(features), gram(shuffled))
    torch.testing.assert_close(gram(features)[0, 0, 1], (features[0, 0] * features[0, 1]).mean())
    assert style([features, torch.ones(2, 7)], [features, torch.zeros(2, 7)]) == 0
    assert style([features], [2 * features]) > 0


def test_the_score_counts_holes_alone():
    images, masks = torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    masks[..., :2, :] = 1
    wrong = images + 0.2 * masks + 5 * (1 - masks)
    assert float(hole_psnr(wrong, images, masks)) == pytest.approx(20, abs=1e-5)  # an error of 0.1 on a scale of 1


@pytest.mark.parametrize(
    ("options", "spec", "message"),
    [
        ({}, ImageSpec(3, 32, 32), "needs a mask"),
        ({}, ImageSpec(3, 32, 32, task="paired", masks=True), "paired"),
        ({}, ImageSpec(3, 30, 32, task="restoration", masks=True), "multiples of 4"),
        ({"network_options": {"depth": 2}}, SPEC, "cannot be built"),
        ({"network_options": {"width": -1}}, SPEC, "width is -1"),
        ({"style_weight": 1.0}, SPEC, "need a network that provides the features"),
        ({"r1_weight": -1.0}, SPEC, "r1_weight"),
    ],
)
def test_what_does_not_fit_is_refused(options, spec, message):
    with pytest.raises(UserError, match=message):
        Inpaint(spec, **options)
