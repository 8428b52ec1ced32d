from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lightning.core.batch import batch_size
from aigc_lightning.core.memory.micro_batches import split


@given(size=st.integers(1, 40), parts=st.integers(1, 50))
def test_parts_are_the_batch_in_order_and_nearly_equal(size, parts):
    batch: dict[str, Any] = {
        "image": torch.arange(size * 2).view(size, 2),
        "caption": [str(n) for n in range(size)],
        "index": torch.arange(size),
    }
    cut = split(batch, parts)
    assert len(cut) == min(parts, size)
    for key in ("image", "index"):
        assert torch.equal(torch.cat([part[key] for part in cut]), batch[key])
    assert [caption for part in cut for caption in part["caption"]] == batch["caption"]
    sizes = [batch_size(part) for part in cut]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    assert sizes == [len(part["caption"]) for part in cut]


@given(size=st.integers(1, 40), parts=st.integers(1, 50), group_size=st.integers(1, 9))
def test_groups_stay_together(size, parts, group_size):
    cut = split(torch.arange(size), parts, group_size)
    assert torch.equal(torch.cat(cut), torch.arange(size))
    assert len(cut) == min(parts, -(-size // group_size))
    assert all(len(part) % group_size == 0 for part in cut[:-1]) and all(len(part) for part in cut)
    sizes = [-(-len(part) // group_size) for part in cut]
    assert max(sizes) - min(sizes) <= 1


def test_what_has_no_samples_is_in_every_part():
    batch = {"image": torch.zeros(4, 1), "scale": torch.tensor(3.0), "kernel": torch.ones(7), "name": "x", "n": 2}
    for part in split(batch, 2):
        assert part["scale"] == 3 and part["kernel"].shape == (7,) and part["name"] == "x" and part["n"] == 2
        assert part["image"].shape == (2, 1)


def test_nested_batches_and_plain_tensors():
    images = torch.arange(6)
    assert [part.tolist() for part in split(images, 2)] == [[0, 1, 2], [3, 4, 5]]
    pair = split([images, (images, images)], 3)
    assert pair[1][0].tolist() == [2, 3] and pair[1][1][0].tolist() == [2, 3] and isinstance(pair[1][1], tuple)
    nested = split({"a": {"image": images}, "image": images}, 2)
    assert nested[1]["a"]["image"].tolist() == [3, 4, 5]


def test_one_part_is_the_batch_itself():
    batch = {"image": torch.zeros(3)}
    assert split(batch, 1)[0] is batch


@pytest.mark.parametrize(
    ("batch", "size"),
    [({"image": torch.zeros(5, 1)}, 5), ([torch.zeros(3), torch.zeros(9)], 3), (torch.zeros(2, 7), 2),
     ({"scale": torch.tensor(1.0), "image": torch.zeros(4)}, 4), ({"caption": ["a", "b"]}, 2)],
)  # fmt: skip
def test_size(batch, size):
    assert batch_size(batch) == size
