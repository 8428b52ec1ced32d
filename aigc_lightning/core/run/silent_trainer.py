"""A trainer for what is no run: checks, measurements, questions to Lightning."""

from typing import Any

from lightning.pytorch import Trainer


def silent_trainer(**options: Any) -> Trainer:
    """Return a trainer on the CPU that logs, shows and saves nothing unless it is told to.

    Args:
        **options: of Lightning's `Trainer`; they take the place of these defaults.
    """
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,  # our data gives each process its share
    }
    return Trainer(**defaults | options)
