"""Images lost while a model trains: named once, counted the same in all processes, held to the budget."""

import logging
from functools import partial
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image

from aigc_lightning.core.ema import Ema
from aigc_lightning.data.decode import CorruptImageError
from aigc_lightning.data.folders import files
from aigc_lightning.data.folders.image_folder import ImageFolder
from aigc_lightning.data.unreadable import LOST_KEY, Budget, LostImage, LostImages
from aigc_lightning.errors import UserError
from aigc_lightning.models.dcgan import DCGAN
from aigc_lightning.testing.exactness import different_tensors, train


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Return a maker of a small GAN and of thirty images that stay in their files."""
    monkeypatch.setattr(files, "MEMORY_LIMIT", 0)
    for part, count in (("train", 30), ("val", 1)):
        (tmp_path / part).mkdir()
        for number in range(count):
            Image.new("L", (8, 8), number * 8).save(tmp_path / part / f"{number:03}.png")

    return lambda *numbers, num_workers=0: partial(make, tmp_path, numbers, num_workers, files.CHECKED_FILES)


def make(folder, numbers, num_workers, checked_files, batch_size):
    files.MEMORY_LIMIT, files.CHECKED_FILES = 0, checked_files  # also in a process that a test starts
    data = ImageFolder(folder, size=8, channels=1, max_bad=0.2, batch_size=batch_size, num_workers=num_workers)
    broken(data, numbers)
    model = DCGAN(data.spec, 4, 8, generator_norm="group", discriminator_norm="group")
    model.ema_settings = Ema(decay=0.0)
    return model, data


@pytest.fixture(params=[False, True], ids=["checked first", "not checked"])
def unchecked(request, monkeypatch):
    """Let the folder be a small one, whose files break after they have been checked, or a large one."""
    if request.param:
        monkeypatch.setattr(files, "CHECKED_FILES", 0)


def broken(data, numbers):
    """Break files once the data has a source, in all processes."""
    data.train_source()
    if dist.is_initialized():
        dist.barrier()
    for number in numbers:
        (data.root / "train" / f"{number:03}.png").write_bytes(b"no image")
    return data


class Watch(pl.Callback):
    """Notes at each batch which step it is and which images are lost."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder = folder

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        assert LOST_KEY not in batch
        lost = sorted(trainer.datamodule._lost._lost)
        (self.folder / f"lost_{trainer.global_rank}").write_text(f"{trainer.global_step} {lost}")


def notes(folder, processes):
    return [(folder / f"lost_{rank}").read_text() for rank in range(processes)]


@pytest.mark.parametrize("processes", [1, 2])
def test_lost_images_within_the_budget_are_the_same_in_all_processes(processes, build, unchecked, tmp_path, capfd):
    watch = Watch(tmp_path / "run")
    train(build(3, 17, 18), 10, 20, tmp_path / "run", processes=processes, callbacks=[watch])
    found = notes(tmp_path / "run", processes)
    assert len(set(found)) == 1 and found[0].startswith("19 ") and found[0].count(".png") == 3


@pytest.mark.parametrize("processes", [1, 2])
def test_more_than_the_budget_stop_all_processes_at_the_same_step(processes, build, unchecked, tmp_path):
    watch = Watch(tmp_path / "run")
    with pytest.raises(UserError, match=r"7 of 31 images in .* cannot be read, with 6 allowed") as error:
        train(build(*range(0, 14, 2)), 10, 40, tmp_path / "run", processes=processes, callbacks=[watch])
    assert "train/000.png" in str(error.value)
    steps = [int(note.partition(" ")[0]) for note in notes(tmp_path / "run", processes)]
    assert len(set(steps)) == 1 and steps[0] < 20


def test_the_rest_of_a_batch_is_what_it_was_and_stand_ins_are_good(build, tmp_path):
    _, data = build(3)(30)
    batch = data.train_dataloader()._get_iterator().__next__()
    (lost,) = batch[LOST_KEY]
    assert lost.error.path.endswith("003.png") and "none of" in lost.error.reason
    assert sorted(batch["index"].tolist()) == list(range(30))
    values = ((batch["image"][:, 0, 0, 0] + 1) * 127.5).round().long() // 8
    assert sorted(values.tolist()) == sorted([4, *(n for n in range(30) if n != 3)])


def test_a_file_that_several_loaders_report_is_named_once(build, caplog):
    _, data = build(3)(10)
    reports = [batch[LOST_KEY] for _ in range(2) for batch in fresh(data) if LOST_KEY in batch]
    assert len(reports) == 2

    class Trainer:
        world_size, training, is_global_zero = 1, True, True

    lost = LostImages()
    trainer: Any = Trainer()
    with caplog.at_level(logging.WARNING):
        for part in reports:
            lost.take({LOST_KEY: part, "image": torch.zeros(1)}, trainer)
    assert len(caplog.messages) == 1 and "003.png cannot be read (it is none of" in caplog.text


def lost_images(count, budget):
    return [LostImage(CorruptImageError(budget.root / f"{number}.png", "it is bad"), budget) for number in range(count)]


def take(lost, images, **place):
    trainer = SimpleNamespace(**{"world_size": 1, "training": True, "is_global_zero": True, **place})
    lost.take({LOST_KEY: images}, trainer)


def test_the_screen_names_the_first_ones_and_then_says_how_many_there_are(tmp_path, caplog):
    images, lost = lost_images(45, Budget(tmp_path, 1000, 0.1)), LostImages()
    with caplog.at_level(logging.INFO):
        for image in images:
            take(lost, [image])
    named = [record for record in caplog.records if "takes its place" in record.getMessage()]
    assert len(named) == 45 and [record.levelname for record in named] == ["WARNING"] * 10 + ["INFO"] * 35
    counted = [record.getMessage() for record in caplog.records if record not in named]
    assert counted == [f"{count} images so far cannot be read; the run's log names them all." for count in (20, 40)]


def test_what_several_processes_lose_in_validation_waits_for_training(tmp_path, caplog):
    budget = Budget(tmp_path, 100, 0.01)
    fitting, validating = (SimpleNamespace(fn=fn) for fn in (TrainerFn.FITTING, TrainerFn.VALIDATING))
    take(LostImages(), lost_images(3, budget), world_size=2, training=False, state=fitting)  # no other would stop
    assert caplog.text.count("takes its place") == 3
    for place in ({"world_size": 2, "training": False, "state": validating}, {"training": False, "state": fitting}):
        with pytest.raises(UserError, match="3 of 100 images"):
            take(LostImages(), lost_images(3, budget), **place)


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_is_resumed_meets_the_same_images(build, monkeypatch, tmp_path, num_workers):
    monkeypatch.setattr(files, "CHECKED_FILES", 0)
    make = build(3, 4, 17, num_workers=num_workers)
    whole = train(make, 10, 8, tmp_path / "whole")
    half = train(make, 10, 4, tmp_path / "half")
    rest = train(make, 10, 8, tmp_path / "rest", resume=half.checkpoint)
    assert different_tensors(whole.saved, rest.saved) == []


def fresh(data):
    """Return the batches of a loader whose source knows nothing yet, as in a loader process that starts."""
    source = data.train_source()
    source.bad.clear()
    source._stand_ins.clear()
    return data.train_dataloader()


@pytest.mark.slow
def test_loader_processes_tell_the_training_process(build, tmp_path, caplog):
    watch = Watch(tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        train(build(3, 17, num_workers=2), 10, 6, tmp_path / "run", callbacks=[watch])
    assert sum("cannot be read" in message for message in caplog.messages) == 2
    assert notes(tmp_path / "run", 1)[0].count(".png") == 2
