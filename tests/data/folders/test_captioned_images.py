import json
import pickle
from itertools import chain

import numpy as np
import pytest
from PIL import Image

from aigc_lightning.data.base import Visits
from aigc_lightning.data.folders import files
from aigc_lightning.data.folders.captioned_images import CaptionedImages, Captions
from aigc_lightning.data.inspection.inspect import inspect
from aigc_lightning.errors import UserError


def fill(root, count, pattern="{}.png"):
    """Write images whose red tells their number."""
    for number in range(count):
        path = root / pattern.format(f"{number:02d}")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 10), (number, 0, 0)).save(path)


def everything(data, epoch=0):
    """Return all (red, caption) of training and held-out images."""
    found = []
    for source in (data.train_source(), data.val_source()):
        fields = source.fields(Visits(0, np.full(len(source), epoch), np.arange(len(source))))
        found.append(list(zip(fields["image"][:, 0, 0, 0].tolist(), fields["caption"], strict=True)))
    return found


def test_text_files_beside_the_images_are_captions(tmp_path):
    fill(tmp_path, 12, "deep/{}.png")
    for number in range(10):
        (tmp_path / f"deep/{number:02d}.txt").write_text(f"number\n {number} é\n", encoding="utf-8")
    train, val = everything(CaptionedImages(tmp_path, size=8, val_share=0.3))
    assert sorted(train + val) == [(number, f"number {number} é") for number in range(10)]
    assert train and val


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl"])
@pytest.mark.parametrize("with_ending", [True, False])
def test_tables_name_images_with_or_without_their_endings(tmp_path, ending, with_ending):
    fill(tmp_path / "images", 10)
    rows = [
        {"id": f"{n:02d}" + ".png" * with_ending, "text": f'a "{n}", one', "split": "val" if n == 3 else "train"}
        for n in range(10)
    ]
    if ending == "jsonl":
        text = "\n".join(map(json.dumps, rows)) + "\n\n"
    elif ending == "tsv":
        text = "\n".join("\t".join(row) for row in [list(rows[0]), *(row.values() for row in rows)])
    else:
        quoted = [[value.replace('"', '""') for value in row.values()] for row in rows]
        text = "\n".join(['"id","text","split"', *('"' + '","'.join(row) + '"' for row in quoted)])
    (tmp_path / f"table.{ending}").write_text(text)
    data = CaptionedImages(tmp_path / "images", f"../table.{ending}", "id", "text", size=8)
    train, val = everything(data)
    assert val == [(3, 'a "3", one')]
    assert train == [(n, f'a "{n}", one') for n in range(10) if n != 3]


def test_one_of_several_captions_is_drawn_for_each_visit(tmp_path):
    fill(tmp_path, 40)
    rows = [{"file_name": f"{n:02d}.png", "caption": f"{n} {word}"} for n in range(40) for word in ("one", "two")]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = CaptionedImages(tmp_path, "captions.jsonl", size=8)
    first, again, other = (dict(chain(*everything(data, epoch))) for epoch in (0, 0, 1))
    assert first == again != other
    assert {caption.split()[1] for caption in first.values()} == {"one", "two"}
    assert all(caption.startswith(f"{number} ") for number, caption in first.items())


