import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lightning.data.base import Visits
from aigc_lightning.data.decode import CorruptImageError
from aigc_lightning.data.sets.photos import TRAIN_PHOTOS, VAL_PHOTOS, Photos, load_photo, tiles
from aigc_lightning.errors import UserError


def crops(source, seed, epoch, indices):
    indices = np.array(indices)
    return source.fields(Visits(seed, np.full(len(indices), epoch), indices))["image"]


def test_all_photographs_are_colourful_or_grey_pictures_of_a_useful_size():
    for name in (*TRAIN_PHOTOS, *VAL_PHOTOS):
        photo = load_photo(name)
        assert photo.dtype == torch.uint8 and photo.shape[0] == 3 and min(photo.shape[1:]) >= 300
        assert photo.float().std() > 10
        assert load_photo(name, 1).shape == (1, *photo.shape[1:])


def test_held_out_photographs_are_not_trained_on():
    assert not {*TRAIN_PHOTOS} & {*VAL_PHOTOS}


def test_crops_are_windows_of_the_photographs():
    photos = [load_photo(name) for name in TRAIN_PHOTOS]
    windows = [photo.unfold(1, 16, 1).unfold(2, 16, 1) for photo in photos]
    for crop in crops(Photos(size=16, num_train=100).train_source(), 0, 0, range(8)):
        corners = [(photo[:, :-15, :-15] == crop[:, :1, :1]).all(0).nonzero() for photo in photos]
        assert any(
            torch.equal(window[:, row, column], crop)
            for window, places in zip(windows, corners, strict=True)
            for row, column in places
        )


def test_places_are_new_in_each_epoch_and_depend_on_the_key_alone():
    source = Photos(size=16, num_train=50).train_source()
    first = crops(source, 3, 0, range(50))
    assert torch.equal(first[[7, 2]], crops(source, 3, 0, [7, 2]))
    for other in (crops(source, 3, 1, range(50)), crops(source, 4, 0, range(50))):
        assert (first != other).flatten(1).any(1).float().mean() > 0.9


def test_every_photograph_is_used():
    source = Photos(size=8, num_train=500).train_source()
    source._photos = [torch.full((3, 20, 20), number, dtype=torch.uint8) for number in range(9)]
    counts = torch.bincount(crops(source, 0, 0, range(500))[:, 0, 0, 0].long())
    assert len(counts) == 9 and counts.min() > 30  # 56 are expected


def test_tiles_cover_a_photograph_without_overlap():
    photo = torch.arange(5 * 7, dtype=torch.uint8).view(1, 5, 7)
    cut = tiles(photo, 2)
    assert cut.shape == (6, 1, 2, 2)
    assert torch.equal(cut[1, 0], photo[0, 0:2, 2:4]) and torch.equal(cut[3, 0], photo[0, 2:4, 0:2])


@pytest.mark.parametrize(("size", "count"), [(64, 54 + 28), (128, 12 + 6), (256, 2 + 1)])
def test_held_out_tiles_have_the_size_asked_for(size, count):
    source = Photos(size=size, channels=1).val_source()
    assert source.images(range(len(source))).shape == (count, 1, size, size)


def test_crops_of_a_folder_are_windows_of_its_pictures(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    (tmp_path / "sub").mkdir()
    Image.fromarray(photo).save(tmp_path / "sub" / "a.png")
    (tmp_path / "notes.txt").touch()
    data = Photos(size=16, num_train=10, root=tmp_path)
    windows = np.lib.stride_tricks.sliding_window_view(photo, (16, 16), (0, 1)).reshape(-1, 3, 16, 16)
    found = crops(data.train_source(), 0, 0, range(10))
    assert all((windows == crop.numpy()).all((1, 2, 3)).any() for crop in found)
    assert len(found.unique(dim=0)) > 5
    assert len(data.val_source()) == len(Photos(size=16).val_source())


def test_folders_without_pictures_and_pictures_that_are_too_small_are_named(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        Photos(root=tmp_path / "none").train_source()
    with pytest.raises(UserError, match="no pictures"):
        Photos(root=tmp_path).train_source()
    Image.new("RGB", (20, 15)).save(tmp_path / "small.png")
    with pytest.raises(CorruptImageError, match="20x15 pixels are fewer than a crop's 16"):
        crops(Photos(size=16, root=tmp_path).train_source(), 0, 0, [0])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": 7}, "data.size is 7"), ({"size": 257}, "257"), ({"channels": 4}, "4"), ({"num_train": 0}, "num_train")],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Photos(**options)
