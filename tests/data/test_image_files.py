"""Every row of the table of image files, see tests/helpers/image_files/table.py, and the page made of it."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import png
import pytest
import tifffile
from image_files import expected, png_cases, tiff_cases
from image_files.page import page
from image_files.table import Case, Row, table

from aigc_lightning.data.decode import CorruptImageError, decode

ROWS = table()
_by_name = pytest.mark.parametrize("row", ROWS, ids=[f"{row.format}: {row.stored}"[:70] for row in ROWS])


@_by_name
def test_files_of_all_rows_are_read_as_the_table_says(row: Row, tmp_path: Path) -> None:
    _try(row, tmp_path, quick=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # 8,352 files take over five minutes on a busy machine
@pytest.mark.parametrize("row", [row for row in ROWS if row.step > 1], ids=lambda row: row.stored[:40])
def test_the_whole_product_is_read_as_the_table_says(row: Row, tmp_path: Path) -> None:
    _try(row, tmp_path, quick=False)


def _try(row: Row, folder: Path, *, quick: bool) -> None:
    if row.missing:
        pytest.skip(row.missing)
    wrong = [f"{case.name}: {problem}" for case in row.files(quick=quick) if (problem := _problem(case, folder))]
    assert not wrong, f"{len(wrong)} files, such as\n" + "\n".join(wrong[:10])


def _problem(case: Case, folder: Path) -> str:
    """Return what is wrong with how a file is read; empty where nothing is."""
    source: bytes | Path = case.data
    if case.ending:
        source = folder / f"file{case.ending}"
        source.write_bytes(case.data)
    try:
        seen, laid = (decode(source, channels).permute(1, 2, 0).numpy() / 255 for channels in (4, 3))
    except CorruptImageError as error:
        if case.refusal and re.search(case.refusal, error.reason):
            return ""
        return f"refused, {error.reason}"
    if case.shown is None:
        return "not refused"
    if seen.shape != case.shown.shape:
        return f"{seen.shape}, not {case.shown.shape}"
    # Half a level for the rounding to whole ones. What hardly shows has no colour that could be told.
    allowed = case.levels + 0.5
    differences = {
        "alpha": 255 * np.abs(seen[:, :, 3] - case.shown[:, :, 3]).max(),
        "on white": 255 * np.abs(laid - expected.on_white(case.shown)).max(),
    }
    return ", ".join(f"{name} off by {value:.1f}" for name, value in differences.items() if value > allowed)


def test_the_page_is_made_of_the_table() -> None:
    """Write it anew with: PYTHONPATH=tests/helpers python -m image_files.page > docs/data_files.md"""
    path = Path(__file__).parents[2] / "docs" / "data_files.md"
    assert path.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("case", list(png_cases._plain()), ids=lambda case: case.name)
def test_png_files_hold_what_pypng_reads(case: Case) -> None:
    """The files of the table and the pictures that they have to give are right by another reader, too."""
    width, height, rows, info = png.Reader(bytes=case.data).asDirect()
    samples = np.array([list(row) for row in rows]).reshape(height, width, info["planes"])
    levels = expected.scaled(samples, info["bitdepth"])
    color, alpha = (levels[:, :, :-1], levels[:, :, -1]) if info["alpha"] else (levels, None)
    assert case.shown is not None
    assert np.allclose(expected.picture(color, alpha), case.shown, atol=1e-9)


def test_tiff_files_hold_what_tifffile_reads() -> None:
    """As far as tifffile decodes them by itself: whole bytes, and what Python's own modules decompress."""
    tried = 0
    make: Any  # a partial of what writes a file
    for make in [*tiff_cases._unsigned()][::31] + [*tiff_cases._floating()][::31]:
        (samples, bits, sample_format, *_, how, _), make_file = make.args, make
        if bits not in (8, 16, 32, 64) or how["compression"] in ("LZW", "ZSTD") or how["predictor"] == 3:
            continue
        if how["predictor"] == 2 and sample_format == 3:
            continue
        found = tifffile.imread(io.BytesIO(make_file().data), key=0)
        found = found[:, :, None] if found.ndim == 2 else np.moveaxis(found, 0, -1) if how["planar"] == 2 else found
        assert np.array_equal(found, samples.astype(found.dtype)), make_file().name
        tried += 1
    assert tried > 50
