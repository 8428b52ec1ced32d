"""The page and the JSON file of an explanation.

Shapes: C channels, H and W height and width in pixels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.output import html
from aigc_lightning.core.io.pictures import image_grid
from aigc_lightning.core.io.redaction import redacted
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.report import STYLE, Picture, embedded

PAGE_FILE, JSON_FILE = "explanation.html", "explanation.json"
_MAPS_STYLE = (
    ".maps{display:flex;flex-wrap:wrap;gap:.6rem}.maps figure{margin:0;text-align:center;max-width:9rem}"
    "img{image-rendering:pixelated;max-width:100%;height:auto}"
)
_SMALL = 500  # pixels of width below which a picture is shown at twice its size
_CLIPPED = 0.99  # quantile of a map that gets the full colour


class LabelledMap(NamedTuple):
    """A small picture with a word under it.

    Args:
        picture: name of what it belongs to; those of one picture stand beside each other.
        label: the word.
        values: numbers of the map, row by row, for the JSON file; empty for the picture itself.
        image: uint8 (3, H, W).
    """

    picture: str
    label: str
    values: list[list[float]]
    image: Tensor


@dataclass
class Part:
    """A part of an explanation.

    Args:
        title: its heading.
        caption: what it shows, and how to read it.
        picture: the picture; None for a table alone.
        rows: of its table, all with the same keys; values are numbers or texts.
        maps: small pictures, in order.
    """

    title: str
    caption: str
    picture: Image.Image | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    maps: list[LabelledMap] = field(default_factory=list)


def save(out: Path, name: str, origin: Mapping[str, Any], parts: Sequence[Part]) -> None:
    """Write `explanation.html` and `explanation.json` to a folder.

    Args:
        out: the folder; created if necessary.
        name: of what is explained.
        origin: plain values that identify the model.
        parts: in order.

    Raises:
        UserError: the files cannot be written.
    """
    values = {"name": name, **origin, "parts": [_values(part) for part in parts]}
    body = "".join(map(_shown, parts))
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{html(name)}</title><style>{STYLE}{_MAPS_STYLE}</style></head><body><h1>{html(name)}</h1>{body}</body></html>\n"
    )
    texts = {PAGE_FILE: page, JSON_FILE: json.dumps(redacted(values), indent=2, ensure_ascii=False) + "\n"}
    try:
        for file, text in texts.items():
            with replacing(out / file) as temporary:
                temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}.", "Choose another --out.") from error


def heat(map_: Tensor, image: Tensor) -> Tensor:
    """Return a map (H, W) in colour over a pale image, uint8 (3, H, W): red for positive values, blue for negative.

    Args:
        map_: scaled so that nearly all of its values fit.
        image: uint8 (C, H, W).
    """
    scale = map_.abs().flatten().quantile(_CLIPPED).clamp(min=1e-12)
    strength = (map_ / scale).clamp(-1, 1)
    grey = 160 + 95 * image[:3].float().mean(0) / 255
    red, blue = torch.tensor([200.0, 20, 20]), torch.tensor([20.0, 60, 200])
    ink = torch.where(strength[None] > 0, red[:, None, None], blue[:, None, None])
    share = strength.abs()[None]
    return (grey[None] * (1 - share) + ink * share).round().to(torch.uint8)


def _values(part: Part) -> dict[str, Any]:
    """Return what the JSON file says of a part."""
    maps = [{"picture": map_.picture, "word": map_.label, "map": map_.values} for map_ in part.maps if map_.values]
    return {"title": part.title, "rows": part.rows, **({"maps": maps} if maps else {})}


def _shown(part: Part) -> str:
    picture = ""
    if part.picture is not None:
        picture = f"<figure>{_image(part.picture, part.title, part.caption)}</figure>"
    for name in dict.fromkeys(map_.picture for map_ in part.maps):
        picture += f"<div class='maps'>{''.join(_labelled(map_) for map_ in part.maps if map_.picture == name)}</div>"
    table = ""
    if part.rows:
        head = "".join(f"<th>{html(key.replace('_', ' '))}</th>" for key in part.rows[0])
        cells = ["".join(f"<td>{html(_formatted(value))}</td>" for value in row.values()) for row in part.rows]
        table = f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
    return f"<h2>{html(part.title)}</h2>{picture}<p class='note'>{html(part.caption)}</p>{table}"


def _labelled(map_: LabelledMap) -> str:
    image = _image(image_grid(map_.image[None], 1), map_.label, "")
    return f"<figure>{image}<figcaption>{html(map_.label)}</figcaption></figure>"


def _image(picture: Image.Image, title: str, caption: str) -> str:
    width = picture.width * (2 if picture.width < _SMALL else 1)
    return f"<img alt='{html(title)}' width='{width}' src='{embedded(Picture(picture, title, caption))}'>"


def _formatted(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
