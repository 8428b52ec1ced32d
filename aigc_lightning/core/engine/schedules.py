"""Learning rates as functions of the number of batches done."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warm_cosine(optimizer: Optimizer, warmup_steps: int, num_steps: int | None) -> LambdaLR:
    """Return a per-batch scheduler that raises the rate linearly and lowers it along a half cosine.

    The rate depends on the batch's number only, so a run that is stopped and resumed has the rates of an uninterrupted
    one, however it was divided.

    Args:
        optimizer: its learning rates are the peak of the schedule.
        warmup_steps: number of batches until the peak is reached.
        num_steps: number of batches until the rate is 0 for good; None to keep the peak rate.

    Source: Loshchilov and Hutter, SGDR, ICLR 2017, equation 5 (one period); warm-up: Goyal et al., arXiv:1706.02677.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if num_steps is None:
            return 1.0
        done = min((step - warmup_steps) / max(num_steps - warmup_steps, 1), 1.0)
        return 0.5 * (1 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)


def constant_linear(optimizer: Optimizer, num_steps: int | None) -> LambdaLR:
    """Return a per-batch scheduler that keeps the rate for half of the steps and lowers it linearly to 0.

    Like that of `warm_cosine`, the rate depends on the batch's number only.

    Args:
        optimizer: its learning rates are the peak of the schedule.
        num_steps: number of batches until the rate is 0 for good; None to keep the rate.

    Source: Zhu et al., CycleGAN, ICCV 2017, appendix 7.1 (100 epochs and 100 epochs).
    """

    def factor(step: int) -> float:
        if num_steps is None:
            return 1.0
        return min(max(2 * (num_steps - step) / num_steps, 0.0), 1.0)

    return LambdaLR(optimizer, factor)
