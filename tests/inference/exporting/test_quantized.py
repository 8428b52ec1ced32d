"""What is not worth having is refused."""

import textwrap

import pytest

from aigc_lightning.inference.exporting.measured import Measured, Score
from aigc_lightning.inference.exporting.quantized import Card
from aigc_lightning.inference.exporting.traced import ExportError


@pytest.mark.parametrize(
    ("size", "seconds", "score", "said"),
    [
        (50, 0.5, 45.0, []),
        (98, 0.5, 45.0, []),
        (99, 0.5, 45.0, ["smaller"]),
        (50, 1.0, 45.0, ["faster"]),
        (50, 0.5, 39.0, ["floor"]),
        (50, 0.5, float("nan"), ["floor"]),
    ],
)
def test_what_is_refused(size, seconds, score, said):
    before, after = Measured(100, 1.0, 10, 16, 1), Measured(size, seconds, 10, 16, 1)
    card = Card("int8", [], before, after, Score("PSNR to float32 in dB", None, score, 40.0, 8), 1)
    assert len(card.problems) == len(said)
    assert all(word in problem for word, problem in zip(said, card.problems, strict=True))
    assert "floor 40.00" in "".join(card.lines())


def test_a_refusal_fits_on_a_small_screen():
    before, after = Measured(10 << 20, 0.1, 10, 16, 1), Measured(11 << 20, 0.2, 10, 16, 1)
    card = Card("int4-weights", [], before, after, Score("PSNR to float32 in dB", None, 39.0, 40.0, 8), 0)
    error = ExportError("edit_AtoB", f"as int4-weights, {' and '.join(card.problems)}")
    assert len(card.problems) == 3 and "11.00 instead of 10.00 MiB" in error.what
    assert len(textwrap.wrap(f"Error: {error.what}", 80)) <= 3  # the hint is the fourth
