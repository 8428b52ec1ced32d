"""Procedural pictures of geometric shapes, at any size and in three styles, with captions.

Each shape is a signed distance function: negative inside, zero on the outline, positive outside. Colouring by distance
gives smooth edges, outlines and shadows at any resolution.
Shapes: H and W height and width in pixels. Colours are RGB from 0 to 255; y points down.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from aigc_lightning.core import keyed

Array = npt.NDArray[Any]

#: Colours of shapes, each with its hatching in line drawings, as in heraldry (S. Petra Sancta, 1638).
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 58, 52),
    "blue": (48, 104, 214),
    "green": (46, 156, 82),
    "purple": (140, 72, 186),
    "yellow": (246, 192, 44),
    "white": (250, 250, 250),
}
#: Background colours, for the paper and blackboard styles.
GROUNDS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "cream": ((246, 236, 210), (44, 44, 48)),
    "mint": ((206, 236, 216), (22, 58, 46)),
    "sky": ((204, 226, 246), (22, 42, 74)),
    "pink": ((248, 214, 222), (74, 26, 44)),
}
_INK = np.array((40, 36, 44), np.float32)


@dataclass(frozen=True)
class Shape:
    """One shape; lengths are in units of the image's shorter side, measured from the image's centre.

    Args:
        kind: a key of `KINDS`.
        color: a key of `COLORS`.
        center: (x, y).
        radius: radius of its circumscribed circle.
        tilt: rotation in radians.
    """

    kind: str
    color: str
    center: tuple[float, float]
    radius: float
    tilt: float


@dataclass(frozen=True)
class Scene:
    """One or two shapes on a background.

    Args:
        shapes: the larger one first.
        ground: a key of `GROUNDS`.
        place: position of the first relative to the second, "" for one shape.
    """

    shapes: tuple[Shape, ...]
    ground: str
    place: str

    @property
    def caption(self) -> str:
        """Caption, such as `a large red star above a small blue circle on a mint background`."""
        names = [f"{shape.color} {shape.kind}" for shape in self.shapes]
        where = f"on a {self.ground} background"
        if len(names) == 1:
            return f"a {names[0]} {where}"
        return f"a large {names[0]} {self.place} a small {names[1]} {where}"


_PLACES = {"above": (0, -1), "below": (0, 1), "left of": (-1, 0), "right of": (1, 0)}
_NUM_DRAWS = 14


@lru_cache(maxsize=1024)  # picture, caption and label of a sample need the same scene
def random_scene(*key: int) -> Scene:
    """Return the scene of a key; two thirds of all scenes have two shapes."""
    draws: list[float] = keyed.uniform(*key, np.arange(_NUM_DRAWS)).tolist()
    draw = iter(draws)

    def choice(names: Iterable[str]) -> str:
        known = list(names)
        return known[int(next(draw) * len(known))]

    def between(low: float, high: float) -> float:
        return low + (high - low) * next(draw)

    ground, place, single = choice(GROUNDS), choice(_PLACES), next(draw) < 1 / 3
    x, y = (0.0, 0.0) if single else _PLACES[place]
    # Along the axis of the placement the two keep clear of each other and of the border.
    ranges = [(0.28, 0.36)] if single else [(0.22, 0.27), (0.12, 0.15)]
    shapes = []
    for along, (low, high) in zip((0.17, -0.31), ranges, strict=False):
        kind, color = choice(KINDS), choice(COLORS)
        radius, aside, tilt = between(low, high), between(-0.06, 0.06), between(-0.3, 0.3)
        center = (x * along + abs(y) * aside, y * along + abs(x) * aside)
        shapes.append(Shape(kind, color, center, radius, tilt))
    return Scene(tuple(shapes), ground, "" if single else place)


def paper(scene: Scene, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Render the scene as coloured paper with outlines and shadows, uint8 (H, W, 3)."""
    unit, down = min(height, width), np.linspace(1.02, 0.94, height, dtype=np.float32)[:, None, None]
    picture = np.array(GROUNDS[scene.ground][0], np.float32) * down + np.zeros((1, width, 1), np.float32)
    drop = max(1, round(0.03 * unit))
    for shape in scene.shapes:
        distance = _distance(shape, height, width)
        shadow = np.roll(distance, (drop, drop), (0, 1))
        picture *= 1 - 0.3 * _inside(shadow / (0.04 * unit))[..., None]
        color = np.array(COLORS[shape.color], np.float32)
        picture = _over(picture, color * down, _inside(distance))
        picture = _over(picture, color * 0.5, _line(distance, 0.022 * unit))
    return _bytes(picture)


