import math

import pytest
import torch
from torch import nn

from aigc_lightning.core.engine.schedules import constant_linear, warm_cosine


def rates(*arguments, schedule=warm_cosine):
    *options, steps = arguments
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule(optimizer, *options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_rate_rises_linearly_and_falls_along_a_half_cosine():
    found = rates(4, 14, 20)
    assert found[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert found[4:14] == pytest.approx([1 + math.cos(math.pi * step / 10) for step in range(10)])
    assert found[14:] == pytest.approx([0] * 6, abs=1e-12)


def test_without_an_end_the_rate_stays():
    assert rates(2, None, 6)[2:] == [2.0] * 4
    assert rates(0, None, 3) == [2.0] * 3


def test_the_rate_stays_for_half_of_the_steps_and_falls_linearly():
    assert rates(10, 14, schedule=constant_linear) == pytest.approx([2.0] * 6 + [1.6, 1.2, 0.8, 0.4, 0, 0, 0, 0])
    assert rates(None, 3, schedule=constant_linear) == [2.0] * 3
