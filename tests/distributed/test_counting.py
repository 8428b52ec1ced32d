"""Everything counts batches, and everything goes on where it was: for one, two and three players in any ratio."""

from functools import partial
from typing import ClassVar

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ExponentialLR, StepLR

from aigc_lightning.callbacks.checkpoints import Checkpoints
from aigc_lightning.callbacks.loss_log import LossLog
from aigc_lightning.callbacks.metrics_file import MetricsFile, read_metrics
from aigc_lightning.core import adversarial
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.averaging import MovingAverage
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ArraySource, ImageDataModule
from aigc_lightning.testing.exactness import different_tensors, train


class Pictures(ImageDataModule):
    """Twenty-two pictures of noise."""

    spec = ImageSpec(1, 8, 8)

    def train_source(self):
        return ArraySource(torch.randint(256, (22, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte())

    val_source = train_source


class Players(AdversarialModel):
    """Up to three networks with dropout, each updated in a ratio of its own, and schedulers of both kinds."""

    players: ClassVar[tuple[str, ...]] = ("first", "second", "third")
    averaged_networks = ("first",)

    def __init__(self, spec, ratios):
        super().__init__(spec)
        self.ratios = ratios
        for name in self.players:
            setattr(self, name, nn.Sequential(nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, 1)))

    def adversarial_step(self, batch):
        values = batch["image"].flatten(1) + self.noise(len(batch["image"]), 64)
        for name, (repeats, every) in zip(self.players, self.ratios, strict=True):
            for _ in range(repeats):
                self.update(name, partial(self.loss, name, values), every=every)

    def loss(self, name, values):
        return getattr(self, name)(values).square().mean()

    def configure_optimizers(self):
        optimizers = [Adam(getattr(self, name).parameters(), lr=0.01) for name in self.players]
        schedulers = [{"scheduler": ExponentialLR(optimizers[0], 0.9), "interval": "step"}]
        if len(optimizers) > 1:
            schedulers.append({"scheduler": StepLR(optimizers[1], 1, 0.5), "interval": "epoch"})
        return optimizers, schedulers


class One(Players):
    players: ClassVar[tuple[str, ...]] = ("first",)


class Two(Players):
    players: ClassVar[tuple[str, ...]] = ("first", "second")


CASES = {
    "one": (One, [(1, 1)]),
    "one, twice a batch": (One, [(2, 1)]),
    "two": (Two, [(1, 1), (1, 1)]),
    "five to one": (Two, [(5, 1), (1, 1)]),
    "one to three": (Two, [(1, 3), (1, 1)]),
    "every second and every fifth": (Two, [(2, 2), (1, 5)]),
    "three": (Players, [(1, 1), (3, 1), (1, 2)]),
}


def build(case, parts=1):
    model_class, ratios = CASES[case]

    def make(batch_size):
        data = Pictures(batch_size)
        torch.manual_seed(0)
        model = model_class(data.spec, ratios)
        model.engine = Engine(micro_batches=parts)
        return model, data

    return make


class Epochs(pl.Callback):
    """Notes when epochs end."""

    def __init__(self):
        self.ends = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.ends.append((trainer.current_epoch, trainer.global_step))


def steps_of(folder):
    found = {path.name: torch.load(path, weights_only=True)["global_step"] for path in folder.glob("*.ckpt")}
    return dict(sorted(found.items()))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_everything_counts_batches(case, parts, tmp_path, monkeypatch):
    averaged = []
    real = MovingAverage.update
    monkeypatch.setattr(MovingAverage, "update", lambda *args: (averaged.append(args[0].updates), real(*args)))
    log = MetricsFile(tmp_path)
    watch = [LossLog(), Checkpoints(every_n_steps=None, keep_every_n_steps=4, monitor=None)]
    monkeypatch.setattr(
        "aigc_lightning.callbacks.loss_log.log_metrics",
        lambda trainer, values: log.log_metrics(values, trainer.global_step),
    )
    trace = train(build(case, parts), 4, 10, tmp_path, callbacks=watch, log_every_n_steps=3)
    saved = trace.saved
    assert saved["global_step"] == 10  # six batches are an epoch
    assert averaged == list(range(10))
    assert sum(len(batch) for batch in trace.indices[0]) == 22 + 4 * 4 and len(trace.indices[0]) == 10
    assert saved["lr_schedulers"][0]["last_epoch"] == 10
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.01 * 0.9**10)
    if len(saved["lr_schedulers"]) > 1:
        assert saved["lr_schedulers"][1]["last_epoch"] == 1
    assert steps_of(tmp_path / "checkpoints") == {"last.ckpt": 10, "step_0000004.ckpt": 4, "step_0000008.ckpt": 8}
    shown = read_metrics(log.path)["train/first_loss"][0]
    assert set(shown) <= {3, 6, 9, 10} and shown[-1] in (9, 10)
    updates = [sum(repeats for step in range(1, 11) if step % every == 0) for repeats, every in CASES[case][1]]
    assert [sum(number == player for number, _ in trace.gradients) for player in range(len(updates))] == updates


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stop", [4, 6], ids=["mid-epoch", "end of epoch"])
def test_a_run_that_ended_goes_on_bit_for_bit(case, stop, tmp_path):
    epochs = Epochs(), Epochs()
    whole = train(build(case), 4, 14, tmp_path / "whole", callbacks=[epochs[0]])
    first = train(build(case), 4, stop, tmp_path / "first")
    second = train(build(case), 4, 14, tmp_path / "second", resume=first.checkpoint, callbacks=[epochs[1]])
    assert different_tensors(second.saved, whole.saved) == []
    assert second.saved["epoch"] == whole.saved["epoch"]
    ends = [(0, 6), (1, 12), (2, 14)]
    assert epochs[0].ends == ends and epochs[1].ends == [end for end in ends if end[1] > stop]
    assert second.indices[0] == whole.indices[0][stop:]


@pytest.mark.parametrize("case", ["one", "five to one", "three"])
def test_a_run_that_was_killed_goes_on_bit_for_bit_from_any_checkpoint(case, tmp_path):
    keep = Checkpoints(keep_every_n_steps=1, monitor=None)
    whole = train(build(case), 4, 14, tmp_path / "whole", callbacks=[keep])
    for stop in range(1, 14):
        checkpoint = tmp_path / "whole" / "checkpoints" / f"step_{stop:07d}.ckpt"
        rest = train(build(case), 4, 14, tmp_path / f"from_{stop}", resume=checkpoint)
        assert different_tensors(rest.saved, whole.saved) == [], stop
        assert rest.indices[0] == whole.indices[0][stop:]


@pytest.mark.parametrize("piece", ["dropout", "scheduler"])
def test_without_a_piece_the_resumed_run_differs(piece, tmp_path, monkeypatch):
    """The negative controls: keyed dropout and the schedulers' state are needed."""
    if piece == "dropout":
        monkeypatch.setattr(adversarial, "seed_everywhere", lambda *key: None)
    whole = train(build("three"), 4, 11, tmp_path / "whole")
    first = train(build("three"), 4, 4, tmp_path / "first")
    if piece == "scheduler":
        saved = first.saved
        saved["lr_schedulers"][0]["last_epoch"] = 0
        saved["optimizer_states"][0]["param_groups"][0]["lr"] = 0.01
        torch.save(saved, first.checkpoint)
    second = train(build("three"), 4, 11, tmp_path / "second", resume=first.checkpoint)
    assert different_tensors(second.saved, whole.saved) != []
