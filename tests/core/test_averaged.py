"""Moving averages of automatic and manual models: updated once per optimizer step, resumed, equal on two processes."""

import pickle
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from aigc_lightning import AdversarialModel
from aigc_lightning.core.ema import Ema
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.testing import NoiseImages, exactness

SPEC = ImageSpec(1, 4, 4)


class Model(ImageModel):
    """Learns the mean of the images; its network has buffers that must not be averaged."""

    averaged_networks: ClassVar[tuple[str, ...]] = ("network",)

    def __init__(self, spec: ImageSpec, skipped: tuple[int, ...] = ()) -> None:
        super().__init__(spec)
        self.network = nn.Sequential(nn.Linear(16, 3), nn.BatchNorm1d(3), nn.Linear(3, 16))
        self.network.register_buffer("schedule", torch.linspace(0, 1, 5))
        self.skipped = skipped

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        images = batch["image"].flatten(1)
        loss: Tensor = (self.network(images + self.noise(len(images), 16)) - images).square().mean() * self.share
        return None if batch_idx in self.skipped else loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=0.05)


class Manual(Model):
    """The same with two optimizers, of which the second trains the network at every other batch."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.automatic_optimization = False
        self.other = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()  # type: ignore[attr-defined]  # a list of two
        self.other.sum().backward()
        first.step()
        if batch_idx % 2:
            images = batch["image"].flatten(1)
            self.manual_backward((self.network(images) - images).square().mean())
            second.step()
            second.zero_grad()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD([self.other], lr=0.1), torch.optim.SGD(self.network.parameters(), lr=0.1)]


class Watch(pl.Callback):
    """Keeps the weights of a network after each batch."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        network: Any = pl_module.network
        self.kept.append({name: value.detach().clone() for name, value in network.state_dict().items()})


def fit(model: ImageModel, steps: int, **options: Any) -> list[dict[str, Tensor]]:
    watch = Watch()
    trainer = silent_trainer(max_steps=steps, callbacks=[watch], **options)
    trainer.fit(model, NoiseImages(1, 4, 4, num_images=19, batch_size=8))
    return watch.kept


def reference(start: dict[str, Tensor], weights: list[dict[str, Tensor]], kept: list[float]) -> dict[str, Tensor]:
    """Return the average in float64."""
    average = {name: value.double() for name, value in start.items()}
    for values, fraction in zip(weights, kept, strict=True):
        for name, value in values.items():
            is_weight = name.rpartition(".")[2] in ("weight", "bias")
            average[name] = fraction * average[name] + (1 - fraction) * value.double() if is_weight else value.double()
    return average


def check(average: nn.Module, expected: dict[str, Tensor]) -> None:
    found = average.state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "ema", [Ema(), Ema(decay=0.3), Ema(half_life_images=9.0), Ema(relative_widths="0.10,0.05")], ids=str
)
def test_the_average_of_an_automatic_model(ema: Ema) -> None:
    model = Model(SPEC)
    model.ema_settings = ema
    start = {name: value.clone() for name, value in model.network.state_dict().items()}
    weights = fit(model, 7)
    images = [8, 8, 3, 8, 8, 3, 8]
    for number, average in enumerate(model.averages_of("network")):
        kept = [ema.kept(step, count)[number] for step, count in enumerate(images)]
        check(average, reference(start, weights, kept))
    assert len(model.averages_of("network")) == ema.count
    assert model.averaged("network") is model.averages["network"] and not model.averaged("network").training
    whole = sum(value.numel() for value in model.state_dict().values())
    assert whole == (1 + ema.count) * sum(value.numel() for value in start.values())


def test_an_accumulated_step_is_one_update() -> None:
    model = Model(SPEC)
    model.ema_settings = Ema(half_life_images=9.0)
    start = {name: value.clone() for name, value in model.network.state_dict().items()}
    weights = fit(model, 4, accumulate_grad_batches=2)
    # An epoch has three batches, and its last one ends a step.
    ends, images = [1, 2, 4, 5], [16, 3, 16, 3]
    kept = [model.ema_settings.kept(step, count)[0] for step, count in enumerate(images)]
    check(model.averaged("network"), reference(start, [weights[end] for end in ends], kept))


def test_a_step_without_loss_is_no_update() -> None:
    model = Model(SPEC, skipped=(0, 1))
    model.ema_settings = Ema(decay=0.3)
    start = {name: value.clone() for name, value in model.network.state_dict().items()}
    weights = fit(model, 6)
    check(model.averaged("network"), reference(start, [weights[2], weights[5]], [0.1, 2 / 11]))


