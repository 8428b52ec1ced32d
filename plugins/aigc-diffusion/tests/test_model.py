"""The model keeps every promise of a plugin, and the parts go together as the papers say."""

from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.core.chunks import sampled
from aigc_lightning.testing import ModelConformance
from gaussian_data import GaussianData

from aigc_diffusion.model import Diffusion

TINY = {"width": 8, "multipliers": [1, 1]}
SMALL = "model.network_options={width: 8, multipliers: [1, 1]}"
SPEC = ImageSpec(1, 8, 8, class_names=("a", "b", "c"))
TEXTS = {"spec": ImageSpec(1, 8, 8, captions=True), "conditions": "prompts"}


class TestDiffusion(ModelConformance):
    model = "diffusion"
    settings = (SMALL, "data.batch_size=4")


class TestEDM(ModelConformance):
    model = "diffusion"
    settings = (
        SMALL,
        "data.batch_size=4",
        "model.process=edm",
        "model.loss_weight=uncertainty",
        "model.augment_probability=0.1",
        "model.optimizer=muon",
        "ema.relative_widths=0.05,0.10",
    )


def made(spec: ImageSpec = SPEC, **options: Any) -> Diffusion:
    torch.manual_seed(0)
    model = Diffusion(spec, **{"network_options": TINY, **options})
    for parameter in model.network.parameters():
        if not parameter.any():  # many layers start at 0, where all conditions give the same
            torch.nn.init.normal_(parameter, std=0.2)
    model.configure_model()
    return model.eval()


def test_guidance_1_is_no_guidance_bit_for_bit():
    model = made(conditions="labels")
    plain = model.sample([0, 1], [1, 2], steps=3)
    assert torch.equal(model.sample([0, 1], [1, 2], steps=3, guidance=1.0), plain)
    guided = model.sample([0, 1], [1, 2], steps=3, guidance=2.0)
    assert not torch.allclose(guided, plain, atol=1e-3)
    # Outside of the interval nothing is guided.
    late = model.sample([0, 1], [1, 2], steps=3, guidance=2.0, guidance_start=0.99)
    assert torch.equal(late, plain)
    with pytest.raises(UserError, match="no guidance"):
        made().sample([0], guidance=2.0)
    with pytest.raises(UserError, match="in order"):
        model.sample([0], guidance=2.0, guidance_start=0.5, guidance_end=0.2)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "ddim", "ancestral"])
def test_a_seed_is_one_image_in_any_company(sampler):
    model = made(conditions="labels")
    many = sampled(model, [3, 9, 4], [1, 0, 2], steps=2, sampler=sampler)
    assert torch.equal(sampled(model, [9], [0], steps=2, sampler=sampler)[0], many[1])


@pytest.mark.parametrize("process", ["flow", "edm", "vp", "mean_flow"])
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_any_number_of_steps_on_images_of_any_shape(process, steps):
    model = made(ImageSpec(3, 10, 6), process=process)
    images = model.sample([0], steps=steps)
    assert images.shape == (1, 3, 10, 6) and images.abs().max() <= 1 and images.isfinite().all()


@pytest.fixture
def gaussian(monkeypatch: pytest.MonkeyPatch) -> Diffusion:
    """A model with the best network for N(0.1, 0.3^2)."""
    model = made()
    monkeypatch.setattr(model, "_denoiser", lambda *_: GaussianData(0.1, 0.3).denoiser(model.process))
    return model


def test_inverting_and_decoding_come_back(gaussian):
    images = 0.3 * torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-2, 2) + 0.1
    noise = gaussian.invert(images, steps=32)
    assert torch.allclose(noise, (images - 0.1) / 0.3, rtol=5e-3, atol=2e-3)
    assert torch.allclose(gaussian.decode(noise, steps=32, sampler="heun"), images, atol=2e-3)


