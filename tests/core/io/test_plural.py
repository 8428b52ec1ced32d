"""Numbers with nouns."""

import pytest

from aigc_lightning.core.io.plural import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "node", "1 node"),
        (0, "node", "0 nodes"),
        (2, "process", "2 processes"),
        (3, "batch", "3 batches"),
        (1, "batch", "1 batch"),
        (1234, "image", "1,234 images"),
    ],
)
def test_a_noun_agrees_with_its_number(number, noun, text):
    assert counted(number, noun) == text