def test_the_caption_is_that_of_the_image_that_stands_in_for_a_bad_one(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MEMORY_LIMIT", 0)
    fill(tmp_path, 20, "train/{}.png")
    fill(tmp_path, 2, "val/{}.png")
    for path in tmp_path.rglob("*.png"):
        path.with_suffix(".txt").write_text(path.stem)
    data = CaptionedImages(tmp_path, size=8, max_bad=0.1)
    source = data.train_source()
    (tmp_path / "train/05.png").write_bytes(b"")
    fields = source.fields(Visits(0, np.zeros(2, int), np.array([4, 5])))
    assert fields["image"][:, 0, 0, 0].tolist() == [4, 6] and fields["caption"] == ["04", "06"]


def test_images_that_are_missing_are_left_out_with_a_warning(tmp_path, caplog):
    fill(tmp_path, 5)
    rows = "\n".join(f"{number:02d}.png\tpicture" for number in range(8))
    (tmp_path / "captions.tsv").write_text(f"file_name\tcaption\n{rows}")
    train, val = everything(CaptionedImages(tmp_path, "captions.tsv", size=8, val_share=0.4))
    assert len(train) + len(val) == 5
    assert "names 3 images that do not exist, such as 05.png" in caplog.text


def test_entries_that_cannot_be_used_count_against_the_budget(tmp_path, caplog):
    fill(tmp_path, 20)
    rows = [f"{number:02d}.png\t{'' if number in (3, 7) else number}" for number in range(20)]
    (tmp_path / "captions.tsv").write_text("\n".join(["file_name\tcaption", *rows]))
    with pytest.raises(UserError, match=r"2 of 20 captions in .*captions.tsv cannot be used, with 1 allowed") as error:
        CaptionedImages(tmp_path, "captions.tsv", size=8, max_bad=0.05).train_source()
    assert "captions.tsv, line 5 (its caption is empty), captions.tsv, line 9" in error.value.what
    train, val = everything(CaptionedImages(tmp_path, "captions.tsv", size=8, max_bad=0.1))
    assert sorted(red for red, _ in train + val) == [number for number in range(20) if number not in (3, 7)]
    assert "Left out 2 of 20 captions" in caplog.text and "2 of 20 images have no caption" in caplog.text


def test_text_files_that_cannot_be_used_count_against_the_budget(tmp_path, caplog):
    fill(tmp_path, 10)
    for number in range(10):
        (tmp_path / f"{number:02d}.txt").write_bytes(b"caf\xe9" if number == 4 else b"coffee")
    with pytest.raises(UserError, match=r"1 of 10 captions in .*: 04.txt .it is not UTF-8"):
        CaptionedImages(tmp_path, size=8).train_source()
    train, val = everything(CaptionedImages(tmp_path, size=8, max_bad=0.1))
    assert len(train + val) == 9


def test_inspection_names_all_entries_that_cannot_be_used(tmp_path):
    fill(tmp_path, 10)
    (tmp_path / "texts").mkdir()
    rows = [f"{number:02d}.png\t{number if number > 3 else ''}" for number in range(10)]
    (tmp_path / "texts" / "t.tsv").write_text("\n".join(["file_name\tcaption", *rows]))
    found, bad = inspect(CaptionedImages(tmp_path, "texts/t.tsv", size=8), 100)
    assert len(found) == 6
    assert [error.path for error in bad] == [str(tmp_path / "texts" / f"t.tsv, line {line}") for line in range(2, 6)]
    assert {error.reason for error in bad} == {"its caption is empty"}


def test_images_are_found_however_accents_are_spelt(tmp_path):
    fill(tmp_path, 4)
    for number, name in enumerate(("cafe\u0301", "nai\u0308ve", "u\u0308ber", "plain")):  # as macOS spells them
        (tmp_path / f"{number:02d}.png").rename(tmp_path / f"{name}.png")
    rows = [("caf\u00e9.png", "0"), ("na\u00efve", "1"), ("./u\u0308ber.png", "2"), ("plain", "3")]
    (tmp_path / "t.tsv").write_text("\n".join(["file_name\tcaption", *map("\t".join, rows)]), encoding="utf-8")
    train, val = everything(CaptionedImages(tmp_path, "t.tsv", size=8))
    assert sorted(train + val) == [(number, str(number)) for number in range(4)]


def test_a_name_without_ending_that_two_images_have_is_named(tmp_path):
    fill(tmp_path, 4)
    Image.new("RGB", (4, 4)).save(tmp_path / "00.jpg")
    (tmp_path / "t.tsv").write_text("file_name\tcaption\n00\ta\n01\tb\n02\tc\n")
    with pytest.raises(UserError, match=r"t.tsv, line 2 .it may mean 00.jpg or 00.png"):
        CaptionedImages(tmp_path, "t.tsv").train_source()


def test_a_column_of_splits_needs_no_folders_of_splits(tmp_path):
    fill(tmp_path, 4, "train/{}.png")
    rows = [f"train/{number:02d}\t{number}\t{'val' if number > 2 else 'train'}" for number in range(4)]
    (tmp_path / "t.tsv").write_text("\n".join(["file_name\tcaption\tsplit", *rows]))
    assert [len(part) for part in everything(CaptionedImages(tmp_path, "t.tsv", size=8))] == [3, 1]


def test_many_captions_take_little_memory():
    rows = [[f"{number} {word}" for word in ("one", "two")[: 1 + number % 2]] for number in range(1000)]
    captions = Captions(rows)
    assert [*captions] == rows and captions[-1] == rows[-1] and len(pickle.dumps(captions)) < 40 * len(captions)


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("a.tsv", "file\tcaption\n00.png\tx", "no column 'file_name'"),
        ("a.csv", "file_name,text\n00.png,x", "no column 'caption'"),
        ("a.jsonl", "{'a'}", "line 1 .it is not JSON"),
        ("a.jsonl", "[1]", "line 1 .it is a list"),
        ("a.tsv", "file_name\tcaption\nother.png\tx", "No image in .* has a caption in a.tsv"),
        ("a.tsv", "file_name\tcaption\tsplit\n00.png\tx\tdev", 'split of 00.png in .* is "dev"'),
        ("a.tsv", "file_name\tcaption\tsplit\n00.png\tx\ttrain", "is in the val split"),
        ("missing.tsv", None, "There is no file .*missing.tsv"),
        ("a.txt", "", 'captions is "a.txt"'),
        (None, None, "has a caption in a text file beside it"),
    ],
)
def test_unusable_captions_are_explained(tmp_path, table, text, message):
    fill(tmp_path, 4)
    if text is not None:
        (tmp_path / table).write_text(text)
    with pytest.raises(UserError, match=message):
        CaptionedImages(tmp_path, table).train_source()
