"""Sources of image files: which files are decoded when, and what stands in for bad ones."""

import logging
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lightning.commands.data.prepare import main as prepare
from aigc_lightning.core.run.seed import run_seed
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, Visits
from aigc_lightning.data.decode import decode
from aigc_lightning.data.folders import base, files
from aigc_lightning.data.folders.files import FileSource
from aigc_lightning.data.folders.image_folder import ImageFolder
from aigc_lightning.data.folders.paired_images import PairedImages
from aigc_lightning.data.unreadable import LOST_KEY
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.image_sets import DataImages

BAD = (3, 4, 17, 29)


@pytest.fixture
def root(tmp_path):
    """Thirty training images in two classes, four of them bad, and six held-out ones."""
    for part, count in (("train", 30), ("val", 6)):
        for number in range(count):
            path = tmp_path / "images" / part / "ab"[number >= count // 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 8), (number * 8, 0, 0)).save(path)
            if part == "train" and number in BAD:
                path.write_bytes(path.read_bytes()[:40])
    return tmp_path / "images"


@pytest.fixture(params=[2**30, 0], ids=["in memory", "in files"])
def large(request, monkeypatch):
    """Let every folder be a large one, whose images fit into memory or do not."""
    monkeypatch.setattr(files, "CHECKED_FILES", 0)
    monkeypatch.setattr(files, "MEMORY_LIMIT", request.param)


def data(root, **options):
    return ImageFolder(root, **{"size": 8, "max_bad": 0.2, "batch_size": 10, **options})


def shown(batch_or_images):
    images = batch_or_images["image"] if isinstance(batch_or_images, dict) else batch_or_images
    if images.is_floating_point():
        images = ((images + 1) * 127.5).round()
    return (images[:, 0, 0, 0] // 8).long().tolist()


def watched(monkeypatch):
    """Return a list that gets the path of each file that is decoded."""
    decoded = []
    monkeypatch.setattr(base, "decode", lambda path, **more: decoded.append(path) or decode(path, **more))
    return decoded


def stand_in(number):
    """The next good one, round the end."""
    while number in BAD:
        number = (number + 1) % 30
    return number


def test_nothing_is_decoded_before_it_is_asked_for(root, large, monkeypatch):
    decoded = watched(monkeypatch)
    module = data(root)
    assert module.spec.class_names == ("a", "b")
    sources = [module.train_source(), module.val_source(), module.train_dataloader(), module.val_dataloader()]
    assert len(sources[0]) == 30 and not decoded
    sources[0].images([0, 1])
    assert {path.name for path in decoded} == {"00.png", "01.png"}


def test_kept_images_are_decoded_once(root, large, monkeypatch):
    decoded = watched(monkeypatch)
    source = data(root).train_source()
    for _ in range(2):
        assert shown(source.images([20, 20, 21])) == [20, 20, 21]
    assert len(decoded) == (2 if files.MEMORY_LIMIT else 4)


def test_stand_ins_depend_on_the_files_alone(root, large):
    expected = [stand_in(number) for number in range(30)]
    forwards, backwards = data(root).train_source(), data(root).train_source()
    assert shown(forwards.images(range(30))) == expected
    for number in reversed(range(30)):
        assert shown(backwards.images([number])) == [expected[number]]
        assert backwards.labels([number]).tolist() == [int(expected[number] >= 15)]
    assert shown(pickle.loads(pickle.dumps(forwards)).images(range(30))) == expected


def test_classes_are_balanced_by_the_folders_whatever_was_read(root, large):
    module = data(root, balanced=True)
    before = list(module.train_sampler())
    module.train_source().images(range(30))
    assert list(module.train_sampler()) == before


def test_batches_go_on_with_the_same_samples_after_a_resume(root, large):
    varied = {"augmentation": Augment(flip=True, crop=2, color=0.3)}
    whole = list(data(root, **varied).train_dataloader())
    rest = data(root, **varied)
    samples = rest.samples(rest.train_source(), run_seed(), rest.augmentation)
    last = [*rest.train_sampler()][-1]
    again = samples.__getitems__(last)
    assert torch.equal(again["image"], whole[-1]["image"]) and torch.equal(again["label"], whole[-1]["label"])


def test_every_batch_tells_what_is_bad_in_it(root, large):
    samples = data(root).samples(data(root).train_source())
    for _ in range(2):  # a batch may be dropped on its way
        batch = samples.__getitems__([2, 3, 4, 5])
        assert [error.error.path.rpartition("/")[2] for error in batch[LOST_KEY]] == ["03.png", "04.png"]
        assert batch["index"].tolist() == [2, 3, 4, 5] and shown(batch) == [2, 5, 5, 5]
    assert LOST_KEY not in samples.__getitems__([5, 6])


def test_outside_of_a_loader_the_source_holds_itself_to_the_budget(root, large, caplog):
    with caplog.at_level(logging.WARNING):
        DataImages(data(root), "train").read(range(30))
        DataImages(data(root), "train").read(range(30))
    assert caplog.text.count("03.png cannot be read") == 2 and "the next image takes its place" in caplog.text
    with pytest.raises(UserError, match=r"4 of 36 images in .* cannot be read, with 3 allowed .data.max_bad 0.1."):
        DataImages(data(root, max_bad=0.1), "train").read(range(30))


def test_a_part_without_a_good_image_is_named(root, large):
    for path in (root / "val").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"No readable image is left for val in .*images: val/a/02.png"):
        data(root, max_bad=1).val_source().images([2])


def test_images_read_in_inference_mode_serve_training(root, large):
    module = data(root)
    with torch.inference_mode():
        module.train_source().images([1])
    assert shown(module.train_source().images([1, 2])) == [1, 2]
    assert not module.train_source().images([1, 2]).is_inference()


def test_small_folders_are_decoded_first_and_lose_bad_files(root, monkeypatch):
    for limit in (2**30, 0):
        monkeypatch.setattr(files, "MEMORY_LIMIT", limit)
        source = data(root).train_source()
        assert isinstance(source, ArraySource if limit else FileSource)
        assert shown(source.images(range(len(source)))) == [number for number in range(30) if number not in BAD]


@pytest.mark.parametrize(("name", "value"), [("CHECKED_FILES", 35), ("CHECKED_BYTES", 100)])
def test_what_is_small_is_told_by_number_and_bytes(root, monkeypatch, name, value):
    monkeypatch.setattr(files, name, value)
    assert isinstance(data(root).train_source(), FileSource) and len(data(root).train_source()) == 30


def test_a_prepared_folder_shows_the_same(root, large, caplog):
    target = root.parent / "prepared"
    prepare([str(root), str(target), "--size", "8", "--workers", "1"])
    with caplog.at_level(logging.WARNING):
        ours, theirs = data(root).train_source(), data(target).train_source()
        assert torch.equal(ours.images(range(30)), theirs.images(range(30)))
    assert torch.equal(ours.labels(range(30)), theirs.labels(range(30)))
    assert torch.equal(ours.listed_labels, theirs.listed_labels)
    assert "4 of 36 images cannot be read; the next one takes the place of each" in caplog.text
    assert theirs.problem(3) and not theirs.problem(5) and theirs.name(3) == "train/a/03.png"
    with pytest.raises(UserError, match="4 of 36 images"):
        data(target, max_bad=0.1).train_source()
    assert list(data(root, balanced=True).train_sampler()) == list(data(target, balanced=True).train_sampler())


def test_pairs_stand_in_together(tmp_path, large):
    for folder in ("A", "B"):
        for number in range(12):
            path = tmp_path / "train" / folder / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), number * 8).save(path)
        (tmp_path / "val" / folder).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "val" / folder / "0.png")
    (tmp_path / "train/B/07.png").write_bytes(b"no image")
    source = PairedImages(tmp_path, "folders", size=8, channels=1, max_bad=0.2).train_source()
    fields = source.fields(Visits(0, np.zeros(3, np.int64), np.array([6, 7, 8])))
    assert shown(fields["source"]) == shown(fields["target"]) == [6, 8, 8]


@pytest.mark.slow
def test_loader_processes_share_what_they_read(root, large):
    alone = list(data(root).train_dataloader())
    module = data(root, num_workers=2)
    loader = module.train_dataloader()
    for _ in range(2):
        for ours, theirs in zip(alone, loader, strict=True):
            assert torch.equal(ours["image"], theirs["image"]) and torch.equal(ours["label"], theirs["label"])
    kept = module.train_source()._is_kept
    if files.MEMORY_LIMIT:
        assert kept.is_shared() and kept.sum() == 26
    else:
        assert kept is None
