"""Training with differential privacy: takes the steps, counts what they spend, and stops when the budget is spent."""

import math
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils.parametrizations import _SpectralNorm

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.privacy.accountant import epsilon_spent, noise_multiplier
from aigc_lightning.core.privacy.adversarial import public_batch
from aigc_lightning.core.privacy.gradients import add_noise, clipped_sum, loss_with, trained
from aigc_lightning.core.privacy.poisson import PoissonSampler
from aigc_lightning.core.privacy.settings import Privacy
from aigc_lightning.core.records import RECORD_KEY, checked_state
from aigc_lightning.core.run.loop_state import place_in_stream, steps_asked
from aigc_lightning.errors import UserError

#: File of a run folder with the secret that its batches and noise follow from; it is in no checkpoint.
SECRET = "privacy_secret"


def secret_of(folder: Path) -> int:
    """Return the secret of a run, drawn by the operating system when the run begins.

    Args:
        folder: of the run.

    Raises:
        UserError: the file does not hold a secret.
    """
    path = folder / SECRET
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(f"{secrets.randbits(64):016x}\n", encoding="ascii")
    try:
        return int(path.read_text(encoding="ascii"), 16)
    except ValueError as error:
        raise UserError(f"{path} does not hold a secret.", "Delete it: the run goes on with a new one.") from error


