"""Models with Lightning's own training step: one and two processes see the same noise, shares and held-out scores."""

import copy
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.testing import NoiseImages, exactness


class Model(ImageModel):
    """The gradient of its weight is the mean over the global batch of noise times a number of the sample."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.scores: dict[str, float] = {}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        numbers = batch["image"][:, 0, 0, 0]
        first, second = (self.noise(len(numbers), 3) for _ in range(2))
        factor = self.uniform(len(numbers))
        losses: Tensor = (first - 0.5 * second) * (factor * numbers)[:, None] @ self.weight
        return losses.mean() * self.share

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_held_out("index", batch["index"].float())
        self.log_held_out("light", batch["image"].mean(dim=(1, 2, 3)))

    def log_scores(self, scores: Any) -> None:
        super().log_scores(scores)
        self.scores = {name: self.trainer.callback_metrics[f"val/{name}"].item() for name in scores}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["scores"] = self.scores

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def build(batch_size: int) -> tuple[Model, NoiseImages]:
    # 19 images in batches of 8: the last batch of an epoch has 3, which two processes share as 2 and 1.
    data = NoiseImages(1, 4, 4, num_images=19, batch_size=batch_size)
    return Model(data.spec), data


def test_one_and_two_processes_agree(tmp_path: Path) -> None:
    options = {"precision": "64-true", "limit_val_batches": 1.0, "val_check_interval": 1}
    one, two = (exactness.train(build, 8, 5, tmp_path / str(count), processes=count, **options) for count in (1, 2))
    sizes = [[len(batch) for batch in rank] for rank in two.indices]
    assert sizes[0] != sizes[1]  # else shares are not tried
    for (_, first), (_, second) in zip(one.gradients, two.gradients, strict=True):
        assert exactness.largest_difference(second, first) < 1e-12
    steps = [gradients[0] for _, gradients in one.gradients]
    assert not torch.allclose(steps[0], steps[2])  # each step has noise of its own
    scores = [trace.saved["scores"] for trace in (one, two)]
    assert scores[0]["index"] == 9.0 and scores[1] == pytest.approx(scores[0], rel=1e-12)


def test_a_resumed_run_sees_the_same_noise(tmp_path: Path) -> None:
    straight = exactness.train(build, 8, 5, tmp_path / "straight")
    half = exactness.train(build, 8, 3, tmp_path / "half")
    rest = exactness.train(build, 8, 5, tmp_path / "rest", resume=half.checkpoint)
    assert not exactness.different_tensors(rest.saved, straight.saved)


class Network(ImageModel):
    """A small network with dropout-free layers whose loss is a mean over samples; some batches may be skipped."""

    def __init__(self, spec: ImageSpec, skipped: list[int] | None = None, as_mapping: bool = False) -> None:
        super().__init__(spec)
        self.network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Tanh())
        self.head = torch.nn.Linear(8, 1)
        self.skipped, self.as_mapping = skipped or [], as_mapping
        self.losses: list[float] = []
        self.zeroed = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        images = batch["image"]
        if self.step in self.skipped and 2 in batch["index"]:
            return None
        features = self.network(images + 0.1 * self.noise(len(images), *images.shape[1:]))
        loss = (self.head(features)[:, 0] - self.uniform(len(images))).square().mean()
        self.record("loss", loss)
        return {"loss": loss * self.share} if self.as_mapping else loss * self.share

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]) if outputs else 0.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        means = self.recorded_means()
        super().on_save_checkpoint(checkpoint)
        checkpoint |= {"losses": self.losses, "means": means}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def build_network(parts: int, batch_size: int, **options: Any) -> tuple[Network, NoiseImages]:
    data = NoiseImages(1, 4, 4, num_images=19, batch_size=batch_size)
    model = Network(data.spec, **options)
    model.engine = Engine(micro_batches=parts)
    return model, data


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> exactness.Trace:
    """Return a run of five batches of 8, 8, 3, 8 and 8 samples, each in one pass."""
    return exactness.train(partial(build_network, 1), 8, 5, tmp_path_factory.mktemp("whole"), precision="64-true")


def check_equal(found: exactness.Trace, expected: exactness.Trace) -> None:
    assert len(found.gradients) == len(expected.gradients)
    for (_, first), (_, second) in zip(found.gradients, expected.gradients, strict=True):
        assert exactness.largest_difference(first, second) < 1e-12
    assert found.saved["means"] == pytest.approx(expected.saved["means"], rel=1e-12)


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("as_mapping", [False, True])
def test_micro_batches_equal_one_pass(parts: int, as_mapping: bool, whole: exactness.Trace, tmp_path: Path) -> None:
    build_parts = partial(build_network, parts, as_mapping=as_mapping)
    trace = exactness.train(build_parts, 8, 5, tmp_path, precision="64-true")
    check_equal(trace, whole)
    assert trace.saved["global_step"] == 5
    assert trace.saved["losses"] == pytest.approx(whole.saved["losses"], rel=1e-12)  # what callbacks see


@pytest.mark.parametrize("strategy", [None, DDPStrategy(find_unused_parameters=True)])
@pytest.mark.parametrize("parts", [1, 3])
def test_micro_batches_on_two_processes(
    parts: int, strategy: DDPStrategy | None, whole: exactness.Trace, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"precision": "64-true", "processes": 2, "strategy": strategy}
    trace = exactness.train(partial(build_network, parts), 8, 5, tmp_path, **options)
    check_equal(trace, whole)


def test_a_resumed_run_in_micro_batches(tmp_path: Path) -> None:
    straight = exactness.train(partial(build_network, 3), 8, 5, tmp_path / "straight")
    half = exactness.train(partial(build_network, 3), 8, 3, tmp_path / "half")
    rest = exactness.train(partial(build_network, 3), 8, 5, tmp_path / "rest", resume=half.checkpoint)
    assert not exactness.different_tensors(rest.saved, straight.saved)
    assert straight.saved["aigc"]["engine"] == {"micro_batches": 3, "checkpoint_activations": False}


def test_a_step_that_returns_none_is_skipped(tmp_path: Path) -> None:
    # Sample 2 is in one part of one of the batches.
    skipped = exactness.train(partial(build_network, 3, skipped=[0, 1]), 8, 2, tmp_path / "some", precision="64-true")
    sizes = [len(gradients) for _, gradients in skipped.gradients]
    assert sorted(sizes) in ([0, 4], [4, 4])
    batches = skipped.indices[0]
    assert [size == 0 for size in sizes] == [2 in batch for batch in batches] and 0 in sizes


class Sparse(Network):
    """Uses a parameter for one sample alone."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.rare = torch.nn.Parameter(torch.ones(()))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if 7 in batch["index"]:  # the first sample of the second process in the second batch
            loss = loss + self.rare.square() * self.share / len(batch["index"])
        return loss


