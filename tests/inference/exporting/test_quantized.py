"""What is not worth having is refused."""

import pytest

from aigc_lightning.inference.exporting.measured import Measured, Score
from aigc_lightning.inference.exporting.quantized import Card


@pytest.mark.parametrize(
    ("size", "seconds", "score", "said"),
    [
        (50, 0.5, 45.0, []),
        (100, 0.5, 45.0, ["smaller"]),
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
