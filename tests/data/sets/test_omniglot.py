import zipfile
from io import BytesIO

import pytest
import torch
from PIL import Image, ImageDraw

from aigc_lightning.data.sets.omniglot import Omniglot
from aigc_lightning.errors import UserError


def drawing(number):
    image = Image.new("1", (105, 105), 1)
    ImageDraw.Draw(image).line((10, 10 + number, 60, 10 + number), fill=0, width=3)
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def archive(folder, name, alphabets, drawers=3):
    """Write an archive of the published form: alphabets with two characters each."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as file:
        for place, alphabet in enumerate(alphabets):
            for character in (1, 2):
                for drawer in range(drawers):
                    path = f"{name}/{alphabet}/character{character:02}/{place}{character}_{drawer:02}.png"
                    file.writestr(path, drawing(20 * place + 10 * character + drawer))


def test_alphabets_are_held_out_and_turned_characters_are_classes(tmp_path):
    archive(tmp_path / "omniglot", "images_background_small1", ["Latin", "Greek", "Tifinagh"])
    data = Omniglot(tmp_path, held_out=1)
    train, val = data.train_source(), data.val_source()
    assert (len(train), len(val)) == (4 * 12, 6)
    names = data.spec.class_names
    assert len(names) == 4 * 4 + 2 and names[0] == "Greek/character01" and names[-1] == "Tifinagh/character02"
    assert "Latin/character02 turned 270" in names
    labels, held_out = train.labels(range(48)), val.labels(range(6))
    assert labels is not None and held_out is not None
    assert sorted(labels.tolist()) == sorted(list(range(16)) * 3) and held_out.tolist() == [16, 16, 16, 17, 17, 17]
    images = train.images(range(48))
    assert torch.equal(images[12:24], torch.rot90(images[:12], 1, (2, 3))) and labels[12] == labels[0] + 4
    plain = Omniglot(tmp_path, held_out=1, rotations=False)
    assert len(plain.train_source()) == 12 and plain.spec.num_classes == 6


def test_drawings_are_white_on_black_and_reduced_by_averaging(tmp_path):
    archive(tmp_path, "images_background", ["A", "B"])
    whole = Omniglot(tmp_path, size=105, held_out=1).val_source().images([0])
    assert whole.shape == (1, 1, 105, 105) and set(whole.unique().tolist()) == {0, 255} and whole.float().mean() < 10
    small = Omniglot(tmp_path, size=35, held_out=1).val_source().images([0])
    means = whole.float().view(1, 1, 35, 3, 35, 3).mean(dim=(3, 5))
    torch.testing.assert_close(small.float(), means.round())


def test_the_published_evaluation_alphabets_are_held_out(tmp_path):
    archive(tmp_path, "images_background", ["A", "B"])
    archive(tmp_path, "images_evaluation", ["C"])
    data = Omniglot(tmp_path, rotations=False)
    assert (len(data.train_source()), len(data.val_source())) == (12, 6)
    assert {name.split("/")[0] for name in data.spec.class_names[4:]} == {"C"}


def test_nothing_appears_twice_where_archives_overlap(tmp_path):
    archive(tmp_path, "images_background", ["A", "B"])
    archive(tmp_path, "images_background_small1", ["A", "B"])
    data = Omniglot(tmp_path, held_out=1, rotations=False)
    assert (len(data.train_source()), len(data.val_source())) == (6, 6)


def test_what_cannot_be_used_is_named(tmp_path):
    for size in (7, 106):
        with pytest.raises(UserError, match=r"data\.size"):
            Omniglot(tmp_path, size)
    with pytest.raises(UserError, match=r"data\.held_out"):
        Omniglot(tmp_path, held_out=0)
    with pytest.raises(UserError, match=r"no archive of Omniglot[\s\S]*images_background\.zip"):
        _ = Omniglot(tmp_path).spec
    archive(tmp_path, "images_background", ["A"])
    with pytest.raises(UserError, match="1 alphabets"):
        _ = Omniglot(tmp_path, held_out=1).spec
    (tmp_path / "images_background.zip").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match="cannot be read"):
        _ = Omniglot(tmp_path).spec
    with zipfile.ZipFile(tmp_path / "images_background.zip", "w") as file:
        for alphabet in ("A", "B"):
            file.writestr(f"images_background/{alphabet}/character01/1.png", b"no picture")
    with pytest.raises(UserError, match=r"1\.png cannot be read"):
        Omniglot(tmp_path, held_out=1).train_source()
