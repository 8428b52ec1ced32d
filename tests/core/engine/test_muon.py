"""Muon: singular values, the length of steps, AdamW for the rest, and states that can be saved."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from aigc_lightning.core.engine.muon import Muon, orthogonalized
from aigc_lightning.errors import UserError


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 6, 6)])
def test_singular_values_become_near_1_and_vectors_stay(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    found = orthogonalized(matrices)
    left, values, right = torch.linalg.svd(matrices.double(), full_matrices=False)
    scaled = left.mT @ found.double() @ right.mT  # diagonal, if the vectors are the same
    torch.testing.assert_close(scaled, torch.diag_embed(scaled.diagonal(dim1=1, dim2=2)), atol=1e-4, rtol=0)
    expected = values / values.norm(dim=1, keepdim=True)
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    torch.testing.assert_close(scaled.diagonal(dim1=1, dim2=2), expected, atol=1e-4, rtol=0)
    assert expected.min() > 0.3 and expected.max() < 1.3


def test_a_matrix_of_zeros_and_one_of_rank_1_stay_finite():
    assert not orthogonalized(torch.zeros(1, 3, 5)).any()
    line = torch.outer(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0, 4.0]))[None]
    torch.testing.assert_close(orthogonalized(line) / orthogonalized(line).norm(), line / line.norm())


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.convolution = nn.Conv2d(3, 8, 3)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.linear = nn.Linear(6, 4)
        self.norm = nn.LayerNorm(4)


def with_gradients(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return network


def test_weights_of_layers_move_by_a_fifth_of_the_rate_and_the_rest_by_adamw():
    network = with_gradients(Layers())
    before, other = copy.deepcopy(network), with_gradients(copy.deepcopy(network))
    Muon([network], lr=0.01).step()
    AdamW(other.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.0).step()
    moved = {name: value - before.state_dict()[name] for name, value in network.state_dict().items()}
    for name in ("convolution.weight", "depthwise.weight", "linear.weight"):
        assert 0.7 < moved[name].square().mean().sqrt() / (0.01 * 0.2) < 1.2, name
    for name in ("embedding.weight", "convolution.bias", "norm.weight"):
        torch.testing.assert_close(network.get_parameter(name), other.get_parameter(name), msg=name)


def test_a_step_goes_down_and_momentum_is_that_of_nesterov():
    network = nn.Linear(4, 6, bias=False)
    optimizer, begun = Muon([network], lr=1.0, momentum=0.5, weight_decay=0.1), network.weight.detach().clone()
    gradients = [torch.randn(6, 4) for _ in range(2)]
    expected, momentum = begun, torch.zeros(6, 4)
    for gradient in gradients:
        network.weight.grad = gradient.clone()
        optimizer.step()
        momentum = 0.5 * momentum + gradient
        step = orthogonalized((gradient + 0.5 * momentum)[None])[0]
        expected = 0.9 * expected - 0.2 * 6**0.5 * step
    torch.testing.assert_close(network.weight.detach(), expected)


def test_saved_states_go_on_bit_for_bit_and_parameters_without_gradients_stay():
    network = with_gradients(Layers())
    optimizer = Muon([network], lr=0.01)
    optimizer.step()
    other = copy.deepcopy(network)
    resumed = Muon([other], lr=0.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, steps in ((network, optimizer), (other, resumed)):
        with_gradients(one, seed=1).linear.weight.grad = None
        one.norm.bias.grad = None
        steps.step()
    for (name, one), two in zip(network.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), name
    assert steps.state[other.linear.weight].keys() == {"momentum_buffer"}


def test_a_closure_is_called_with_gradients():
    network = nn.Linear(2, 2)
    optimizer, losses = Muon([network], lr=0.1), []

    def closure():
        optimizer.zero_grad()
        loss = network(torch.ones(1, 2)).square().sum()
        loss.backward()
        losses.append(float(loss.detach()))
        return loss

    returned = [optimizer.step(closure) for _ in range(20)]
    assert losses[-1] < losses[0] and None not in returned


def test_weights_that_processes_share_out_are_refused(tmp_path):
    """Orthogonal steps need whole matrices."""
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        network = Layers()
        fully_shard(network.linear, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(UserError, match="Muon needs whole weights"):
            Muon([network], lr=0.01)
    finally:
        torch.distributed.destroy_process_group()
