"""Where the attention layers of a model look."""

import math

import numpy as np
import pytest
import torch

from aigc_lightning.inference.explaining.sections import attended


class Looks:
    """A model of 3x3 places, before which there is `before`; all queries look at one place alone, or evenly."""

    attention_grid = (3, 3)

    def __init__(self, before: int = 1) -> None:
        self.before = before

    def attention_maps(self, images):
        keys = self.before + 9
        one = torch.zeros(len(images), 2, keys, keys)
        one[..., self.before + 4] = 1
        return {"first": one, "second": torch.full_like(one, 1 / keys)}


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_map_shows_the_place_that_is_looked_at(before):
    part = attended(Looks(before), [torch.zeros(1, 6, 6), torch.zeros(1, 6, 6)], ["a.png", "b.png"])
    assert [(row["picture"], row["block"], row["heads"]) for row in part.rows] == [
        ("a.png", "first", 2), ("a.png", "second", 2), ("b.png", "first", 2), ("b.png", "second", 2),
    ]  # fmt: skip
    assert part.picture is not None
    red = (np.asarray(part.picture) == (200, 20, 20)).all(-1)
    picture, middle, everywhere = np.array_split(red[: red.shape[0] // 2], 3, axis=1)
    assert not picture.any() and 9 * middle.sum() == everywhere.sum() > 0
    assert all(np.ptp(places) < red.shape[0] // 6 for places in np.nonzero(middle))  # one of 3x3 places
    entropies = [row["entropy_in_nats"] for row in part.rows]
    assert entropies == pytest.approx([0, math.log(before + 9)] * 2, abs=1e-5)


def test_places_need_no_square():
    model = Looks(3)
    model.attention_grid = (2, 5)
    part = attended(model, [torch.zeros(1, 4, 10)], ["a.png"])
    assert part.picture is not None
    red = (np.asarray(part.picture) == (200, 20, 20)).all(-1)
    found = np.nonzero(np.array_split(red, 3, axis=1)[1])  # the eighth of twelve keys: place 5, in the second row
    assert found[0].min() >= red.shape[0] // 2 - 2 and found[1].max() <= red.shape[1] // 3 // 5 + 2
