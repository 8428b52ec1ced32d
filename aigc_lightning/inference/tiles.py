"""Applying a network to images of any size: whole if they fit, else in overlapping tiles that are blended.

Shapes: B batch, C channels, H and W height and width of the image in pixels, h and w those of a tile.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

#: Minimum overlap of neighbouring tiles in pixels if tiles are large enough; wider than most receptive fields.
_OVERLAP = 64
_MOST_IN_BATCH = 64
_PER_REACH = 4  # overlap divided by reach: the first quarter of an overlap has no weight, see `_fade`


class ChangedShapeError(ValueError):
    """A function changes the shape of images."""


@dataclass(frozen=True)
class Cuts:
    """The positions of tiles along one axis.

    Args:
        length: of the image in pixels.
        size: of every tile; larger than `length` if there is one tile and the image has to be padded.
        starts: first pixel of each tile, ascending; neighbours overlap.
    """

    length: int
    size: int
    starts: tuple[int, ...]

    def scaled(self, factor: int) -> "Cuts":
        """Return the positions in an image that is larger by a factor."""
        return Cuts(factor * self.length, factor * self.size, tuple(factor * start for start in self.starts))


@dataclass(frozen=True)
class Tiling:
    """The positions of tiles in an image."""

    rows: Cuts
    columns: Cuts

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self.rows.starts) * len(self.columns.starts)


def fixed_tiling(height: int, width: int, tile: tuple[int, int]) -> Tiling:
    """Return tiles of exactly (h, w) pixels that overlap by at least a quarter; small images will be padded."""
    rows, columns = (
        _cuts(length, size, size // 4, 1, size) for length, size in zip((height, width), tile, strict=True)
    )
    return Tiling(rows, columns)


def free_tiling(height: int, width: int, multiple: int, side: int, reach: float = 0) -> Tiling:
    """Return one tile, or tiles of at most about `side` x `side` pixels if the image has more pixels than that.

    Sizes and starts are multiples, so that strided layers see the same grid in every tile as in the whole image. Tiles
    overlap so far that every pixel of the result comes from tiles that contain all that it depends on, if
    `equals_whole`.

    Args:
        height: H.
        width: W.
        multiple: number that tile heights and widths are multiples of.
        side: side of a tile in pixels; raised to twice the overlap if it is less.
        reach: pixels in each direction on which a pixel of the result depends; 0 if unknown.
    """
    whole = height * width <= side * side
    overlap = min(_OVERLAP, max(side // 4, 1))
    if equals_whole(reach, side):
        overlap = max(overlap, int(reach) * _PER_REACH)
    overlap = _up(overlap, multiple)
    most = max(_up(side, multiple), 2 * overlap)
    rows, columns = (
        _cuts(length, _up(length, multiple) if whole else most, overlap, multiple) for length in (height, width)
    )
    return Tiling(rows, columns)


def equals_whole(reach: float, side: int) -> bool:
    """Return whether tiles of this side give the same result as the whole image; for the arguments of `free_tiling`."""
    return 2 * _PER_REACH * reach <= side


def apply_in_tiles(
    function: Callable[[Tensor], Tensor],
    image: Tensor,
    tiling: Tiling,
    *,
    batch_pixels: int,
    advance: Callable[[int], None] = lambda count: None,
    channels: int | None = None,
    scale: int = 1,
) -> Tensor:
    """Apply a function to an image tile by tile; for the arguments and errors see `bands_in_tiles`.

    Returns:
        float32 (channels, scale H, scale W) on the CPU.
    """
    size = {"batch_pixels": batch_pixels, "advance": advance, "channels": channels, "scale": scale}
    bands = list(bands_in_tiles(function, image, tiling, **size))  # type: ignore[arg-type]
    return bands[0] if len(bands) == 1 else torch.cat(bands, dim=1)


def bands_in_tiles(
    function: Callable[[Tensor], Tensor],
    image: Tensor,
    tiling: Tiling,
    *,
    batch_pixels: int,
    advance: Callable[[int], None] = lambda count: None,
    channels: int | None = None,
    scale: int = 1,
) -> Iterator[Tensor]:
    """Apply a function to an image tile by tile, and yield the result from top to bottom.

    An image that is smaller than a tile is padded by reflection. Tiles are blended over their overlap, except for their
    outermost pixels, where a network sees too little context. Only what later tiles may still change is kept.

    Args:
        function: maps (B, C, h, w) to (B, channels, scale h, scale w), on any device.
        image: (C, H, W) of any type; further channels, such as a mask, are cut and padded with it.
        tiling: made for (H, W).
        batch_pixels: maximum number of pixels per call of the function; at least one tile is passed.
        advance: called with the number of tiles done since the last call.
        channels: of the result; C by default.
        scale: by which the function enlarges images.

    Yields:
        float32 (channels, rows, scale W) on the CPU; scale H rows in all.

    Raises:
        ChangedShapeError: the function returns another shape.
    """
    rows, columns = tiling.rows, tiling.columns
    places = [(i, j) for i in range(len(rows.starts)) for j in range(len(columns.starts))]
    count = min(max(1, batch_pixels // (rows.size * columns.size)), _MOST_IN_BATCH)
    new_rows, new_columns = rows.scaled(scale), columns.scaled(scale)
    row_weights, column_weights = _weights(new_rows), _weights(new_columns)
    shape = (channels or len(image), new_rows.size, new_columns.size)
    top, open_rows = 0, torch.zeros((shape[0], 0, new_columns.length))
    for first in range(0, len(places), count):
        chosen = places[first : first + count]
        tiles = torch.stack(
            [_tile(image, rows.starts[i], columns.starts[j], rows.size, columns.size) for i, j in chosen]
        )
        done = function(tiles)
        if done.shape != (len(tiles), *shape):
            given = (shape[0], *tiles.shape[2:])
            raise ChangedShapeError(f"images {given} became {tuple(done.shape[1:])}")
        end = min(new_rows.starts[chosen[-1][0]] + shape[1], new_rows.length)
        open_rows = _extended(open_rows, end - top)
        for (i, j), tile in zip(chosen, done.float().cpu(), strict=True):
            place = open_rows[:, new_rows.starts[i] - top :, new_columns.starts[j] :][:, : shape[1], : shape[2]]
            weight = row_weights[i][:, None] * column_weights[j]
            place += tile[:, : place.shape[1], : place.shape[2]] * weight[: place.shape[1], : place.shape[2]]
        advance(len(chosen))
        following = places[first + count : first + count + 1]
        final = new_rows.starts[following[0][0]] if following else new_rows.length
        if final > top:
            yield open_rows[:, : final - top]
            top, open_rows = final, open_rows[:, final - top :].clone()


def _extended(rows: Tensor, count: int) -> Tensor:
    """Return (C, H, W) with at least `count` rows, the new ones being 0."""
    return rows if count <= rows.shape[1] else pad(rows, [0, 0, 0, count - rows.shape[1]])


def _cuts(length: int, most: int, overlap: int, multiple: int, size: int | None = None) -> Cuts:
    """Spread as few tiles as possible evenly over an axis, each of `size` or only as large as needed."""
    padded = max(_up(length, multiple), size or 0)
    number = 1 if padded <= most else math.ceil((padded - overlap) / (most - overlap))
    if size is None:
        size = _up(math.ceil((padded + (number - 1) * overlap) / number), multiple)
    spare = (padded - size) // multiple
    # Rounded down, two starts are never further apart than an even spread rounded up, so the overlap is kept.
    starts = tuple(i * spare // max(number - 1, 1) * multiple for i in range(number))
    return Cuts(length, size, starts)


def _weights(cuts: Cuts) -> list[Tensor]:
    """Return the weights (size,) of each tile along an axis; at every pixel of the image they sum to 1."""
    reach = max(cuts.length, cuts.starts[-1] + cuts.size)
    planes = torch.zeros(len(cuts.starts), reach)
    for number, start in enumerate(cuts.starts):
        fade = torch.ones(cuts.size)
        if number > 0:
            fade = _fade(cuts.starts[number - 1] + cuts.size - start, cuts.size)
        if number + 1 < len(cuts.starts):
            fade = fade * _fade(start + cuts.size - cuts.starts[number + 1], cuts.size).flip(0)
        planes[number, start : start + cuts.size] = fade
    planes /= planes.sum(dim=0)
    return [plane[start : start + cuts.size] for plane, start in zip(planes, cuts.starts, strict=True)]


def _fade(overlap: int, size: int) -> Tensor:
    """Return weights that rise smoothly over the middle half of the first `overlap` pixels and are 1 afterwards."""
    place = (torch.arange(size) + 0.5) / overlap
    rise = ((place - 0.25) / 0.5).clamp(0, 1)
    return rise * rise * (3 - 2 * rise)


def _tile(image: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    rows, columns = _mirrored(top, height, image.shape[1]), _mirrored(left, width, image.shape[2])
    if rows is None and columns is None:
        return image[:, top : top + height, left : left + width]
    rows = torch.arange(top, top + height) if rows is None else rows
    columns = torch.arange(left, left + width) if columns is None else columns
    return image[:, rows][:, :, columns]


def _mirrored(start: int, size: int, length: int) -> Tensor | None:
    """Return the pixel indices of a tile, reflected at the border, or None if no padding is needed."""
    if start + size <= length:
        return None
    place = torch.arange(start, start + size) % (2 * length)
    return torch.where(place < length, place, 2 * length - 1 - place)


def _up(number: int, multiple: int) -> int:
    return math.ceil(number / multiple) * multiple
