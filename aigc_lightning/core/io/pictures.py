"""Pictures for people: grids, PNG files with descriptions, and timelapses."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from aigc_lightning.core.io.atomic import open_regular, replacing
from aigc_lightning.core.io.output import plain_metadata

_GAP = 2  # pixels between the cells of a grid
_GROUP_GAP = 10  # pixels between groups of cells that belong together
_CELL = 64  # minimum length of a cell's longer side in pixels
_SHOWN = 256  # minimum length of a film's longer side in pixels
_FRAME = 768  # maximum length of a timelapse's longer side in pixels


def to_uint8(images: Tensor) -> Tensor:
    """Map float [-1, 1] to uint8 [0, 255], rounding to the nearest and clipping values outside."""
    return images.detach().float().add(1).mul(127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_picture(image: Tensor) -> Image.Image:
    """Return a uint8 image (C, H, W), C in {1, 3, 4}, as a picture in PIL mode L, RGB or RGBA."""
    assert image.dtype == torch.uint8 and image.ndim == 3
    pixels: np.ndarray = image.cpu().permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels[:, :, 0] if len(image) == 1 else pixels)


def film_frame(image: Tensor) -> Image.Image:
    """Return a uint8 image (C, H, W) as a frame of a film, enlarged by an integer factor if it is small."""
    factor = -(-_SHOWN // max(image.shape[-2:]))
    return to_picture(image.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1))


def near_square(count: int) -> int:
    """Return the number of columns that makes a grid of this many images about square."""
    return math.isqrt(max(count, 1) - 1) + 1


def image_grid(images: Tensor, columns: int, group: int = 0) -> Image.Image:
    """Arrange images row by row on a white (or transparent) background, small ones enlarged by an integer factor.

    Args:
        images: uint8 (B, C, H, W), C in {1, 3, 4}, B at least 1.
        columns: number of images per row.
        group: number of columns that belong together and are followed by a wider gap; 0 for equal gaps.

    Returns:
        A picture in PIL mode L, RGB or RGBA.
    """
    assert images.dtype == torch.uint8 and images.ndim == 4 and len(images) > 0
    factor = math.ceil(_CELL / max(images.shape[-2:]))
    cells = images.cpu().repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
    count, channels, height, width = cells.shape
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    lefts = [n * (width + _GAP) + (n // group * (_GROUP_GAP - _GAP) if group else 0) for n in range(columns)]
    canvas = torch.full((channels, rows * (height + _GAP) - _GAP, lefts[-1] + width), 255).byte()
    canvas[3:] = 0  # the alpha channel, if any
    for number, cell in enumerate(cells):
        top, left = (number // columns) * (height + _GAP), lefts[number % columns]
        canvas[:, top : top + height, left : left + width] = cell
    return to_picture(canvas)


def save_png(image: Image.Image, path: Path, text: Mapping[str, str]) -> None:
    """Write a PNG file with text chunks, atomically: a process that is killed leaves the old file or the new one.

    Args:
        image: the picture.
        path: the file; its folder is created if necessary.
        text: contents of the file's tEXt chunks, by keyword; secrets in them are hidden.
    """
    chunks = PngInfo()
    for keyword, value in plain_metadata(text).items():
        chunks.add_text(keyword, value)
    with replacing(path, durable=False) as temporary:
        image.save(temporary, format="PNG", pnginfo=chunks)


def is_written(path: Path, text: Mapping[str, str]) -> bool:
    """Return whether a PNG file is there and carries this text, as `save_png` wrote it."""
    try:
        with open_regular(path) as file, Image.open(file, formats=["PNG"]) as image:
            image.load()
            kept = {keyword: image.info.get(keyword) for keyword in text}
    except (OSError, SyntaxError, ValueError):  # none, or one that is damaged
        return False
    return kept == plain_metadata(text)


def read_pixels(path: Path) -> Tensor:
    """Return the pixels of a PNG file that `save_png` wrote, uint8 (C, H, W)."""
    with open_regular(path) as file, Image.open(file, formats=["PNG"]) as image:
        pixels = torch.from_numpy(np.array(image))
    return pixels.view(image.height, image.width, -1).permute(2, 0, 1)


def save_timelapse(pictures: Sequence[Path], path: Path, max_frames: int = 60) -> None:
    """Write a looping GIF of pictures in order; the last one is shown for two seconds.

    Args:
        pictures: PNG files, at least one; of more than `max_frames`, evenly spaced ones are shown, including the first
            and the last.
        path: the GIF file.
        max_frames: at least 2.
    """
    last = len(pictures) - 1
    count = min(len(pictures), max_frames)
    chosen = [pictures[number * last // max(count - 1, 1)] for number in range(count)]
    with open_regular(chosen[-1]) as file, Image.open(file, formats=["PNG"]) as final:
        scale = min(1.0, _FRAME / max(final.size))
        size = (max(1, round(final.width * scale)), max(1, round(final.height * scale)))
    frames = (_frame(picture, size) for picture in chosen)  # one at a time: they may be large
    with replacing(path) as temporary:
        next(frames).save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=frames,
            duration=[100] * (count - 1) + [2000],
            loop=0,
        )


def _frame(picture: Path, size: tuple[int, int]) -> Image.Image:
    with open_regular(picture) as file, Image.open(file, formats=["PNG"]) as image:
        if image.mode == "RGBA":  # GIF pixels are opaque or absent
            ground = Image.new("RGBA", image.size, "white")
            frame = Image.alpha_composite(ground, image).convert("RGB")
        else:
            frame = image.copy()
    return frame if frame.size == size else frame.resize(size, Image.Resampling.LANCZOS)
