"""`vqgan` keeps every promise of a plugin, with each quantizer and with its adversarial loss."""

import csv
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.cli import main
from aigc_lightning.data import Digits
from aigc_lightning.inference import load
from aigc_lightning.testing import ModelConformance

from aigc_autoregressive.models.vqgan import VQGANModel
from aigc_autoregressive.tokenizers.usage import counts, dead_codes, perplexity, usage

SMALL = ("model.width=4", "model.latent_channels=4", "data.size=16", "data.batch_size=8")
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


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Stand for the trainer of one process, at a step."""

    def set_step(step: int) -> None:
        strategy = SimpleNamespace(reduce=lambda values, reduce_op: values)
        trainer = SimpleNamespace(global_step=step, world_size=1, strategy=strategy)
        monkeypatch.setattr(VQGANModel, "trainer", trainer)

    return set_step


@pytest.mark.parametrize("adaptive", [True, False])
def test_the_adversarial_loss_starts_late_and_is_balanced(at_step, adaptive):
    """Equation 7: its gradient at the last layer is as large as that of the other losses, times the weight."""
    adversarial = {"adversarial_weight": 0.5, "adversarial_start": 3, "adaptive_weight": adaptive}
    model = made(**adversarial, discriminator_layers=1, discriminator_width=4).train()
    images = torch.rand(3, 1, 16, 16) * 2 - 1
    at_step(2)
    output, quantized = model.tokenizer(images)
    error, against = (output - images).abs().mean(), -model.discriminator(output).mean()
    plain = model.tokenizer_loss(images)
    torch.testing.assert_close(plain, error + quantized.loss)
    lengths = [
        torch.autograd.grad(part, model.tokenizer.last_layer, retain_graph=True)[0].norm() for part in (error, against)
    ]
    at_step(3)
    factor = 0.5 * (lengths[0] / (lengths[1] + 1e-4) if adaptive else 1)
    torch.testing.assert_close(model.tokenizer_loss(images), plain + factor * against)
    assert against.abs() > 1e-3 and not 0.9 < lengths[0] / lengths[1] < 1.1


def test_the_discriminator_learns_from_the_start_of_its_loss(at_step, monkeypatch):
    model = made(adversarial_weight=0.5, adversarial_start=3, discriminator_layers=1, discriminator_width=4)
    updated: list[str] = []
    monkeypatch.setattr(model, "update", lambda player, loss: updated.append(player))
    for step in (2, 3):
        at_step(step)
        model.adversarial_step({"image": torch.zeros(1, 1, 16, 16)})
    assert updated == ["tokenizer", "tokenizer", "discriminator"]


def test_features_are_compared_where_there_is_a_weight(at_step):
    at_step(0)
    model = made(perceptual_weight=3.0, feature_network="somewhere").train()
    images = torch.rand(3, 1, 16, 16) * 2 - 1
    plain, (output, _) = model.tokenizer_loss(images), model.tokenizer(images)
    model.features = lambda given: [given.mean(dim=(2, 3)), 2 * given]  # type: ignore[assignment]
    difference = (output - images).mean(dim=(2, 3)).square().mean() + (2 * (output - images)).square().mean()
    torch.testing.assert_close(model.tokenizer_loss(images), plain + 3 * difference / 2)


def test_the_use_of_the_codebook_by_held_out_images_is_logged(tmp_path):
    run = tmp_path / "run"
    sizes = ["--model.width=4", "--model.latent_channels=4", "--data=digits", "--data.size=8"]
    steps = ["--trainer.max_steps=2", "--trainer.check_val_every_n_epoch=null", "--trainer.val_check_interval=2"]
    quantizer = ["--model=vqgan", "--model.quantizer_options={num_codes: 40, width: 4}", "--trainer.accelerator=cpu"]
    precision = "--trainer.precision=32-true"  # that of the model below, also where bf16 is fast
    assert main(["fit", *quantizer, *sizes, *steps, precision, "--run", str(run)]) == 0
    model: Any = load(str(run)).model
    held_out = Digits(size=8).val_source()
    found = counts(model.tokens(held_out.images(range(len(held_out))).float() / 127.5 - 1), 40)
    expected = {
        "val/codebook_usage": usage(found).item(),
        "val/perplexity": perplexity(found).item(),
        "val/dead_codes": len(dead_codes(found)),
    }
    with (run / "metrics.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["val/psnr"]]
    assert {name: float(rows[-1][name]) for name in expected} == pytest.approx(expected, rel=1e-5)


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
