"""Captions from tables and text files, entry by entry, with what is wrong with unusable ones.

Text is UTF-8. Lines end at a line feed, a carriage return, or both; other characters that some programs treat as line
ends, such as U+2028 and the form feed, belong to the text.
"""

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from aigc_lightning.core.io.escape import shown
from aigc_lightning.errors import UserError, did_you_mean

_KINDS = {type(None): "null", list: "a list", dict: "an object", bool: "true or false"}
#: Extensions of tables.
TABLES = (".tsv", ".csv", ".jsonl")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Caption(NamedTuple):
    """A usable entry.

    Args:
        image: name of the image in the entry.
        text: the caption, on one line, never empty.
        split: the entry's split, "" if it has none.
        place: location of the entry, for messages.
    """

    image: str
    text: str
    split: str
    place: str


class BadCaption(NamedTuple):
    """An unusable entry.

    Args:
        place: its location, such as `captions.tsv, line 7`.
        reason: what is wrong with it, without a full stop.
    """

    place: str
    reason: str


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns.

    Args:
        image: column with the images' names.
        caption: column with the captions.
        split: optional column with the splits.
    """

    image: str
    caption: str
    split: str = "split"


class _Row(NamedTuple):
    line: int
    values: Mapping[str, Any]
    problem: str = ""


def read_table(path: Path, columns: Columns) -> Iterator[Caption | BadCaption]:
    """Yield the entries of a table.

    Args:
        path: a table with tabs (.tsv, without quoting), commas (.csv) or one JSON object per line (.jsonl), by its
            extension.
        columns: names of the columns to read.

    Raises:
        UserError: there is no such file, it is not such a table, or a column is missing from all entries.
    """
    if not path.is_file():
        raise UserError(f"There is no file {shown(path)}.", "Check data.captions; it is relative to data.root.")
    text = _table_text(path)
    rows = _json_rows(text) if path.suffix == ".jsonl" else _separated_rows(path, text)
    seen: set[str] = set()
    for row in rows:
        seen |= {str(key) for key in row.values}
        yield _entry(row, columns, f"{shown(path.name)}, line {row.line}")
    for column in (columns.image, columns.caption) if seen else ():
        if column not in seen:
            raise UserError(f"{shown(path)} has no column {column!r}.", _columns(column, seen))


def read_text(path: Path) -> str | None:
    """Return the content of a text file on one line; None if there is no such file.

    Raises:
        ValueError: it has no caption; the message says why, without a full stop.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except OSError as error:
        raise ValueError((error.strerror or str(error)).lower()) from error
    if not (caption := " ".join(text.split())):
        raise ValueError("it is empty")
    return caption


def _entry(row: _Row, columns: Columns, place: str) -> Caption | BadCaption:
    if row.problem:
        return BadCaption(place, row.problem)
    texts = []
    for column, default in ((columns.image, None), (columns.caption, None), (columns.split, "")):
        value = row.values.get(column, default)
        if default is not None and value is None:
            value = default
        if not isinstance(value, str):
            if column not in row.values:
                return BadCaption(place, f"it has no {column}")
            found = _KINDS.get(type(value), "a number")
            return BadCaption(place, f"its {column} is {found}, not a text")
        if _is_undecoded(value):
            return BadCaption(place, f"its {column} is not UTF-8")
        texts.append(value)
    image, caption, split = texts
    caption = " ".join(caption.split())
    return (
        Caption(image, caption, split.strip(), place)
        if caption
        else BadCaption(place, f"its {columns.caption} is empty")
    )


def _table_text(path: Path) -> str:
    """Return a table's text; bytes that are not UTF-8 stay recognisable, so that only their entries are rejected."""
    content = path.read_bytes()
    if content.startswith(_UTF_16):
        raise UserError(f"{shown(path)} is UTF-16 text.", "Save it as UTF-8.")
    return content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def _is_undecoded(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _json_rows(text: str) -> Iterator[_Row]:
    for number, line in enumerate(re.split("\r\n|\n|\r", text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problem = "it is not UTF-8" if _is_undecoded(line) else f"it is not JSON: {error}"
            yield _Row(number, {}, problem)
            continue
        if isinstance(row, dict):
            yield _Row(number, row)
        else:
            yield _Row(number, {}, f"it is a {type(row).__name__}, not an object")


def _separated_rows(path: Path, text: str) -> Iterator[_Row]:
    """Yield the rows of a table with a header line; only the csv module splits it into lines."""
    fields = _fields(path, text)
    _, head = next(fields, (0, []))
    if not head:
        raise UserError(f"{shown(path)} is empty.", "Its first line names the columns.")
    if repeated := {name for name in head if head.count(name) > 1}:
        raise UserError(f"{shown(path)} has two columns {shown(min(repeated))!r}.", "Give each another name.")
    for line, row in fields:
        if isinstance(row, str):
            yield _Row(line, dict.fromkeys(head), row)
        elif len(row) != len(head):
            problem = f"it has {len(row)} fields but the header line has {len(head)}"
            yield _Row(line, dict.fromkeys(head), problem)
        else:
            yield _Row(line, dict(zip(head, row, strict=True)))


def _fields(path: Path, text: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yield each non-empty row with the number of its first line, or a text that says what is wrong with it."""
    # By convention, tab-separated tables have no quoting.
    rules: dict[str, Any] = (
        {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix == ".tsv" else {"strict": True}
    )
    reader = csv.reader(StringIO(text, newline=""), **rules)
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a caption may exceed the module's limit
    try:
        while True:
            first = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end of data" in str(error):
                    what = f"{shown(path)}, line {first} opens a quote that is never closed."
                    raise UserError(what, 'Close it; a quote inside a quoted text is written "".') from error
                yield first, str(error)
                continue
            if row:
                yield first, row
    finally:
        csv.field_size_limit(limit)


def _columns(column: str, seen: Iterable[str]) -> str:
    near = did_you_mean(column, seen)
    return near if near.startswith("Did") else f"It has {', '.join(map(shown, sorted(seen)))}."
