"""Norms of a pruned model get the statistics of its own features."""

import torch
from torch import nn

from aigc_lightning.inference.exporting.reestimated import reestimate_norms


def test_statistics_are_those_of_what_arrives():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten()
    ).eval()
    unused, weights = nn.BatchNorm2d(2), [parameter.clone() for parameter in network.parameters()]
    model = nn.ModuleList([network, unused])
    batches = [{"input": torch.randn(4, 1, 6, 6) + number} for number in range(2)]
    first, second = (dict(network[place].named_buffers()) for place in (1, 4))
    untouched = dict(unused.named_buffers())
    assert reestimate_norms(model, network, batches) == 2

    reached = [network[0](batch["input"]) for batch in batches]
    means = [features.mean((0, 2, 3)) for features in reached]
    variances = [features.var((0, 2, 3)) for features in reached]
    assert torch.allclose(first["running_mean"], (means[0] + means[1]) / 2, atol=1e-6)
    assert torch.allclose(first["running_var"], (variances[0] + variances[1]) / 2, atol=1e-6)
    network.train()  # each norm sees what it would see in training
    later = [network[:4](batch["input"]).mean((0, 2, 3)) for batch in batches]
    assert torch.allclose(second["running_mean"], (later[0] + later[1]) / 2, atol=1e-5)
    assert not untouched["running_mean"].any() and untouched["running_var"].eq(1).all()
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), weights, strict=True))
