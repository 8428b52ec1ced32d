from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image.lpips import _LPIPS
from torchvision.models import vgg16

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.pairs import LPIPS, luma, mae, ms_ssim, mse, psnr, ssim


def pairs(size=200, channels=3):
    """Return two photographs and what noise of two strengths makes of them."""
    photos = np.stack([photo[:size, :size, :channels] for photo in (data.astronaut(), data.coffee())])
    targets = torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255
    noise = torch.randn(targets.shape, generator=torch.Generator().manual_seed(0))
    return (targets + torch.tensor([0.02, 0.2]).view(2, 1, 1, 1) * noise).clamp(0, 1), targets


def arrays(images):
    return images.double().permute(0, 2, 3, 1).numpy()


def test_errors_and_psnr_are_those_of_numpy_and_scikit_image_one_number_an_image():
    images, targets = pairs()
    difference = arrays(images) - arrays(targets)
    np.testing.assert_allclose(mse(images, targets), (difference**2).mean(axis=(1, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(mae(images, targets), np.abs(difference).mean(axis=(1, 2, 3)), rtol=1e-12)
    expected = [
        peak_signal_noise_ratio(b, a, data_range=1) for a, b in zip(arrays(images), arrays(targets), strict=True)
    ]
    np.testing.assert_allclose(psnr(images, targets), expected, rtol=1e-12)
    assert psnr(targets, targets).isinf().all()


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_scikit_image(channels):
    images, targets = pairs(channels=channels)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    expected = [
        structural_similarity(a, b, channel_axis=2, **options)
        for a, b in zip(arrays(images), arrays(targets), strict=True)
    ]
    np.testing.assert_allclose(ssim(images, targets), expected, atol=1e-9)


def reference_ms_ssim(x, y):
    """MS-SSIM of one channel by numpy and scipy, from the equations of the papers."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    taps /= taps.sum()

    def window(values):
        return correlate1d(correlate1d(values, taps, axis=0), taps, axis=1)[5:-5, 5:-5]

    product = 1.0
    for weight in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        mx, my = window(x), window(y)
        vx, vy, cov = window(x * x) - mx**2, window(y * y) - my**2, window(x * y) - mx * my
        contrast = (2 * cov + 9e-4) / (vx + vy + 9e-4)
        similarity = contrast * (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
        product *= (similarity if weight == 0.1333 else contrast).mean() ** weight
        half = [part[: len(part) // 2 * 2, : part.shape[1] // 2 * 2] for part in (x, y)]
        x, y = (part.reshape(len(part) // 2, 2, -1, 2).mean(axis=(1, 3)) for part in half)
    return product


def test_ms_ssim_is_that_of_its_equations():
    images, targets = pairs(180)
    expected = [
        np.mean([reference_ms_ssim(a[..., c], b[..., c]) for c in range(3)])
        for a, b in zip(arrays(images), arrays(targets), strict=True)
    ]
    np.testing.assert_allclose(ms_ssim(images, targets), expected, atol=1e-9)
    np.testing.assert_allclose(ms_ssim(targets, targets), 1)
    assert torch.equal(ms_ssim(1 - targets, targets), torch.zeros(2).double())


def test_luma_and_border():
    assert luma(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)).flatten().tolist() == pytest.approx(
        [16 / 255, 235 / 255]
    )
    targets = pairs(20)[1]
    damaged = targets.clone()
    damaged[..., :4] = 0
    assert psnr(damaged, targets, border=4).isinf().all() and psnr(damaged, targets, border=3).isfinite().all()
    difference = 65.481 * 0.1 / 255  # red is off by a tenth
    redder = targets + torch.tensor([0.1, 0, 0]).view(1, 3, 1, 1)
    assert psnr(redder, targets, channel="y").tolist() == pytest.approx([-20 * np.log10(difference)] * 2, rel=1e-5)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="4x4 with 3 channels and their targets 5x4"):
        mse(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 5, 4))
    with pytest.raises(UserError, match="needs 161 pixels"):
        ms_ssim(torch.zeros(1, 3, 160, 200), torch.zeros(1, 3, 160, 200))


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    """Return a file of VGG-16 with random weights, as torchvision writes it but without the classifier."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    weights = vgg16(weights=None).state_dict()
    torch.save({name: value for name, value in weights.items() if name.startswith("features.")}, path)
    return path


@pytest.mark.slow
def test_lpips_uses_the_weights_of_the_file_and_the_published_weights_of_the_differences(vgg_file: Path):
    images, targets = pairs(64)
    measure = LPIPS(vgg_file)
    found = measure(images, targets)
    assert found.shape == (2,) and (found > 0).all() and torch.equal(measure(images, images), torch.zeros(2))
    reference = _LPIPS(pretrained=True, net="vgg", pnet_rand=True)
    weights = torch.load(vgg_file, weights_only=True)
    with torch.no_grad():
        for name, parameter in reference.net.named_parameters():
            parameter.copy_(weights["features." + name.split(".", 1)[1]])
        torch.testing.assert_close(found, reference(2 * images - 1, 2 * targets - 1).flatten())
    # The published weights of the differences are not negative; new ones would be.
    lins: Any = measure.network.lins
    assert all(layer.model[-1].weight.min() >= 0 for layer in lins)
    grey = images[:, :1]
    assert torch.equal(measure(grey, targets[:, :1]), measure(grey.expand(-1, 3, -1, -1), targets[:, [0, 0, 0]]))


def test_a_file_without_vgg_is_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not hold the weights of VGG-16"):
        LPIPS(tmp_path / "other.pth")
