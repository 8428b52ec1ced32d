"""What all data from image files share."""

import inspect
from functools import partial

import pytest

from aigc_lightning.core.docstrings import argument_texts
from aigc_lightning.data import CaptionedImages, ImageFolder, PairedImages, Shards, UnpairedImages
from aigc_lightning.data.folders.base import FolderData

CLASSES = [ImageFolder, PairedImages, UnpairedImages, CaptionedImages, Shards]


@pytest.mark.parametrize("cls", CLASSES)
def test_shared_arguments_have_one_type_one_default_and_a_description(cls):
    shared, own = (inspect.signature(each).parameters for each in (FolderData, cls))
    common = {name: parameter for name, parameter in own.items() if name in shared}
    assert shared.keys() - common.keys() <= {"balanced"}
    if cls is Shards:  # a text, since it may be an address
        del common["root"]
    for name, parameter in common.items():
        assert (parameter.annotation, parameter.default) == (shared[name].annotation, shared[name].default), name
    assert argument_texts(cls).keys() == own.keys()


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("name", "value"),
    [("size", 8), ("channels", 1), ("resize", "pad"), ("val_share", 0.3), ("max_bad", 0.5), ("batch_size", 7),
     ("num_workers", 2), ("profile", "keep")],
)  # fmt: skip
def test_shared_arguments_arrive(tmp_path, cls, name, value):
    make = partial(cls, str(tmp_path))
    usual, changed = make(), make(**{name: value})
    attributes = {"size": "shape", "channels": "shape"}
    attribute = attributes.get(name, name)
    assert getattr(usual, attribute) != getattr(changed, attribute)
    others = {"shape", "resize", "val_share", "max_bad", "batch_size", "num_workers", "profile"} - {attribute}
    assert all(getattr(usual, other) == getattr(changed, other) for other in others)


def test_help_shows_what_a_base_describes(aigc):
    shown = " ".join(aigc("fit", "--data.help", "unpaired_images").out.split())
    assert "batch_size BATCH_SIZE images of each domain per process in a step." in shown
    assert "max_bad MAX_BAD share of the files that may be bad, from 0 to 1." in shown
    shown = aigc("plugins", "show", "unpaired_images").out
    assert "images of each domain per process" in shown and "share of the files that may be bad" in shown
