import pickle

import numpy as np
import pytest

from aigc_lightning.data.packed_strings import PackedStrings

NAMES = ["a.png", "", "\u00e4/\u6f22.png", "not\udcffutf8.jpg"]


def test_strings_keep_their_letters():
    packed = pickle.loads(pickle.dumps(PackedStrings(NAMES)))
    assert list(packed) == NAMES and packed[-1] == NAMES[-1] and packed[1:3] == NAMES[1:3] and len(packed) == 4
    assert list(PackedStrings([])) == [] and not PackedStrings()
    with pytest.raises(IndexError):
        packed[4]


def test_some_can_be_taken_by_number_or_mask():
    packed = PackedStrings(NAMES)
    assert list(packed.take(np.array([3, 0, 0]))) == [NAMES[3], NAMES[0], NAMES[0]]
    assert packed.take(np.array([True, False, True, False])) == PackedStrings([NAMES[0], NAMES[2]])
    assert list(packed.take(np.zeros(4, bool))) == []
    assert packed != PackedStrings(NAMES[:3]) and packed != NAMES


def test_a_hundred_thousand_names_take_less_than_a_hundred_bytes_each():
    packed = PackedStrings(f"class_{number % 10}/{number:08d}.jpg" for number in range(100_000))
    assert packed[99_999] == "class_9/00099999.jpg"
    assert len(pickle.dumps(packed)) < 30 * len(packed)
