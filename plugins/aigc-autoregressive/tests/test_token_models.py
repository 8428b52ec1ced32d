"""`image_gpt`, `maskgit` and `var` keep every promise of a plugin, over tokens and over pixels."""

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.core.checkpoint import load_with_record, save_weights
from aigc_lightning.core.chunks import sampled
from aigc_lightning.models.cnn import CNN
from aigc_lightning.testing import ModelConformance, capability_checks
from torch import Tensor

from aigc_autoregressive.levels import to_images
from aigc_autoregressive.models.image_gpt import ImageGPTModel
from aigc_autoregressive.models.maskgit import MaskGITModel
from aigc_autoregressive.models.token_model import TokenModel
from aigc_autoregressive.models.var import VARModel
from aigc_autoregressive.models.vqgan import VQGANModel
from aigc_autoregressive.tokenizers.quantizer import to_vectors
from aigc_autoregressive.transformers.conditioning import OPEN

SPEC = ImageSpec(1, 8, 8, class_names=("a", "b", "c"))
CAPTIONED = ImageSpec(1, 8, 8, captions=True)
TINY = {"width": 16, "depth": 2, "num_heads": 2}
#: The kit trains for a few steps, after which classes must change tokens.
SMALL = (*(f"model.{name}={value}" for name, value in TINY.items()), "model.warmup_steps=0")
MODELS: dict[str, type[TokenModel]] = {"image_gpt": ImageGPTModel, "maskgit": MaskGITModel, "var": VARModel}
ONE_TOKENIZER = dict.fromkeys(
    ("refuses_what_it_cannot_do", "trains_on_the_shapes_it_claims"), "the tokenizer decides the shape of the images"
)
CANNOT_EXPORT = {"can_be_exported": "it draws token by token"}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of tokenizers, by quantizer, and of what is none."""
    folder = tmp_path_factory.mktemp("tokenizers")
    small: dict[str, Any] = {"width": 4, "latent_channels": 4, "multipliers": (1, 2)}
    options: dict[str, Any] = {"num_codes": 12, "width": 4}
    torch.manual_seed(0)
    scales = {**options, "scales": [[1, 1], [2, 2], [4, 4]]}
    models = {
        "vq": VQGANModel(SPEC, quantizer_options=options, **small),
        "scales": VQGANModel(SPEC, "multi_scale", scales, **small),
        "cnn": CNN(SPEC),
    }
    for name, model in models.items():
        model.configure_model()
        save_weights(model, folder / f"{name}.safetensors", {})
    return {path.stem: str(path) for path in folder.iterdir()}


def made(kind: str, tokenizer: str | None = None, spec: ImageSpec = SPEC, **options: Any) -> Any:
    torch.manual_seed(1)
    of_tokens = {} if tokenizer is None else {"tokenizer": tokenizer}
    model = MODELS[kind](spec, **{**TINY, **of_tokens, **options})  # type: ignore[arg-type]
    for parameter in model.network.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    model.configure_model()
    return model.eval()


def over_tokens(kind: str, tokenizers: dict[str, str], **options: Any) -> Any:
    return made(kind, tokenizers["scales" if kind == "var" else "vq"], **options)


class TestImageGPT(ModelConformance):
    model = "image_gpt"
    settings = (
        *SMALL,
        "model.lr=0.5",
        "model.dropout=0",
        "model.num_levels=256",
    )  # those of the images that the kit makes up
    left_out = CANNOT_EXPORT


class OfTokens(ModelConformance):
    __test__ = False
    tokenizer = "vq"
    options: tuple[str, ...] = ("model.dropout=0", "model.lr=0.1")
    left_out = {**CANNOT_EXPORT, **ONE_TOKENIZER}

    @pytest.fixture(autouse=True)
    def with_tokenizer(self, tokenizers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        settings = (*SMALL, *self.options, "data.size=8", f"model.tokenizer={tokenizers[self.tokenizer]}")
        monkeypatch.setattr(type(self), "settings", settings)


@pytest.mark.slow
class TestImageGPTOfTokens(OfTokens):
    __test__ = True
    model = "image_gpt"
    options = ("model.dropout=0", "model.lr=0.5", "model.num_levels=256")  # its preset learns pixels


@pytest.mark.slow
class TestMaskGIT(OfTokens):
    __test__ = True
    model = "maskgit"
    left_out = {**OfTokens.left_out, "obeys_what_it_takes": "after a few steps classes change no token yet"}


@pytest.mark.slow
class TestVAR(OfTokens):
    __test__ = True
    model = "var"
    tokenizer = "scales"
    options = ("model.lr=0.1",)
    left_out = {**OfTokens.left_out, "builds_with_defaults": "it needs a tokenizer"}


@pytest.mark.parametrize("kind", MODELS)
def test_images_are_those_of_tokens_by_seed_and_class(tokenizers, kind):
    model = over_tokens(kind, tokenizers, conditions="labels")
    images = sampled(model, [3, 4, 5], guidance=2.0)
    assert images.shape == (3, 1, 8, 8) and images.abs().max() <= 1
    assert torch.equal(sampled(model, [5], guidance=2.0)[0], images[2])
    assert torch.equal(sampled(model, [5], [2], guidance=2.0)[0], images[2])  # 5 mod 3
    assert not torch.equal(sampled(model, [5], [0], guidance=2.0)[0], images[2])


@pytest.mark.parametrize("kind", MODELS)
def test_words_have_the_attention_of_their_bytes(tokenizers, kind):
    tiny = {"size": 8, "depth": 1, "heads": 2, "max_length": 24}
    model = over_tokens(kind, tokenizers, spec=CAPTIONED, conditions="prompts", text_options=tiny)
    case: Any = SimpleNamespace(load=lambda: model)
    capability_checks.maps_its_attention(case)
    capability_checks.looks_at_words(case)
    assert model.word_keys("c\u0153ur red") == [("c\u0153ur", range(1, 6)), ("red", range(7, 10))]
    images = torch.rand(1, 1, 8, 8) * 2 - 1
    for weights in model.attention_maps(images, prompts=["c\u0153ur red"]).values():
        places = weights[0, :, -math.prod(model.attention_grid) :]
        assert (places[..., :10] > 0).all() and not places[..., 10:24].any()  # a start and nine bytes; padding
    with pytest.raises(UserError, match="without classes"):
        model.attention_maps(images, labels=[0])


@pytest.mark.parametrize("kind", MODELS)
def test_prompts_are_followed_and_empty_ones_are_none(tokenizers, kind):
    spec, tiny = CAPTIONED, {"size": 8, "depth": 1, "heads": 2, "max_length": 13}
    model = over_tokens(kind, tokenizers, spec=spec, conditions="prompts", text_options=tiny)
    seeds = range(8)
    dogs, cats, none = (sampled(model, seeds, prompts=[text] * 8) for text in ("a dog", "lots of cats", ""))
    assert torch.equal(sampled(model, [2, 3], prompts=["a dog", "lots of cats"]), torch.stack([dogs[2], cats[3]]))
    assert not torch.equal(dogs, cats)
    assert torch.equal(none, sampled(model, seeds))
    with pytest.raises(UserError, match="up to 12"):
        model.sample([1], prompts=["a very long text"])
    maps = model.attention_maps(torch.rand(2, 1, 8, 8) * 2 - 1)
    assert all(torch.allclose(weights.sum(-1), torch.ones(())) for weights in maps.values())


@pytest.mark.parametrize("kind", MODELS)
def test_editing_keeps_what_is_outside_the_mask_and_knows_nothing_of_what_is_inside(tokenizers, kind):
    model = over_tokens(kind, tokenizers)
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    masks = torch.zeros(2, 1, 8, 8)
    masks[:, :, 2:5, 3:6] = 1
    filled = model.edit(images, masks, seeds=[1, 2])
    assert torch.equal(filled[masks == 0], images[masks == 0])
    assert not torch.equal(filled, images)
    other = torch.where(masks > 0, torch.rand_like(images), images)
    assert torch.equal(model.edit(other, masks, seeds=[1, 2]), filled)
    completed = model.edit(images)
    assert torch.equal(completed[:, :, :4], images[:, :, :4]) and not torch.equal(completed, images)


def test_var_finds_given_tokens_again_where_coarser_ones_were_drawn(tokenizers):
    model = over_tokens("var", tokenizers)
    quantizer, tokenizer = model._quantizer, model.tokenizer
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    latents, tokens = tokenizer.encode(images), model.tokens(images)
    everything = torch.ones_like(tokens, dtype=torch.bool)
    assert torch.equal(model.draw([0, 1], OPEN, (tokens, everything), latents=latents), tokens)
    given = everything.clone()
    given[:, [0, 2, 9]] = False  # the first scale, one of the four of the second, one of the last
    drawn = model.draw([0, 1], OPEN, (tokens, given), latents=latents)
    assert not torch.equal(drawn[given], tokens[given])
    for scale, (first, last) in enumerate(((0, 1), (1, 5), (5, 21))):
        left = latents if scale == 0 else latents - quantizer.partial_sums(drawn[:, :first])[-1]
        nearest = quantizer.codebook.nearest(to_vectors(quantizer.shrunk(left, scale)))
        kept = given[:, first:last]
        assert torch.equal(drawn[:, first:last][kept], nearest[kept])
    rebuilt = quantizer.decode(drawn, (4, 4)), quantizer.decode(torch.where(given, tokens, drawn), (4, 4))
    errors = [(found - latents).square().mean().item() for found in rebuilt]
    assert errors[0] < errors[1]  # what was drawn at the first scale is made up for


def test_var_draws_new_details_for_given_scales(tokenizers):
    model = over_tokens("var", tokenizers)
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    drawn = []
    model.maps.images, images_of = lambda tokens: drawn.append(tokens) or images_of(tokens), model.maps.images
    model.edit(images, keep_scales=2, seeds=[1, 2])
    assert torch.equal(drawn[0][:, :5], model.tokens(images)[:, :5])
    assert not torch.equal(drawn[0][:, 5:], model.tokens(images)[:, 5:])
    with pytest.raises(UserError, match="from 1 to 2"):
        model.edit(images, keep_scales=3)
    with pytest.raises(UserError, match="does not act"):
        model.edit(images, torch.ones(2, 1, 8, 8), keep_scales=1)


@pytest.mark.parametrize("conditions", ["none", "labels"])
def test_the_probabilities_of_all_images_sum_to_1(conditions):
    spec = ImageSpec(1, 2, 2, class_names=("a", "b", "c"))
    model = made("image_gpt", spec=spec, num_levels=4, conditions=conditions)
    images = to_images(torch.tensor(list(itertools.product(range(4), repeat=4))).view(-1, 1, 2, 2), 4)
    assert model.log_likelihood(images).exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert model.log_likelihood(torch.full((1, 1, 2, 2), 0.1)).item() == -torch.inf
    if conditions == "labels":
        one = model.log_likelihood(images, [1] * len(images))
        assert one.exp().sum().item() == pytest.approx(1, abs=1e-5)
        assert not torch.allclose(one, model.log_likelihood(images))


@pytest.mark.parametrize("kind", MODELS)
def test_a_checkpoint_holds_its_tokenizer(tokenizers, kind, tmp_path):
    model = over_tokens(kind, tokenizers)
    save_weights(model, tmp_path / "model.safetensors", {})
    loaded, record = load_with_record(tmp_path / "model.safetensors")
    assert torch.equal(loaded.sample([4]), model.sample([4]))  # type: ignore[operator]
    assert len(record["components"]["tokenizer"]["sha256"]) == 64


@pytest.mark.parametrize("kind", MODELS)
def test_attention_and_features_are_those_of_the_images_tokens(tokenizers, kind):
    model = over_tokens(kind, tokenizers)
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    maps = model.attention_maps(images)
    assert list(maps) == ["block_0", "block_1"]
    tokens = model.maps.num_tokens
    assert all(weights.shape[-1] in (tokens, tokens + 1) for weights in maps.values())
    if kind == "image_gpt":  # of the keys, the first is the start, and the last token is none
        assert (maps["block_0"].triu(1) == 0).all() and maps["block_0"].shape[-1] == tokens + 1
    assert math.prod(model.attention_grid) <= tokens
    assert model.embed(images).shape == (2, TINY["width"])


def losses_of(model: Any, images: Tensor) -> Tensor:
    tokens = model.tokens(images)
    draws = torch.rand(len(tokens), model.draws_of_loss, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: Tensor = model.losses(model.network, tokens, model.network.condition(None, None), draws)
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_the_loss_of_a_sample_does_not_depend_on_its_batch(tokenizers, kind):
    model = over_tokens(kind, tokenizers)
    images = torch.rand(6, 1, 8, 8) * 2 - 1
    torch.testing.assert_close(losses_of(model, images)[:2], losses_of(model, images[:2]))


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("image_gpt", {"tokenizer": "scales"}, "several scales"),
        ("maskgit", {"tokenizer": "scales"}, "several scales"),
        ("var", {"tokenizer": "vq"}, "one scale"),
        ("image_gpt", {"tokenizer": "cnn"}, "is a CNN"),
        ("image_gpt", {"tokenizer": "vq", "num_levels": 4}, "Leave one"),
        ("image_gpt", {"num_levels": 1}, "num_levels"),
        ("image_gpt", {"conditions": "prompts"}, "caption"),
        ("image_gpt", {"text_options": {"size": 8}}, "text_options"),
        (
            "image_gpt",
            {"spec": CAPTIONED, "conditions": "prompts", "text_options": {"width": 8}},
            "unexpected.*'width'",
        ),
        ("image_gpt", {"condition_dropout": 2}, "condition_dropout"),
        ("image_gpt", {"dropout": 1}, "dropout"),
        ("image_gpt", {"beta2": 1}, "beta2"),
        ("image_gpt", {"width": 18}, "heads"),
        ("maskgit", {"label_smoothing": 1}, "label_smoothing"),
        ("image_gpt", {"spec": ImageSpec(1, 8, 8, task="paired")}, "single images"),
        ("image_gpt", {"tokenizer": "vq", "spec": ImageSpec(3, 8, 8)}, "Use equal sizes"),
    ],
)
def test_what_does_not_go_together_is_refused(tokenizers, kind, options, said):
    named = {**options, "tokenizer": tokenizers[options["tokenizer"]]} if "tokenizer" in options else options
    with pytest.raises(UserError, match=said):
        MODELS[kind](**{"spec": SPEC, **TINY, **named})


def test_options_that_do_not_act_are_refused(tokenizers):
    model = over_tokens("image_gpt", tokenizers)
    for options, said in (
        ({"labels": [1]}, "without classes"),
        ({"prompts": ["a"]}, "without prompts"),
        ({"guidance": 2.0}, "no guidance"),
        ({"top_p": 0.0}, "top_p"),
    ):
        with pytest.raises(UserError, match=said):
            model.sample([1], **options)
    with pytest.raises(UserError, match="no likelihood of images"):
        model.log_likelihood(torch.zeros(1, 1, 8, 8))
    with pytest.raises(UserError, match="never trained without labels"):
        over_tokens("image_gpt", tokenizers, conditions="labels", condition_dropout=0.0).edit(torch.zeros(1, 1, 8, 8))
    with pytest.raises(UserError, match="nothing for it"):
        over_tokens("image_gpt", tokenizers, conditions="labels").edit(torch.zeros(1, 1, 8, 8), guidance=2.0)
    with pytest.raises(UserError, match="steps"):
        made("maskgit").sample([1], steps=0)