def test_a_step_that_the_scaler_skips_is_no_update() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=10_000, backoff_factor=2.0**-40)
    model = Model(SPEC)
    model.ema_settings = Ema(decay=0.3)
    start = {name: value.clone() for name, value in model.network.state_dict().items()}
    weights = fit(model, 3, plugins=[MixedPrecision("16-mixed", "cpu", scaler)], precision=None)
    first = {name: value for name, value in weights[0].items() if "0.weight" in name}
    assert all(torch.equal(value, start[name]) for name, value in first.items())  # it was skipped
    check(model.averaged("network"), reference(start, weights[1:], [0.1, 2 / 11]))


def test_the_average_of_a_manual_model_follows_its_own_optimizer() -> None:
    model = Manual(SPEC)
    model.ema_settings = Ema(relative_widths="0.10")
    start = {name: value.clone() for name, value in model.network.state_dict().items()}
    weights = fit(model, 9)
    steps = [index for index, batch in enumerate([0, 1, 2, 0, 1, 2]) if batch % 2]
    kept = [model.ema_settings.kept(step, 8)[0] for step in range(len(steps))]
    check(model.averaged("network"), reference(start, [weights[index] for index in steps], kept))


def test_a_trained_model_can_be_pickled_and_trained_again() -> None:
    model = Model(SPEC)
    fit(model, 2)
    copy: Any = pickle.loads(pickle.dumps(model))
    check(
        copy.averaged("network"),
        {name: value.double() for name, value in model.averages["network"].state_dict().items()},
    )
    start = {name: value.clone() for name, value in model.averaged("network").state_dict().items()}
    weights = fit(model, 3)
    check(model.averaged("network"), reference(start, weights, [Ema().kept(step, 8)[0] for step in range(3)]))


def test_no_average() -> None:
    model = Model(SPEC)
    model.ema_settings = Ema(decay=0.0)
    fit(model, 2)
    assert model.averaged("network") is model.network and len(model.averages) == 0


def build(widths: str | None, batch_size: int) -> tuple[Model, NoiseImages]:
    data = NoiseImages(1, 4, 4, num_images=19, batch_size=batch_size)
    torch.manual_seed(0)
    model = Model(data.spec)
    model.network[1] = nn.Identity()  # whose statistics would differ between processes
    model.ema_settings = Ema(relative_widths=widths) if widths else Ema(half_life_images=30.0)
    return model, data


class Build:
    """Builds the model and its data; can be pickled."""

    def __init__(self, widths: str | None) -> None:
        self.widths = widths

    def __call__(self, batch_size: int) -> tuple[Model, NoiseImages]:
        return build(self.widths, batch_size)


@pytest.mark.parametrize("widths", [None, "0.05,0.10"])
def test_a_resumed_average_is_the_same_bit_for_bit(widths: str | None, tmp_path: Path) -> None:
    straight = exactness.train(Build(widths), 8, 5, tmp_path / "straight")
    half = exactness.train(Build(widths), 8, 3, tmp_path / "half")
    rest = exactness.train(Build(widths), 8, 5, tmp_path / "rest", resume=half.checkpoint)
    assert not exactness.different_tensors(rest.saved, straight.saved)
    assert rest.saved["aigc_ema_updates"] == {"network": 5}
    names = [name for name in rest.saved["state_dict"] if name.startswith(("averages.network.", "other_averages."))]
    assert len(names) == (10 if widths else 5)


def test_one_and_two_processes_keep_the_same_average(tmp_path: Path) -> None:
    one, two = (
        exactness.train(Build(None), 8, 5, tmp_path / str(count), processes=count, precision="64-true")
        for count in (1, 2)
    )
    for name, value in one.saved["state_dict"].items():
        torch.testing.assert_close(two.saved["state_dict"][name], value, rtol=1e-10, atol=1e-12)


def test_the_former_name_is_honoured() -> None:
    class Old(AdversarialModel):
        averaged_players: ClassVar[tuple[str, ...]] = ("discriminator",)

    class New(Old):
        averaged_networks: ClassVar[tuple[str, ...]] = ("generator", "discriminator")

    class Heir(Old):
        pass

    assert AdversarialModel.averaged_networks == ("generator",)
    assert [kind.averaged_networks for kind in (Old, Heir)] == [("discriminator",)] * 2
    assert New.averaged_players == New.averaged_networks == ("generator", "discriminator")
