import pickle

import numpy as np
import pytest
import torch

from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.data.base import Visits
from aigc_lightning.data.sets import shapes
from aigc_lightning.data.sets.scenes import (
    COLORS,
    GROUNDS,
    KINDS,
    Scene,
    Shape,
    chalk,
    line_drawing,
    paper,
    random_scene,
)
from aigc_lightning.data.sets.shapes import Shapes
from aigc_lightning.errors import UserError


def scene(kind="circle", color="red", ground="cream"):
    return Scene((Shape(kind, color, (0.0, 0.0), 0.3, 0.0),), ground, "")


def first(data, part="train"):
    return next(iter(getattr(data, f"{part}_dataloader")()))


@pytest.mark.parametrize("kind", KINDS)
def test_distances_grow_outwards_and_are_distances(kind):
    side = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    distance = KINDS[kind](side[None], side[:, None])
    assert distance.shape == (301, 301) and distance[:, [0, -1]].min() > 0
    assert 0.15 < (distance < 0).mean() * 9 / np.pi < 1  # part of the circle of radius 1
    assert max(abs(np.diff(distance, axis=axis)).max() for axis in (0, 1)) < 0.01001  # never steeper than a distance
    assert np.hypot(*np.meshgrid(side, side))[distance < 0].max() < 1.25


@pytest.mark.parametrize("draw", [paper, chalk, line_drawing])
def test_pictures_look_the_same_at_every_size(draw):
    small, large = (draw(random_scene(0, 3), side, side).astype(float) for side in (64, 256))
    shrunk = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
    if draw is paper:  # the others have lines of a least width in pixels
        assert abs(shrunk - small).mean() < 4
    assert draw(random_scene(0, 3), 40, 72).shape == (40, 72, 3)


def test_paper_and_chalk_show_the_same_outline():
    for kind in KINDS:
        filled = abs(paper(scene(kind), 64, 64).astype(int) - np.array(COLORS["red"])).sum(2) < 60
        drawn = chalk(scene(kind), 64, 64).astype(int).sum(2) > sum(GROUNDS["cream"][1]) + 15
        assert (filled & ~drawn).sum() == 0  # what is paper is chalk, too
        assert 0.5 < filled.sum() / drawn.sum() < 1


def test_hatching_tells_the_colours_apart():
    drawings = [line_drawing(scene("square", color), 64, 64) for color in COLORS]
    for number, drawing in enumerate(drawings):
        for other in drawings[:number]:
            assert abs(drawing.astype(int) - other).mean() > 5
    assert len({line_drawing(scene(ground=ground), 64, 64).tobytes() for ground in GROUNDS}) == 1


def test_scenes_are_various_and_shapes_keep_clear_of_each_other_and_the_border():
    found = [random_scene(0, index) for index in range(2000)]
    kinds = {shape.kind for item in found for shape in item.shapes}
    colors = {shape.color for item in found for shape in item.shapes}
    assert kinds == {*KINDS} and colors == {*COLORS} and {item.ground for item in found} == {*GROUNDS}
    assert abs(sum(len(item.shapes) == 1 for item in found) / 2000 - 1 / 3) < 0.05
    for item in found:
        for shape in item.shapes:
            assert max(map(abs, shape.center)) + shape.radius < 0.5
        if len(item.shapes) == 2:
            gap = np.hypot(*np.subtract(item.shapes[0].center, item.shapes[1].center))
            assert gap > item.shapes[0].radius + item.shapes[1].radius
            assert item.shapes[0].radius > item.shapes[1].radius


def test_captions_say_what_is_where():
    shapes = (Shape("star", "red", (0.0, -0.2), 0.25, 0.0), Shape("circle", "blue", (0.0, 0.3), 0.12, 0.0))
    assert Scene(shapes, "mint", "above").caption == ("a large red star above a small blue circle on a mint background")
    assert scene().caption == "a red circle on a cream background"
    for index in range(100):
        item = random_scene(0, index)
        if item.place:
            (x1, y1), (x2, y2) = (shape.center for shape in item.shapes)
            seen = {"above": y1 < y2, "below": y1 > y2, "left of": x1 < x2, "right of": x1 > x2}
            assert seen[item.place]


def test_generation_has_labels_and_captions_that_agree():
    batch = first(Shapes(num_train=100, batch_size=50))
    assert batch["image"].shape == (50, 3, 64, 64)
    names = Shapes().spec.class_names
    for label, caption in zip(batch["label"].tolist(), batch["caption"], strict=True):
        assert names[label] == next(word for word in caption.split() if word in names)


def test_pairs_are_of_one_scene_in_either_direction():
    there, back = (first(Shapes(task="paired", direction=d, num_train=50, batch_size=4)) for d in ("AtoB", "BtoA"))
    assert torch.equal(there["source"], back["target"]) and torch.equal(there["target"], back["source"])
    index = int(there["index"][0])
    drawing = line_drawing(random_scene(0, index), 64, 64)
    assert torch.equal(to_uint8(there["source"])[0].permute(1, 2, 0), torch.from_numpy(drawing))


def test_unpaired_domains_share_no_training_scene_and_all_held_out_scenes():
    data = Shapes(task="unpaired", num_train=30, num_val=5, batch_size=30)
    batch, held_out = first(data), first(data, "val")
    for key, style, part in (("image_a", paper, 0), ("image_b", chalk, 2)):
        expected = torch.from_numpy(style(random_scene(part, int(batch["index"][3])), 64, 64))
        assert torch.equal(to_uint8(batch[key])[3].permute(1, 2, 0), expected)
    for key, style in (("image_a", paper), ("image_b", chalk)):
        expected = torch.from_numpy(style(random_scene(1, 2), 64, 64))
        assert torch.equal(to_uint8(held_out[key])[2].permute(1, 2, 0), expected)


def test_scenes_do_not_depend_on_the_seed_of_the_run(monkeypatch):
    pictures = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        batch = first(Shapes(num_train=10, batch_size=10))
        pictures.append(batch["image"][batch["index"].argsort()])
    assert torch.equal(*pictures)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 15}, "15"),
        ({"size": (64, 5000)}, "5000"),
        ({"task": "restoration"}, "restoration"),
        ({"direction": "up"}, "up"),
        ({"num_val": 0}, "num_val is 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Shapes(**options)


@pytest.mark.parametrize("task", ["generation", "paired", "unpaired"])
def test_what_is_kept_is_what_is_drawn(task, monkeypatch):
    kept = Shapes(size=16, task=task, num_train=8).train_source()
    monkeypatch.setattr(shapes, "MEMORY_LIMIT", 0)
    drawn = Shapes(size=16, task=task, num_train=8).train_source()
    visits = Visits(0, np.zeros(6, np.int64), np.array([3, 1, 3, 7, 0, 1]))
    for _ in range(2):
        for key, images in drawn.fields(visits).items():
            again = kept.fields(visits)[key]
            assert torch.equal(images, again) if isinstance(images, torch.Tensor) else images == again


def test_pictures_are_drawn_once_and_stay_in_their_process(monkeypatch):
    source = Shapes(size=16, num_train=8).train_source()
    visits = Visits(0, np.zeros(8, np.int64), np.arange(8))
    source.fields(visits)
    assert len(pickle.dumps(source)) < 2000
    monkeypatch.setattr(source, "_scene", None)  # what draws would need
    source._words = False
    assert source.fields(visits)["image"].shape == (8, 3, 16, 16)
