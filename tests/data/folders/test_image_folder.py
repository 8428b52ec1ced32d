import logging
import os
import pickle
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lightning.data import console
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource
from aigc_lightning.data.folders import files
from aigc_lightning.data.folders.files import FileSource
from aigc_lightning.data.folders.image_folder import ImageFolder
from aigc_lightning.errors import UserError


def write(root, name, color=(9, 9, 9), size=(12, 10)):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def fill(root, count, pattern="{}.png"):
    """Write images whose red tells their number."""
    return [write(root, pattern.format(f"{number:03d}"), (number, 0, 0)) for number in range(count)]


def reds(source):
    return [int(image[0, 0, 0]) for image in source.images(range(len(source)))]


def labels_of(source, numbers=None):
    return source.labels(range(len(source)) if numbers is None else numbers).tolist()


def from_files(monkeypatch):
    monkeypatch.setattr(files, "MEMORY_LIMIT", 0)


def test_any_tree_is_read_in_sorted_order_and_hidden_files_are_not(tmp_path):
    for name in ("b/deep/er/x.PNG", "a.jpg", "b/y.bmp", ".hidden.png", ".git/z.png", "b/._y.png"):
        write(tmp_path, name)
    (tmp_path / "notes.txt").write_text("no image")
    data = ImageFolder(tmp_path, val_share=0.5)
    assert sorted(chain(*data._listing.parts.values())) == ["a.jpg", "b/deep/er/x.PNG", "b/y.bmp"]
    assert all(list(names) == sorted(names) for names in data._listing.parts.values())


def test_links_are_followed_but_not_in_circles(tmp_path):
    fill(tmp_path / "elsewhere", 5)
    root = tmp_path / "root"
    fill(root / "inner", 5)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "inner" / "up").symlink_to(root)
    (root / "one.png").symlink_to(tmp_path / "elsewhere" / "000.png")
    data = ImageFolder(root, size=4, val_share=0.5)
    assert len(data.train_source()) + len(data.val_source()) == 11


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [8, (6, 9), [6, 9]])
def test_spec_and_images_have_the_size_asked_for(tmp_path, channels, size):
    fill(tmp_path, 20)
    data = ImageFolder(tmp_path, size=size, channels=channels, val_share=0.3)
    assert data.spec.shape == (channels, *((8, 8) if size == 8 else (6, 9)))
    assert data.train_source().images([0, 1]).shape == (2, *data.spec.shape)


