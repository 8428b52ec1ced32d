import pickle
import threading
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import Visits
from aigc_lightning.data.folders import files
from aigc_lightning.data.folders.paired_images import PAIRS, PairedImages, edges, grey
from aigc_lightning.errors import UserError


def write(root, name, color, size=(12, 10)):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def halves(root, name, number, size=(24, 10)):
    """Write a file that is red on its left and blue on its right half."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (0, 0, number))
    image.paste((number, 0, 0), (0, 0, size[0] // 2, size[1]))
    image.save(path)


def all_of(source):
    return source.fields(Visits(0, np.zeros(len(source), int), np.arange(len(source))))


def numbers(fields):
    """Return (red of source, blue of target) of each pair."""
    return list(zip(fields["source"][:, 0, 0, 0].tolist(), fields["target"][:, 2, 0, 0].tolist(), strict=True))


@pytest.mark.parametrize("limit", [0, 2**30])
def test_halves_are_cut_in_the_middle(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(files, "MEMORY_LIMIT", limit)
    for number in range(1, 9):
        halves(tmp_path, f"train/{number}.png", number, (24 + number % 2, 10))
        halves(tmp_path, f"val/{number}.png", 100 + number)
    data = PairedImages(tmp_path, size=8)
    assert data.spec.shape == (3, 8, 8) and data.spec.task == "paired"
    assert numbers(all_of(data.train_source())) == [(n, n) for n in range(1, 9)]
    assert numbers(all_of(data.val_source())) == [(100 + n, 100 + n) for n in range(1, 9)]
    for key, zero in (("source", 2), ("target", 0)):
        assert all_of(data.train_source())[key][:, zero].max() == 0  # nothing of the other half


def test_direction_exchanges_source_and_target(tmp_path):
    for number in range(4):
        halves(tmp_path, f"{number}.png", 200 + number)
    there, back = (all_of(PairedImages(tmp_path, direction=d, size=8).train_source()) for d in ("AtoB", "BtoA"))
    assert torch.equal(there["source"], back["target"]) and torch.equal(there["target"], back["source"])
    assert list(back) == ["source", "target"]


def test_a_picture_one_pixel_wide_has_no_halves(tmp_path):
    for number in range(9):
        halves(tmp_path, f"{number}.png", number)
    write(tmp_path, "thin.png", (1, 1, 1), (1, 10))
    with pytest.raises(UserError, match=r"thin\.png.*no two halves"):
        PairedImages(tmp_path, max_bad=0).train_source()


@pytest.mark.parametrize(
    ("a", "b"),
    [("line", "color"), ("train/A", "train/B"), ("trainA", "trainB"), ("A/train", "B/train")],
)
def test_files_of_the_same_name_in_two_folders_are_pairs(tmp_path, a, b):
    for number in range(1, 13):
        write(tmp_path, f"{a}/deep/{number:02d}.png", (number, 0, 0))
        write(tmp_path, f"{b}/deep/{number:02d}.bmp", (0, 0, number))
        if "train" in a:
            write(tmp_path, f"{a.replace('train', 'test')}/{number:02d}.png", (100 + number, 0, 0))
            write(tmp_path, f"{b.replace('train', 'test')}/{number:02d}.gif", (0, 0, 100 + number))
    names = ("line", "color") if a == "line" else ("A", "B")
    data = PairedImages(tmp_path, pairs="folders", folder_a=names[0], folder_b=names[1], size=8, val_share=0.3)
    train, val = (numbers(all_of(source)) for source in (data.train_source(), data.val_source()))
    assert all(first == second for first, second in train + val)
    assert len(train) + len(val) == (24 if "train" in a else 12) and not {*train} & {*val}
    if "train" in a:
        assert [first for first, _ in train] == list(range(1, 13)) and min(val)[0] == 101


def test_files_without_a_partner_are_named(tmp_path):
    for number in range(10):
        write(tmp_path, f"A/{number}.png", (1, 1, 1))
        if number % 5:
            write(tmp_path, f"B/{number}.png", (1, 1, 1))
    with pytest.raises(UserError, match=r"2 of 10 images of A have no partner in B in .*A/0\.png"):
        PairedImages(tmp_path, pairs="folders").train_source()


def test_a_bad_partner_counts_as_a_bad_pair(tmp_path):
    for number in range(10):
        write(tmp_path, f"A/{number}.png", (number, 0, 0))
        write(tmp_path, f"B/{number}.png", (0, 0, number))
    (tmp_path / "B/7.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"B/7\.png"):
        PairedImages(tmp_path, pairs="folders", max_bad=0).train_source()
    data = PairedImages(tmp_path, pairs="folders", size=8, max_bad=0.1)
    found = numbers(all_of(data.train_source())) + numbers(all_of(data.val_source()))
    assert sorted(found) == [(n, n) for n in range(10) if n != 7]


def test_both_images_of_a_pair_are_varied_alike(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(8):
        half = rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(np.concatenate([half, half], 1)).save(tmp_path / f"{number}.png")
    varied = Augment(flip=True, crop=2, jitter=3, color=0.3)
    batch = next(iter(PairedImages(tmp_path, size=16, val_share=0.2, augmentation=varied).train_dataloader()))
    plain = next(iter(PairedImages(tmp_path, size=16, val_share=0.2).train_dataloader()))
    assert torch.equal(batch["source"], batch["target"])
    assert not torch.equal(batch["source"], plain["source"])


def test_edges_lie_where_brightness_jumps(tmp_path):
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[:, :, 16:] = 200
    drawing = edges(image)
    assert drawing.shape == image.shape and {*drawing.unique().tolist()} == {0, 255}
    lines = (drawing[0] == 0).nonzero()
    assert len(lines) >= 28 and {15, 16} >= {*lines[:, 1].tolist()}
    assert edges(torch.cat([image, image[:1]]))[3].min() == 255


def test_grey_is_luma_in_every_colour():
    image = torch.zeros(4, 1, 3, dtype=torch.uint8)
    image[0, 0, 0] = image[1, 0, 1] = image[2, 0, 2] = 255
    image[3] = 9
    assert grey(image)[:, 0].tolist() == [[76, 150, 29]] * 3 + [[9] * 3]
    assert torch.equal(grey(image[:1]), image[:1])


@pytest.mark.parametrize(("pairs", "function"), [("edges", edges), ("grey", grey)])
def test_what_is_computed_from_an_image_is_its_source(tmp_path, pairs, function):
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / f"{number}.png")
    batch = next(iter(PairedImages(tmp_path, pairs=pairs, size=20).train_dataloader()))
    for source, target in zip(to_uint8(batch["source"]), to_uint8(batch["target"]), strict=True):
        assert torch.equal(source, function(target))


def test_unknown_words_are_refused(tmp_path):
    with pytest.raises(UserError, match='pairs is "side"'):
        PairedImages(tmp_path, pairs="side")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(UserError, match='direction is "AB"'):
        PairedImages(tmp_path, direction="AB")  # type: ignore[arg-type]  # on purpose
    write(tmp_path, "color/1.png", (1, 1, 1))
    with pytest.raises(UserError, match="no folder colour") as caught:
        PairedImages(tmp_path, pairs="folders", folder_a="colour", folder_b="color").train_source()
    assert "color" in caught.value.hint


@pytest.mark.parametrize("pairs", PAIRS)
def test_what_loader_processes_get_is_the_same_and_holds_no_trainer(tmp_path, monkeypatch, pairs):
    monkeypatch.setattr(files, "MEMORY_LIMIT", 0)
    for folder in ("A", "B"):
        for number in range(8):
            write(tmp_path, f"{folder}/{number}.png", (20 * number, 0, 0))
    data = PairedImages(tmp_path, pairs=pairs, size=8)
    lock: Any = threading.Lock()  # like a trainer, it cannot be pickled
    data.trainer = lock
    source = data.train_source()
    copy = pickle.loads(pickle.dumps(source))
    for name, images in all_of(source).items():
        assert torch.equal(all_of(copy)[name], images)
