import pytest
import torch
from torch import nn

from aigc_lightning.core.engine.averaging import MovingAverage, averaged_copy


def test_an_average_is_a_frozen_copy():
    first = nn.Linear(2, 2)
    network = nn.Sequential(first, nn.BatchNorm1d(2))
    average = averaged_copy(network)
    assert not average.training and network.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        first.weight.add_(1)
    assert not torch.equal(average.get_parameter("0.weight"), first.weight)


@pytest.mark.parametrize(
    ("decay", "updates", "kept"), [(0.9, 1000, 0.9), (0.999, 0, 0.1), (0.999, 8, 0.5), (0.05, 0, 0.05), (0.0, 5, 0.0)]
)
def test_one_update_by_hand(decay, updates, kept):
    network, average = nn.Linear(1, 1), averaged_copy(nn.Linear(1, 1))
    with torch.no_grad():
        network.weight.fill_(3.0)
        average.get_parameter("weight").fill_(1.0)
    MovingAverage(average, network).update(decay, updates)
    assert average.get_parameter("weight").item() == pytest.approx(kept * 1 + (1 - kept) * 3)
    assert network.weight.item() == 3


def test_buffers_are_copied():
    network = nn.BatchNorm1d(2)
    average = averaged_copy(network)
    network(torch.randn(8, 2) + 5)
    MovingAverage(average, network).update(0.99, 100)
    assert torch.equal(average.get_buffer("running_mean"), network.get_buffer("running_mean"))
    assert average.num_batches_tracked == 1
