"""`aigc data preview`: a picture of what a model sees."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_lightning.commands.data.options import data_parser, parse_data
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from aigc_lightning.core.spec import ImageSpec

_CELL = 96  # minimum length of an image's longer side in pixels, so that captions fit
_GAP, _MARGIN, _LINE = 6, 12, 15  # pixels between samples, around them, and from one line of text to the next
_MOST_LINES = 4
_MOST = 1024


def main(argv: list[str]) -> int:
    """Draw samples as a model sees them."""
    parser = data_parser("preview", "Draw a grid of samples as a model sees them.", num=32, num_help="samples")
    parser.add_argument("--out", type=Path, default=Path("preview.png"), help="the picture (default: preview.png)")
    parser.add_argument(
        "--part", choices=("train", "val", "test"), default="train", help="part of the data (default: train)"
    )
    parser.add_argument("--columns", type=int, help="samples per row (default: a nearly square picture)")
    options, data_options = parse_data(parser, argv, most=_MOST)
    if options.columns is not None and options.columns < 1:
        raise UserError(f"--columns is {options.columns}.", "Give at least 1.")

    from aigc_lightning.config.data import chosen_data
    from aigc_lightning.core.io.pictures import save_png
    from aigc_lightning.core.run.quiet import quiet_console
    from aigc_lightning.data.unreadable import LOST_KEY, LostImage, named

    with quiet_console():
        data = chosen_data(data_options)
        data.batch_size = min(data.batch_size, options.num)
        samples: list[dict[str, Any]] = []
        lost: list[LostImage] = []
        for batch in getattr(data, f"{options.part}_dataloader")():
            lost += batch.pop(LOST_KEY, [])
            samples += _samples(batch)
            if len(samples) >= options.num:
                break
        spec = data.spec
    samples = samples[: options.num]
    name = f"{type(data).__name__}, {options.part}"
    save_png(draw(samples, spec, name, options.columns), options.out, {"data": f"{name}, {spec}"})
    if lost:
        errors = [item.error for item in lost]
        echo(f"Unreadable images were replaced by others: {named(lost[0].budget.root, errors)}.", error=True)
    echo(f"{options.out}: {len(samples)} samples of {name}, {spec}, {spec.task}")
    return 0


def _samples(batch: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: values[number] for key, values in batch.items()} for number in range(len(batch["index"]))]


def draw(samples: list[dict[str, Any]], spec: "ImageSpec", name: str, columns: int | None = None) -> "Image.Image":
    """Return a picture of samples: a title, and for each sample its images side by side with its text below.

    Args:
        samples: with the keys of a batch, images being float (C, H, W) in [-1, 1].
        spec: format of the images.
        name: name of the data, for the title.
        columns: samples per row; None for a nearly square picture.
    """
    from PIL import Image, ImageDraw, ImageFont

    from aigc_lightning.core.batch import IMAGE_KEYS
    from aigc_lightning.core.io.pictures import near_square

    keys = IMAGE_KEYS[spec.task]
    tiles = [_side_by_side([sample[key] for key in keys], spec) for sample in samples]
    font = ImageFont.load_default(size=12)
    width, height = tiles[0].size
    words = [_wrapped(_words(sample, spec), font, width) for sample in samples]
    height += _LINE * max(map(len, words))
    columns = columns or max(1, round(near_square(len(tiles)) / len(keys) ** 0.5))
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    order = f", from left to right: {' | '.join(keys)}" if len(keys) > 1 else ""
    title = _wrapped(f"{name}, {spec}{order}", font, columns * (width + _GAP))
    top = _MARGIN + _LINE * len(title)
    size = (2 * _MARGIN + columns * (width + _GAP) - _GAP, top + rows * (height + _GAP) - _GAP + _MARGIN)
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((_MARGIN, _MARGIN // 2), "\n".join(title), fill="black", font=font, spacing=_LINE - 12)
    for number, (tile, lines) in enumerate(zip(tiles, words, strict=True)):
        x = _MARGIN + (number % columns) * (width + _GAP)
        y = top + (number // columns) * (height + _GAP)
        canvas.paste(tile, (x, y))
        for place, line in enumerate(lines):
            pen.text((x, y + tile.height + place * _LINE), line, fill="black", font=font)
    return canvas


def _side_by_side(images: list[Any], spec: "ImageSpec") -> "Image.Image":
    """Return images (C, h, w) in a row, resized to the spec's size, or to a multiple of it if that is small."""
    from PIL import Image

    from aigc_lightning.core.io.pictures import to_picture, to_uint8

    factor = max(1, -(-_CELL // max(spec.height, spec.width)))
    width, height = spec.width * factor, spec.height * factor
    row = Image.new("RGB", (len(images) * width, height), "white")
    for number, image in enumerate(images):
        picture = to_picture(to_uint8(image)).resize((width, height), Image.Resampling.NEAREST)
        row.paste(picture, (number * width, 0), picture if picture.mode == "RGBA" else None)
    return row


def _words(sample: dict[str, Any], spec: "ImageSpec") -> str:
    if "caption" in sample:
        return shown(sample["caption"])
    return spec.class_names[int(sample["label"])] if spec.class_names else ""


def _wrapped(text: str, font: Any, width: int) -> list[str]:
    """Break a text into lines of at most this width in pixels; longer texts are truncated."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], lines[_MOST_LINES - 1] + " ..."]
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: Any, width: int) -> str:
    while len(line) > 1 and font.getlength(line) > width:
        line = line[:-1]
    return line
