import pytest
import torch

from aigc_lightning.losses.feature_matching import feature_matching, perceptual

REAL = [torch.tensor([[1.0, 2.0], [3.0, 6.0]]), torch.tensor([[[2.0]], [[4.0]]])]
FAKE = [torch.tensor([[1.0, 0.0], [1.0, 2.0]]), torch.tensor([[[3.0]], [[5.0]]])]


def test_feature_matching_compares_the_means_of_each_layer():
    # Means (2, 4) and (1, 1): (1 + 9) / 2; means 3 and 4: 1.
    assert feature_matching(REAL, FAKE).item() == pytest.approx((5 + 1) / 2)
    assert feature_matching(REAL, [layer.flip(0) for layer in REAL]).item() == 0  # whose features they are is no matter
    assert feature_matching(REAL, [layer[:1] for layer in FAKE]).ndim == 0


def test_the_perceptual_loss_compares_image_by_image():
    # (0 + 4 + 4 + 16) / 4 and (1 + 1) / 2
    assert perceptual(FAKE, REAL).item() == pytest.approx((6 + 1) / 2)
    assert perceptual(REAL, REAL).item() == 0
    assert perceptual(REAL, [layer.flip(0) for layer in REAL]).item() > 0


@pytest.mark.parametrize("loss", [feature_matching, perceptual])
def test_the_gradient_leads_towards_the_wanted_features(loss):
    layers = [layer.clone().requires_grad_() for layer in FAKE]
    loss(layers, REAL).backward()
    with torch.no_grad():
        moved = [layer - 0.1 * layer.grad for layer in layers if layer.grad is not None]
    assert len(moved) == len(layers)
    assert loss(moved, REAL) < loss(FAKE, REAL)


def test_layers_must_agree():
    with pytest.raises(ValueError):
        feature_matching(REAL, FAKE[:1])
