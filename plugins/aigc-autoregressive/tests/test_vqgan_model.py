"""`vqgan` keeps every promise of a plugin, with each quantizer and with its adversarial loss."""

from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.testing import ModelConformance

from aigc_autoregressive.models.vqgan import VQGANModel

SMALL = ("model.width=4", "model.latent_channels=4", "data.size=16")
SPEC = ImageSpec(1, 16, 16)


class TestVQGAN(ModelConformance):
    model = "vqgan"
    settings = (*SMALL, "model.quantizer_options={num_codes: 16, width: 4}")


@pytest.mark.slow
class TestAdversarialVQGAN(ModelConformance):
    model = "vqgan"
    settings = (
        *SMALL,
        "model.quantizer=multi_scale",
        "model.quantizer_options={num_codes: 16, width: 4, scales: [[1, 1], [2, 2], [4, 4]]}",
        "model.adversarial_weight=0.5",
        "model.adversarial_start=1",
        "model.discriminator_layers=1",
        "model.discriminator_width=4",
    )
    left_out = {
        "gives_the_same_in_micro_batches": "the adaptive weight needs whole batches, and refuses others",
        "trains_on_the_shapes_it_claims": "the scales are those of one size",
    }


def made(spec: ImageSpec = SPEC, **options: Any) -> VQGANModel:
    torch.manual_seed(0)
    model = VQGANModel(spec, **{"width": 4, "latent_channels": 4, **options})
    model.configure_model()
    return model.eval()


@pytest.mark.parametrize(
    ("quantizer", "options", "tokens"),
    [
        ("vq", {"num_codes": 16, "width": 4}, 16),
        ("fsq", {"levels": [3, 3]}, 16),
        ("multi_scale", {"num_codes": 16, "width": 4, "scales": [[1, 1], [2, 2], [4, 4]]}, 21),
    ],
)
def test_reconstructions_are_the_images_of_the_tokens(quantizer, options, tokens):
    model = made(quantizer=quantizer, quantizer_options=options)
    images = torch.rand(3, 1, 16, 16) * 2 - 1
    found = model.tokens(images)
    assert found.shape == (3, tokens) and model.num_tokens == tokens
    assert torch.equal(model.from_tokens(found), model.edit(images))


def test_the_codebook_starts_from_the_data():
    class Data:
        def training_batch(self, count: int) -> dict[str, torch.Tensor]:
            return {"image": torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1}

    model = made(quantizer_options={"num_codes": 16, "width": 4})
    images = Data().training_batch(64)["image"]
    before = len(model.tokenizer.encode(images).indices.unique())
    model.setup_from_data(Data())
    assert len(model.tokenizer.encode(images).indices.unique()) == 16 > before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"spec": ImageSpec(1, 17, 16)}, "17x16"),
        ({"spec": ImageSpec(1, 16, 16, task="paired")}, "single images"),
        ({"perceptual_weight": 1.0}, "provides the features"),
        ({"quantizer_options": {"codes": 4}}, "no option 'codes'"),
        ({"quantizer": "fsq", "quantizer_options": {"levels": [1]}}, "at least 2 levels"),
        ({"quantizer_options": {"num_codes": 0}}, "num_codes"),
        ({"adversarial_weight": 1.0, "discriminator_layers": 3}, "at least 24"),
    ],
)
def test_what_does_not_go_together_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        VQGANModel(**{"spec": SPEC, **options})


def test_images_of_other_sizes_are_refused():
    with pytest.raises(UserError, match="20x16"):
        made().edit(torch.zeros(1, 1, 20, 16))
