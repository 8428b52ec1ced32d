import pytest
import torch

from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation import feature_network
from aigc_lightning.evaluation.feature_network import FeatureNetwork, with_channels
from aigc_lightning.models.cnn import CNN
from aigc_lightning.models.dcgan import DCGAN


def classifier(tmp_path, channels=1, size=16):
    torch.manual_seed(0)
    model = CNN(ImageSpec(channels, size, size, ("a", "b")), width=4).eval()
    path = tmp_path / "cnn.safetensors"
    save_weights(model, path, {})
    return model, path


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_layers_of_a_classifier_with_gradients_to_the_images_alone(tmp_path):
    model, path = classifier(tmp_path)
    network = FeatureNetwork(str(path))
    given = images(3, 1, 16, 16).requires_grad_()
    layers = network(given)
    assert [tuple(layer.shape) for layer in layers] == [(3, 4, 16, 16), (3, 8, 8, 8), (3, 16, 4, 4), (3, 16)]
    torch.testing.assert_close(layers[-1], model.embed(given.detach()))
    torch.stack([layer.square().sum() for layer in layers]).sum().backward()
    assert given.grad is not None and given.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.network.parameters())
    assert not any(module.training for module in network.network.modules())


def test_other_sizes_and_channels_are_brought_to_those_of_the_classifier(tmp_path):
    _, path = classifier(tmp_path, channels=3)
    network = FeatureNetwork(str(path))
    grey = images(2, 1, 24, 40).requires_grad_()
    layers = network(grey)
    assert layers[0].shape == (2, 4, 16, 16)
    layers[-1].sum().backward()
    assert grey.grad.abs().sum() > 0
    same = network(grey.detach().expand(-1, 3, -1, -1))
    torch.testing.assert_close(same[-1], layers[-1].detach())
    assert FeatureNetwork(str(path), resize=False)(grey)[0].shape == (2, 4, 24, 40)


@pytest.mark.parametrize("found", [1, 3, 4])
@pytest.mark.parametrize("wanted", [1, 3, 4])
def test_channels(found, wanted):
    given = images(2, found, 4, 4)
    made = with_channels(given, wanted)
    assert made.shape == (2, wanted, 4, 4)
    if found == wanted:
        assert made is given
    elif wanted == 4:
        assert torch.equal(made[:, 3], torch.ones(2, 4, 4)) and torch.equal(made[:, :3], with_channels(given, 3))
    elif wanted == 1:
        expected = 0.299 * given[:, 0] + 0.587 * given[:, 1] + 0.114 * given[:, 2]
        torch.testing.assert_close(made[:, 0], expected)
    else:
        assert torch.equal(made, given[:, :3].expand(-1, 3, -1, -1))


def test_networks_that_cannot_be_used_are_named(tmp_path, monkeypatch):
    path = tmp_path / "gan.safetensors"
    gan = DCGAN(ImageSpec(1, 8, 8), width=4)
    gan.configure_model()
    save_weights(gan, path, {})
    with pytest.raises(UserError, match=r"DCGAN in .*gan\.safetensors does not expose its layers"):
        FeatureNetwork(str(path))
    with pytest.raises(UserError, match="nowhere"):
        FeatureNetwork("nowhere")
    monkeypatch.setenv("AIGC_ASSETS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match="aigc assets fetch vgg16"):
        FeatureNetwork("vgg16")


@pytest.mark.slow
def test_vgg_gives_the_layers_of_the_paper(tmp_path, monkeypatch):
    """With random weights: those of ImageNet are not there in tests."""
    from torchvision.models import vgg16

    torch.manual_seed(0)
    whole = vgg16(weights=None).eval()
    torch.save(whole.state_dict(), tmp_path / "vgg16.pth")
    monkeypatch.setattr(feature_network, "find_asset", lambda name: tmp_path / "vgg16.pth")
    given = images(1, 1, 32, 48).requires_grad_()
    layers = FeatureNetwork("vgg16")(given)
    sizes = [(64, 32, 48), (128, 16, 24), (256, 8, 12), (512, 4, 6)]
    assert [tuple(layer.shape[1:]) for layer in layers] == sizes
    pixels = (given.detach().expand(-1, 3, -1, -1) + 1) / 2
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (pixels - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(layers[1], whole.features[:9](pixels), rtol=1e-3, atol=1e-4)
    layers[-1].sum().backward()
    assert given.grad is not None and given.grad.abs().sum() > 0
