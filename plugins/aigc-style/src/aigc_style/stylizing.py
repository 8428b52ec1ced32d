"""`aigc style optimize` with files: inputs, progress, film and result.

Shapes: H and W height and width in pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aigc_lightning.commands.edit import edit_text
from aigc_lightning.core.checkpoint import file_hash
from aigc_lightning.core.io.counting import counting
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.film import write_film
from aigc_lightning.core.io.pictures import film_frame, to_picture, to_uint8
from aigc_lightning.errors import UserError
from aigc_lightning.inference.edit_conditions import read_mask
from aigc_lightning.inference.loaded_model import chosen_device
from aigc_lightning.inference.picture_file import JPEG_SUFFIXES, PictureFile, on_white, read_picture, write_picture
from PIL import Image
from torch import Tensor

from aigc_style.features import StyleFeatures
from aigc_style.optimizing import Settings, State, Style, num_levels, stylize
from aigc_style.pictures import read_style
from aigc_style.statistics import resized

_LARGEST_FRAME = 512  # pixels of a film's longer side
_SMALLEST = 32  # pixels of a photograph's shorter side


@dataclass(frozen=True)
class Job:
    """The files of a stylised photograph.

    Args:
        photo: the photograph.
        styles: files, or pictures of scikit-image by name.
        weights: one per style.
        masks: one per style, of the photograph's size, or none.
        features: name of the network.
        size: longer side of the result in pixels; None for the photograph's.
        device: such as "cpu".
    """

    photo: Path
    styles: Sequence[str]
    weights: Sequence[float]
    masks: Sequence[Path]
    features: str
    size: int | None
    device: str


def write_stylized(job: Job, how: Settings, out: Path, film: Path | None) -> str:
    """Stylise a photograph and write the result and, if wanted, a film of the search; return a line about it.

    Raises:
        UserError: a file cannot be read or would be overwritten, a mask does not fit, or the network is not available.
    """
    _check_out(job, out, film)
    source = read_picture(job.photo)
    picture = on_white(source.picture).convert("RGB")
    if min(picture.size) < _SMALLEST:
        pixels = f"{picture.width}x{picture.height}"
        raise UserError(f"{shown(job.photo)} has only {pixels} pixels.", f"Give at least {_SMALLEST} a side.")
    read = [read_style(name) for name in job.styles]
    masks = [_pixels(read_mask(path, picture.size)).gt(0).float() for path in job.masks]
    photo = _pixels(picture).div(127.5).sub(1)
    size = _size(picture, job.size)
    photo, masks = resized(photo, size), [_cut(mask, size) for mask in masks]
    device = chosen_device(job.device)
    features = StyleFeatures(job.features)
    styles = [
        Style(image.to(device), weight, masks[number].to(device) if masks else None)
        for number, ((image, _), weight) in enumerate(zip(read, job.weights, strict=True))
    ]
    text = edit_text(_record(job, how, features, [digest for _, digest in read]), "", _beside(job))
    states = stylize(photo.to(device), styles, features, how)
    total = how.steps * num_levels(size[0], size[1], how.levels)
    with counting("Stylising") as advance:
        last = _watched(states, lambda done: advance(done, total), film, size, "\n".join(text.values()))
    result = to_picture(to_uint8(last.image)[0].cpu())
    write_picture(result, out, PictureFile(result, source.exif, source.profile, source.is_srgb), text)
    files = f"{out} and {film}" if film else f"{out}"
    return f"{size[1]}x{size[0]} pixels, style loss {last.style:.4f}, content loss {last.content:.3f}: {files}"


def _watched(states: Iterator[State], advance: Any, film: Path | None, size: tuple[int, int], comment: str) -> State:
    """Run a search to its end, write its film if there is one, and return the last state."""
    last: list[State] = []
    scale = min(1.0, _LARGEST_FRAME / max(size))
    frame = (round(scale * size[0]), round(scale * size[1]))

    def frames() -> Iterator[Image.Image]:
        for state in states:
            last[:] = [state]
            advance(state.done)
            if film is not None:
                yield film_frame(to_uint8(resized(state.image, frame))[0].cpu())

    if film is None:
        for _ in frames():
            pass
    else:
        write_film(frames(), film, comment)
    return last[0]


def _record(job: Job, how: Settings, features: StyleFeatures, digests: Sequence[str]) -> dict[str, object]:
    """Return what changed the picture, for its metadata."""
    styles = [
        {"picture": shown(Path(name).name), "sha256": digest, "weight": weight}
        for name, digest, weight in zip(job.styles, digests, job.weights, strict=True)
    ]
    network = {"name": shown(features.name), "sha256": features.sha256}
    return {"model": "style_optimize", "styles": styles, "features": network, "options": asdict(how)}


def _beside(job: Job) -> dict[str, object]:
    masks = [{"file": shown(path.name), "sha256": file_hash(path)} for path in job.masks]
    photo = {"file": shown(job.photo.name), "sha256": file_hash(job.photo)}
    return {"photo": photo, "masks": masks} if masks else {"photo": photo}


def _check_out(job: Job, out: Path, film: Path | None) -> None:
    """Refuse results that would overwrite what is read, or that have another format than their names say."""
    if out.suffix.lower() not in (".png", *JPEG_SUFFIXES):
        raise UserError(f"--out is {shown(out)}.", "End it in .png or .jpg.")
    read = {path.resolve() for path in (job.photo, *map(Path, job.styles), *job.masks) if path.is_file()}
    for path in (out, film):
        if path is not None and path.resolve() in read:
            raise UserError(f"The result would overwrite {shown(path)}.", "Choose another name.")


def _size(picture: Image.Image, longest: int | None) -> tuple[int, int]:
    """Return the height and the width of the result."""
    scale = 1.0 if longest is None else longest / max(picture.size)
    return max(round(scale * picture.height), 1), max(round(scale * picture.width), 1)


def _cut(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a mask of another size, again of 0 and 1."""
    return resized(mask, size).gt(0.5).float()


def _pixels(picture: Image.Image) -> Tensor:
    """Return a picture as float (1, C, H, W) in [0, 255]."""
    pixels = torch.from_numpy(np.array(picture)).view(picture.height, picture.width, -1)
    return pixels.permute(2, 0, 1)[None].float().contiguous()
