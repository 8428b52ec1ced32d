import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_lightning.core.io.untrusted import digest, file_name, relative_name
from aigc_lightning.errors import UserError

# fmt: off
OUTSIDE = ["", ".", "..", "/", "/etc/passwd", "../x", "a/../../x", "a/..", "//x", "a//b", "a\0b", None, 3, ["a"],
           "x" * 256]
NO_NAMES = [*OUTSIDE, "a/b", "a\\b", "C:x", "a\nb", "a\x1b[2Jb", "a\x7f", "a\u202eb", "a\udce9", "CON", "con.tar",
            "NUL", "aux.x.y", "COM1", "lpt9.tar", "COM\u00b9", "CONIN$", "a.", "a ", "a*", "a?", 'a"', "a<b", "a|b",
            "\u00e9" * 101]
# fmt: on


@pytest.mark.parametrize("name", NO_NAMES, ids=repr)
def test_names_by_which_no_file_may_be_made(name):
    with pytest.raises(UserError) as error:
        file_name(name, "index.json")
    text = error.value.what + error.value.hint
    assert "index.json names the file" in text and text.isprintable() and len(text) < 400


@pytest.mark.parametrize("name", OUTSIDE, ids=repr)
def test_paths_that_leave_their_folder(name):
    with pytest.raises(UserError, match="names the file"):
        relative_name(name, "files.jsonl")


@pytest.mark.parametrize(
    "name", ["train-000001.tar", "a b.tar", "é.tar", ".hidden", "-rf", "a..b", "CONTROL", "x" * 200]
)
def test_names_that_are_good_everywhere(name):
    assert file_name(name, "x") == name == relative_name(name, "x")


@pytest.mark.parametrize("name", ["a/b.png", "class /a.png", "con/a.png", "a\nb/c.png", "a\udce9/b.png", "a?.png"])
def test_names_that_a_person_gave_to_files_that_are_there(name):
    assert relative_name(name, "x") == name


def test_another_ending_is_another_kind_of_file():
    with pytest.raises(UserError, match=r"no \.tar file"):
        file_name("shards.json", "x", ".tar")


@given(st.text() | st.text(string.ascii_letters + "./\\:~ \0"))
def test_no_name_that_is_taken_leads_out_of_its_folder(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp()
    try:
        path = folder / file_name(name, "x")
    except UserError:
        return
    assert path.parent == folder and path.name == name and path.resolve().parent == folder.resolve()


@pytest.mark.parametrize(
    "text", ["", "abc", "0" * 15, "0" * 17, "../../../../../x", "ABCDEF0123456789", "g" * 16, 1, None]
)
def test_what_is_no_digest(text):
    with pytest.raises(UserError, match="16 hexadecimal digits"):
        digest(text, "x", 16)


def test_digests():
    assert digest("0123456789abcdef", "x", 16) == "0123456789abcdef"
