"""Values of the Trainer: an end for runs that were given none, and what neither Lightning nor torch checks."""

from typing import Any

from aigc_lightning.errors import UserError
from aigc_lightning.training import precision

#: Steps of a run to which no end was given.
DEFAULT_MAX_STEPS = 5000


def give_an_end(trainer: dict[str, Any], max_images: int | None) -> None:
    """Give runs to which the user gave no end one."""
    if max_images is not None and trainer["max_steps"] != -1:
        raise UserError("Both --max_images and --trainer.max_steps are given.", "Give one of them.")
    if max_images is not None and max_images < 1:
        raise UserError(f"max_images is {max_images}.", "Give at least 1.")
    given = trainer["max_epochs"] or trainer["max_time"] or trainer["fast_dev_run"] or max_images
    if trainer["max_steps"] == -1 and not given:
        trainer["max_steps"] = DEFAULT_MAX_STEPS


def check_values(trainer: dict[str, Any]) -> None:
    """Refuse cadences at which Lightning would divide by zero, and batch statistics that torch has for GPUs alone."""
    if trainer["sync_batchnorm"] and not precision.uses_cuda(trainer):
        raise UserError("trainer.sync_batchnorm is true, and torch has it for GPUs alone.", "Leave it out.")
    for name in ("val_check_interval", "check_val_every_n_epoch"):
        if trainer[name] == 0:
            raise UserError(
                f"trainer.{name} is 0.", "Give a positive number; --trainer.limit_val_batches 0 is for no validation."
            )