def chalk(scene: Scene, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Render the scene as chalk on a blackboard: bright outlines, hatched inside; uint8 (H, W, 3)."""
    unit = min(height, width)
    picture = np.broadcast_to(np.array(GROUNDS[scene.ground][1], np.float32), (height, width, 3))
    rows, columns = _pixels(height, width)
    strokes = _stripes(rows + columns, max(5.0, 0.11 * unit), 0.5)
    for shape in scene.shapes:
        distance = _distance(shape, height, width)
        color = 0.7 * np.array(COLORS[shape.color], np.float32) + 0.3 * 255
        picture = _over(picture, color, _inside(distance) * (0.12 + 0.55 * strokes))
        picture = _over(picture, color, _line(distance, 0.045 * unit))
    return _bytes(picture)


def line_drawing(scene: Scene, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Render black outlines on white with hatching that encodes the colour, but not the background; uint8 (H, W, 3)."""
    unit = min(height, width)
    picture = np.full((height, width, 3), 255, np.float32)
    rows, columns = _pixels(height, width)
    period = max(4.0, unit / 14)
    hatchings: dict[str, Callable[[], Array]] = {
        "red": lambda: _stripes(columns, period, 0.3),
        "blue": lambda: _stripes(rows, period, 0.3),
        "green": lambda: _stripes(columns - rows, period * 1.4, 0.3),
        "purple": lambda: _stripes(columns + rows, period * 1.4, 0.3),
        "yellow": lambda: _stripes(columns, period, 0.45) * _stripes(rows, period, 0.45),
        "white": lambda: np.zeros((height, width), np.float32),
    }
    assert hatchings.keys() == COLORS.keys()
    for shape in scene.shapes:
        distance = _distance(shape, height, width)
        picture = _over(picture, _INK, _inside(distance) * hatchings[shape.color]())
        picture = _over(picture, _INK, _line(distance, 0.025 * unit))
    return _bytes(picture)


# ---- distances


def _distance(shape: Shape, height: int, width: int) -> Array:
    """Return the signed distance of each pixel to a shape's outline in pixels, (H, W)."""
    unit = min(height, width)
    rows, columns = _pixels(height, width)
    x = (columns - width / 2) / unit - shape.center[0]
    y = (rows - height / 2) / unit - shape.center[1]
    cosine, sine = np.float32(np.cos(shape.tilt)), np.float32(np.sin(shape.tilt))
    turned = (cosine * x + sine * y) / shape.radius, (cosine * y - sine * x) / shape.radius
    distance: Array = KINDS[shape.kind](*turned) * np.float32(shape.radius * unit)
    return distance


def _circle(x: Array, y: Array, radius: float = 0.9) -> Array:
    distance: Array = np.sqrt(x * x + y * y) - np.float32(radius)
    return distance


def _box(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    across, along = abs(x) - half_width, abs(y) - half_height
    outside = np.sqrt(np.maximum(across, 0) ** 2 + np.maximum(along, 0) ** 2)
    distance: Array = outside + np.minimum(np.maximum(across, along), 0)
    return distance


def _polygon(x: Array, y: Array, corners: Array) -> Array:
    """Return the signed distance to a simple polygon with corners (N, 2)."""
    square, inside = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, np.float32), np.zeros((), bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, 0), strict=True):
        edge_x, edge_y = x2 - x1, y2 - y1
        along = np.clip(((x - x1) * edge_x + (y - y1) * edge_y) / (edge_x**2 + edge_y**2), 0, 1)
        square = np.minimum(square, (x - x1 - along * edge_x) ** 2 + (y - y1 - along * edge_y) ** 2)
        if y1 != y2:
            inside = inside ^ (((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) * (edge_x / edge_y)))
    distance: Array = np.where(inside, -1, 1).astype(np.float32) * np.sqrt(square)
    return distance


