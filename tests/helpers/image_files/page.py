"""Writes the page "Which files are read how" from the table that the tests try.

PYTHONPATH=tests/helpers python -m image_files.page > docs/data_files.md
"""

from itertools import groupby

from aigc_lightning.data.decoding.formats import FORMATS, INSTALL, Format
from image_files.table import table

_HEAD = """# Which files are read how

All data from files, `aigc edit`, `aigc evaluate` and `aigc data` share one decoder, `aigc_lightning/data/decode.py`. It
gives what a viewer shows, in 8 bits: a level v from 0 to 255 becomes v / 127.5 - 1 in a batch, so that black is -1 and
white is 1.

- **More than 8 bits** are scaled to 8 and rounded, from the whole range of the file's numbers: that of their bits for
  integers, from 0 to 1 for floating point. Numbers outside of these ranges are refused, not clipped.
- **Colours** are converted to sRGB from the ICC profile of the file, or a PNG's gamma: relative colorimetric, with
  black point compensation. `profile: keep` of the data leaves the numbers as they are. Without a profile RGB and grey
  are taken for sRGB, and CMYK for inks that multiply. `aigc edit` converts results back to the profile of the
  original. Where data are made smaller, the profile is applied to the smaller picture.
- **Transparency** is laid on white, unless `channels` is 4. **Orientation** is applied. **Animations** and files of
  several pages give their first picture.
- **What cannot be read** is refused by name: "a broken PNG: ...", "a TIFF with the compression LERC, which is not
  supported", "it is a web page". Data leave such files out and count them against `max_bad`.
- **What is odd** and does no harm, such as a broken profile, is said in one line with the name of the file, for the
  first five files of a process; `aigc data check` names all.

Files are found by their endings, and what they are is told by their first bytes, so a JPEG that is called `.png` is
read. Files with other endings are passed over; how many is said when a run starts, and by `aigc data check`.

| format | endings | read by |
|---|---|---|
"""

_TABLE = """
The rest of this page is made from the table that `tests/data/test_image_files.py` tries. Each row stands for a product
of variants, whose files are made in the test. All colours are within one of 255 levels of the value by the format's
specification. Exceptions: two levels where a profile is applied, three where it is one for CMYK; four in BMP and TGA of
16 bits; two in AVIF and three in HEIC, and three more where there are edges.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [_HEAD, *(_endings(format_) for format_ in FORMATS), _TABLE]
    for name, rows in groupby(table(), key=lambda row: row.format):
        parts.append(f"\n## {name}\n\n| stored as | read as | files |\n|---|---|---|\n")
        for row in rows:
            count = "" if row.optional else f"{len(row):,}"
            parts.append(f"| {row.stored} | {row.read} | {count} |\n")
    return "".join(parts)


def _endings(format_: Format) -> str:
    reader = f"`{INSTALL}`" if not format_.module.startswith("PIL.") else "Pillow"
    if format_.name == "TIFF":
        reader = "tifffile, numpy, Pillow"
    elif format_.feature:
        reader = "Pillow, where it was built for it"
    return f"| {format_.name} | {' '.join(f'`{ending}`' for ending in format_.endings)} | {reader} |\n"


if __name__ == "__main__":
    print(page(), end="")
