"""The optimizer of models that learn representations."""

from typing import Any

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import AdamW

from aigc_lightning.core.engine.schedules import warm_cosine


def adamw(
    model: nn.Module, lr: float, weight_decay: float, warmup_steps: int, num_steps: int | None
) -> OptimizerLRScheduler:
    """Return AdamW with warm-up and cosine decay, stepped per batch, as `configure_optimizers` returns it.

    Args:
        model: whose parameters are trained.
        lr: peak learning rate.
        weight_decay: applied to weights but not to norms and biases.
        warmup_steps: number of batches until the peak is reached.
        num_steps: number of batches until the rate is 0 for good; None to keep the peak rate.
    """
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)
    scheduler = warm_cosine(optimizer, warmup_steps, num_steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
