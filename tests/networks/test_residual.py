import pytest
import torch
from torch import nn

from aigc_lightning.networks.residual import ReflectingConv2d


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("bias", [True, False])
def test_borders_are_reflected_as_by_torch(size, bias):
    layer = ReflectingConv2d(2, 3, size, bias).double()
    wanted = nn.Conv2d(2, 3, size, padding=size // 2, padding_mode="reflect", bias=bias).double()
    wanted.load_state_dict(layer.state_dict())
    images = torch.randn(2, 2, 8, 9, dtype=torch.float64)
    torch.testing.assert_close(layer(images), wanted(images))


def test_half_precision_is_padded_as_it_is():
    """Autocast on processors would pad in float32, at twice the memory, and convolutions would round it again."""
    kept: list[torch.Tensor] = []
    with (
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(kept.append, lambda kept: kept),
    ):
        ReflectingConv2d(2, 3, 3)(torch.randn(1, 2, 8, 8, dtype=torch.bfloat16, requires_grad=True))
    assert kept and all(each.dtype == torch.bfloat16 for each in kept)