class PrivateTraining(pl.Callback):
    """Trains by DP-SGD: clipped gradients of single samples, Poisson batches, noise.

    Of adversarial models, this concerns the part of the discriminator's loss that sees real images; the rest of a step
    sees none (`core/privacy/adversarial.py`). The noise is chosen so that the steps that the run was started for spend
    the budget. The guarantee is about the weights, averages and optimizer states; recorded losses and scores, and grids
    of real images, are not part of it.

    Args:
        settings: of the guarantee.
        secret: key of batches and noise.
    """

    def __init__(self, settings: Privacy, secret: int) -> None:
        assert settings.epsilon is not None and settings.delta is not None
        self.settings, self.secret = settings, secret
        self.epsilon, self.delta = settings.epsilon, settings.delta
        self.noise = 0.0  # multiplier; 0 until the run has begun
        self.rate, self.steps = 0.0, 0  # probability of a sample to be in a batch; steps taken
        self._before: dict[str, Tensor] = {}  # state before the model looked at the data

    @property
    def spent(self) -> float:
        """Epsilon of the steps taken so far."""
        return epsilon_spent(self.rate, self.noise, self.steps, self.delta) if self.steps else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return what the accountant needs to go on."""
        return {"noise_multiplier": self.noise, "sampling_rate": self.rate, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a result of `state_dict`.

        Raises:
            UserError: it has a different structure or impossible values.
        """
        kinds = {"noise_multiplier": float, "sampling_rate": float, "steps": int}
        state = checked_state(state_dict, kinds, "privacy")
        self.noise, self.rate, self.steps = (state[name] for name in kinds)
        if not (0 < self.noise < math.inf and 0 < self.rate <= 1 and self.steps >= 0):
            raise UserError("The state of privacy in the checkpoint is impossible.", "Give an unmodified checkpoint.")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the settings and what has been spent into the record."""
        settings = {"epsilon": self.epsilon, "delta": self.delta, "clip": self.settings.clip}
        spent = {"privacy_spent": {"epsilon": self.spent, **self.state_dict()}}
        checkpoint.setdefault(RECORD_KEY, {}).update(privacy=settings, **spent)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse what breaks the guarantee, and take over the training steps.

        Raises:
            UserError: something does not go together with privacy; the message names it.
        """
        _check_model(pl_module)
        _check_trainer(trainer)
        if trainer.ckpt_path is None and _sets_up_from_data(pl_module):
            self._before = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
        # As in micro-batches: partials, unlike closures, are copied with the model.
        step: Any = partial(self._adversarial_step if _is_adversarial(pl_module) else self._step, pl_module)
        step.__wrapped__ = type(pl_module).training_step  # Lightning looks at its signature
        pl_module.training_step = step  # type: ignore[method-assign]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose the noise, in a new run, and check that there is something left to spend.

        Raises:
            UserError: the budget is spent, too small, or does not fit the data.
        """
        self._check_set_up(pl_module)
        rate = self._sampler(trainer).rate
        if self.delta >= rate / self._sampler(trainer).batch_size:
            raise UserError(
                f"privacy.delta is {self.delta}, as likely to fail as to publish one of the images.",
                f"Give less than 1 / {self._sampler(trainer).num_samples}.",
            )
        if self.noise:
            if not math.isclose(rate, self.rate):
                raise UserError("The run has another number of training images than before.", "Use the same data.")
            self._check_left()
            return
        steps = steps_asked(trainer)
        if steps is None:
            raise UserError("The noise depends on how many steps there are.", "Add --trainer.max_steps N.")
        self.rate = rate
        try:
            self.noise = noise_multiplier(rate, steps, self.epsilon, self.delta)
        except ValueError as error:
            raise UserError(f"privacy.epsilon is {self.epsilon}: too little.", "Give more, or fewer steps.") from error

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop when another step would spend too much."""
        if not self._has_left():
            trainer.should_stop = True

    def _step(self, model: Any, batch: Any, *rest: Any) -> Any:
        parameters = trained(model)
        gradients, loss = self._noisy_mean(
            model, batch, parameters, lambda sample: type(model).training_step(model, sample, *rest)
        )
        return loss_with(parameters, gradients, loss)

    def _adversarial_step(self, model: Any, batch: Any, *rest: Any) -> None:
        parameters = trained(getattr(model, model.judges[0]))
        gradients, loss = self._noisy_mean(
            model, batch, parameters, lambda sample: model.real_loss(sample["image"], sample.get("label"))
        )
        size = self._sampler(model.trainer).batch_size
        with model.private_part(partial(loss_with, parameters, gradients, loss)):
            type(model).training_step(model, public_batch(model.spec, size, model.step, model.device), *rest)

    def _noisy_mean(
        self, model: Any, batch: Any, parameters: Sequence[nn.Parameter], loss_of: Callable[[Any], Any]
    ) -> tuple[list[Tensor], Tensor]:
        """Return the private gradient of the mean loss, and the mean loss itself; count the step as spent."""
        self._check_left()
        trainer = model.trainer
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        sampler, place = self._sampler(trainer), place_in_stream(trainer)
        clip = self.settings.norm
        gradients, loss = clipped_sum(model, batch, clip, parameters, loss_of)
        if sampler.count(place) == 0:  # the one sample is there for the loaders alone
            for gradient in gradients:
                gradient.zero_()
        for name, buffer in model.named_buffers():
            if name not in buffers or not torch.equal(buffer, buffers[name]):
                raise UserError(
                    f"{type(model).__name__} changes {name} in a training step, which privacy does not cover.",
                    "Train it without privacy.epsilon.",
                )
        add_noise(gradients, self.noise * clip, self.secret, model.step)
        for gradient in gradients:
            gradient /= sampler.batch_size
        self.steps += 1
        return gradients, loss

    def _check_set_up(self, model: nn.Module) -> None:
        """Refuse a model that has computed something from the images without noise."""
        state = model.state_dict()
        for name, value in self._before.items():
            if not torch.equal(value, state[name].cpu()):
                raise UserError(
                    f"{type(model).__name__} computes {name} from the images, which privacy.epsilon does not cover.",
                    "Train it without privacy.epsilon.",
                )
        self._before = {}

    def _has_left(self) -> bool:
        # The noise is rounded up, so the last step that the run was started for does not exceed the budget.
        return epsilon_spent(self.rate, self.noise, self.steps + 1, self.delta) <= self.epsilon

    def _check_left(self) -> None:
        if not self._has_left():
            raise UserError(
                f"The privacy budget is spent: epsilon is {self.spent:.4g} of {self.epsilon:g} after {self.steps:,} "
                "steps.",
                "Use the run as it is; more training needs a new run with a larger budget, or fewer steps.",
            )

    @staticmethod
    def _sampler(trainer: pl.Trainer) -> PoissonSampler:
        sampler: Any = trainer.train_dataloader.batch_sampler  # type: ignore[union-attr]
        if not isinstance(sampler, PoissonSampler):
            raise UserError("The data come in an order of their own, which privacy.epsilon forbids.", "Use other data.")
        return sampler


