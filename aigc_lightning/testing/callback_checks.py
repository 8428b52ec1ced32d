"""Checks of a callback, which is played in small runs: no single call of a hook shows how it gets on with a run."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aigc_lightning.testing.cases import Case, ModelCase

_CHECKPOINT = "step_0000002.ckpt"
#: Runs of 4 batches, with validation, a grid and a checkpoint on the way.
_STEPS = 4
_RUN = {"checkpoints__keep_every_n_steps": "2", "grids__every_n_steps": "2", "trainer__limit_test_batches": "1"}
_SMALL = ("data.size=8", "data.batch_size=16", "model.width=8")


@dataclass
class CallbackCase(Case):
    """A callback under test. Settings such as "callback.times=2" are its arguments.

    Args:
        config: the preset or config file to train with; "" for a small GAN and a small variational autoencoder, of
            which the first takes the steps of its optimizers itself and the second leaves that to Lightning.
    """

    config: str = ""

    @cached_property
    def added(self) -> list[str]:
        """The settings that add the callback to a run."""
        options = (text.removeprefix("callback.") for text in self.settings if text.startswith("callback."))
        return [f"trainer.callbacks+={self.plugin.class_path}", *(f"trainer.callbacks.{text}" for text in options)]

    @cached_property
    def models(self) -> list[ModelCase]:
        """The models that are trained with the callback."""
        others = [text for text in self.settings if not text.startswith("callback.")]
        if self.config:
            return [ModelCase("model", self.config, self.folder, [*others, *self.added], self.config)]
        names = {"dcgan": "dcgan_digits", "vae": "vae_digits"}
        settings = [*_SMALL, *others, *self.added]
        return [ModelCase("model", name, self.folder, settings, config) for name, config in names.items()]

    @cached_property
    def trained(self) -> Path:
        """The folder of a finished run of the first model."""
        return self.fit(self.models[0])

    def fit(self, model: ModelCase) -> Path:
        """Train a model with the callback and return the run's folder."""
        return model.fit(model.name.replace("/", "_"), _STEPS, **_RUN)


def completes_a_run(case: CallbackCase) -> None:
    """A run with validations, image grids and checkpoints completes with it, whoever takes the optimizers' steps."""
    for model in case.models:
        _ = case.trained if model is case.models[0] else case.fit(model)


def resumes(case: CallbackCase) -> None:
    """A run with it goes on from a checkpoint in its middle, and after its end."""
    model = case.models[0]
    model.resume(case.trained, "from_the_middle", _STEPS, _CHECKPOINT)
    model.resume(case.trained, "from_the_end", _STEPS + 2)


def survives_a_signal(case: CallbackCase) -> None:
    """A run with it that SIGTERM stops saves a checkpoint, from which it goes on."""
    model = case.models[0]
    model.resume(model.stop("stopped", _STEPS, stop=3), "after_the_signal", _STEPS)


def runs_in_every_stage(case: CallbackCase) -> None:
    """`aigc validate`, `test` and `predict` complete with it."""
    options = [*(f"--{text}" for text in case.added), "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
    for stage, limit in {"validate": "val", "test": "test", "predict": "predict"}.items():
        given = [f"--checkpoint={case.trained}", f"--run={case.folder / stage}", f"--trainer.limit_{limit}_batches=1"]
        case.run(stage, [*given, *options])
