import csv
import json

import pytest

from aigc_lightning.data.folders.caption_files import BadCaption, Caption, Columns, read_table, read_text
from aigc_lightning.errors import UserError

COLUMNS = Columns("file", "text")


def read(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_table(path, COLUMNS))


def captions(path, content):
    entries = read(path, content)
    assert all(isinstance(entry, Caption) for entry in entries), entries
    return [entry.text for entry in entries]


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85"])
def test_only_line_feeds_and_carriage_returns_end_a_line(tmp_path, ending, end, inside):
    texts = [f"one{inside}two", "three"]
    if ending == "jsonl":
        lines = [json.dumps({"file": "a", "text": text}, ensure_ascii=False) for text in texts]
        lines = [line.replace("\\u000b", inside).replace("\\f", inside).replace("\\u001c", inside) for line in lines]
        if inside < " ":  # JSON has no control characters of its own
            lines = [json.dumps({"file": "a", "text": text}) for text in texts]
    else:
        comma = "," if ending == "csv" else "\t"
        lines = [comma.join(row) for row in (["file", "text"], *(["a", text] for text in texts))]
    assert captions(tmp_path / f"t.{ending}", end.join(lines)) == ["one two", "three"]


def test_a_line_break_in_a_quoted_cell_parts_words(tmp_path):
    assert captions(tmp_path / "t.csv", 'file,text\na,"one\ntwo"\nb,"three\r\nfour ""five"""\n') == [
        "one two",
        'three four "five"',
    ]


def test_the_csv_module_s_limit_of_a_field_is_none(tmp_path):
    limit = csv.field_size_limit()
    (text,) = captions(tmp_path / "t.csv", f'file,text\na,"{"word " * 40_000}"\n')
    assert len(text) == 5 * 40_000 - 1 and csv.field_size_limit() == limit


def test_other_tables_have_no_quotes(tmp_path):
    assert captions(tmp_path / "t.tsv", 'file\ttext\na\t"one"\nb\t"two\n') == ['"one"', '"two']


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.tsv", "file\ttext\na\tone\ttwo\n", "it has 3 fields but the header line has 2"),
        ("t.csv", "file,text\na\n", "it has 1 fields but the header line has 2"),
        ("t.csv", "file,text\na,one, two\n", "it has 3 fields but the header line has 2"),
        ("t.csv", 'file,text\na,"one"two\n', "',' expected after '\"'"),
        ("t.csv", "file,text\na, \n", "its text is empty"),
        ("t.tsv", b"file\ttext\na\tcaf\xe9\n", "its text is not UTF-8"),
        ("t.tsv", b"file\ttext\ncaf\xe9.png\tone\n", "its file is not UTF-8"),
        ("t.jsonl", '\n{"file": "a"}\n', "it has no text"),
        ("t.jsonl", '\n{"file": "a", "text": null}\n', "its text is null, not a text"),
        ("t.jsonl", '\n{"file": "a", "text": ["one", "two"]}\n', "its text is a list, not a text"),
        ("t.jsonl", '\n{"file": 5, "text": "one"}\n', "its file is a number, not a text"),
        ("t.jsonl", '\n{"file": "a", "text": true}\n', "its text is true or false, not a text"),
        ("t.jsonl", '\n{"file": "a", "text": "one", "split": 5}\n', "its split is a number, not a text"),
        ("t.jsonl", '\n{"file": "a", "text": "\\ud83d"}\n', "its text is not UTF-8"),
        ("t.jsonl", '\n["file"]\n', "it is a list, not an object"),
        ("t.jsonl", "\n" + "[" * 100_000 + "\n", "it is not JSON"),
        ("t.jsonl", b'\n{"file": "a", "text": "caf\xe9"}\n', "its text is not UTF-8"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named_with_its_line(tmp_path, name, content, reason):
    good = {"tsv": "b\tgood", "csv": "b,good", "jsonl": '{"file": "b", "text": "good"}'}[name.partition(".")[2]]
    content = content if isinstance(content, bytes) else content.encode()
    bad, fine = read(tmp_path / name, content + good.encode())
    assert isinstance(bad, BadCaption) and bad.place == f"{name}, line 2" and bad.reason.startswith(reason)
    assert fine == Caption("b", "good", "", f"{name}, line 3")


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    entries = read(tmp_path / "t.csv", 'file,text\n\na,"one\n\ntwo"\nb,\n')
    assert [entry.place for entry in entries] == ["t.csv, line 3", "t.csv, line 6"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", 'file,text\na,one\nb,"two\nc,three\n', "line 3 opens a quote that is never closed"),
        ("t.csv", "", "is empty"),
        ("t.csv", "file,text,text\na,b,c", "has two columns 'text'"),
        ("t.csv", "file,txt\na,b", "has no column 'text'"),
        ("t.tsv", "file,text\na,b", "has no column 'file'"),
        ("t.jsonl", '{"file": "a", "label": 1}', "has no column 'text'"),
        ("t.tsv", "file\ttext\na\tb".encode("utf-16"), "is UTF-16 text"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path / name, content)
    assert name in error.value.what and error.value.hint


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    assert captions(tmp_path / "t.csv", b"\xef\xbb\xbffile,text\na,one") == ["one"]


def test_text_files_hold_one_caption(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf one\r\n two\xe2\x80\xa8three ")
    assert read_text(tmp_path / "a.txt") == "one two three" and read_text(tmp_path / "b.txt") is None
    for content, reason in ((b"caf\xe9", "it is not UTF-8"), (b" \n", "it is empty")):
        (tmp_path / "a.txt").write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            read_text(tmp_path / "a.txt")
    (tmp_path / "c.txt").mkdir()
    with pytest.raises(ValueError, match="is a directory"):
        read_text(tmp_path / "c.txt")
