"""Learning rates as functions of the number of batches that are done."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warm_cosine(optimizer: Optimizer, warmup_steps: int, num_steps: int | None) -> LambdaLR:
    """Return a scheduler, to be stepped once a batch, that raises the rate linearly and lowers it along a half cosine.

    It is a function of the batch's number alone, so a run that is stopped and resumed has the rates of one that was
    not, whatever lengths its parts were given.

    Args:
        optimizer: its rates are the largest of the schedule.
        warmup_steps: batches until the rate is reached.
        num_steps: batches until the rate is 0 again, where it stays; None to keep the largest rate.

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
    """Return a scheduler, to be stepped once a batch, that keeps the rate for half of the steps and lowers it to 0.

    Like `warm_cosine` it is a function of the batch's number alone.

    Args:
        optimizer: its rates are the largest of the schedule.
        num_steps: batches until the rate is 0, where it stays; None to keep the rate.

    Source: Zhu et al., CycleGAN, ICCV 2017, appendix 7.1 (100 epochs and 100 epochs).
    """

    def factor(step: int) -> float:
        if num_steps is None:
            return 1.0
        return min(max(2 * (num_steps - step) / num_steps, 0.0), 1.0)

    return LambdaLR(optimizer, factor)
