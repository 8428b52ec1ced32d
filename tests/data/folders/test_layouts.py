"""What is said of folders that nearly have one of the usual layouts, and what such folders give."""

import logging

import pytest
from PIL import Image

from aigc_lightning.data.folders.image_folder import ImageFolder
from aigc_lightning.data.folders.paired_images import PairedImages
from aigc_lightning.data.folders.unpaired_images import UnpairedImages
from aigc_lightning.errors import UserError


def fill(root, *folders, count=4):
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("L", (4, 4), number).save(root / folder / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (["train/cat", "train/dog"], ["has the folder train, but no val or test", "data.root {root}/train"]),
        (["train"], ["has the folder train, but no val or test", "data.root {root}/train"]),
        (["val", "test"], ["has the folders test and val, but no train", "Add the folder train"]),
        (["val/cat", "val/dog"], ["has the folder val, but no train"]),
        (["Training/cat", "Testing/cat"], ["Testing and Training", "rename Testing to test, Training to train"]),
        (["flowers/train/a", "flowers/test/a"], ["one folder deeper: flowers has test and train", "{root}/flowers"]),
    ],
)
def test_splits_of_which_some_are_missing_are_named(tmp_path, folders, parts):
    with pytest.raises(UserError) as error:
        _ = ImageFolder(fill(tmp_path, *folders)).spec
    assert all(part.format(root=tmp_path) in str(error.value) for part in parts), error.value


def test_what_is_advised_works(tmp_path):
    fill(tmp_path, "train/cat", "train/dog", "deep/train/cat", "deep/train/dog", "deep/test/dog")
    assert ImageFolder(tmp_path / "train").spec.class_names == ("cat", "dog")
    assert ImageFolder(tmp_path / "deep").spec.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (["train", "bus", "tram"], ("bus", "train", "tram")),  # vehicles
        (["test", "control"], ("control", "test")),
        (["train", "val", "other"], ()),
        (["cat/train", "dog/train"], ("cat", "dog")),
        (["cat", "@eaDir", "#recycle", "dog"], ("cat", "dog")),
    ],
)
def test_folders_that_only_have_such_names_are_classes(tmp_path, folders, classes):
    assert ImageFolder(fill(tmp_path, *folders)).spec.class_names == classes


def test_one_class_folder_is_said_to_be_none(tmp_path, caplog):
    fill(tmp_path, "cat")
    with caplog.at_level(logging.WARNING):
        assert ImageFolder(tmp_path).spec.class_names == ()
    assert "are in the folder cat. Classes need two or more" in caplog.text
    with pytest.raises(UserError, match="images in the one folder cat only, so it has no classes") as error:
        _ = ImageFolder(tmp_path, classes="folders").spec
    assert "at least two folders" in error.value.hint


@pytest.mark.parametrize("build", [UnpairedImages, lambda root, **given: PairedImages(root, "folders", **given)])
@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (["trainA", "trainB"], ["has trainA, but no valA or testA to hold out", "give trainA itself"]),
        (["train/A", "train/B"], ["has train/A, but no val/A or test/A to hold out", "give train/A itself"]),
        (["testA", "testB"], ["has testA, but no trainA or train/A"]),
        (["a", "b"], ["no folder A, train/A or trainA", "Did you mean a?"]),
        (["photos", "maps"], ["no folder A", "It has the folders maps and photos."]),
        (["horse2zebra/trainA", "horse2zebra/testA"], ["no folder A", "give data.root {root}/horse2zebra"]),
    ],
)
def test_domains_of_which_something_is_missing_are_named(tmp_path, build, folders, parts):
    with pytest.raises(UserError) as error:
        build(fill(tmp_path, *folders)).train_source()
    assert all(part.format(root=tmp_path) in str(error.value) for part in parts), error.value


def test_a_domain_without_a_test_part_can_be_named_itself(tmp_path):
    fill(tmp_path, "trainA", "trainB", count=20)
    data = UnpairedImages(tmp_path, "trainA", "trainB", size=4)
    assert (len(data.train_source()) + len(data.val_source())) == 20
    pairs = PairedImages(tmp_path, "folders", "trainA", "trainB", size=4)
    assert (len(pairs.train_source()) + len(pairs.val_source())) == 20


def test_partners_are_found_however_accents_are_spelt(tmp_path, caplog):
    fill(tmp_path, "A", "B", count=5)
    (tmp_path / "A" / "0.png").rename(tmp_path / "A" / "caf\u00e9.png")
    (tmp_path / "B" / "0.png").rename(tmp_path / "B" / "cafe\u0301.png")
    (tmp_path / "A" / "4.png").unlink()
    with caplog.at_level(logging.WARNING):
        pairs = PairedImages(tmp_path, "folders", size=4)
        assert len(pairs.train_source()) + len(pairs.val_source()) == 4
    assert "1 images of B have no partner in A and are not used" in caplog.text
