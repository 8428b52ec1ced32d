import math

import numpy as np
import pytest

from aigc_lightning.core.ema import WIDEST, Ema, exponent_of, recorded_ema
from aigc_lightning.errors import UserError


@pytest.mark.parametrize(
    ("decay", "updates", "kept"),
    [(0.9, 1000, 0.9), (None, 0, 0.1), (None, 8, 0.5), (0.05, 0, 0.05), (None, 10**6, 0.999)],
)
def test_a_decay_starts_small(decay, updates, kept):
    assert Ema(decay=decay).kept(updates, 32) == pytest.approx([kept])


def test_no_average():
    assert Ema(decay=0).count == 0 and Ema(decay=0).kept(5, 32) == []


def test_after_half_a_life_a_weight_counts_half():
    ema = Ema(half_life_images=640)
    kept = [ema.kept(10**6, 32)[0] for _ in range(20)]
    assert math.prod(kept) == pytest.approx(0.5)
    assert ema.kept(10**6, 640) == pytest.approx([0.5])
    assert ema.kept(0, 32) == pytest.approx([0.1])  # the random start is soon forgotten
    assert ema.count == 1 and ema.decay is None


def test_exponents_of_the_paper():
    assert exponent_of(0.05) == pytest.approx(16.9722, abs=1e-4)
    assert exponent_of(0.10) == pytest.approx(6.9372, abs=1e-4)
    assert exponent_of(WIDEST * (1 - 1e-9)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.25])
def test_the_weights_of_a_power_function_have_its_width(width):
    exponent = exponent_of(width)
    times = (np.arange(10**6) + 0.5) / 10**6
    weights = times**exponent / np.sum(times**exponent)
    mean = np.sum(weights * times)
    assert np.sqrt(np.sum(weights * (times - mean) ** 2)) == pytest.approx(width, rel=1e-4)


def test_updates_give_the_weights_of_a_power_function():
    ema, steps = Ema(relative_widths="0.05,0.10"), 50
    weights = np.zeros((2, steps))
    for step in range(steps):
        kept = np.array(ema.kept(step, 32))[:, None]
        weights = kept * weights
        weights[:, step] = 1 - kept[:, 0]
    edges = np.arange(steps + 1) / steps
    for row, exponent in zip(weights, ema.exponents, strict=True):  # of each step, the integral over its time
        np.testing.assert_allclose(row, np.diff(edges ** (exponent + 1)), atol=1e-14)


def test_settings_that_exclude_each_other():
    for options in ({"decay": 0.9, "half_life_images": 5.0}, {"half_life_images": 5.0, "relative_widths": "0.05"}):
        with pytest.raises(UserError, match=" and ema.".join(options)):
            Ema(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"decay": 1.0},
        {"decay": -0.1},
        {"half_life_images": 0.0},
        {"half_life_images": float("inf")},
        {"relative_widths": ""},
        {"relative_widths": "0.05,0.05"},
        {"relative_widths": "0.01,0.02,0.03,0.04,0.05"},
        {"relative_widths": "nan"},
        {"relative_widths": "0.2887"},
        {"relative_widths": "0"},
        {"snapshot_every": 7},
        {"snapshot_every": 0, "relative_widths": "0.05"},
    ],
    ids=str,
)
def test_settings_out_of_range(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Ema(**options)


def test_a_record_gives_the_settings():
    assert recorded_ema({"ema": {"decay": 0.5, "of another version": 1}}) == Ema(decay=0.5)
    assert recorded_ema({"engine": {"ema_decay": 0.25, "micro_batches": 2}}) == Ema(decay=0.25)
    assert recorded_ema({}) == Ema() == Ema(decay=0.999)
    for made in ({"decay": "fast"}, {"relative_widths": [0.05]}, {"snapshot_every": None}):
        with pytest.raises(UserError, match="averages"):
            recorded_ema({"ema": made})
