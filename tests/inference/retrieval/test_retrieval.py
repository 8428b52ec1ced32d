"""Indexes of images: made, updated, continued and searched."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from aigc_lightning.core.io.checksums import DamagedFileError
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.extractor import Extractor, Features
from aigc_lightning.inference.retrieval import indexing
from aigc_lightning.inference.retrieval.index import ImageIndex, load_complete
from aigc_lightning.inference.retrieval.indexing import FolderSource, embed, update
from aigc_lightning.inference.retrieval.search import check_extractor, embedded_text, most_similar, search
from aigc_lightning.inference.retrieval.sheets import Cell, contact_sheet, write_results


class Pixels(Extractor):
    """Embeds an image as its pixels, and counts the images that are not padding."""

    def __init__(self, weights_hash: str = "0" * 64) -> None:
        super().__init__(
            nn.Identity(),
            name="pixels",
            weights_hash=weights_hash,
            shape=(3, 4, 4),
            resize="clean",
            num_features=48,
        )

    def _describe(self, pixels: Tensor, with_logits: bool) -> Features:
        return Features(pixels.flatten(1) - 127.5, None)


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for seed in range(5):
        draw(tmp_path / "photos" / "inner" / f"{seed}.png", seed)
    return tmp_path / "photos"


def make(photos: Path, path: Path, extractor: Extractor | None = None) -> indexing.Changes:
    return update(path, extractor or Pixels(), "pixels", FolderSource(photos))


def test_an_index_holds_what_was_embedded(photos, tmp_path):
    changes = make(photos, tmp_path / "photos.index")
    index = load_complete(tmp_path / "photos.index")
    assert index.names == [f"inner/{seed}.png" for seed in range(5)] == changes.result.names
    own = torch.from_numpy(np.array(Image.open(photos / "inner/3.png"))).permute(2, 0, 1)
    assert torch.equal(index.vectors[3], own.float().flatten() - 127.5)
    hits = search(index, embed(Pixels(), [own])[0], 2)
    assert hits[0].name == "inner/3.png" and hits[0].similarity == pytest.approx(1)
    assert hits[1].similarity < 0.9


def test_few_images_are_embedded_without_padding(monkeypatch):
    counts, describe = [], Pixels._describe

    def counted(self, pixels, with_logits):
        counts.append(len(pixels))
        return describe(self, pixels, with_logits)

    monkeypatch.setattr(Pixels, "_describe", counted)
    images = [torch.full((3, 4, 4), number, dtype=torch.uint8) for number in range(70)]
    for num in (0, 1, 3, 70):
        assert embed(Pixels(), images[:num]).shape == (num, 48)
    assert counts == [1, 3, 64, 64]


def test_only_new_and_changed_files_are_embedded_again(photos, tmp_path):
    path = tmp_path / "photos.index"
    make(photos, path)
    draw(photos / "inner/1.png", 77)
    draw(photos / "new.png", 8)
    (photos / "inner/4.png").unlink()
    changes = make(photos, path)
    assert (changes.embedded, changes.removed) == (2, 1)
    fresh = make(photos, tmp_path / "fresh.index").result
    assert changes.result.names == fresh.names
    assert torch.equal(changes.result.vectors, fresh.vectors)
    assert make(photos, path)[1:3] == (0, 0)


def test_an_interrupted_index_is_continued_and_not_searched_before(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "_AT_ONCE", 2)
    path = tmp_path / "photos.index"

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update(path, Pixels(), "pixels", FolderSource(photos), interrupt)
    with pytest.raises(UserError, match="incomplete"):
        load_complete(path)
    assert make(photos, path).embedded == 3
    assert len(load_complete(path).names) == 5


def test_unreadable_files_are_named_and_left_out(photos, tmp_path):
    (photos / "torn.png").write_bytes(b"\x89PNG torn")
    changes = make(photos, tmp_path / "photos.index")
    assert changes.unreadable == ["torn.png"] and len(changes.result.names) == 5


def test_other_sources_embedders_and_damaged_files_are_refused(photos, tmp_path):
    path = tmp_path / "photos.index"
    index = make(photos, path).result
    draw(tmp_path / "others/a.png", 1)
    with pytest.raises(UserError, match="is an index of folder"):
        make(tmp_path / "others", path)
    with pytest.raises(UserError, match="another embedder"):
        make(photos, path, Pixels("1" * 64))
    with pytest.raises(UserError, match="was made with"):
        check_extractor(index, Pixels("1" * 64))
    with pytest.raises(UserError, match="does not embed texts"):
        embedded_text(Pixels(), "a cat")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError):
        ImageIndex.load(path)


def test_similarities_are_cosines_in_order():
    vectors = torch.tensor([[0.0, 3.0], [2.0, 0.0], [1.0, 1.0], [-5.0, 0.0]])
    values, places = most_similar(torch.tensor([[10.0, 0.0]]), vectors, 9)
    assert places.tolist() == [[1, 2, 0, 3]]
    assert values[0].tolist() == pytest.approx([1, 0.5**0.5, 0, -1])


def test_pages_escape_names_and_sheets_hold_all_cells(photos, tmp_path):
    entries = make(photos, tmp_path / "photos.index").result.entries
    cells = [Cell(entry.picture, "<script>x</script>", "0.5") for entry in entries.values()]
    write_results(tmp_path / "page.html", "<b>", cells, 3)
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page and "<b></h1>" not in page and page.count("data:image/png") == 5
    assert "http" not in page
    sheet = contact_sheet(cells, 3)
    assert sheet.size == (8 + 3 * 136, 8 + 2 * 170)
    assert sheet.getpixel((8 + 136 + 64, 8 + 170 + 64)) != (255, 255, 255)


def test_commands(aigc, judge, folder):
    for seed in range(3):
        draw(folder / "photos" / f"{seed}.png", seed)
    assert aigc("index", judge, "photos", "--out", "a.index").code == 0
    found = aigc("search", "a.index", "photos/2.png", "--num", 2, "--json", "--out", "sheet.png")
    assert found.code == 0, found.err
    rows = json.loads(found.out)
    assert rows[0] == {"name": "2.png", "similarity": "1.0000"} and len(rows) == 2
    assert (folder / "sheet.png").is_file()
    assert aigc("search", "a.index").code == 2
    assert aigc("search", "a.index", "photos/2.png", "--of", judge).code == 2
    assert aigc("search", "a.index", "photos/2.png", "--out", "sheet.txt").code == 2
    assert aigc("index", judge, "photos", "--out", "a.index", "--part", "val").code == 2
    data = aigc("index", judge, "digits", "--data.size", 8, "--part", "val", "--out", "digits.index")
    assert data.code == 0, data.err
    assert load_complete(folder / "digits.index").names[0] == "val/0"
    same = aigc("search", "digits.index", "--duplicates", "--json", "--out", "pairs.html")
    assert same.code == 0 and isinstance(json.loads(same.out), list) and "closer than" in same.err
    samples = aigc("search", "digits.index", "--duplicates", "--of", "RUN", "--seeds", "0-3", "--against", "a.index")
    assert samples.code == 2 and "both given" in samples.err
    assert aigc("search", "digits.index", "--duplicates", "--seeds", "0-3").code == 2
    assert aigc("search", "a.index", "photos/2.png", "--against", "digits.index").code == 2
    between = aigc("search", "digits.index", "--duplicates", "--against", "digits.index", "--num", 3, "--json")
    rows = json.loads(between.out)
    assert len(rows) == 3 and all(row["image"] == row["duplicate"] for row in rows) and "3 are listed" in between.err


def test_samples_are_compared_with_an_index(aigc, judge, trained):
    assert aigc("index", judge, "digits", "--data.size", 8, "--part", "val", "--out", "digits.index").code == 0
    found = aigc("search", "digits.index", "--duplicates", "--of", trained, "--seeds", "0-3")
    assert found.code == 0 and "near duplicate" in found.out, found.err
    near = aigc("search", "digits.index", "--of", trained, "--seed", 3, "--num", 2)
    assert near.code == 0 and len(near.out.splitlines()) == 3, near.err


def test_an_address_in_an_index_is_not_contacted(photos, tmp_path, aigc, monkeypatch):
    def contacted(*_):
        raise AssertionError

    monkeypatch.setattr("aigc_lightning.core.io.download.downloaded", contacted)
    update(tmp_path / "strange.index", Pixels(), "https://example.org/judge.ckpt", FolderSource(photos))
    done = aigc("search", tmp_path / "strange.index", photos / "inner" / "0.png")
    assert done.code == 2 and "Give --embedder" in done.err and len(done.lines) <= 4
