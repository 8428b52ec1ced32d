"""Mixed precision: one scaler for all players, true gradients where they are clipped, and updates that are left out."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.ema import Ema
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError


class Duel(AdversarialModel):
    """Two numbers that descend slopes of our choice."""

    def __init__(self, slopes, repeats=1):
        super().__init__(ImageSpec(1, 8, 8))
        self.slopes, self.repeats = slopes, repeats
        self.discriminator, self.generator = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        for name in self.players:
            nn.init.constant_(getattr(self, name).weight, 1.0)

    def adversarial_step(self, batch):
        for _ in range(self.repeats):
            for name in self.players:
                self.update(name, partial(self.loss, name))

    def loss(self, name):
        return self.slopes[name](self.step) * getattr(self, name).weight.sum()

    def configure_optimizers(self):
        return [torch.optim.SGD(getattr(self, name).parameters(), lr=0.5) for name in self.players]

    def weights(self):
        return [getattr(self, name).weight.item() for name in self.players]


PLAIN = Engine()


def fit(model, steps, engine=PLAIN, scale=None, precision="32-true", resume=None, batch_size=1):
    model.engine, model.ema_settings = engine, Ema(decay=0.0)
    plugins = []
    if scale is not None:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10_000)
        plugins, precision = [MixedPrecision("16-mixed", "cpu", scaler)], None
    samples: Any = [{"image": torch.zeros(1, 8, 8)}] * (steps * batch_size)
    batches = torch.utils.data.DataLoader(samples, batch_size=batch_size)
    trainer = silent_trainer(
        max_steps=steps,
        plugins=plugins,
        precision=precision,
    )
    trainer.fit(model, batches, ckpt_path=resume, weights_only=True)
    return trainer


def constant(value):
    return lambda step: value


def test_scaled_training_takes_the_true_step():
    model = Duel({"discriminator": constant(0.25), "generator": constant(-0.25)})
    trainer = fit(model, 2, scale=1024.0)
    assert model.weights() == [0.75, 1.25]
    assert trainer.precision_plugin.scaler.get_scale() == 1024.0


def test_an_overflow_skips_that_player_only_and_shrinks_the_scale_once():
    slopes = {"discriminator": lambda step: math.inf if step == 0 else 0.25, "generator": constant(-0.25)}
    model = Duel(slopes)
    trainer = fit(model, 2, scale=1024.0)
    assert model.weights() == [0.875, 1.25]  # the generator's first step is neither left out nor twice as large
    assert trainer.precision_plugin.scaler.get_scale() == 512.0
    assert trainer.global_step == 2


def test_a_player_may_be_updated_twice_in_a_scaled_step():
    model = Duel({"discriminator": constant(0.25), "generator": constant(-0.25)}, repeats=2)
    fit(model, 1, scale=1024.0)
    assert model.weights() == [0.75, 1.25]


def test_clipping_sees_true_gradients():
    model = Duel({"discriminator": constant(0.25), "generator": constant(-4.0)})
    fit(model, 1, Engine(clip_norm=1.0), scale=1024.0)
    assert model.weights()[0] == 0.875  # below the limit, although 1024 times it is not
    assert model.weights()[1] == pytest.approx(1.5, abs=1e-5)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_other_precisions_take_the_same_step(precision):
    model = Duel({"discriminator": constant(0.25), "generator": constant(-0.25)})
    fit(model, 2, precision=precision)
    assert model.weights() == [0.75, 1.25]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_before_the_step(bad):
    slopes = {"discriminator": constant(0.25), "generator": lambda step: bad if step == 1 else -0.25}
    model = Duel(slopes)
    with pytest.raises(UserError, match="generator is not finite at step 1"):
        fit(model, 3)
    assert model.weights() == [0.75, 1.125]


def test_some_may_be_skipped():
    slopes = {"discriminator": constant(0.25), "generator": lambda step: math.nan if step in (0, 1, 3) else -0.25}
    model = Duel(slopes)
    fit(model, 5, Engine(max_skipped=2))
    assert model.weights() == [1 - 5 * 0.125, 1 + 2 * 0.125]
    with pytest.raises(UserError, match="not finite"):
        fit(Duel(slopes), 5, Engine(max_skipped=1))


def test_a_scaled_step_without_an_update_changes_nothing():
    class Waiting(Duel):
        def adversarial_step(self, batch):
            for name in self.players:
                self.update(name, partial(self.loss, name), every=2)

        def loss(self, name):
            return 0.25 * getattr(self, name).weight.sum()

    model = Waiting({})
    trainer = fit(model, 3, scale=1024.0)
    assert model.weights() == [0.875, 0.875]
    assert trainer.global_step == 3


def test_an_overflow_that_never_ends_stops_the_run():
    model = Duel({"discriminator": constant(math.inf), "generator": constant(-0.25)})
    with pytest.raises(UserError, match=r"discriminator is not finite at step 40 .* inf"):
        fit(model, 60, scale=65536.0)
    assert model.weights()[0] == 1.0


def test_a_resumed_run_goes_on_with_the_scale(tmp_path, monkeypatch):
    slopes = {"discriminator": lambda step: math.inf if step in (0, 1, 4) else 0.25, "generator": constant(-0.25)}
    whole = fit(one := Duel(slopes), 6, scale=1024.0)
    for name in ("provenance", "on_save_checkpoint"):  # functions are no arguments for a record
        monkeypatch.setattr(Duel, name, lambda *parts: {})
    fit(Duel(slopes), 3, scale=1024.0).save_checkpoint(tmp_path / "three.ckpt")
    rest = fit(other := Duel(slopes), 6, scale=1024.0, resume=tmp_path / "three.ckpt")
    states = [trainer.precision_plugin.scaler.state_dict() for trainer in (whole, rest)]
    assert states[0] == states[1] and states[0]["scale"] == 128.0
    assert one.weights() == other.weights()


def test_accumulated_parts_are_scaled_and_left_out_as_one():
    weights = []
    for parts in (1, 3):
        slopes = {"discriminator": lambda step: math.inf if step == 1 else 0.25, "generator": constant(-0.25)}
        model = Duel(slopes)
        trainer = fit(model, 3, Engine(micro_batches=parts), scale=1024.0, batch_size=3)
        weights.append(model.weights())
        assert trainer.precision_plugin.scaler.get_scale() == 512.0
    for found in weights:
        assert found == pytest.approx([0.75, 1.375])
