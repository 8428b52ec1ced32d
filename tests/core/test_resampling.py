"""Resizing agrees with the definition of MATLAB's imresize, written out in sums."""

import numpy as np
import pytest
import torch

from aigc_lightning.core.resampling import enlarged, reduced


def keys_kernel(x):
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))


def matrix(length, new_length):
    """Return the weights (new, old) of one axis, with the outermost pixels continued beyond the border."""
    scale = new_length / length
    width = min(scale, 1.0)
    place = (np.arange(new_length) + 0.5) / scale - 0.5
    reach = range(-4 * length, 5 * length)
    weights = np.stack([width * keys_kernel(width * (place - i)) for i in reach], axis=1)
    found = np.zeros((new_length, length))
    for column, i in enumerate(reach):
        found[:, min(max(i, 0), length - 1)] += weights[:, column]
    return found / found.sum(axis=1, keepdims=True)


def whole(values):
    return np.floor(values + 0.5 + 1e-9).clip(0, 255)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_small_images_are_equal_to_the_last_bit(scale):
    images = torch.randint(0, 256, (2, 3, 12, 24), generator=torch.Generator().manual_seed(0)).float()
    rows, columns = matrix(12, 12 // scale), matrix(24, 24 // scale)
    expected = whole(whole(rows @ images.double().numpy()) @ columns.T)
    found = reduced(images, scale)
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_large_images_are_not_rounded(scale):
    images = torch.rand((3, 5, 7), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    expected = matrix(5, 5 * scale) @ images.numpy() @ matrix(7, 7 * scale).T
    torch.testing.assert_close(enlarged(images, scale), torch.from_numpy(expected))


def test_tiny_and_flat_images():
    assert torch.equal(enlarged(torch.full((1, 1, 1), 7.0), 2), torch.full((1, 2, 2), 7.0))
    assert torch.equal(reduced(torch.full((1, 4, 2), 7.0), 2), torch.full((1, 2, 1), 7.0))
