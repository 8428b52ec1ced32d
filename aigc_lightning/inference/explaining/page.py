"""The page and the JSON file of an explanation.

Shapes: C channels, H and W height and width in pixels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.output import html
from aigc_lightning.core.io.redaction import redacted
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.report import STYLE, Picture, embedded

PAGE_FILE, JSON_FILE = "explanation.html", "explanation.json"
_CLIPPED = 0.99  # quantile of a map that gets the full colour


@dataclass
class Part:
    """A part of an explanation.

    Args:
        title: its heading.
        caption: what it shows, and how to read it.
        picture: the picture; None for a table alone.
        rows: of its table, all with the same keys; values are numbers or texts.
    """

    title: str
    caption: str
    picture: Image.Image | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)


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
    values = {"name": name, **origin, "parts": [{"title": part.title, "rows": part.rows} for part in parts]}
    body = "".join(map(_shown, parts))
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{html(name)}</title><style>{STYLE}</style></head><body><h1>{html(name)}</h1>{body}</body></html>\n"
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


def _shown(part: Part) -> str:
    picture = ""
    if part.picture is not None:
        image = embedded(Picture(part.picture, part.title, part.caption))
        picture = f"<figure><img alt='{html(part.title)}' src='{image}'></figure>"
    table = ""
    if part.rows:
        head = "".join(f"<th>{html(key.replace('_', ' '))}</th>" for key in part.rows[0])
        cells = ["".join(f"<td>{html(_formatted(value))}</td>" for value in row.values()) for row in part.rows]
        table = f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
    return f"<h2>{html(part.title)}</h2>{picture}<p class='note'>{html(part.caption)}</p>{table}"


def _formatted(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
