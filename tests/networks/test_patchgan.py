import pytest
import torch
from torch import nn

from aigc_lightning.networks.patchgan import PatchGAN, PatchGANs, smallest_size


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_of_the_papers_networks():
    # 4x4 convolutions C64-C128-C256-C512 and one more to the logits.
    hidden = 16 * (64 * 128 + 128 * 256 + 256 * 512)
    last = 16 * 512 + 1
    pairs = 16 * 6 * 64 + 64 + hidden + 2 * (128 + 256 + 512) + last  # pix2pix: scale and shift after each
    assert count(PatchGAN(6, 64, 3, "batch")) == count(PatchGAN(6, 64, 3, "instance")) == pairs == 2_768_705
    single = 16 * 3 * 64 + 64 + hidden + (128 + 256 + 512) + last  # CycleGAN: a bias before each plain norm
    assert count(PatchGAN(3, 64, 3, "plain_instance")) == single == 2_764_737


@pytest.mark.parametrize(("num_layers", "patch"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_size_of_the_patches(num_layers, patch):
    """A logit in the middle depends on so many pixels in each direction."""
    torch.manual_seed(0)
    network = PatchGAN(1, 2, num_layers, "none").double()
    images = torch.randn(1, 1, 320, 320, dtype=torch.float64, requires_grad=True)
    logits = network(images)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert images.grad is not None
    seen = images.grad[0, 0] != 0
    rows = seen.any(dim=1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == patch


def test_the_paper_has_30_by_30_patches():
    assert PatchGAN(3, 4, 3, "instance")(torch.randn(2, 3, 256, 256)).shape == (2, 1, 30, 30)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_the_smallest_size_has_one_patch_and_no_smaller_one_has(num_layers):
    network, size = PatchGAN(1, 4, num_layers, "none"), smallest_size(num_layers)
    assert network(torch.randn(1, 1, size, size)).shape == (1, 1, 1, 1)
    with pytest.raises(RuntimeError):
        network(torch.randn(1, 1, size - 1, size - 1))


@pytest.mark.parametrize("norm", ["group", "instance", "plain_instance", "none"])
def test_each_image_is_judged_alone(norm):
    torch.manual_seed(0)
    network = PatchGAN(3, 8, 2, norm)
    images = torch.randn(3, 3, 30, 24)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), alone, rtol=1e-4, atol=1e-5)


def test_images_are_judged_together_or_by_kind():
    torch.manual_seed(0)
    images, others = torch.randn(2, 2, 3, 24, 24)
    pairs = PatchGAN(6, 4, 2, "instance")
    assert torch.equal(pairs(images, others), pairs(torch.cat([images, others], dim=1)))
    kinds = PatchGANs({kind: PatchGAN(3, 4, 2, "instance") for kind in "AB"})
    assert torch.equal(kinds(images, "B"), kinds["B"](images)) and not torch.equal(
        kinds(images, "A"), kinds["B"](images)
    )


def test_norms_follow_all_hidden_layers_but_the_first():
    layers = list(PatchGAN(3, 4, 3, "batch").layers)
    assert not isinstance(layers[1], nn.BatchNorm2d)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) == 3