def _is_adversarial(model: Any) -> bool:
    """Whether only the discriminator sees real images."""
    return isinstance(model, AdversarialModel) and type(model).real_loss is not AdversarialModel.real_loss


def _check_model(model: Any) -> None:
    name, option, sees_images = type(model).__name__, "norm", model
    if _is_adversarial(model):
        _check_adversarial(model)
        option, sees_images = "discriminator_norm", getattr(model, model.judges[0])
    elif not model.automatic_optimization:
        raise UserError(
            f"{name} takes its optimizers' steps itself, which privacy.epsilon does not cover.",
            "Train it without privacy.epsilon, or another model, such as vae or dcgan.",
        )
    for path, module in sees_images.named_modules():
        if forbidden := _forbidden(module):
            hint = f"Use another norm, such as --model.{option} group."
            raise UserError(f"privacy.epsilon does not go together with {forbidden} ({path} of {name}).", hint)
    if model.engine.micro_batches > 1:
        raise UserError("privacy.epsilon takes one image at a time anyway.", "Leave engine.micro_batches out.")
    if model.engine.checkpoint_activations:
        raise UserError("privacy.epsilon needs the gradients of single images.", "Leave checkpoint_activations out.")


def _check_adversarial(model: Any) -> None:
    for weight in model.looks_at_real:
        if getattr(model, weight):
            raise UserError(
                f"privacy.epsilon does not go together with model.{weight}, by which real images act twice.",
                f"Add --model.{weight} 0.",
            )
    if model.engine.augment == "ada":
        raise UserError(
            "privacy.epsilon does not cover engine.augment ada, which follows how real images are judged.",
            "Add --engine.augment diff, or leave it out.",
        )
    if len(model.judges) != 1 or set(model.needs) - {"label"} or model.spec.task != "generation":
        what = "has several discriminators, or needs more of each image than its class"
        raise UserError(f"{type(model).__name__} {what}.", "Train it without privacy.epsilon.")


def _sets_up_from_data(model: Any) -> bool:
    return type(model).setup_from_data is not ImageModel.setup_from_data


def _forbidden(module: nn.Module) -> str:
    """Return what makes a module unfit, or ""."""
    if isinstance(module, _BatchNorm):
        return "batch norm, which mixes the images of a batch"
    if isinstance(module, _InstanceNorm) and module.track_running_stats:
        return "instance norm with running statistics"
    return "spectral norm, which changes its state in every pass" if isinstance(module, _SpectralNorm) else ""


def _check_trainer(trainer: Any) -> None:
    if trainer.world_size > 1 or not isinstance(trainer.strategy, SingleDeviceStrategy):
        raise UserError("privacy.epsilon trains in one process.", "Use --trainer.devices 1 and no strategy.")
    if trainer.overfit_batches or trainer.accumulate_grad_batches != 1:
        raise UserError(
            "privacy.epsilon needs a fresh batch and a step for each.",
            "Leave overfit_batches and accumulate_grad_batches out.",
        )
    precision = trainer.precision_plugin
    if isinstance(precision, MixedPrecision) and precision.precision == "16-mixed":
        raise UserError("privacy.epsilon does not scale losses, which 16-mixed needs.", "Use bf16-mixed or 32.")
    for callback in trainer.callbacks:
        if getattr(callback, "monitor", None) is not None:
            option = "checkpoints.monitor" if type(callback).__name__ == "Checkpoints" else type(callback).__name__
            raise UserError(
                f"{option} chooses by a score of held-out images, which privacy.epsilon does not cover.",
                "Add --checkpoints.monitor null." if option[0] == "c" else "Leave it out.",
            )