def test_spec_decodes_nothing(tmp_path):
    for name in ("cat/a.png", "dog/b.png", "dog/c.png", "cat/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert ImageFolder(tmp_path, val_share=0.5).spec.class_names == ("cat", "dog")


def test_classes_are_the_folders_in_the_root(tmp_path):
    fill(tmp_path, 20, "zebra/{}.png")
    fill(tmp_path, 20, "ape/deeper/{}.png")
    (tmp_path / "empty").mkdir()
    data = ImageFolder(tmp_path, size=4)
    assert data.spec.class_names == ("ape", "zebra")
    for source, part in ((data.train_source(), "train"), (data.val_source(), "val")):
        expected = [0 if name.startswith("ape") else 1 for name in data._listing.parts[part]]
        assert labels_of(source) == expected
    without = ImageFolder(tmp_path, size=4, classes="none")
    assert without.spec.class_names == () and without.train_source().labels([0]) is None


@pytest.mark.parametrize("names", ["only/{}.png", "{}.png"])
def test_one_folder_or_loose_images_are_no_classes(tmp_path, names):
    fill(tmp_path, 20, names)
    write(tmp_path, "only/x.png")
    assert ImageFolder(tmp_path).spec.class_names == ()
    with pytest.raises(UserError, match="it has no classes"):
        _ = ImageFolder(tmp_path, classes="folders").spec


def test_images_that_keep_folders_from_being_classes_are_named(tmp_path, caplog):
    for name in ("a/x.png", "b/x.png", "stray.png"):
        write(tmp_path, name)
    assert ImageFolder(tmp_path).spec.class_names == ()
    assert "has 2 folders of images and others beside them, such as stray.png, so there are no labels" in caplog.text
    caplog.clear()
    (tmp_path / "stray.png").unlink()
    assert ImageFolder(tmp_path).spec.class_names == ("a", "b") and not caplog.text


def test_new_files_move_no_old_one_to_the_other_side(tmp_path):
    fill(tmp_path, 100)
    before = ImageFolder(tmp_path, val_share=0.2)._listing.parts
    fill(tmp_path, 100, "0new{}.png")
    after = ImageFolder(tmp_path, val_share=0.2)._listing.parts
    assert set(before["train"]) < set(after["train"]) and set(before["val"]) < set(after["val"])
    assert 20 <= len(after["val"]) <= 65  # 40 are expected, with a standard deviation of 5.7
    assert not set(after["train"]) & set(after["val"])


def test_split_does_not_depend_on_where_the_root_lies(tmp_path):
    fill(tmp_path / "here", 50)
    fill(tmp_path / "there" / "deep", 50)
    parts = [ImageFolder(root)._listing.parts for root in (tmp_path / "here", tmp_path / "there" / "deep")]
    assert parts[0] == parts[1]


@pytest.mark.parametrize("val_name", ["val", "Validation", "valid", "test"])
def test_folders_for_training_and_validation_are_the_split(tmp_path, val_name):
    fill(tmp_path, 3, "train/a/{}.png")
    fill(tmp_path, 2, "train/b/{}.png")
    write(tmp_path, f"{val_name}/b/x.png", (200, 0, 0))
    write(tmp_path, "ignored/x.png")
    data = ImageFolder(tmp_path, size=4)
    assert data.spec.class_names == ("a", "b")
    assert reds(data.train_source()) == [0, 1, 2, 0, 1]
    assert reds(data.val_source()) == reds(data.test_source()) == [200]
    assert labels_of(data.val_source(), [0]) == [1]


def test_test_folder_beside_validation_is_tested_on(tmp_path):
    for number, part in enumerate(("train", "val", "test")):
        write(tmp_path, f"{part}/x.png", (number, 0, 0))
    data = ImageFolder(tmp_path, size=4)
    assert [reds(source) for source in (data.train_source(), data.val_source(), data.test_source())] == [[0], [1], [2]]
    assert len(next(iter(data.test_dataloader()))["index"]) == 1


def test_class_that_training_never_sees_is_refused(tmp_path):
    for name in ("train/a/x.png", "train/b/x.png", "val/c/x.png"):
        write(tmp_path, name)
    with pytest.raises(UserError, match=r"c/x\.png is in none of the classes of the training images"):
        _ = ImageFolder(tmp_path).spec
    assert ImageFolder(tmp_path, classes="none").spec.class_names == ()


def test_bad_files_within_the_budget_are_named_and_left_out(tmp_path, caplog):
    paths = fill(tmp_path, 40)
    paths[3].write_bytes(paths[3].read_bytes()[:50])
    paths[30].write_text("no image")
    data = ImageFolder(tmp_path, size=4, max_bad=0.05)
    with caplog.at_level(logging.WARNING):
        numbers = reds(data.train_source()) + reds(data.val_source())
    assert sorted(numbers) == sorted(set(range(40)) - {3, 30})
    assert len(caplog.messages) == 1
    assert "Left out 2 of 40 images: " in caplog.text and "003.png" in caplog.text and "030.png" in caplog.text


def test_labels_stay_with_their_images_when_bad_files_are_left_out(tmp_path):
    fill(tmp_path, 10, "a/{}.png")
    for number in range(10):
        write(tmp_path, f"b/{number}.png", (100 + number, 0, 0))
    (tmp_path / "a" / "004.png").write_bytes(b"")
    data = ImageFolder(tmp_path, size=4, max_bad=0.1, val_share=0.3)
    for source in (data.train_source(), data.val_source()):
        expected = [int(red >= 100) for red in reds(source)]
        assert labels_of(source) == expected


def test_more_bad_files_than_allowed_stop_with_a_short_list(tmp_path):
    paths = fill(tmp_path, 100)
    for path in paths[:50]:
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"50 of 100 images .* cannot be read, with 1 allowed") as caught:
        ImageFolder(tmp_path).train_source()
    message = str(caught.value)
    assert len(message.splitlines()) <= 4
    assert message.count(".png") == 3 and "and 47 more" in message and "data.max_bad" in message


