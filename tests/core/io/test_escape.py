import os

import pytest

from aigc_lightning.core.io.escape import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain name.png", "plain name.png"),
        ("schön \u6f22\u5b57 \U0001f469\u200d\U0001f4bb", "schön \u6f22\u5b57 \U0001f469\u200d\U0001f4bb"),
        (os.fsdecode(b"caf\xe9.png"), r"caf\xe9.png"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x85 \u2028 \u2029 \u202egnp.exe \u2066", r"\u0085 \u2028 \u2029 \u202egnp.exe \u2066"),
        ("half \ud83d", r"half \ud83d"),
        (r"C:\new", r"C:\new"),
    ],
)
def test_what_cannot_be_shown_is_escaped(text, expected):
    assert shown(text) == expected
    assert shown(text).encode("utf-8") and len(shown(text).splitlines()) == 1