def build_sparse(parts: int, batch_size: int) -> tuple[Network, NoiseImages]:
    data = NoiseImages(1, 4, 4, num_images=19, batch_size=batch_size)
    model = Sparse(data.spec)
    model.engine = Engine(micro_batches=parts)
    return model, data


def test_a_parameter_that_one_part_uses(tmp_path: Path) -> None:
    one = exactness.train(partial(build_sparse, 1), 8, 3, tmp_path / "one", precision="64-true")
    strategy = DDPStrategy(find_unused_parameters=True)
    two = exactness.train(
        partial(build_sparse, 3), 8, 3, tmp_path / "two", processes=2, precision="64-true", strategy=strategy
    )
    found, expected = ([gradients[0] for _, gradients in trace.gradients] for trace in (two, one))
    assert [value.ndim for value in found] == [value.ndim for value in expected] == [2, 0, 2]  # the others have none
    assert found[1].item() == pytest.approx(expected[1].item(), rel=1e-12)


def test_a_static_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="static_graph"):
        exactness.train(partial(build_network, 3), 8, 1, tmp_path, processes=2, strategy=DDPStrategy(static_graph=True))


def test_fp16_scales_each_part_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scalers: list[Any] = []

    def scaled(parts: int) -> list[float]:
        pl.seed_everything(0, verbose=False)
        model, data = build_network(parts, 8)
        scalers.append(torch.amp.GradScaler("cpu", init_scale=1024.0))
        plugin = MixedPrecision("16-mixed", "cpu", scaler=scalers[-1])
        monkeypatch.setattr(plugin, "autocast_context_manager", nullcontext)
        silent_trainer(max_steps=3, plugins=[plugin], limit_val_batches=0).fit(model, data)
        return torch.cat([parameter.flatten() for parameter in model.parameters()]).tolist()

    assert scaled(3) == pytest.approx(scaled(1), abs=1e-5)
    assert all(scaler.get_scale() == 1024.0 for scaler in scalers)


def test_a_trained_model_can_be_copied_and_trained_again() -> None:
    model, data = build_network(3, 8)
    silent_trainer(max_steps=2, limit_val_batches=0).fit(model, data)
    copied = copy.deepcopy(model)
    silent_trainer(max_steps=2, limit_val_batches=0).fit(copied, data)
    assert copied.training_step.args == (copied,)  # type: ignore[attr-defined]  # a partial
    before = copy.deepcopy(model.state_dict())
    assert any(not torch.equal(value, before[name]) for name, value in copied.state_dict().items())
    model.engine = Engine()
    silent_trainer(max_steps=2, limit_val_batches=0).fit(model, data)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, copied.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_micro_batches_and_accumulation_together_are_refused() -> None:
    model, data = build_network(3, 8)
    with pytest.raises(UserError, match="accumulate_grad_batches"):
        silent_trainer(max_steps=2, accumulate_grad_batches=2).fit(model, data)
