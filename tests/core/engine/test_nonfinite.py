"""Updates that are left out on the device: the same as where they are decided on the spot, and nobody waits.

The way of GPUs is forced on the CPU here, whose fused optimizers leave steps out too.
"""

import copy
import logging
import sys
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.utils._python_dispatch import TorchDispatchMode

from aigc_lightning.callbacks.interruption import Interruption
from aigc_lightning.callbacks.loss_log import LossLog
from aigc_lightning.core import adversarial
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.async_read import Late
from aigc_lightning.core.ema import Ema
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.fused_optimizers import can_leave_out, lay_out_state, use_fused
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError


class Duel(AdversarialModel):
    """Two networks whose losses are not finite at steps of our choice."""

    def __init__(self, bad: dict[str, list[int]], repeats: int = 1) -> None:
        super().__init__(ImageSpec(1, 8, 8))
        self.bad, self.repeats = bad, repeats
        torch.manual_seed(0)
        self.discriminator, self.generator = nn.Linear(3, 2), nn.Linear(3, 3)

    def adversarial_step(self, batch: Any) -> None:
        noise = self.noise(2, 3)
        for _ in range(self.repeats):
            self.update("discriminator", lambda: self.loss("discriminator", self.discriminator(noise)))
        self.update("generator", lambda: self.loss("generator", self.discriminator(self.generator(noise))))

    def loss(self, player: str, values: Tensor) -> Tensor:
        return values.square().mean() * (float("nan") if self.step in self.bad.get(player, ()) else 1.0)

    def configure_optimizers(self) -> Any:
        # The fused kernels in both ways, so that results can be compared bit for bit.
        return [Adam(getattr(self, name).parameters(), lr=0.1, fused=True) for name in self.players]


def fit(
    model: AdversarialModel, steps: int, *callbacks: pl.Callback, ema: Ema | None = None, **engine: Any
) -> pl.Trainer:
    model.engine, model.ema_settings = Engine(**engine), ema or Ema()
    samples: Any = [{"image": torch.zeros(1, 8, 8)}] * steps
    batches = torch.utils.data.DataLoader(samples, batch_size=1)
    trainer = silent_trainer(
        max_steps=steps,
        callbacks=list(callbacks),
    )
    trainer.fit(model, batches)
    return trainer


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial, "waits", lambda device: True)


