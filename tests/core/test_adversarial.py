"""The engine against plain PyTorch written by hand."""

import copy
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader

from aigc_lightning.core import keyed
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.ema import Ema
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ArraySource, ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.models.dcgan import DCGAN

SPEC = ImageSpec(1, 8, 8)
LATENT = 3


class Small(AdversarialModel):
    """Linear networks; what happens in each step is noted."""

    def __init__(self, spec: ImageSpec, every: int = 1, repeats: int = 1) -> None:
        super().__init__(spec)
        self.every, self.repeats = every, repeats
        self.generator = nn.Sequential(nn.Linear(LATENT, 16), nn.Tanh(), nn.Linear(16, 64))
        self.discriminator = nn.Sequential(nn.Linear(64, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
        self.seen: list[dict[str, Any]] = []
        self.schedulers: list[Any] = []
        self.lrs: list[tuple[int, float]] = []

    def adversarial_step(self, batch: Any) -> None:
        real = batch["image"].flatten(1)
        fake = self.generator(self.noise(len(real), LATENT))
        self.seen.append({"step": self.step, "size": len(real)})
        for _ in range(self.repeats):
            self.update("discriminator", lambda: self.discriminator_loss(real, fake.detach()))
        self.update("generator", lambda: self.generator_loss(fake), every=self.every)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        loss = nn.functional.softplus
        return loss(-self.discriminator(real)).mean() + loss(self.discriminator(fake)).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        return nn.functional.softplus(-self.discriminator(fake)).mean()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.lrs.append((self.step, self.trainer.optimizers[0].param_groups[0]["lr"]))

    def configure_optimizers(self) -> Any:
        optimizers = [Adam(self.discriminator.parameters(), lr=0.01), Adam(self.generator.parameters(), lr=0.02)]
        return (optimizers, self.schedulers) if self.schedulers else optimizers


class Noise(ImageDataModule):
    """Twenty-two images: with batches of 4, the last of an epoch has 2."""

    def __init__(self, batch_size: int = 4) -> None:
        super().__init__(batch_size)
        pixels = torch.randint(256, (22, 1, 8, 8), generator=torch.Generator().manual_seed(1)).byte()
        self.source = ArraySource(pixels)

    spec = SPEC

    def train_source(self) -> ArraySource:
        return self.source

    val_source = train_source


Fit = Callable[..., pl.Trainer]


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    def run(model: pl.LightningModule, max_steps: int = 13, data: Any = None, **options: Any) -> pl.Trainer:
        pl.seed_everything(3, verbose=False)
        trainer = silent_trainer(
            default_root_dir=tmp_path,
            max_steps=max_steps,
            limit_val_batches=0,
            **options,
        )
        trainer.fit(model, Noise() if data is None else data)
        return trainer

    return run


def made(model_class: type = Small, **options: Any) -> Any:
    torch.manual_seed(0)
    return model_class(SPEC, **options)


def batches(count: int, batch_size: int = 4) -> list[Tensor]:
    """Return the images of the first batches of a run with seed 3, from the stated order of the data."""
    source, shown = Noise().source, []
    for epoch in range(10):
        order = keyed.permutation(22, 3, epoch)
        shown += [source.images(part).float() / 127.5 - 1 for part in order.split(batch_size)]
    return shown[:count]


def plain_noise(step: int, count: int, draw: int = 0) -> Tensor:
    return torch.randn(count, LATENT, generator=keyed.generator(3, step, 0, draw))


def plain_gan(model: Small, steps: int, *, every: int = 1, repeats: int = 1, clip: float | None = None) -> Small:
    """Train the same networks by a loop that knows nothing of Lightning."""
    model = copy.deepcopy(model)
    d, g = model.discriminator, model.generator
    d_optimizer, g_optimizer = Adam(d.parameters(), lr=0.01), Adam(g.parameters(), lr=0.02)
    for step, real in enumerate(batches(steps)):
        real = real.flatten(1)
        fake = g(plain_noise(step, len(real)))
        for _ in range(repeats):
            d_optimizer.zero_grad()
            model.discriminator_loss(real, fake.detach()).backward()
            if clip:
                nn.utils.clip_grad_norm_(d.parameters(), clip)
            d_optimizer.step()
        if (step + 1) % every == 0:
            g_optimizer.zero_grad()
            model.generator_loss(fake).backward()
            if clip:
                nn.utils.clip_grad_norm_(g.parameters(), clip)
            g_optimizer.step()
    return model


def assert_close(one: nn.Module, other: nn.Module, tolerance: float = 1e-6) -> None:
    for (name, first), second in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance, msg=partial("{}: {}".format, name))


# ---- the loop


@pytest.mark.parametrize(
    "options", [{}, {"every": 3}, {"repeats": 2}, {"clip": 0.01}, {"every": 2, "repeats": 3, "clip": 0.05}], ids=str
)
def test_training_equals_a_plain_loop(options, fit):
    model = made(every=options.get("every", 1), repeats=options.get("repeats", 1))
    start = copy.deepcopy(model)
    expected = plain_gan(model, 13, **options)
    model.engine, model.ema_settings = Engine(clip_norm=options.get("clip")), Ema(decay=0)
    trainer = fit(model)
    assert trainer.global_step == 13
    for player in ("discriminator", "generator"):
        assert_close(getattr(model, player), getattr(expected, player))
        moved = [
            (one - other).abs().max().item()
            for one, other in zip(getattr(model, player).parameters(), getattr(start, player).parameters(), strict=True)
        ]
        assert min(moved) > 1e-4  # both have learnt something, so that equal weights mean something


def test_gradients_that_lie_about_do_not_count(fit):
    model = made()
    expected = plain_gan(model, 2)
    model.ema_settings = Ema(decay=0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    fit(model, max_steps=2)
    assert_close(model, expected)


def test_clipping_acts(fit):
    ends = []
    for clip in (None, 1e-3):
        model = made()
        model.configure_optimizers = lambda model=model: [
            SGD(model.discriminator.parameters(), lr=1.0),
            SGD(model.generator.parameters(), lr=1.0),
        ]
        start = copy.deepcopy(model.discriminator)
        model.engine, model.ema_settings = Engine(clip_norm=clip), Ema(decay=0)
        fit(model, max_steps=1)
        pairs = zip(model.discriminator.parameters(), start.parameters(), strict=True)
        ends.append(sum((new - old).square().sum() for new, old in pairs).sqrt().item())
    assert ends[1] == pytest.approx(1e-3, rel=1e-3) and ends[0] > 1e-2  # SGD moves by the norm of the gradient


# ---- freezing


def watched(model: Small, name: str, other: str, found: list[tuple[str, bool, bool]]) -> Callable[..., Tensor]:
    real: Callable[..., Tensor] = getattr(model, f"{name}_loss")

    def loss(*args: Any) -> Tensor:
        frozen = [not parameter.requires_grad for parameter in getattr(model, other).parameters()]
        trained = [parameter.requires_grad for parameter in getattr(model, name).parameters()]
        found.append((name, all(frozen), all(trained)))
        return real(*args)

    return loss


def test_only_the_updated_player_gets_gradients(fit):
    model = made()
    found: list[tuple[str, bool, bool]] = []
    for name, other in (model.players, model.players[::-1]):
        setattr(model, f"{name}_loss", watched(model, name, other, found))
    seen_gradients = []
    model.manual_backward = lambda loss: (
        loss.backward(),
        seen_gradients.append(
            [player for player in model.players if any(p.grad is not None for p in getattr(model, player).parameters())]
        ),
    )
    fit(model, max_steps=3)
    assert found == [("discriminator", True, True), ("generator", True, True)] * 3
    assert seen_gradients == [["discriminator"], ["generator"]] * 3
    assert all(parameter.requires_grad for player in model.players for parameter in getattr(model, player).parameters())


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_what_the_user_froze_stays_frozen_and_unchanged(player, fit):
    model = made()
    frozen = getattr(model, player)[0]
    frozen.requires_grad_(False)
    before = frozen.weight.clone()
    last = getattr(model, player)[2].weight.clone()
    fit(model, max_steps=5)
    assert torch.equal(frozen.weight, before) and not frozen.weight.requires_grad
    assert not torch.equal(getattr(model, player)[2].weight, last)


def test_an_error_in_a_loss_leaves_no_player_frozen(fit):
    model = made()
    model.generator_loss = lambda fake: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fit(model)
    assert all(p.requires_grad for player in model.players for p in getattr(model, player).parameters())


# ---- micro-batches


@pytest.mark.parametrize("parts", [2, 3, 4, 100])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.05}], ids=["", "clipped"])
def test_micro_batches_equal_one_batch(parts, options, fit):
    models = []
    for number in (1, parts):
        model = made(repeats=2, every=2)
        model.engine = Engine(micro_batches=number, **options)
        fit(model)  # with batches of 4 and 2: no part count divides both but 2
        models.append(model)
    assert max(entry["size"] for entry in models[1].seen) == -(-4 // parts)
    assert_close(models[0], models[1], 2e-6)


@pytest.mark.parametrize("loss", ["nonsaturating", "wasserstein"])
@pytest.mark.parametrize("parts", [2, 3])
def test_micro_batches_of_a_convolutional_gan_equal_one_batch(loss, parts, fit):
    models = []
    for number in (1, parts):
        options = {"r1_weight": 2.0, "generator_norm": "group", "discriminator_norm": "group"}
        model = made(DCGAN, latent_size=LATENT, width=8, loss=loss, discriminator_steps=2, **options)
        model.engine = Engine(micro_batches=number)
        fit(model, max_steps=7)
        models.append(model)
    assert_close(models[0], models[1], 2e-5)


# ---- counting


class ThreePlayers(Small):
    players = ("discriminator", "critic", "generator")

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.critic = nn.Linear(64, 1)

    def adversarial_step(self, batch: Any) -> None:
        super().adversarial_step(batch)
        self.update("critic", lambda: self.critic(batch["image"].flatten(1)).square().mean())

    def configure_optimizers(self) -> Any:
        d, g = super().configure_optimizers()
        return [d, SGD(self.critic.parameters(), lr=0.01), g]


class OnePlayer(Small):
    players = ("generator",)

    def adversarial_step(self, batch: Any) -> None:
        self.seen.append({"step": self.step})
        self.update("generator", lambda: self.generator(self.noise(4, LATENT)).square().mean())

    def configure_optimizers(self) -> Any:
        return [SGD(self.generator.parameters(), lr=0.01)]


@pytest.mark.parametrize(
    ("model_class", "options"),
    [
        (OnePlayer, {}),
        (Small, {}),
        (Small, {"repeats": 4}),
        (Small, {"every": 5}),
        (Small, {"every": 2, "repeats": 3}),
        (ThreePlayers, {}),
    ],
)
def test_one_step_is_one_batch(model_class, options, fit):
    model = made(model_class, **options)
    steps = []
    watch = pl.callbacks.LambdaCallback(on_train_batch_end=lambda trainer, *_: steps.append(trainer.global_step))
    trainer = fit(model, max_steps=8, callbacks=[watch])
    assert trainer.global_step == 8 and steps == list(range(1, 9))
    assert [entry["step"] for entry in model.seen] == list(range(8))
    assert trainer.fit_loop.epoch_loop.batch_progress.total.processed == 8


def test_each_player_moves_when_it_is_its_turn(fit):
    model = made(every=3)
    moved = []
    weights = [model.generator[0].weight.detach().clone()]

    def look(trainer, module, *_):
        weights.append(module.generator[0].weight.detach().clone())
        moved.append(not torch.equal(weights[-1], weights[-2]))

    fit(model, max_steps=7, callbacks=[pl.callbacks.LambdaCallback(on_train_batch_end=look)])
    assert moved == [False, False, True, False, False, True, False]


# ---- schedulers


@pytest.mark.parametrize(("frequency", "values"), [(1, [1, 0.5, 0.25, 0.125, 0.0625]), (2, [1, 1, 0.5, 0.5, 0.25])])
def test_schedulers_by_step_count_batches(frequency, values, fit):
    model = made(every=2, repeats=2)
    plain = Small.configure_optimizers(model)
    schedulers = [{"scheduler": StepLR(plain[0], 1, 0.5), "interval": "step", "frequency": frequency}]
    model.configure_optimizers = lambda: (plain, schedulers)
    fit(model, max_steps=5)
    assert [rate / 0.01 for _, rate in model.lrs] == pytest.approx(values)


def test_a_schedule_may_begin_before_its_player_is_updated(fit):
    model = made(every=2)
    plain = Small.configure_optimizers(model)
    model.configure_optimizers = lambda: (plain, [{"scheduler": StepLR(plain[1], 1, 0.5), "interval": "step"}])
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        fit(model, max_steps=3)
    assert not [warning for warning in heard if "lr_scheduler" in str(warning.message)]
    assert plain[1].param_groups[0]["lr"] == pytest.approx(0.02 / 8)


@pytest.mark.parametrize(("frequency", "values"), [(1, [1, 0.5, 0.25]), (2, [1, 1, 0.5])])
def test_schedulers_by_epoch(frequency, values, fit):
    model = made()
    plain = Small.configure_optimizers(model)
    model.configure_optimizers = lambda: (plain, [{"scheduler": StepLR(plain[0], 1, 0.5), "frequency": frequency}])
    fit(model, max_steps=18)  # six batches are an epoch
    assert [rate / 0.01 for step, rate in model.lrs if step % 6 == 3] == pytest.approx(values)
    assert [rate / 0.01 for step, rate in model.lrs if step % 6 == 0] == pytest.approx(values)


# ---- the average


def test_the_average_by_hand(fit):
    model = made(every=2)
    model.ema_settings = Ema(decay=0.3)
    name, kept = "0.weight", []
    watch = pl.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_: kept.append(model.generator.get_parameter(name).detach().clone())
    )
    average = model.generator.get_parameter(name).detach().clone()
    fit(model, max_steps=9, callbacks=[watch])
    for step, weight in enumerate(kept):
        decay = min(0.3, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(model.averages["generator"].get_parameter(name), average)
    assert model.averaged("generator") is model.averages["generator"]
    assert model.averaged("discriminator") is model.discriminator
    assert not any(parameter.requires_grad for parameter in model.averages.parameters())


def test_no_average_where_none_is_wanted(fit):
    model = made()
    model.ema_settings = Ema(decay=0)
    fit(model, max_steps=2)
    assert len(model.averages) == 0 and model.averaged("generator") is model.generator


def test_the_average_is_in_no_optimizer(fit):
    model = made()
    trainer = fit(model, max_steps=1)
    trained = {id(p) for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
    assert not any(id(parameter) in trained for parameter in model.averages.parameters())


# ---- numbers that are not finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_a_loss_that_is_not_finite_stops_before_the_step(bad, player, fit):
    model = made()
    real = getattr(model, f"{player}_loss")
    setattr(model, f"{player}_loss", lambda *args: real(*args) * (bad if model.step == 4 else 1))
    before: dict[str, Tensor] = {}
    watch = pl.callbacks.LambdaCallback(
        on_train_batch_start=lambda *_: before.update(
            {k: v.clone() for k, v in getattr(model, player).state_dict().items()}
        )
    )
    with pytest.raises(UserError, match=f"{player} .* step 4"):
        fit(model, callbacks=[watch])
    assert all(torch.equal(before[name], value) for name, value in getattr(model, player).state_dict().items())
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_some_updates_may_be_left_out(fit):
    model = made()
    model.engine = Engine(max_skipped=2)
    real = model.discriminator_loss
    model.discriminator_loss = lambda *args: real(*args) * (float("nan") if model.step in (3, 4) else 1)
    assert fit(model, max_steps=8).global_step == 8
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    model.discriminator_loss = lambda *args: real(*args) * float("nan")
    with pytest.raises(UserError, match="step 2"):
        fit(model, max_steps=8)


# ---- numbers that are drawn


class Drawing(Small):
    """Draws outside of the updates, in them, and in both orders."""

    def adversarial_step(self, batch: Any) -> None:
        size = len(batch["image"])
        self.seen.append({"outside": self.noise(size, 2), "again": self.noise(size, 2), "index": batch["index"]})

        def draws(name: str) -> Tensor:
            self.seen[-1][name] = self.uniform(size)
            logits: Tensor = self.discriminator(batch["image"].flatten(1))
            return logits.mean()

        self.update("discriminator", lambda: draws("first"))
        self.update("discriminator", lambda: draws("second"))


def drawn(parts: int, fit: Fit, max_steps: int = 7) -> list[dict[str, Tensor]]:
    model = made(Drawing)
    model.engine = Engine(micro_batches=parts)
    fit(model, max_steps=max_steps)
    seen: list[dict[str, Tensor]] = model.seen
    return seen


def test_noise_is_keyed_by_step_and_draw(fit):
    whole = drawn(1, fit)
    again = drawn(1, fit)
    for one, other in zip(whole, again, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    names = ("outside", "again")
    values = [entry[name][0, 0].item() for entry in whole for name in names]
    values += [entry[name][0].item() for entry in whole for name in ("first", "second")]
    assert len(set(values)) == len(values)


def test_noise_does_not_depend_on_micro_batches(fit):
    whole, parts = drawn(1, fit), drawn(2, fit)
    assert len(parts) == 7 * 2 * 2  # two parts of each of two updates
    for step, entry in enumerate(whole):
        for update, name in enumerate(("first", "second")):
            pair = parts[4 * step + 2 * update : 4 * step + 2 * update + 2]
            assert torch.equal(torch.cat([part[name] for part in pair]), entry[name])
            for outside in ("outside", "again", "index"):
                assert torch.equal(torch.cat([part[outside] for part in pair]), entry[outside])


def test_uniform_numbers_lie_in_the_unit_interval(fit):
    numbers = torch.cat([entry["first"] for entry in drawn(1, fit, 40)])
    assert numbers.min() >= 0 and numbers.max() < 1 and 0.35 < numbers.mean() < 0.65


# ---- what is recorded, and what authors get wrong


def test_losses_are_recorded_without_a_graph(fit):
    model = made(repeats=2, every=3)
    fit(model, max_steps=6)
    assert not any(value.requires_grad for pairs in model._recorded.pairs.values() for value, _ in pairs)
    assert {name: len(values) for name, values in model._recorded.pairs.items()} == {
        "train/discriminator_loss": 12,
        "train/generator_loss": 2,
    }
    means = model.pop_recorded()
    assert all(0.1 < value < 5 for value in means.values()) and model.pop_recorded() == {}


class TwoLosses(Small):
    """Each player has a second update, which the last bias of D does not take part in."""

    def adversarial_step(self, batch: Any) -> None:
        super().adversarial_step(batch)
        self.update("discriminator", self.squares, name="squares")

    def squares(self) -> Tensor:
        return sum((weight.square().sum() for weight in list(self.discriminator.parameters())[:-1]), torch.zeros(()))


def test_updates_may_have_names(fit):
    model = made(TwoLosses)
    fit(model, max_steps=2)
    assert set(model.pop_recorded()) == {"train/discriminator_loss", "train/generator_loss", "train/squares_loss"}


def test_what_a_loss_does_not_reach_has_zeros_as_gradient(fit):
    """As where several processes add their gradients up: the optimizer's moments go on."""
    model = made(TwoLosses)
    fit(model, max_steps=3)
    states = [model.trainer.optimizers[0].state[parameter] for parameter in model.discriminator.parameters()]
    assert [int(state["step"]) for state in states] == [6] * len(states)


def test_losses_of_micro_batches_have_the_mean_of_the_whole(fit):
    means = []
    for parts in (1, 2):
        model = made()
        model.engine = Engine(micro_batches=parts)
        fit(model, max_steps=5)  # batches of 4, whose parts are equal
        means.append(model.pop_recorded())
    assert means[0] == pytest.approx(means[1], rel=1e-5)


def test_a_loader_that_is_not_ours(fit):
    images = [{"image": torch.randn(5, 1, 8, 8), "index": torch.arange(5)} for _ in range(3)]
    assert fit(made(), max_steps=3, data=DataLoader(images, batch_size=None)).global_step == 3  # type: ignore[arg-type]


def test_errors_of_authors(fit):
    model = made()
    model.configure_optimizers = lambda: [SGD(model.parameters(), lr=0.1)]
    with pytest.raises(TypeError, match=r"2 players .* 1 optimizers"):
        fit(model)
    with pytest.raises(TypeError, match="adversarial_step"):
        AdversarialModel(SPEC).adversarial_step({})


@pytest.mark.parametrize(
    "options",
    [
        {"micro_batches": 0},
        {"clip_norm": 0.0},
        {"clip_norm": -1.0},
        {"max_skipped": -1},
    ],
)
def test_settings_out_of_range(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Engine(**options)
