import pytest
import torch

from aigc_lightning.networks.resnet import ResidualBlock, ResNet, num_stages

SIZES = {(1, 1): 1, (5, 7): 1, (8, 8): 1, (17, 31): 3, (28, 28): 3, (32, 32): 3, (64, 64): 4, (64, 8): 1, (256, 256): 5}


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_gives_one_vector_an_image(size):
    network = ResNet(3, size[0], size[1], width=4)
    assert len(network.blocks) == num_stages(*size) == SIZES[size]
    features = network(torch.randn(2, 3, *size))
    assert features.shape == (2, network.num_features) == (2, 4 * min(2 ** SIZES[size], 8))


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_a_block_without_its_residual_is_its_shortcut(size):
    block = ResidualBlock(3, 5).eval()
    with torch.no_grad():
        torch.nn.init.zeros_(next(block.residual[-1].parameters()))
    features = torch.randn(2, 3, size, size)
    assert torch.equal(block(features), block.shortcut(features).relu())
    assert block(features).shape == (2, 5, -(-size // 2), -(-size // 2))


def test_gradients_reach_every_weight():
    network = ResNet(1, 16, 16, width=4)
    network(torch.randn(4, 1, 16, 16)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())