def _regular(count: int, *radii: float) -> Array:
    """Return the corners of a polygon that points up, alternating between the radii."""
    angles = 2 * np.pi * np.arange(count) / count
    lengths = np.resize(np.array(radii), count)
    return np.stack([lengths * np.sin(angles), -lengths * np.cos(angles)], 1).astype(np.float32)


_TRIANGLE, _STAR = _regular(3, 1.0), _regular(10, 1.0, 0.45)


def _triangle(x: Array, y: Array) -> Array:
    return _polygon(x, y - 0.2, _TRIANGLE) - 0.06


def _star(x: Array, y: Array) -> Array:
    return _polygon(x, y, _STAR) - 0.04


def _square(x: Array, y: Array) -> Array:
    return _box(x, y, 0.66, 0.66) - 0.08


def _cross(x: Array, y: Array) -> Array:
    return np.minimum(_box(x, y, 0.84, 0.24), _box(x, y, 0.24, 0.84)) - 0.06


def _moon(x: Array, y: Array) -> Array:
    return np.maximum(_circle(x, y, 0.95), -_circle(x - 0.45, y + 0.2, 0.75))


def _flower(x: Array, y: Array) -> Array:
    petals = [_circle(x - px, y - py, 0.4) for px, py in _regular(5, 0.55)]
    distance: Array = np.minimum.reduce([_circle(x, y, 0.4), *petals])
    return distance


def _heart(x: Array, y: Array) -> Array:
    """Return a heart: a square standing on a corner, with half circles on its two upper edges."""
    half = 0.8
    low = y - 0.1
    diamond = _box((x + low) * np.sqrt(0.5), (x - low) * np.sqrt(0.5), half * np.sqrt(0.5), half * np.sqrt(0.5))
    return np.minimum(diamond, _circle(abs(x) - half / 2, low + half / 2, half * np.sqrt(0.5)))


#: The distance function of each kind for a radius of 1.
KINDS: dict[str, Callable[[Array, Array], Array]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "moon": _moon,
    "flower": _flower,
    "cross": _cross,
}


# ---- colouring


def _pixels(height: int, width: int) -> tuple[Array, Array]:
    """Return the pixel centres: rows (H, 1) and columns (1, W)."""
    return np.arange(height, dtype=np.float32)[:, None] + 0.5, np.arange(width, dtype=np.float32)[None] + 0.5


def _inside(distance: Array) -> Array:
    """Return the fraction of each pixel that lies inside, from 0 to 1."""
    cover: Array = np.clip(0.5 - distance, 0, 1)
    return cover


def _line(distance: Array, thickness: float) -> Array:
    """Return the fraction of each pixel covered by an outline of this thickness in pixels, at least one."""
    cover: Array = np.clip(0.5 + max(thickness, 1.2) / 2 - abs(distance), 0, 1)
    return cover


def _stripes(position: Array, period: float, share: float) -> Array:
    """Return smooth stripes, 1 on a line and 0 between; `share` is the line's fraction of a period."""
    wave = np.cos(2 * np.pi / period * position) - np.cos(np.pi * share)
    cover: Array = np.clip(0.5 + wave * period / 4, 0, 1).astype(np.float32)
    return cover


def _over(picture: Array, color: Array, cover: Array) -> Array:
    """Blend a colour into a picture (H, W, 3) with opacity `cover` (H, W)."""
    covered: Array = picture + cover[..., None] * (color - picture)
    return covered


def _bytes(picture: Array) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
