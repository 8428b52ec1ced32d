"""Tiles cover every image, and blending them changes nothing that does not depend on the tile."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from aigc_lightning.inference.tiles import (
    ChangedShapeError,
    apply_in_tiles,
    bands_in_tiles,
    equals_whole,
    fixed_tiling,
    free_tiling,
)


def image(height, width, channels=2):
    return torch.rand((channels, height, width), generator=torch.Generator().manual_seed(3)) * 2 - 1


def applied(function, picture, tiling, batch_pixels=10**6):
    return apply_in_tiles(function, picture, tiling, batch_pixels=batch_pixels)


@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([1, 2, 4, 8, 32]), st.integers(16, 90))
def test_free_tiles_cover_any_image(height, width, multiple, side):
    tiling = free_tiling(height, width, multiple, side)
    for cuts in (tiling.rows, tiling.columns):
        assert cuts.size % multiple == 0 and all(start % multiple == 0 for start in cuts.starts)
        assert cuts.starts[0] == 0 and cuts.starts[-1] + cuts.size >= cuts.length
        assert all(after < before + cuts.size for before, after in pairwise(cuts.starts))
        assert cuts.starts[-1] < cuts.length
    picture = image(height, width, 1)
    torch.testing.assert_close(applied(torch.neg, picture, tiling), -picture, rtol=0, atol=1e-6)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_fixed_tiles_cover_any_image(height, width, tile_height, tile_width):
    tiling = fixed_tiling(height, width, (tile_height, tile_width))
    assert (tiling.rows.size, tiling.columns.size) == (tile_height, tile_width)
    picture = image(height, width, 1)
    torch.testing.assert_close(applied(torch.neg, picture, tiling), -picture, rtol=0, atol=1e-6)


def test_a_tile_is_no_larger_than_it_must_be():
    assert len(free_tiling(1000, 1000, 4, 1000)) == 1
    assert len(free_tiling(100, 10_000, 4, 1000)) == 1  # as many pixels as a tile
    tiling = free_tiling(1200, 500, 4, 1000)
    assert len(tiling) == 1  # likewise
    tiling = free_tiling(1100, 1000, 4, 1000)
    assert len(tiling) == 2 and tiling.rows.size == 584  # half of 1100, and half of the overlap of 64
    assert len(free_tiling(3, 3, 256, 512)) == 1


def test_neighbours_overlap_by_64_pixels_and_fixed_ones_by_a_quarter():
    for size in range(1001, 2500, 7):
        starts, tile = free_tiling(size, 1000, 8, 1000).rows.starts, free_tiling(size, 1000, 8, 1000).rows.size
        assert min(a + tile - b for a, b in pairwise(starts)) >= 64
        starts = fixed_tiling(size, 128, (128, 128)).rows.starts
        assert min(a + 128 - b for a, b in pairwise(starts)) >= 32


def test_a_convolution_gives_the_same_in_tiles_as_on_the_whole_image():
    """Of a strided network too, since tiles stand on its grid; the tiles' borders, where it is wrong, do not count."""
    kernel = torch.rand((2, 1, 5, 5), generator=torch.Generator().manual_seed(0)) / 25

    def network(images):
        halved = avg_pool2d(conv2d(images, kernel, padding=2, groups=2), 4)
        return interpolate(halved, scale_factor=4)

    picture = image(256, 312)
    whole = network(picture[None])[0]
    tiling = free_tiling(256, 312, 4, 128)
    assert len(tiling) == 9
    tiled = applied(network, picture, tiling)
    inner = slice(8, -8)
    torch.testing.assert_close(tiled[:, inner, inner], whole[:, inner, inner], rtol=0, atol=1e-6)


@pytest.mark.parametrize("reach", [1, 5, 20])
def test_tiles_that_know_how_far_a_network_sees_give_the_same_everywhere(reach):
    """The kernel's outermost weights are large, so that one pixel too few of overlap would show."""
    kernel = torch.zeros(2, 1, 2 * reach + 1, 2 * reach + 1)
    kernel[..., [0, -1], [0, -1]] = 1

    def network(images):
        return conv2d(images, kernel, padding=reach, groups=2)

    picture, side = image(300, 260), 8 * reach
    assert equals_whole(reach, side) and not equals_whole(reach + 1, side)
    tiling = free_tiling(300, 260, 1, side, reach)
    assert len(tiling) > 1 and tiling.rows.size <= side
    torch.testing.assert_close(applied(network, picture, tiling), network(picture[None])[0], rtol=0, atol=1e-5)


def test_tiles_that_are_too_small_for_a_network_overlap_as_ever():
    assert not equals_whole(float("inf"), 1024) and not equals_whole(129, 1024)
    for reach in (129, float("inf")):
        assert free_tiling(2000, 2000, 1, 1024, reach) == free_tiling(2000, 2000, 1, 1024)


def test_tiles_that_disagree_fade_into_each_other():
    calls = iter(range(100))
    tiling = free_tiling(100, 400, 1, 128)
    made = applied(lambda tiles: torch.full_like(tiles, next(calls)), image(100, 400), tiling, batch_pixels=1)
    assert made.min() == 0 and made.max() == len(tiling) - 1 == 4 - 1
    assert (made[:, :, 1:] - made[:, :, :-1]).abs().max() < 0.15  # 32 pixels of overlap, half of them used


def test_small_images_are_continued_as_in_a_mirror():
    seen = []
    picture = torch.arange(6.0).view(1, 2, 3)
    applied(lambda tiles: seen.append(tiles) or tiles, picture, free_tiling(2, 3, 8, 16))
    (tile,) = seen
    columns = torch.tensor([0.0, 1, 2, 2, 1, 0, 0, 1])
    assert tile.shape == (1, 1, 8, 8)
    for row, offset in enumerate((0, 3, 3, 0, 0, 3, 3, 0)):
        assert (tile[0, 0, row] == columns + offset).all()


def test_tiles_come_in_batches_and_are_counted():
    sizes: list[int] = []
    counts: list[int] = []
    tiling = fixed_tiling(40, 40, (16, 16))

    def function(tiles):
        sizes.append(len(tiles))
        return tiles

    apply_in_tiles(function, image(40, 40), tiling, batch_pixels=4 * 16 * 16 + 5, advance=counts.append)
    assert sizes == counts == [4, 4, 1] and len(tiling) == 9


def test_a_function_that_changes_the_shape_is_refused():
    with pytest.raises(ChangedShapeError, match=r"\(2, 20, 30\) became \(2, 22, 32\)"):
        applied(lambda tiles: pad(tiles, (1, 1, 1, 1)), image(20, 30), free_tiling(20, 30, 1, 64))


@pytest.mark.parametrize("batch_pixels", [1, 3 * 32 * 32, 10**6])
def test_rows_come_as_soon_as_no_tile_can_change_them(batch_pixels):
    picture = image(150, 80)
    done: list[int] = []
    tiling = free_tiling(150, 80, 1, 32)
    bands = bands_in_tiles(torch.neg, picture, tiling, batch_pixels=batch_pixels, advance=done.append)
    first = next(bands)
    assert sum(done) < len(tiling) or batch_pixels == 10**6
    whole = torch.cat([first, *bands], dim=1)
    torch.testing.assert_close(whole, -picture, rtol=0, atol=1e-6)
    assert torch.equal(whole, apply_in_tiles(torch.neg, picture, tiling, batch_pixels=batch_pixels))
