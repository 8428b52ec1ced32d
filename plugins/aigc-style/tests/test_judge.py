"""The judge: what it sees and what it does not."""

import math

import torch
from torch import Tensor

from aigc_style import judge


def stripes(angle: float, wavelength: float, size: int = 64) -> Tensor:
    place = torch.arange(size, dtype=torch.float32)
    y, x = torch.meshgrid(place, place, indexing="ij")
    wave = torch.sin(2 * math.pi / wavelength * (x * math.cos(angle) + y * math.sin(angle)))
    return (0.5 * wave).expand(1, 3, -1, -1)


def test_a_picture_without_texture_has_no_energy() -> None:
    for maps in judge.energies(torch.full((1, 3, 64, 64), 0.7)):
        assert maps.shape[1] == 12 and maps.abs().max() < 1e-5


def test_the_filter_of_a_stripes_direction_and_width_answers_most() -> None:
    for number in range(4):
        found = judge.energies(stripes(math.pi * number / 4, 4.0))
        means = torch.stack([maps[0, :4, 8:-8, 8:-8].mean(dim=(1, 2)) for maps in found])
        assert means.argmax().item() == number  # at the first scale
        assert means[0, number] > 3 * means[0, (number + 2) % 4]
    coarse = [maps.mean().item() for maps in judge.energies(stripes(0.0, 8.0))]
    assert coarse[1] > coarse[0]


def test_grey_images_have_no_energy_of_colours() -> None:
    assert judge.energies(stripes(0.0, 4.0))[0][:, 4:].abs().max() < 1e-5


def test_the_style_and_the_photograph_have_no_errors_of_their_own() -> None:
    torch.manual_seed(0)
    photo, style = torch.rand(1, 3, 96, 64) - 0.5, stripes(0.0, 8.0, 96)
    of_photo, of_style = judge.judge([photo, style[..., :64]], photo, style)
    assert of_photo.content < 1e-5 and of_photo.style > 0.5
    assert of_style.style < 0.05 and of_style.content > 0.8


def test_brighter_and_softer_is_the_same_content() -> None:
    torch.manual_seed(0)
    photo = torch.rand(1, 3, 64, 64) - 0.5
    changed = judge.judge([0.5 * photo + 0.3], photo, stripes(0.0, 8.0))[0]
    assert changed.content < 1e-4
