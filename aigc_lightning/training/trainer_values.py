"""Values of the Trainer: a default limit for runs, and checks that Lightning and torch do not make."""

from typing import Any

from aigc_lightning.errors import UserError
from aigc_lightning.training import precision

#: Steps of a run without any limit.
DEFAULT_MAX_STEPS = 5000


def set_default_limit(trainer: dict[str, Any], max_images: int | None) -> None:
    """Set `max_steps` if the user gave no limit.

    Raises:
        UserError: `max_images` is given together with `max_steps`, or is not positive.
    """
    if max_images is not None and trainer["max_steps"] != -1:
        raise UserError("Both --max_images and --trainer.max_steps are given.", "Give one of them.")
    if max_images is not None and max_images < 1:
        raise UserError(f"max_images is {max_images}.", "Give at least 1.")
    given = trainer["max_epochs"] or trainer["max_time"] or trainer["fast_dev_run"] or max_images
    if trainer["max_steps"] == -1 and not given:
        trainer["max_steps"] = DEFAULT_MAX_STEPS


def listed(value: Any) -> list[Any]:
    """Return the values of an option that takes one, several in a list, or None."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def check_values(trainer: dict[str, Any]) -> None:
    """Refuse intervals of 0, by which Lightning would divide, and synchronised batch norm without GPUs.

    Raises:
        UserError: one of them is given.
    """
    if trainer["sync_batchnorm"] and not precision.uses_cuda(trainer):
        raise UserError("trainer.sync_batchnorm is true, but torch supports it only on GPUs.", "Leave it out.")
    for name in ("val_check_interval", "check_val_every_n_epoch"):
        if trainer[name] == 0:
            raise UserError(
                f"trainer.{name} is 0.", "Give a positive number; --trainer.limit_val_batches 0 disables validation."
            )
