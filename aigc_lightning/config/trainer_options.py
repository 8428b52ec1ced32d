"""Every argument of Lightning's Trainer: which ones work as in Lightning, and what replaces the others.

docs/training.md shows this table; a test compares it with the installed Trainer.
"""

import inspect
from dataclasses import dataclass
from typing import Any, Literal

from lightning.pytorch import Trainer

from aigc_lightning.errors import UserError

Status = Literal["works", "replaced", "refused"]


@dataclass(frozen=True)
class TrainerOption:
    """How an argument of the Trainer is treated.

    Args:
        status: "works" as Lightning documents it; otherwise any value except the default is refused.
        about: what it does here, or why it is refused.
        instead: what to use instead, for the error message.
    """

    status: Status
    about: str
    instead: str = ""


def _works(about: str) -> TrainerOption:
    return TrainerOption("works", about)


_CLIPPING = "for models with one optimizer; adversarial models have --engine.clip_norm"
OPTIONS: dict[str, TrainerOption] = {
    "accelerator": _works("type of device: auto, cpu, gpu, cuda, mps, tpu"),
    "strategy": _works("how devices share the work; `model_parallel` (FSDP2) is for models with one optimizer"),
    "devices": _works("number of devices, or a list of them"),
    "num_nodes": _works("machines; their processes are started by torchrun or srun"),
    "precision": _works("Lightning's, and `auto` (the default): bf16-mixed if the hardware accelerates it"),
    "logger": TrainerOption(
        "replaced",
        "every run writes `metrics.csv`; `--logger` adds wandb and tensorboard",
        "Use --logger wandb or --logger tensorboard; metrics.csv is always written.",
    ),
    "callbacks": _works("registered callbacks and the classes listed above"),
    "fast_dev_run": _works("runs a few batches of every loop and keeps nothing, so no run folder is made"),
    "max_epochs": _works("passes over the data"),
    "min_epochs": _works("passes before the run may stop early"),
    "max_steps": _works("batches; 5000 if no limit is given"),
    "min_steps": _works("batches before the run may stop early"),
    "max_time": _works("time limit, such as 00:00:30:00 for half an hour"),
    "limit_train_batches": _works("batches (or fraction) per epoch; the next epoch continues after them"),
    "limit_val_batches": _works("batches (or fraction) per validation; 0 for none"),
    "limit_test_batches": _works("batches (or fraction) that `aigc test` scores"),
    "limit_predict_batches": _works("batches (or fraction) that `aigc predict` writes"),
    "overfit_batches": _works("every epoch trains on the same first batches, which are augmented alike each time"),
    "val_check_interval": _works("batches, fraction of an epoch or time between validations"),
    "check_val_every_n_epoch": _works("validate every n-th epoch; null to count batches across epochs"),
    "num_sanity_val_steps": _works("validation batches before training; 0 by default"),
    "log_every_n_steps": _works("batches between logged losses"),
    "enable_checkpointing": _works("false for a run that can neither be resumed nor used"),
    "enable_progress_bar": _works("false for a silent run"),
    "enable_model_summary": _works("true for a table of the networks; false by default"),
    "accumulate_grad_batches": TrainerOption(
        "replaced",
        "it weights an epoch's last batches wrongly and cannot resume between them; `--engine.micro_batches` is exact",
        "Use --engine.micro_batches N and N times the --data.batch_size: as many images a step in as little memory.",
    ),
    "gradient_clip_val": _works(_CLIPPING),
    "gradient_clip_algorithm": _works(_CLIPPING),
    "deterministic": _works("only operations that give the same result each time"),
    "benchmark": _works("let cuDNN try algorithms; true on GPUs unless `deterministic` is set"),
    "inference_mode": _works("false if validation needs gradients"),
    "use_distributed_sampler": TrainerOption(
        "replaced",
        "the data's own samplers distribute the samples, each exactly once",
        "Leave it out: the samplers of this package distribute the samples themselves.",
    ),
    "profiler": _works(
        "simple, advanced, pytorch or a profiler listed above; the report is a file in the run's folder"
    ),
    "detect_anomaly": _works("stop at the operation that produced a nan; slow"),
    "barebones": TrainerOption(
        "refused",
        "it disables the logging, checkpoints and progress that a run needs",
        "Use --trainer.enable_progress_bar false, --trainer.enable_checkpointing false and a long "
        "--trainer.log_every_n_steps.",
    ),
    "plugins": TrainerOption(
        "replaced",
        "precision, cluster and checkpoint files have their own options; objects are accepted with `--trust-config`",
        "Use --trainer.precision or --trainer.sync_batchnorm; torchrun and Slurm are detected automatically.",
    ),
    "sync_batchnorm": _works("batch statistics over all GPUs"),
    "reload_dataloaders_every_n_epochs": _works("recreate the loaders; the order of samples does not change"),
    "default_root_dir": TrainerOption("replaced", "`--run` sets the run folder", "Use --run DIR."),
    "enable_autolog_hparams": _works("log the model's hyperparameters"),
    "model_registry": TrainerOption(
        "refused", "it would upload checkpoints to Lightning's cloud", "Use `aigc export` and upload the file."
    ),
}
#: Values equivalent to the default.
_ALIKE: dict[str, tuple[Any, ...]] = {"logger": (True,), "plugins": ([],)}
#: Arguments that take objects, which only trusted configs can give.
_OBJECTS = ("logger", "plugins")


def check(trainer: Any, *, trusted: bool = False) -> None:
    """Refuse arguments of the Trainer that would not act as Lightning documents them.

    Args:
        trainer: the trainer's settings.
        trusted: whether the config may name any class.

    Raises:
        UserError: one is given; the message says what to use instead.
    """
    for name, option in OPTIONS.items():
        value, default = trainer[name], inspect.signature(Trainer).parameters[name].default
        if option.status == "works" or value in (default, *_ALIKE.get(name, ())):
            continue
        if not (trusted and name in _OBJECTS and value is not False):
            raise UserError(f"trainer.{name} does not act here: {option.about}.", option.instead)
