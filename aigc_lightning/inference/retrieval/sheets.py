"""Results of searches as pictures: contact sheets and self-contained pages."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from string import Template
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import html
from aigc_lightning.core.io.pictures import save_png, to_picture
from aigc_lightning.errors import UserError
from aigc_lightning.inference.retrieval.index import pixels_of

#: Extensions of results that can be written.
SUFFIXES = (".png", ".html")
_CELL, _GAP, _TEXT = 128, 8, 34  # pixels: of a cell's side, between cells, of the height of its two lines
_LETTERS = 19  # of a name below a cell of a sheet
_TEMPLATE = Path(__file__).with_name("search.html")


class Cell(NamedTuple):
    """A picture with two lines of text."""

    picture: bytes  # a small picture of an index
    name: str
    note: str


def check_result(path: Path) -> None:
    """Refuse a file that results cannot be written to.

    Raises:
        UserError: it ends in something else than .png or .html.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"Results cannot be written to {path}.", "Give a file that ends in .png or .html.")


def write_results(path: Path, title: str, cells: Sequence[Cell], columns: int) -> None:
    """Write cells as a contact sheet or a page, by the extension of the file.

    Args:
        path: ends in .png or .html.
        title: what is shown.
        cells: at least one, row by row.
        columns: number of cells in a row.
    """
    if path.suffix.lower() == ".png":
        save_png(contact_sheet(cells, columns), path, {"Description": title})
        return
    figures = "\n".join(_figure(cell) for cell in cells)
    page = Template(_TEMPLATE.read_text(encoding="utf-8"))
    with replacing(path) as temporary:
        text = page.substitute(title=html(title), figures=figures, columns=columns)
        temporary.write_text(text, encoding="utf-8")


def contact_sheet(cells: Sequence[Cell], columns: int) -> Image.Image:
    """Return cells as one RGB picture, row by row."""
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    size = (_GAP + columns * (_CELL + _GAP), _GAP + rows * (_CELL + _TEXT + _GAP))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, cell in enumerate(cells):
        left = _GAP + number % columns * (_CELL + _GAP)
        top = _GAP + number // columns * (_CELL + _TEXT + _GAP)
        picture = _fitted(cell)
        sheet.paste(picture, (left + (_CELL - picture.width) // 2, top + (_CELL - picture.height) // 2))
        for line, text in enumerate((_shortened(shown(cell.name)), cell.note)):
            draw.text((left, top + _CELL + 2 + 15 * line), text, fill="black", font=font)
    return sheet


def _fitted(cell: Cell) -> Image.Image:
    picture = to_picture(pixels_of(cell.picture, cell.name)).convert("RGB")
    scale = _CELL / max(picture.size)
    if scale >= 2:
        scale = int(scale)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)


def _shortened(name: str) -> str:
    """Return the end of a name, which tells files of a folder apart."""
    return name if len(name) <= _LETTERS else f"...{name[3 - _LETTERS :]}"


def _figure(cell: Cell) -> str:
    buffer = BytesIO()  # written again: a page contains nothing of an index but pixels and escaped texts
    to_picture(pixels_of(cell.picture, cell.name)).save(buffer, "PNG")
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    name, note = html(cell.name), html(cell.note)
    return f'<figure><img src="{source}" alt="{name}"><figcaption>{name}<br><b>{note}</b></figcaption></figure>'
