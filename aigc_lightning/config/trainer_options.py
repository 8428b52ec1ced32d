"""Every argument of Lightning's Trainer: which work here as they do there, and what takes the place of the others.

docs/training.md shows this table; a test compares it with the Trainer that is installed.
"""

import inspect
from dataclasses import dataclass
from typing import Any, Literal

from lightning.pytorch import Trainer

from aigc_lightning.errors import UserError

Status = Literal["works", "ours instead", "refused"]


@dataclass(frozen=True)
class TrainerOption:
    """How an argument of the Trainer is treated.

    Args:
        status: "works" as Lightning documents it; else any value but the default is refused.
        about: what it does here, or why it is refused.
        instead: what to write in its place, for the error message.
    """

    status: Status
    about: str
    instead: str = ""


def _works(about: str) -> TrainerOption:
    return TrainerOption("works", about)


_CLIPPING = "for models with one optimizer; adversarial models have --engine.clip_norm"
OPTIONS: dict[str, TrainerOption] = {
    "accelerator": _works("which device: auto, cpu, gpu, cuda, mps, tpu"),
    "strategy": _works("how devices share the work; `model_parallel` (FSDP2) is for models with one optimizer"),
    "devices": _works("how many, or which"),
    "num_nodes": _works("machines; their processes are started by torchrun or srun"),
    "precision": _works("Lightning's, and `auto` (the default): bf16-mixed where the device is made for it"),
    "logger": TrainerOption(
        "ours instead",
        "every run writes `metrics.csv`; `--logger` adds wandb and tensorboard",
        "Use --logger wandb or --logger tensorboard; metrics.csv is always written.",
    ),
    "callbacks": _works("registered callbacks and the classes below"),
    "fast_dev_run": _works("runs a few batches of every loop and keeps nothing, so no run folder is made"),
    "max_epochs": _works("passes over the data"),
    "min_epochs": _works("passes before the run may stop early"),
    "max_steps": _works("batches; 5000 where no end is given"),
    "min_steps": _works("batches before the run may stop early"),
    "max_time": _works("such as 00:00:30:00 for half an hour"),
    "limit_train_batches": _works("batches (or their share) that make an epoch; the next epoch goes on after them"),
    "limit_val_batches": _works("batches (or their share) of a validation; 0 for none"),
    "limit_test_batches": _works("batches (or their share) that `aigc test` scores"),
    "limit_predict_batches": _works("batches (or their share) that `aigc predict` writes"),
    "overfit_batches": _works("every epoch trains on the same first batches, which are augmented alike each time"),
    "val_check_interval": _works("batches, share of an epoch or time between two validations"),
    "check_val_every_n_epoch": _works("validate every n-th epoch; null to count batches across epochs"),
    "num_sanity_val_steps": _works("validation batches before training; 0 by default"),
    "log_every_n_steps": _works("batches between two rows of losses"),
    "enable_checkpointing": _works("false for a run that can neither be resumed nor used"),
    "enable_progress_bar": _works("false for a silent run"),
    "enable_model_summary": _works("true for a table of the networks; false by default"),
    "accumulate_grad_batches": TrainerOption(
        "ours instead",
        "it weights an epoch's last batches wrongly and cannot resume between them; `--engine.micro_batches` is exact",
        "Use --engine.micro_batches N and N times the --data.batch_size: as many images a step in as little memory.",
    ),
    "gradient_clip_val": _works(_CLIPPING),
    "gradient_clip_algorithm": _works(_CLIPPING),
    "deterministic": _works("only operations that give the same result each time"),
    "benchmark": _works("let cuDNN try algorithms; true on GPUs unless `deterministic` is set"),
    "inference_mode": _works("false where a validation needs gradients"),
    "use_distributed_sampler": TrainerOption(
        "ours instead",
        "the data's own samplers share out the samples, each exactly once",
        "Leave it out: the samplers of this package share out the samples themselves.",
    ),
    "profiler": _works("simple, advanced, pytorch or a profiler below; the report is a file in the run's folder"),
    "detect_anomaly": _works("stop at the operation that made a nan; slow"),
    "barebones": TrainerOption(
        "refused",
        "it takes away what a run consists of",
        "Use --trainer.enable_progress_bar false, --trainer.enable_checkpointing false and a long "
        "--trainer.log_every_n_steps.",
    ),
    "plugins": TrainerOption(
        "ours instead",
        "precision, cluster and checkpoint files have options of their own; with `--trust-config` objects are taken",
        "Use --trainer.precision or --trainer.sync_batchnorm; torchrun and Slurm are recognised by themselves.",
    ),
    "sync_batchnorm": _works("batch statistics over all GPUs"),
    "reload_dataloaders_every_n_epochs": _works("make the loaders again; the order of samples stays"),
    "default_root_dir": TrainerOption("ours instead", "`--run` names the folder of a run", "Use --run DIR."),
    "enable_autolog_hparams": _works("hand the model's hyperparameters to the loggers"),
    "model_registry": TrainerOption(
        "refused", "it would upload checkpoints to Lightning's cloud", "Use `aigc export` and upload the file."
    ),
}
#: Values that mean the same as the default.
_ALIKE: dict[str, tuple[Any, ...]] = {"logger": (True,), "plugins": ([],)}
#: Whose values are objects, so that only a config that is trusted has them.
_OBJECTS = ("logger", "plugins")


def check(trainer: Any, *, trusted: bool = False) -> None:
    """Refuse arguments of the Trainer that would not act as Lightning documents them.

    Args:
        trainer: the trainer's settings.
        trusted: whether the config may name any class.

    Raises:
        UserError: one is given; the message names what to use instead.
    """
    for name, option in OPTIONS.items():
        value, default = trainer[name], inspect.signature(Trainer).parameters[name].default
        if option.status == "works" or value in (default, *_ALIKE.get(name, ())):
            continue
        if not (trusted and name in _OBJECTS and value is not False):
            raise UserError(f"trainer.{name} does not act here: {option.about}.", option.instead)