def of_levels(count: int) -> torch.Tensor:
    return torch.randint(100, 180, (count, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 127.5 - 1


def test_the_likelihood_is_that_of_the_levels(gaussian):
    images, normal = of_levels(3), torch.distributions.Normal(0.1, 0.3)
    masses = normal.cdf(images.double() + 1 / 255) - normal.cdf(images.double() - 1 / 255)
    expected = masses.log().flatten(1).sum(dim=1)
    found = gaussian.log_likelihood(images, steps=32, probes=0)
    assert found.dtype == torch.float64
    assert torch.allclose(found, expected, atol=0.2)  # dequantisation moves each pixel by up to half a level
    # Jacobians of this data are multiples of the identity, for which one probe is exact.
    assert torch.allclose(gaussian.log_likelihood(images, steps=32, probes=1), found, atol=1e-3)


def test_an_estimate_depends_on_its_seed_and_condition_alone():
    model, images = made(conditions="labels"), of_levels(3)
    both = model.log_likelihood(images, [0, 1, 2], seeds=[3, 4, 5], steps=2)
    alone = model.log_likelihood(images[1:2], [1], seeds=[4], steps=2)
    assert torch.allclose(alone, both[1:2], rtol=1e-5)
    for other in (
        model.log_likelihood(images, [0, 1, 2], seeds=[6, 7, 8], steps=2),
        model.log_likelihood(images, [1, 2, 0], seeds=[3, 4, 5], steps=2),
        model.log_likelihood(images, seeds=[3, 4, 5], steps=2),
    ):
        assert not torch.isclose(other, both, rtol=1e-5).any()


def test_likelihoods_that_were_never_learned_are_refused():
    images = of_levels(2)
    always = made(conditions="labels", condition_dropout=0.0)
    with pytest.raises(UserError, match="never trained without labels"):
        always.log_likelihood(images, steps=1)
    assert always.log_likelihood(images, [0, 1], steps=1).isfinite().all()
    with pytest.raises(UserError, match="trained without labels"):
        made().log_likelihood(images, [0, 1], steps=1)
    with pytest.raises(UserError, match="probes is -1"):
        made().log_likelihood(images, probes=-1)
    with pytest.raises(UserError, match="aigc edit"):
        made(ImageSpec(1, 8, 8, task="paired")).log_likelihood(images)


def test_what_a_mask_leaves_stays_byte_for_byte():
    model = made()
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    masks = torch.zeros(2, 1, 8, 8)
    masks[:, :, 2:5, 3:] = 1
    filled = model.edit(images, masks=masks, seeds=[5, 6], steps=4)
    kept = masks.expand_as(images) == 0
    assert torch.equal(filled[kept], images[kept])
    assert not torch.isclose(filled[~kept], images[~kept], atol=1e-3).all()
    assert not torch.equal(filled, model.edit(images, masks=masks, seeds=[7, 8], steps=4))


def test_strength_says_how_much_of_an_image_is_kept():
    model = made()
    images = torch.rand(1, 1, 8, 8) * 2 - 1
    near, far = (model.edit(images, seeds=[1], steps=10, strength=strength) for strength in (0.1, 0.9))
    assert (near - images).abs().mean() < (far - images).abs().mean()
    with pytest.raises(UserError, match="strength"):
        model.edit(images, strength=1.5)


def test_a_model_of_pairs_translates_and_generates_nothing():
    model = made(ImageSpec(1, 8, 8, task="paired"))
    source = torch.rand(2, 1, 8, 8) * 2 - 1
    first = model.edit(source, seeds=[1, 2], steps=2)
    assert first.shape == source.shape
    assert torch.equal(model.edit(source, seeds=[1, 2], steps=2), first)
    assert not torch.equal(model.edit(-source, seeds=[1, 2], steps=2), first)
    with pytest.raises(UserError, match="aigc edit"):
        model.sample([0])
    with pytest.raises(UserError, match="Leave masks"):
        model.edit(source, masks=torch.ones(2, 1, 8, 8))
    with pytest.raises(UserError, match="Leave masks"):
        model.edit(source, guidance=2.0)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ancestral"])
def test_images_of_other_sizes_are_edited(sampler):
    edited = made().edit(torch.zeros(2, 1, 7, 13), seeds=[1, 2], steps=3, sampler=sampler)
    assert edited.shape == (2, 1, 7, 13) and edited.isfinite().all()


def test_guidance_that_would_not_act_is_refused():
    with pytest.raises(UserError, match="no prompt"):
        made(conditions="labels").edit(torch.zeros(1, 1, 8, 8), guidance=2.0)
    texts = made(**TEXTS, text_options={"size": 16, "depth": 1})
    with pytest.raises(UserError, match="no prompt"):
        texts.sample([0], guidance=2.0)
    assert not torch.equal(*(texts.sample([0], None, ["a"], steps=2, guidance=by) for by in (1.0, 3.0)))
    with pytest.raises(UserError, match="without guidance"):
        texts.sample([0], guidance_start=0.5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"conditions": "labels", "spec": ImageSpec(1, 8, 8)}, "needs a label"),
        ({"spec": ImageSpec(1, 8, 8, task="unpaired")}, "unpaired"),
        ({"process_options": {"predictions": "x0"}}, "no option 'predictions'"),
        ({"network_options": {"widht": 8}}, "no option 'widht'"),
        ({"network_options": {"width": "wide"}}, "cannot be built"),
        ({"process_options": {"prediction": "eps"}}, "pure noise"),
        ({"text_options": {"size": 64}}, "acts with"),
        ({**TEXTS, "text_options": {"sizes": 64}}, "text encoder has no option 'sizes'"),
        ({**TEXTS, "text_options": {"size": "big"}}, "text encoder cannot be built"),
        ({"time_sampling": "log_normal"}, "does not suit"),
        ({"time_options": {"mea": 0.0}}, "mean, std and shift"),
        ({"condition_dropout": 2.0}, "condition_dropout"),
        ({"beta2": 1.0}, "beta2"),
        ({"spec": ImageSpec(1, 8, 8, task="paired"), "augment_probability": 0.1}, "source images"),
        ({"spec": ImageSpec(1, 8, 8, task="restoration", scale=2)}, "2 times smaller"),
    ],
)
def test_what_does_not_go_together_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        Diffusion(**{"spec": SPEC, **options})


@pytest.mark.parametrize("process", ["flow", "edm", "mean_flow"])
@pytest.mark.parametrize(
    "options",
    [
        {"steps": 5},
        {"steps": 5, "sampler": "heun"},
        {"steps": 6, "guidance": 2.0},
        {"steps": 8, "sampler": "ancestral", "guidance": 2.0, "guidance_start": 0.2, "guidance_end": 0.6},
    ],
)
def test_the_evaluations_that_receipts_state_are_those_of_sampling(process, options):
    model = made(process=process, conditions="labels")
    calls = []
    network: Any = model.averaged("network")
    network.body.register_forward_hook(lambda *_: calls.append(1))
    model.sample([1], **options)
    assert model.network_evaluations(**options) == len(calls) > 0
