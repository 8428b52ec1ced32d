"""Several processes, micro-batches and interruptions change nothing: gradients and weights say so."""

import json
from functools import partial
from itertools import chain
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from aigc_lightning.core.engine import player as engine_module
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.models.dcgan import DCGAN
from aigc_lightning.testing.exactness import different_tensors, largest_difference, train

SAMPLES = 29  # an odd number: the last batch of an epoch is ragged


class Noise(ImageDataModule):
    """Pictures of noise: the smallest dataset there is."""

    def __init__(self, batch_size, num_workers=0, augmentation=None):
        super().__init__(batch_size, num_workers, augmentation)
        self.images = torch.randint(256, (SAMPLES, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()

    @property
    def spec(self):
        return ImageSpec(1, 8, 8)

    def train_source(self):
        return ArraySource(self.images)

    val_source = train_source


def build(engine=Engine(), augmentation=None, num_workers=0, **options):  # noqa: B008 (frozen)
    return partial(make, engine, augmentation, num_workers, options)


def make(engine, augmentation, num_workers, options, batch_size):
    data = Noise(batch_size, num_workers, augmentation)
    values = {"latent_size": 4, "width": 8, "generator_norm": "group", "discriminator_norm": "group"}
    model = DCGAN(data.spec, **{**values, **options})
    model.engine = engine
    return model, data


CASES = {
    "plain": build(),
    "micro-batches": build(Engine(micro_batches=3)),
    "r1": build(r1_weight=1.0),
    "gradient penalty": build(loss="wasserstein"),
    "clipping": build(Engine(clip_norm=0.1)),
    "two discriminator steps": build(discriminator_steps=2),
    "augmentation": build(augmentation=Augment(flip=True, crop=1, color=0.2)),
    "all together": build(Engine(micro_batches=2, clip_norm=0.1), r1_weight=1.0, discriminator_steps=2),
}


def largest(first, second):
    assert [number for number, _ in first.gradients] == [number for number, _ in second.gradients]
    return max(largest_difference(a, b) for (_, a), (_, b) in zip(first.gradients, second.gradients, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_with_the_same_global_batch(case, tmp_path):
    steps = 6  # more than an epoch of 3 batches
    one = train(CASES[case], 12, steps, tmp_path / "one", precision="64-true")
    two = train(CASES[case], 12, steps, tmp_path / "two", processes=2, precision="64-true")
    assert largest(two, one) < 1e-12


def test_two_processes_equal_one_in_single_precision(tmp_path):
    one = train(CASES["all together"], 12, 2, tmp_path / "one")
    two = train(CASES["all together"], 12, 2, tmp_path / "two", processes=2)
    assert largest(two, one) < 1e-6


def test_processes_share_an_epoch_exactly_once(tmp_path):
    trace = train(build(), 12, 3, tmp_path, processes=2)
    seen = sorted(index for process in trace.indices for batch in process for index in batch)
    assert seen == list(range(SAMPLES))


def without_averaging(build, batch_size):
    """Switch our averaging off; for processes that tests start."""
    setattr(engine_module, "average_gradients", lambda parameters, sum_: None)  # noqa: B010  # it is private to the module
    return build(batch_size)


def test_without_averaging_the_gradients_differ(tmp_path):
    """The negative control of the tests above."""
    one = train(build(), 12, 2, tmp_path / "one", precision="64-true")
    make = partial(without_averaging, build())
    two = train(make, 12, 2, tmp_path / "two", processes=2, precision="64-true")
    assert largest(two, one) > 1e-3


def test_lightnings_find_unused_strategy_agrees(tmp_path):
    """The oracle: Lightning's own reducer, with ours switched off (equal shares, since it knows no others)."""
    make = build(r1_weight=1.0)
    ours = train(make, 12, 2, tmp_path / "ours", processes=2, precision="64-true")
    oracle = DDPStrategy(process_group_backend="gloo", find_unused_parameters=True)
    make = partial(without_averaging, make)
    theirs = train(make, 12, 2, tmp_path / "theirs", processes=2, strategy=oracle, precision="64-true")
    assert largest(ours, theirs) < 1e-12


@pytest.mark.parametrize("case", ["plain", "gradient penalty", "two discriminator steps"])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_micro_batches_equal_one_batch(case, parts, tmp_path):
    options = {"plain": {}, "gradient penalty": {"loss": "wasserstein"}}.get(case, {"discriminator_steps": 2})
    whole = train(build(**options), 12, 4, tmp_path / "whole", precision="64-true")
    split = train(build(Engine(micro_batches=parts), **options), 12, 4, tmp_path / "split", precision="64-true")
    assert largest(split, whole) < 1e-12


@pytest.mark.parametrize(
    ("processes", "num_workers"),
    [(1, 0), (2, 0), pytest.param(1, 2, marks=pytest.mark.slow), pytest.param(2, 1, marks=pytest.mark.slow)],
    ids=str,
)
@pytest.mark.parametrize("stop", [1, 3, 4], ids=["mid-epoch", "end of epoch", "between discriminator steps"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(stop, num_workers, processes, tmp_path):
    make = build(
        Engine(micro_batches=2, clip_norm=1.0),
        augmentation=Augment(flip=True, crop=1),
        num_workers=num_workers,
        generator_norm="batch",
        discriminator_steps=2,
    )
    whole = train(make, 12, 7, tmp_path / "whole", processes=processes)
    first = train(make, 12, stop, tmp_path / "first", processes=processes)
    second = train(make, 12, 7, tmp_path / "second", processes=processes, resume=first.checkpoint)
    assert different_tensors(second.saved, whole.saved) == []
    assert second.saved["global_step"] == whole.saved["global_step"] == 7


@pytest.mark.parametrize("processes", [(1, 2), (2, 1)], ids=["1 to 2", "2 to 1"])
@pytest.mark.parametrize("stop", [2, 3, 4], ids=["mid-epoch", "end of epoch", "second epoch"])
def test_a_run_goes_on_exactly_with_other_processes_and_the_same_global_batch(stop, processes, tmp_path):
    before, after = processes
    make = build(augmentation=Augment(flip=True, crop=1), r1_weight=1.0)
    whole = train(make, 12, 7, tmp_path / "whole", precision="64-true")
    first = train(make, 12, stop, tmp_path / "first", processes=before, precision="64-true")
    options = {"processes": after, "precision": "64-true", "resume": first.checkpoint}
    second = train(make, 12, 7, tmp_path / "second", **options)
    seen = [sorted(chain(*parts)) for parts in zip(*second.indices, strict=True)]
    assert seen == [sorted(batch) for batch in whole.indices[0][stop:]]
    rest = whole.gradients[-len(second.gradients) :]
    assert len(rest) == 2 * (7 - stop)
    assert max(largest_difference(a, b) for (_, a), (_, b) in zip(second.gradients, rest, strict=True)) < 1e-11
    assert second.saved["Noise"]["samples_seen"] == 2 * SAMPLES + 12 == whole.saved["Noise"]["samples_seen"]
    assert second.saved["Noise"]["world_size"] == before


def test_a_run_does_not_go_on_with_another_global_batch(tmp_path):
    first = train(build(), 12, 2, tmp_path / "first")
    with pytest.raises(UserError, match="took 12 images per step and would now take 24"):
        train(build(), 24, 4, tmp_path / "second", resume=first.checkpoint)


@pytest.mark.parametrize("processes", [(2, 2), (2, 1)], ids=["2 to 2", "2 to 1"])
def test_losses_since_the_last_row_are_resumed(processes, tmp_path):
    def losses(folder, steps, processes, resume=None):
        seen = Seen(folder)
        train(build(), 12, steps, folder, processes=processes, resume=resume, callbacks=[seen], precision="64-true")
        return json.loads((folder / "seen.json").read_text())

    whole = losses(tmp_path / "whole", 5, 2)
    losses(tmp_path / "first", 2, processes[0])
    second = losses(tmp_path / "second", 5, processes[1], tmp_path / "first" / "end.ckpt")
    assert second == (whole if processes == (2, 2) else pytest.approx(whole, rel=1e-9))


class Seen(pl.Callback):
    """Writes the means of all losses at the end."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        means = pl_module.recorded_means()
        if trainer.is_global_zero:
            (self.folder / "seen.json").write_text(json.dumps(means))


def _drop(path: Path, change) -> Path:
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)
    return path


def without_optimizers(saved):
    for state in saved["optimizer_states"]:
        state["state"].clear()
    del saved["aigc"]["optimizer_sizes"]  # else it would be noticed


LEFT_OUT = {
    "optimizer": lambda saved: without_optimizers(saved),
    "average": lambda saved: [tensor.zero_() for name, tensor in saved["state_dict"].items() if "averages" in name],
    "position": lambda saved: saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"].update(processed=0),
}


@pytest.mark.parametrize("piece", LEFT_OUT)
def test_a_resumed_run_without_a_piece_differs(piece, tmp_path):
    """Negative controls: the comparison notices whatever is left out."""
    make = build(augmentation=Augment(flip=True))
    whole = train(make, 12, 5, tmp_path / "whole")
    first = train(make, 12, 2, tmp_path / "first")
    second = train(make, 12, 5, tmp_path / "second", resume=_drop(first.checkpoint, LEFT_OUT[piece]))
    assert different_tensors(second.saved, whole.saved) != []


def test_another_seed_differs(tmp_path):
    first = train(build(), 12, 2, tmp_path / "first")
    second = train(build(), 12, 2, tmp_path / "second", seed=1)
    assert different_tensors(first.saved, second.saved) != []


class Broken(DCGAN):
    """A generator whose loss is not a number in the second process from the third step on."""

    def generator_loss(self, fake, labels=None):
        bad = self.global_rank == 1 and self.step >= 2
        return super().generator_loss(fake, labels) * (float("nan") if bad else 1.0)


def build_broken(engine, batch_size):
    data = Noise(batch_size)
    model = Broken(data.spec, 4, 8, generator_norm="group", discriminator_norm="group")
    model.engine = engine
    return model, data


def test_a_loss_that_is_not_finite_in_one_process_stops_all_before_the_step(tmp_path):
    with pytest.raises(Exception, match="gradient of the generator is not finite at step 2"):
        train(partial(build_broken, Engine()), 12, 5, tmp_path, processes=2)


def test_all_processes_skip_the_same_updates(tmp_path):
    trace = train(partial(build_broken, Engine(max_skipped=9)), 12, 5, tmp_path, processes=2)
    assert [number for number, _ in trace.gradients] == [0, 1, 0, 1, 0, 0, 0]  # the generator is player 1
