"""Words of texts, and their bytes."""

import pytest

from aigc_lightning.core.words import byte_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a red circle", ["a", "red", "circle"]),
        ("  two,\tthen\nthree ", ["two,", "then", "three"]),
        ("un cœur énorme \U0001f600", ["un", "cœur", "énorme", "\U0001f600"]),
        ("большой круг", ["большой", "круг"]),
        ("\u8d64\u3044 circle\u5186", ["\u8d64", "\u3044", "circle", "\u5186"]),
        ("red red", ["red", "red"]),
        (" ", []),
    ],
)
def test_the_places_of_a_word_are_its_bytes(text, words):
    found = byte_words(text)
    assert [word for word, _ in found] == words
    data = text.encode()
    assert [data[places.start : places.stop].decode() for _, places in found] == words
    assert [part for _, places in byte_words(text, 5) for part in places] == [
        part + 5 for _, places in found for part in places
    ]
