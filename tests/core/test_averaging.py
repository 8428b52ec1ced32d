import pytest
import torch
from torch import nn

from aigc_lightning.core.averaging import MovingAverage, averaged_copy


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


def test_one_update_by_hand():
    network = nn.Linear(1, 1)
    averages = [averaged_copy(network), averaged_copy(network)]
    with torch.no_grad():
        network.weight.fill_(3.0)
        for average in averages:
            average.get_parameter("weight").fill_(1.0)
    moving = MovingAverage(averages, network)
    moving.update([0.9, 0.25])
    assert [average.get_parameter("weight").item() for average in averages] == pytest.approx([1.2, 2.5])
    assert network.weight.item() == 3 and moving.updates == 1


def test_buffers_are_copied():
    network = nn.BatchNorm1d(2)
    average = averaged_copy(network)
    network(torch.randn(8, 2) + 5)
    MovingAverage([average], network).update([0.99])
    assert torch.equal(average.get_buffer("running_mean"), network.get_buffer("running_mean"))
    assert average.num_batches_tracked == 1


class Tables(nn.Module):
    """A network with a noise schedule, a counter, and parameters of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.codes = nn.Parameter(torch.arange(3), requires_grad=False)
        self.register_buffer("schedule", torch.tensor([0.1, 0.2, 0.3]))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("none", None)


def test_only_floating_point_parameters_are_averaged():
    network = Tables()
    average = averaged_copy(network)
    moving = MovingAverage([average], network)
    with torch.no_grad():
        network.weight.fill_(1.0)
        network.codes.add_(5)
        network.get_buffer("schedule").mul_(2)
        network.get_buffer("count").add_(7)
    moving.update([0.75])
    assert average.get_parameter("weight").tolist() == [0.25, 0.25]
    for name in ("codes", "schedule", "count"):
        assert torch.equal(average.state_dict()[name], network.state_dict()[name])