def test_bad_files_are_found_before_training_also_when_images_stay_in_files(tmp_path, monkeypatch):
    from_files(monkeypatch)
    for path in fill(tmp_path, 20)[:5]:
        path.write_bytes(b"")
    with pytest.raises(UserError, match="5 of 20"):
        ImageFolder(tmp_path).train_source()
    lenient = ImageFolder(tmp_path, max_bad=1)
    assert len(lenient.train_source()) + len(lenient.val_source()) == 15


def test_memory_and_files_give_the_same_samples(tmp_path, monkeypatch):
    for number in range(30):
        pixels = np.random.default_rng(number).integers(0, 256, (15, 20, 3), np.uint8)
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    (tmp_path / "a" / "4.png").write_bytes(b"")
    epochs = []
    for limit in (2**30, 0):
        monkeypatch.setattr(files, "MEMORY_LIMIT", limit)
        data = ImageFolder(tmp_path, size=8, max_bad=0.1, batch_size=7, augmentation=Augment(flip=True, crop=1))
        assert isinstance(data.train_source(), FileSource if limit == 0 else ArraySource)
        epochs.append([*data.train_dataloader(), *data.val_dataloader()])
    for kept, read in zip(*epochs, strict=True):
        assert all(torch.equal(kept[key], read[key]) for key in ("image", "index", "label"))


def test_sources_are_made_once(tmp_path):
    fill(tmp_path, 20)
    data = ImageFolder(tmp_path, size=4)
    assert data.train_source() is data.train_source() and data.val_source() is data.val_source()


def test_file_lost_in_mid_run_is_replaced_named_once_and_keeps_its_label_right(tmp_path, monkeypatch, caplog):
    from_files(monkeypatch)
    fill(tmp_path, 10, "train/a/{}.png")
    for number in range(10):
        write(tmp_path, f"train/b/{number}.png", (100 + number, 0, 0))
    write(tmp_path, "val/a/x.png")
    source = ImageFolder(tmp_path, size=4, max_bad=0.1).train_source()
    (tmp_path / "train" / "a" / "009.png").unlink()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert source.images([8, 9, 10])[:, 0, 0, 0].tolist() == [8, 100, 100]
            assert labels_of(source, [8, 9, 10]) == [0, 1, 1]
    assert len(caplog.messages) == 1 and "009.png" in caplog.text and "no such file" in caplog.text
    assert isinstance(source, FileSource) and len(source.bad) == 1


def test_neighbours_that_are_both_lost_share_a_stand_in_across_the_end(tmp_path, monkeypatch):
    from_files(monkeypatch)
    paths = fill(tmp_path, 10, "train/{}.png")
    write(tmp_path, "val/x.png")
    source = ImageFolder(tmp_path, size=4, max_bad=0.5).train_source()
    for number in (8, 9):
        paths[number].write_bytes(b"")
    assert source.images([9, 8, 7])[:, 0, 0, 0].tolist() == [0, 0, 7]


