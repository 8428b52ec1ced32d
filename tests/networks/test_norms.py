from typing import Any

import pytest
import torch
from torch import nn

from aigc_lightning.networks.norms import NORMS, make_norm


@pytest.mark.parametrize(("channels", "groups"), [(8, 1), (16, 2), (64, 8), (12, 1), (3, 1)])
def test_groups_have_eight_channels_where_they_can(channels, groups):
    assert make_norm("group", channels).num_groups == groups


@pytest.mark.parametrize("name", NORMS)
def test_what_is_normalised(name):
    torch.manual_seed(0)
    features = torch.randn(6, 16, 5, 7) * 3 + 4
    result = make_norm(name, 16)(features)
    assert result.shape == features.shape
    over = {"batch": (0, 2, 3), "instance": (2, 3), "group": (1, 2, 3)}.get(name)
    if over is None:
        assert torch.equal(result, features)
    else:
        parts = result.view(6, 2, 8, 5, 7).flatten(0, 1) if name == "group" else result
        torch.testing.assert_close(parts.mean(over), torch.zeros_like(parts.mean(over)), rtol=0, atol=1e-5)
        torch.testing.assert_close(parts.var(over, correction=0), torch.ones_like(parts.mean(over)), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["batch", "group", "instance"])
def test_norms_have_scale_and_shift(name):
    norm = make_norm(name, 8)
    assert isinstance(norm.weight, nn.Parameter) and isinstance(norm.bias, nn.Parameter)


@pytest.mark.parametrize("name", ["instance", "plain_instance"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_is_that_of_torch(name, memory_format):
    norm: Any = make_norm(name, 6).double()
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    images = torch.randn(3, 6, 5, 4, dtype=torch.float64).contiguous(memory_format=memory_format)
    torch.testing.assert_close(norm(images), nn.InstanceNorm2d.forward(norm, images))
