"""Before and after: one picture that shows both, and a page with a slider between them."""

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from string import Template

from PIL import Image, ImageDraw, ImageFont

from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.output import html
from aigc_lightning.core.io.pictures import save_png
from aigc_lightning.inference.picture_file import on_white

_MOST_ROWS = 6  # maximum number in the sheet
_MOST_PAIRS = 100  # maximum number in the page, which embeds its pictures
_CELL = 384  # maximum length of a picture's longer side in the sheet, in pixels
_SMALL = 256  # pixels below which a picture is enlarged without smoothing
_VIEW = 1280  # maximum length of a picture's longer side in the page, in pixels
_GAP, _HEADER = 8, 28  # pixels
_TEMPLATE = Path(__file__).with_name("compare.html")


@dataclass(frozen=True)
class _Pair:
    name: str
    before: str
    after: str
    size: tuple[int, int]
    after_size: tuple[int, int]


class BeforeAfter:
    """Collects pictures before and after editing; keeps only small copies."""

    def __init__(self) -> None:
        self.count = 0
        self._rows: list[dict[str, Image.Image]] = []
        self._pairs: list[_Pair] = []

    def add(
        self,
        name: str,
        before: Image.Image,
        after: Image.Image,
        mask: Image.Image | None = None,
        reference: Image.Image | None = None,
    ) -> None:
        """Add a picture in mode L, RGB or RGBA, its edited version, and what its model got beside it."""
        self.count += 1
        before, after = on_white(before), on_white(after)
        if len(self._rows) < _MOST_ROWS:
            row = {"before": before, "mask": mask, "reference": reference, "after": after}
            self._rows.append({title: _fitted(on_white(one)) for title, one in row.items() if one is not None})
        if len(self._pairs) < _MOST_PAIRS:
            self._pairs.append(_Pair(name, _embedded(before), _embedded(after), before.size, after.size))

    def write_sheet(self, path: Path, text: dict[str, str]) -> None:
        """Write the first pictures to a PNG, one per row: before, the mask and the reference if there are, after."""
        column = max(picture.width for row in self._rows for picture in row.values())
        heights = [max(picture.height for picture in row.values()) for row in self._rows]
        titles = list(self._rows[0])
        size = (len(titles) * (column + _GAP) + _GAP, _HEADER + sum(heights) + _GAP * len(heights))
        sheet = Image.new("RGB", size, "white")
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
        lefts = [_GAP + place * (column + _GAP) for place in range(len(titles))]
        for left, title in zip(lefts, titles, strict=True):
            draw.text((left, 4), title, fill="black", font=font)
        top = _HEADER
        for row, height in zip(self._rows, heights, strict=True):
            for left, picture in zip(lefts, row.values(), strict=True):
                sheet.paste(picture, (left, top))
            top += height + _GAP
        save_png(sheet, path, text)

    def write_page(self, path: Path, about: str) -> None:
        """Write a self-contained HTML page.

        Args:
            path: the file.
            about: description of the edit, without a full stop.
        """
        left_out = self.count - len(self._pairs)
        note = f'<p class="note">{left_out} more pictures are in the folder.</p>' if left_out else ""
        figures = "\n".join(_figure(pair) for pair in self._pairs)
        page = Template(_TEMPLATE.read_text(encoding="utf-8"))
        with replacing(path) as temporary:
            temporary.write_text(page.substitute(about=html(about), figures=figures, note=note), encoding="utf-8")


def _figure(pair: _Pair) -> str:
    """Return a slider, or both pictures side by side if their sizes differ."""
    name = html(pair.name)
    before = _image(pair.before, f"{name} before", pair.size, "before")
    after = _image(pair.after, f"{name} after", pair.after_size, "after")
    sizes = " to ".join(dict.fromkeys(f"{width} x {height}" for width, height in (pair.size, pair.after_size)))
    if pair.size == pair.after_size:
        body = (
            f'<div class="pair" style="--width: {_shown_width(pair.size)}px">{after}{before}'
            '<span style="left: .5rem">before</span><span style="right: .5rem">after</span>'
            f'<input type="range" min="0" max="100" step="0.1" value="50" aria-label="{name}: before and after" '
            "oninput=\"this.parentNode.style.setProperty('--x', this.value + '%')\"></div>"
        )
    else:
        boxes = zip((before, after), (pair.size, pair.after_size), strict=True)
        body = "".join(f'<div style="--width: {_shown_width(size)}px">{image}</div>' for image, size in boxes)
        body = f'<div class="beside">{body}</div>'
    return f"<figure>{body}<figcaption>{name} <small>{sizes}</small></figcaption></figure>"


def _image(source: str, label: str, size: tuple[int, int], kind: str) -> str:
    classes = f"{kind} small" if max(size) < _SMALL else kind
    return f'<img class="{classes}" src="{source}" alt="{label}" width="{size[0]}" height="{size[1]}">'


def _shown_width(size: tuple[int, int]) -> int:
    """Return the width in the page: small pictures are enlarged by an integer factor."""
    return size[0] * -(-_SMALL // max(size))


def _fitted(picture: Image.Image) -> Image.Image:
    """Return a picture for the sheet: large ones are reduced, small ones enlarged by an integer factor."""
    longer = max(picture.size)
    if longer < _SMALL:
        factor = -(-_SMALL // longer)
        size = (picture.width * factor, picture.height * factor)
        return picture.convert("RGB").resize(size, Image.Resampling.NEAREST)
    return _reduced(picture, _CELL)


def _reduced(picture: Image.Image, most: int) -> Image.Image:
    scale = min(1.0, most / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    colours = picture if picture.mode == "RGB" else picture.convert("RGB")  # not a copy of a large picture
    return colours if scale == 1 else colours.resize(size, Image.Resampling.LANCZOS)


def _embedded(picture: Image.Image) -> str:
    """Return a picture as a data URL: PNG if it is small, else JPEG."""
    small = max(picture.size) < _SMALL
    buffer = BytesIO()
    _reduced(picture, _VIEW).save(buffer, "PNG" if small else "JPEG", quality=90, subsampling=0)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"