def differing(one: nn.Module, other: nn.Module) -> list[str]:
    states = one.state_dict(), other.state_dict()
    return [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("clip", [None, 0.01])
def test_what_is_left_out_late_is_what_is_left_out_at_once(repeats, clip, monkeypatch, caplog):
    bad = {"discriminator": [0, 4, 5], "generator": [3, 5]}
    models, lines = [], []
    for waits in (False, True):
        monkeypatch.setattr(adversarial, "waits", lambda device, waits=waits: waits)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            trainer = fit(model := Duel(bad, repeats), 8, max_skipped=2 * repeats, clip_norm=clip)
        models.append((model, [optimizer.state_dict() for optimizer in trainer.optimizers]))
        lines.append([line for line in caplog.messages if "is skipped" in line])
    assert differing(models[0][0], models[1][0]) == []
    for one, other in zip(models[0][1], models[1][1], strict=True):
        for number, state in one["state"].items():
            assert all(torch.equal(value, other["state"][number][name]) for name, value in state.items())
    assert lines[0] == lines[1] and len(lines[0]) == 3 * repeats + 2
    assert "gradient of the discriminator is not finite at step 0 (its loss is nan)" in lines[0][0]


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_the_run_stops_with_the_message_of_the_step_and_no_weight_has_moved_since(player, late):
    model, seen = Duel({player: [3]}), {}

    def keep(trainer: pl.Trainer, *_: Any) -> None:
        seen[trainer.global_step] = copy.deepcopy(model)

    watch = pl.callbacks.LambdaCallback(on_train_batch_start=keep)
    with pytest.raises(UserError, match=f"{player} is not finite at step 3 .*nan"):
        fit(model, 9, watch, ema=Ema(decay=0.0))
    # Read one step later; from the update that was left out on nothing has changed.
    assert max(seen) == 4 and differing(seen[4], model) == []
    assert differing(getattr(seen[3], player), getattr(model, player)) == []
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


def test_more_in_a_row_than_allowed_stop_the_run(late):
    with pytest.raises(UserError, match="discriminator is not finite at step 4"):
        fit(Duel({"discriminator": [0, 2, 3, 4]}), 9, max_skipped=2)
    fit(Duel({"discriminator": [0, 1, 3, 4]}), 9, max_skipped=2)


def test_the_last_step_is_read_too(late):
    with pytest.raises(UserError, match="step 4"):
        fit(Duel({"generator": [4]}), 5)


def test_no_checkpoint_is_written_of_a_run_that_is_about_to_stop(late, tmp_path):
    path = tmp_path / "a.ckpt"

    def save(trainer: pl.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(path)

    with pytest.raises(UserError, match="step 2"):
        fit(Duel({"generator": [2]}), 5, pl.callbacks.LambdaCallback(on_train_batch_end=save))
    assert torch.load(path, weights_only=True)["global_step"] == 2


class NoWaiting(TorchDispatchMode):
    """Refuses whatever makes the host read a number from a tensor."""

    active = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.is_nonzero):
            raise AssertionError(f"the host reads a number: {func}")
        return func(*args, **(kwargs or {}))


class Refuse(pl.Callback):
    """Refuses reading from the start to the end of each batch; first and last among the callbacks."""

    def __init__(self) -> None:
        self.mode: NoWaiting | None = None

    def on_train_batch_start(self, *_: Any) -> None:
        self.mode = NoWaiting()
        self.mode.__enter__()
        NoWaiting.active = True

    def end(self) -> None:
        if self.mode is not None:
            self.mode.__exit__(None, None, None)
        self.mode, NoWaiting.active = None, False

    def on_exception(self, *_: Any) -> None:
        self.end()


class End(pl.Callback):
    def __init__(self, refuse: Refuse) -> None:
        self.refuse = refuse

    def on_train_batch_end(self, *_: Any) -> None:
        self.refuse.end()


def no_reading() -> list[pl.Callback]:
    refuse = Refuse()
    return [refuse, LossLog(), Interruption(), End(refuse)]


def test_a_step_reads_nothing_from_the_device(late, monkeypatch):
    read, sent, ages = Late.read, Late.__init__, []
    now = {"sent": 0}

    def send(self: Late, value: Tensor) -> None:
        sent(self, value)
        now["sent"] += 1
        self.number = now["sent"]  # type: ignore[attr-defined]

    def late_read(self: Late) -> list[float]:
        ages.append(now["sent"] - self.number)  # type: ignore[attr-defined]
        return read(self)

    monkeypatch.setattr(Late, "__init__", send)
    monkeypatch.setattr(Late, "read", late_read)
    monkeypatch.setattr(torch.Tensor, "tolist", guarded(torch.Tensor.tolist))
    fit(Duel({"discriminator": [2]}, repeats=2), 6, *no_reading(), max_skipped=3, clip_norm=1.0)
    assert ages == [1, 1, 1, 1, 1, 0]  # one step later, the last one at the end


def guarded(tolist: Any) -> Any:
    """Refuse reading whole tensors in a step, which the mode does not see; of numbers that have arrived it is free."""

    def only_late(self: Tensor) -> Any:
        reader = sys._getframe(1).f_code.co_name
        assert reader == "read" or not NoWaiting.active, f"the host reads a tensor in {reader}"
        return tolist(self)

    return only_late


def test_the_check_above_notices_reading():
    with pytest.raises(AssertionError, match="reads a number"):
        fit(Duel({}), 2, *no_reading())


def test_adam_becomes_fused_where_nobody_chose(late):
    class Plain(Duel):
        def configure_optimizers(self) -> Any:
            return [Adam(self.discriminator.parameters()), AdamW(self.generator.parameters(), foreach=True)]

    trainer = fit(model := Plain({"discriminator": [1]}), 3, max_skipped=1)
    assert [optimizer.param_groups[0]["fused"] for optimizer in trainer.optimizers] == [True, None]
    assert [can_leave_out(optimizer) for optimizer in trainer.optimizers] == [True, False]
    steps = [{int(state["step"]) for state in optimizer.state.values()} for optimizer in trainer.optimizers]
    assert steps == [{2}, {3}]  # D left one out
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


def test_an_optimizer_that_cannot_leave_out_is_decided_at_once(late):
    class Descent(Duel):
        def configure_optimizers(self) -> Any:
            return [SGD(getattr(self, name).parameters(), lr=0.1, momentum=0.9) for name in self.players]

    with pytest.raises(UserError, match="generator is not finite at step 2"):
        fit(model := Descent({"generator": [2]}), 5)
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


def test_the_state_of_an_optimizer_that_was_not_fused_goes_on():
    ends = []
    for fused in (False, True):
        weight = nn.Parameter(torch.ones(3))
        optimizer = Adam([weight], lr=0.1)
        for step in range(4):
            if fused and step == 2:
                use_fused(optimizer)
            weight.grad = torch.tensor([1.0, -2.0, 0.5]) * (step + 1)
            optimizer.step()
        ends.append(weight.detach())
    torch.testing.assert_close(ends[0], ends[1])


def test_state_of_another_memory_format_goes_on():
    """Fused kernels take the layout of the weights for that of all the rest."""
    weights = torch.randn(4, 3, 3, 3)
    moved = []
    for format_of_state in (torch.channels_last, torch.contiguous_format):
        parameter = nn.Parameter(weights.contiguous(memory_format=torch.channels_last))
        optimizer = Adam([parameter], fused=True)
        for _ in range(3):
            parameter.grad = parameter.detach().square()
            optimizer.step()
            state = optimizer.state[parameter]
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = state[name].contiguous(memory_format=format_of_state)
            lay_out_state(optimizer)
        moved.append(parameter.detach())
    assert torch.equal(*moved)
