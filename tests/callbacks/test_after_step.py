"""Saves come after every hook of a step: what a model changes in its own `on_train_batch_end` is in them."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from aigc_lightning.callbacks.after_step import AfterStep
from aigc_lightning.callbacks.checkpoints import Checkpoints
from aigc_lightning.callbacks.interruption import Interruption
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.testing import NoiseImages, exactness
from aigc_lightning.testing.stopping import StopBySignal


class Own(ImageModel):
    """Keeps a moving average of its own, and a count that the loss depends on."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.layer = nn.Linear(16, 16)
        self.register_buffer("average", torch.zeros(16))
        self.register_buffer("count", torch.tensor(0))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images = batch["image"].flatten(1)
        weight = 1 + 0.1 * self.get_buffer("count")
        loss: Tensor = (weight * self.layer(images) - images + self.get_buffer("average")).square().mean() * self.share
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.get_buffer("average").lerp_(self.layer.bias.detach(), 0.3)
        self.get_buffer("count").add_(1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


def build(batch_size: int) -> tuple[Own, NoiseImages]:
    data = NoiseImages(1, 4, 4, num_images=19, batch_size=batch_size)
    torch.manual_seed(0)
    return Own(data.spec), data


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_a_run_goes_on_from_a_checkpoint_of_its_middle(step: int, tmp_path: Path) -> None:
    saving = [Checkpoints(every_n_steps=None, keep_every_n_steps=1, monitor=None)]
    straight = exactness.train(build, 8, 7, tmp_path / "straight", callbacks=saving)
    middle = tmp_path / "straight" / "checkpoints" / f"step_{step:07d}.ckpt"
    assert torch.load(middle, weights_only=True)["state_dict"]["count"] == step
    rest = exactness.train(build, 8, 7, tmp_path / "rest", resume=middle)
    assert exactness.different_tensors(rest.saved, straight.saved) == []


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_run_goes_on_after_a_signal(accumulated: int, tmp_path: Path) -> None:
    options = {"accumulate_grad_batches": accumulated}
    straight = exactness.train(build, 8, 7, tmp_path / "straight", **options)
    stopping = [StopBySignal(4), Interruption(), Checkpoints(every_n_steps=None, monitor=None)]
    with pytest.raises(SystemExit) as end:
        exactness.train(build, 8, 7, tmp_path / "stopped", callbacks=stopping, **options)
    assert end.value.code == 143
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    # Of two accumulated batches the fourth is the first: the run stops after the fifth, which ends the step.
    assert torch.load(last, weights_only=True)["state_dict"]["count"] == (4 if accumulated == 1 else 5)
    rest = exactness.train(build, 8, 7, tmp_path / "rest", resume=last, **options)
    assert exactness.different_tensors(rest.saved, straight.saved) == []


class Note(AfterStep):
    """Notes what it sees after each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def after_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.append((trainer.global_step, int(pl_module.get_buffer("count"))))


class Fail(pl.Callback):
    """Ends a run by an error."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            raise RuntimeError("on purpose")


def test_each_step_is_seen_once_and_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    first, second = Note(), Note()
    model, data = build(8)
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=4, callbacks=[first, second], logger=False, enable_checkpointing=False
    )
    trainer.fit(model, data)
    assert first.seen == second.seen == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert "on_train_batch_end" not in vars(model)
    with pytest.raises(RuntimeError, match="on purpose"):
        pl.Trainer(accelerator="cpu", max_steps=4, callbacks=[Note(), Fail()], logger=False).fit(model, data)
    assert "on_train_batch_end" not in vars(model)
