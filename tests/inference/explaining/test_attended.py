"""Where the attention layers of a model look."""

import json
import math
from typing import ClassVar

import numpy as np
import pytest
import torch

from aigc_lightning.core.words import byte_words
from aigc_lightning.inference.explaining.attention import attended, attended_words
from aigc_lightning.inference.explaining.page import save


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


class Reads:
    """A text of 8 keys and two blocks: of 2x2 places the last looks at the second word alone; 4x4 look evenly."""

    attention_grid: ClassVar[dict[str, tuple[int, int]]] = {"coarse": (2, 2), "fine": (4, 4)}
    attention_extent = (8, 8)

    def word_keys(self, prompt):
        return byte_words(prompt, first=1)

    def attention_maps(self, images, prompts=None):
        assert prompts == ["a h\u00e9"]
        coarse = torch.zeros(1, 2, 4, 12)
        coarse[..., :3, 0] = 1
        coarse[..., 3, 3] = coarse[..., 3, 4] = coarse[..., 3, 5] = 1 / 3
        return {"coarse": coarse, "fine": torch.full((1, 2, 16, 24), 1 / 24)}


def test_each_word_has_the_attention_to_its_bytes(tmp_path):
    part = attended_words(Reads(), [torch.zeros(1, 6, 6)], ["a.png"], "a h\u00e9")
    assert [(row["word"], row["bytes"]) for row in part.rows] == [("a", 1), ("h\u00e9", 3)]
    even = 1 / 24
    maps = [torch.tensor(map_.values) for map_ in part.maps]
    assert maps[0].numel() == 0 and part.maps[0].label == "a.png"
    assert torch.allclose(maps[1], torch.full((4, 4), even / 2), atol=1e-6)
    expected = torch.full((4, 4), 3 * even / 2)
    expected[2:, 2:] += 0.5  # the last of the 2x2 places
    assert torch.allclose(maps[2], expected, atol=1e-6)
    assert part.rows[1]["share_of_attention"] == pytest.approx(float(expected.mean()), abs=1e-6)
    assert part.rows[0]["largest_over_mean"] == pytest.approx(1, abs=1e-5)
    red = (part.maps[2].image == torch.tensor([200, 20, 20]).view(3, 1, 1)).all(0)
    assert red[4:, 4:].all() and red.sum() == 4  # 8x8 pixels are covered, of which the image has 6x6

    save(tmp_path, "model", {}, [part])
    (saved,) = json.loads((tmp_path / "explanation.json").read_text(encoding="utf-8"))["parts"]
    assert [entry["word"] for entry in saved["maps"]] == ["a", "h\u00e9"]
    assert torch.allclose(torch.tensor(saved["maps"][1]["map"]), expected, atol=1e-6)
    page = (tmp_path / "explanation.html").read_text(encoding="utf-8")
    assert "<figcaption>h\u00e9</figcaption>" in page and page.count("<figcaption>") == 3
