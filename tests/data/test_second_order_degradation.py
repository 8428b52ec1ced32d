import math
from dataclasses import replace

import pytest
import torch

from aigc_lightning.config.data_section import build_data
from aigc_lightning.core import keyed
from aigc_lightning.data.blur_kernels import filtered, gaussian_kernel, plateau_kernel, sinc_kernel
from aigc_lightning.data.corruptions import corrupt
from aigc_lightning.data.degraded_images import DegradedImages
from aigc_lightning.data.second_order_degradation import DegradationStage, SecondOrderDegradation
from aigc_lightning.errors import UserError

NOTHING = DegradationStage(blur_prob=0, resize_probs=(0, 0, 1), noise_prob=0, jpeg_prob=0)


def pictures(count=3, channels=3, height=64, width=48):
    smooth = keyed.normal((count, channels, height // 8, width // 8), 1) * 50 + 128
    large = torch.nn.functional.interpolate(smooth, (height, width), mode="bilinear")
    return large.clamp(0, 255).to(torch.uint8)


def keys(count):
    return [(0, 0, index) for index in range(count)]


def errors(stage, image=None, factor=1):
    """Return what a stage alone does to grey pictures with different keys."""
    images = torch.full((6, 3, 96, 96), 128, dtype=torch.uint8) if image is None else image
    degradation = SecondOrderDegradation(factor, first=stage, second=NOTHING, final_sinc_prob=0)
    return corrupt(images, [degradation], keys(len(images))).float() - images


@pytest.mark.parametrize("size", [7, 21])
def test_kernels_have_sum_1_and_are_symmetric(size):
    kernels = [gaussian_kernel(size, 2.0, 1.0, 0.4, beta) for beta in (0.5, 1.0, 4.0)]
    kernels += [plateau_kernel(size, 2.0, 1.0, 0.4, beta) for beta in (1.0, 2.0)]
    kernels += [sinc_kernel(size, cutoff) for cutoff in (math.pi / 5, math.pi)]
    for kernel in kernels:
        assert kernel.shape == (size, size) and kernel.sum() == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(kernel, kernel.flip(0, 1))


def test_the_ellipse_of_a_kernel_has_its_axes():
    kernel = gaussian_kernel(31, 3.0, 1.5, math.pi / 6).double()
    places = torch.arange(31, dtype=torch.float64) - 15
    y, x = torch.meshgrid(places, places, indexing="ij")
    found = [float((kernel * moment).sum()) for moment in (x * x, x * y, y * y)]
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    expected = [9 * cos**2 + 2.25 * sin**2, (9 - 2.25) * cos * sin, 9 * sin**2 + 2.25 * cos**2]
    assert found == pytest.approx(expected, abs=0.02)


def test_a_generalized_kernel_is_flatter_in_the_middle_than_a_gaussian_and_a_plateau_falls_as_a_power():
    flat, normal = gaussian_kernel(21, 2, 2, beta=4), gaussian_kernel(21, 2, 2)
    assert flat[10, 11] / flat[10, 10] > 0.99 > normal[10, 11] / normal[10, 10] + 0.1
    plateau = plateau_kernel(21, 2, 2, beta=2)
    assert float(plateau[10, 14] / plateau[10, 10]) == pytest.approx(1 / 17)  # four pixels are two deviations


def test_a_sinc_kernel_stops_what_lies_above_its_cutoff_and_rings_at_edges():
    kernel = sinc_kernel(41, math.pi / 2)
    x = torch.arange(128.0)
    for frequency, gain in ((math.pi / 4, 1), (3 * math.pi / 4, 0)):
        waves = (frequency * x).cos().expand(1, 128, 128)
        assert filtered(waves, kernel)[0, 30:-30, 30:-30].abs().max() == pytest.approx(gain, abs=0.12)
    edge = torch.cat([torch.zeros(1, 64, 32), torch.ones(1, 64, 32)], dim=2)
    assert filtered(edge, kernel).max() > 1.03


def test_a_kernel_larger_than_the_image_is_cropped():
    image = torch.full((3, 4, 6), 7.0)
    torch.testing.assert_close(filtered(image, gaussian_kernel(21, 3, 3)), image)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_result_has_its_size_and_depends_on_the_key_alone(channels):
    images, degradation = pictures(3, channels), SecondOrderDegradation(4)
    small = corrupt(images, [degradation], keys(3))
    assert small.dtype == torch.uint8 and small.shape == (3, channels, 16, 12)
    assert torch.equal(small[1:2], corrupt(images[1:2], [degradation], [(0, 0, 1)]))
    assert not torch.equal(small[1:2], corrupt(images[1:2], [degradation], [(0, 1, 1)]))


def test_it_is_the_image_without_blur_resizing_noise_and_compression():
    degradation = SecondOrderDegradation(1, NOTHING, NOTHING, final_sinc_prob=0)
    assert torch.equal(corrupt(pictures(), [degradation], keys(3)), pictures())


def test_mean_colours_survive():
    images = pictures(8)
    small = corrupt(images, [SecondOrderDegradation(2)], keys(8)).float()
    assert (small.mean(dim=(2, 3)) - images.float().mean(dim=(2, 3))).abs().mean() < 4


def test_gaussian_and_poisson_noise_have_their_strengths():
    gaussian = replace(NOTHING, noise_prob=1, gaussian_noise_prob=1, gray_noise_prob=0, noise_sigma=(10, 10))
    noise = errors(gaussian)
    assert noise.std() == pytest.approx(10, rel=0.02) and (noise[:, 0] * noise[:, 1]).mean().abs() < 3
    gray = errors(replace(gaussian, gray_noise_prob=1))
    assert torch.equal(gray[:, 0], gray[:, 1]) and gray.std() == pytest.approx(10, rel=0.03)
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 256).expand(1, 3, 400, 256)
    poisson = replace(gaussian, gaussian_noise_prob=0, poisson_scale=(1.0, 1.0))
    spread = errors(poisson, ramp).std(dim=(0, 1, 2))
    assert float(spread[64]) == pytest.approx(math.sqrt(64 * 255 / 256), rel=0.1)  # 256 levels, so 256 photons
    assert float(spread[144]) == pytest.approx(math.sqrt(144 * 255 / 256), rel=0.1)


def test_each_part_acts():
    for part in ({"blur_prob": 1}, {"resize_probs": (0, 1, 0)}, {"resize_probs": (1, 0, 0)}, {"jpeg_prob": 1}):
        assert errors(replace(NOTHING, **part), pictures()).abs().max() > 1
    ringing = SecondOrderDegradation(1, NOTHING, NOTHING, final_sinc_prob=1)
    assert not torch.equal(corrupt(pictures(), [ringing], keys(3)), pictures())


def test_defaults_are_those_of_the_paper():
    first, second = SecondOrderDegradation().first, SecondOrderDegradation().second
    assert sum(first.kernel_probs[:2]) == pytest.approx(0.7) and first.sinc_prob == second.sinc_prob == 0.1
    assert (first.blur_sigma, second.blur_sigma, second.blur_prob) == ((0.2, 3), (0.2, 1.5), 0.8)
    assert (first.noise_sigma, second.noise_sigma) == ((1, 30), (1, 25))
    assert (first.poisson_scale, second.poisson_scale) == ((0.05, 3), (0.05, 2.5))
    assert first.jpeg_quality == second.jpeg_quality == (30, 95) and SecondOrderDegradation().final_sinc_prob == 0.8


def test_it_can_be_written_as_a_config_and_gives_the_scale():
    inner = {"class_path": "aigc_lightning.data.sets.digits.Digits", "init_args": {"size": 16}}
    settings = {"factor": 2, "second": {"blur_prob": 0.5}}
    corruptions = [{"class_path": "SecondOrderDegradation", "init_args": settings}]
    data = build_data("aigc_lightning.data.degraded_images.DegradedImages", {"data": inner, "corruptions": corruptions})
    assert isinstance(data, DegradedImages) and data.spec.scale == 2
    expected = SecondOrderDegradation(2)
    assert data.corruptions == [replace(expected, second=replace(expected.second, blur_prob=0.5))]
    batches = [next(iter(data.val_dataloader()))["degraded"] for _ in range(2)]
    assert batches[0].shape[1:] == (1, 8, 8) and torch.equal(*batches)


def test_what_is_out_of_range_is_refused():
    for settings in ({"blur_prob": 1.5}, {"resize_probs": (0.5, 0.5, 0.5)}, {"kernel_size": (8, 21)}):
        with pytest.raises(UserError, match=next(iter(settings))):
            DegradationStage(**settings)
    for ranges in ({"jpeg_quality": (50.0, 30.0)}, {"resize_range": (1.1, 1.5)}, {"blur_sigma": (0.0, 1.0)}):
        with pytest.raises(UserError, match=next(iter(ranges))):
            DegradationStage(**ranges)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="factor is 0"):
        SecondOrderDegradation(0)
    with pytest.raises(UserError, match="multiple of 5"):
        corrupt(pictures(1), [SecondOrderDegradation(5)], keys(1))