@pytest.mark.parametrize(("max_bad", "message"), [(0.2, "3 of 11 images"), (1, "No readable image is left for")])
def test_all_files_lost_in_mid_run_stop_it(tmp_path, monkeypatch, max_bad, message):
    from_files(monkeypatch)
    paths = fill(tmp_path, 10, "train/{}.png")
    write(tmp_path, "val/x.png")
    source = ImageFolder(tmp_path, size=4, max_bad=max_bad).train_source()
    for path in paths:
        path.unlink()
    for _ in range(2):  # and no search without end
        with pytest.raises(UserError, match=message):
            source.images([5])


def test_sources_can_be_sent_to_loader_processes(tmp_path, monkeypatch):
    fill(tmp_path, 20)
    for limit in (2**30, 0):
        monkeypatch.setattr(files, "MEMORY_LIMIT", limit)
        source = ImageFolder(tmp_path, size=4).train_source()
        copy = pickle.loads(pickle.dumps(source))
        assert torch.equal(copy.images([0, 3]), source.images([0, 3]))


def test_memory_of_loader_processes_is_limited_by_what_they_share(monkeypatch):
    usage = type("Usage", (), {"free": 64 * 2**20})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert files._memory_limit(0) == files.MEMORY_LIMIT
    expected = 32 * 2**20 if os.path.isdir("/dev/shm") else files.MEMORY_LIMIT
    assert files._memory_limit(2) == expected


def test_long_checks_show_progress_and_short_ones_do_not(tmp_path, monkeypatch, capsys):
    fill(tmp_path, 20)
    ImageFolder(tmp_path, size=4).train_source()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(console, "_PATIENCE_S", 0.0)
    ImageFolder(tmp_path, size=4).train_source()
    assert "Checking images" in capsys.readouterr().err


def test_more_files_than_are_handed_out_at_once_are_all_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_AT_ONCE", 7)
    fill(tmp_path, 30)
    data = ImageFolder(tmp_path, size=4)
    assert sorted(reds(data.train_source()) + reds(data.val_source())) == list(range(30))


def test_roots_that_cannot_be_used_are_named(tmp_path):
    write(tmp_path, "one.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("")
    cases = [("none", "There is no folder"), ("one.png", "is a file, not a folder")]
    cases += [("empty", "has no images: it has no files"), ("texts", "1 other files, such as a.txt")]
    for name, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            _ = ImageFolder(tmp_path / name).spec
        assert str(tmp_path / name) in caught.value.what and caught.value.hint


def test_sides_without_images_are_named(tmp_path):
    write(tmp_path, "one.png")
    with pytest.raises(UserError, match="leaves none to validate on"):
        _ = ImageFolder(tmp_path, val_share=1e-9).spec
    with pytest.raises(UserError, match="leaves none to train on"):
        _ = ImageFolder(tmp_path, val_share=1 - 1e-9).spec
    write(tmp_path, "two.png")
    for share in (1e-9, 1 - 1e-9):  # chance does not empty a side when there are images for both
        data = ImageFolder(tmp_path, val_share=share)
        assert (len(data.train_source()), len(data.val_source())) == (1, 1)
    (tmp_path / "two.png").unlink()
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match=r"The train folder in .* has no images"):
        _ = ImageFolder(tmp_path).spec


def test_side_of_bad_files_only_is_named(tmp_path):
    fill(tmp_path, 9, "train/{}.png")
    write(tmp_path, "val/x.png").write_bytes(b"")
    with pytest.raises(UserError, match="No readable image is left for val"):
        ImageFolder(tmp_path, max_bad=0.5).train_source()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (4, 4, 4)}, r"data\.size has 3 numbers"),
        ({"size": 0}, "0x0"),
        ({"channels": 2}, "2 channels"),
        ({"resize": "fill"}, 'no resize rule "fill"'),
        ({"classes": "folder"}, r'data\.classes is "folder"'),
        ({"val_share": 0}, r"data\.val_share is 0"),
        ({"val_share": 1.0}, r"data\.val_share is 1\.0"),
        ({"max_bad": -0.1}, r"data\.max_bad is -0\.1"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        ImageFolder(tmp_path, **options)
