import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, Visits
from aigc_lightning.data.folders.unpaired_images import UnpairedImages, UnpairedSource
from aigc_lightning.errors import UserError


def write(root, name, color):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 10), color).save(path)


def numbered(count):
    return ArraySource(torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2).contiguous())


def shown(source, seed, epoch, indices=None):
    """Return which images of A and B the samples show."""
    indices = np.arange(len(source)) if indices is None else np.array(indices)
    fields = source.fields(Visits(seed, np.full(len(indices), epoch), indices))
    return [fields[key][:, 0, 0, 0].tolist() for key in ("image_a", "image_b")]


@pytest.mark.parametrize(("num_a", "num_b"), [(10, 4), (4, 10), (7, 7)])
def test_an_epoch_is_as_long_as_the_longer_side_and_shows_the_other_evenly(num_a, num_b):
    source = UnpairedSource(numbered(num_a), numbered(num_b), shuffle=True)
    assert len(source) == max(num_a, num_b)
    first, second = shown(source, 0, 0)
    longer, shorter, count = (second, first, num_a) if num_b > num_a else (first, second, num_b)
    assert longer == list(range(len(source)))
    counts = np.bincount(shorter, minlength=count)
    assert counts.max() - counts.min() <= 1


def test_pairing_is_a_function_of_seed_epoch_and_index():
    source = UnpairedSource(numbered(20), numbered(20), shuffle=True)
    _, whole = shown(source, 5, 3)
    assert shown(source, 5, 3, [11, 2, 7])[1] == [whole[11], whole[2], whole[7]]
    mixed = source.fields(Visits(5, np.array([3, 4, 3]), np.array([1, 1, 2])))["image_b"][:, 0, 0, 0].tolist()
    assert mixed == [whole[1], shown(source, 5, 4, [1])[1][0], whole[2]]
    assert whole != shown(source, 5, 4)[1] and whole != shown(source, 6, 3)[1]


def test_held_out_images_are_shown_in_order():
    assert shown(UnpairedSource(numbered(3), numbered(7), shuffle=False), 0, 0) == [
        [0, 1, 2, 0, 1, 2, 0],
        list(range(7)),
    ]


def fill(root, pattern, count, red):
    for number in range(count):
        write(root, pattern.format(f"{number:02d}"), (red, number, 0))


@pytest.mark.parametrize("layout", ["folders", "classes", "suffixes", "test only", "inner splits"])
def test_all_layouts_are_read(tmp_path, layout):
    parts = {
        "folders": {},
        "classes": {"train": "train/{}", "val": "val/{}", "test": "test/{}"},
        "suffixes": {"train": "train{}", "val": "val{}", "test": "test{}"},
        "test only": {"train": "train{}", "test": "test{}"},
        "inner splits": {"train": "{}/train", "val": "{}/val", "test": "{}/test"},
    }[layout]
    counts = {"train": 9, "val": 3, "test": 2}
    for name, red in (("A", 50), ("B", 200)):
        for part, pattern in parts.items():
            fill(tmp_path, pattern.format(name) + "/{}.png", counts[part], red)
        if not parts:
            fill(tmp_path, f"{name}/{{}}.png", 20, red)
    data = UnpairedImages(tmp_path, size=8, val_share=0.3)
    sources = data.train_source(), data.val_source(), data.test_source()
    found = [source.fields(Visits(0, np.zeros(len(source), int), np.arange(len(source)))) for source in sources]
    for fields in found:
        assert fields["image_a"][:, 0].unique().tolist() == [50]
        assert fields["image_b"][:, 0].unique().tolist() == [200]
    lengths = [len(fields["image_a"]) for fields in found]
    if layout == "folders":
        assert lengths[0] + lengths[1] == 20 and lengths[1] == lengths[2] > 0
    else:
        assert lengths == [9, 2, 2] if layout == "test only" else lengths == [9, 3, 2]


def test_files_of_the_same_name_are_held_out_together_and_in_the_same_place(tmp_path):
    fill(tmp_path, "color/{}.png", 60, 50)
    fill(tmp_path, "noto/{}.png", 60, 200)
    source = UnpairedImages(tmp_path, "color", "noto", size=8, val_share=0.3).val_source()
    fields = source.fields(Visits(0, np.zeros(len(source), int), np.arange(len(source))))
    assert torch.equal(fields["image_a"][:, 1], fields["image_b"][:, 1]) and len(source) > 8


def test_the_two_domains_are_varied_independently(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("A", "B"):
        (tmp_path / name).mkdir()
        for number in range(40):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / name / f"{number}.png")

    def batches(augmentation):
        data = UnpairedImages(tmp_path, size=8, batch_size=64, augmentation=augmentation)
        return next(iter(data.train_dataloader()))

    plain, varied = batches(None), batches(Augment(flip=True))
    flipped = {key: (plain[key] != varied[key]).flatten(1).any(1) for key in ("image_a", "image_b")}
    for key, changed in flipped.items():
        assert torch.equal(varied[key], torch.where(changed[:, None, None, None], plain[key].flip(-1), plain[key]))
    assert 0.2 < (flipped["image_a"] != flipped["image_b"]).float().mean() < 0.8


def test_one_domain_twice_and_a_missing_one_are_refused(tmp_path):
    with pytest.raises(UserError, match='are both "A"'):
        UnpairedImages(tmp_path, "A", "A")
    fill(tmp_path, "daisy/{}.png", 3, 1)
    with pytest.raises(UserError, match="has no folder dayzy") as caught:
        UnpairedImages(tmp_path, "dayzy", "daisy").train_source()
    assert "daisy" in caught.value.hint
    with pytest.raises(UserError, match="nowhere"):
        UnpairedImages(tmp_path / "nowhere").train_source()
