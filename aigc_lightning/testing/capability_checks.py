"""Checks of likelihoods, embedded texts, attention maps, and latents of images.

Shapes: B batch, C channels, H and W height and width in pixels, D features.
"""

import math
from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor

from aigc_lightning.core.attention import AttentionModel, TextAttentionModel, attention_grid
from aigc_lightning.core.capabilities import (
    Embedder,
    FirstStage,
    InvertibleGenerator,
    LikelihoodModel,
    TextEmbedder,
    Tokenizer,
    likelihood_kind,
    takes,
)
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.errors import UserError
from aigc_lightning.testing.cases import ModelCase, isolated
from aigc_lightning.testing.checks import CheckFailedError, not_applicable, require
from aigc_lightning.testing.condition_checks import SEEDS, given_to_likelihood, level_images

_TEXTS = ("one circle", "three stars")


def computes_log_likelihoods(case: ModelCase) -> None:
    """Its log-likelihoods are float64 (B,), finite, and each depends on its own image, conditions and seed alone."""
    model = case.load()
    if not isinstance(model, LikelihoodModel):
        not_applicable("it computes no log-likelihoods")
    try:
        kind = likelihood_kind(model)
    except TypeError as error:
        raise CheckFailedError(str(error)) from error
    images = level_images(model.spec, len(SEEDS))
    computed, reason = 0, ""
    for given in _ways(model, len(images)):
        try:
            with isolated():
                first = model.log_likelihood(images, **given)
        except UserError as error:
            reason = str(error)  # of a model that is never without a condition, or has no likelihood at all
            continue
        computed += 1
        _check_nats(first, kind, len(images))
        _check_pure(model, lambda given=given: model.log_likelihood(images, **given), first)
        alone = model.log_likelihood(images[1:], **{name: value[1:] for name, value in given.items()})
        same = torch.allclose(first[1:], alone, rtol=1e-4, atol=1e-3)
        require(same, "A log-likelihood depends on the other images of the call.")
        if "seeds" in given:
            others = {**given, "seeds": [seed + 100 for seed in given["seeds"]]}
            require(not torch.equal(first, model.log_likelihood(images, **others)), "Another seed changes nothing.")
    if not computed:
        not_applicable(reason)


def embeds_texts(case: ModelCase) -> None:
    """It embeds texts as it embeds images: float vectors of the same size, each from its own text alone."""
    model = case.load()
    if not callable(getattr(model, "embed_text", None)):
        not_applicable("it embeds no texts")
    require(isinstance(model, Embedder), "It has embed_text but no embed: texts are embedded in the space of images.")
    assert isinstance(model, TextEmbedder)
    with isolated():
        first, images = model.embed_text(_TEXTS), model.embed(level_images(model.spec, 1))
    wanted = (len(_TEXTS), images.shape[1])
    require(tuple(first.shape) == wanted, f"embed_text() returns {tuple(first.shape)}, not {wanted}, as embed() does.")
    require(first.is_floating_point() and bool(first.isfinite().all()), "embed_text() returns no finite floats.")
    require(not torch.equal(first[0], first[1]), "Two texts have the same vector.")
    _check_pure(model, lambda: model.embed_text(_TEXTS), first)
    alone = model.embed_text(_TEXTS[1:])
    require(torch.allclose(first[1:], alone, atol=1e-4), "A text's vector depends on the other texts of the call.")


def maps_its_attention(case: ModelCase) -> None:
    """Its attention maps are weights (B, heads, queries, keys) by block, each row of which sums to 1."""
    model = case.load()
    if not isinstance(model, AttentionModel):
        not_applicable("it has no attention maps")
    images = level_images(model.spec, len(SEEDS))
    with isolated():
        first, alone = model.attention_maps(images), model.attention_maps(images[1:])
    require(isinstance(first, Mapping) and len(first) > 0, "attention_maps() returns no mapping of blocks.")
    for name, weights in first.items():
        places, shape = math.prod(attention_grid(model, name)), tuple(weights.shape)
        require(len(shape) == 4 and shape[0] == len(images), f"{name} has {shape}, not (B, heads, queries, keys).")
        require(shape[-1] >= places, f"{name} has {shape[-1]} keys for the {places} places of attention_grid.")
        require(shape[-2] >= places, f"{name} has {shape[-2]} queries for the {places} places of attention_grid.")
        _check_weights(name, weights)
        require(torch.allclose(weights[1:], alone[name], atol=1e-4), f"{name} depends on the other images of the call.")
        _check_pure(model, lambda name=name: model.attention_maps(images)[name], weights)


def looks_at_words(case: ModelCase) -> None:
    """The words of a prompt have keys of their own in its attention maps, and another word changes what is there."""
    model = case.load()
    if not isinstance(model, AttentionModel) or not takes(model.attention_maps, "prompts"):
        not_applicable("its attention maps take no prompts")
    if "prompts" in getattr(model, "without_conditions", ()):
        not_applicable("it was built without prompts")
    require(isinstance(model, TextAttentionModel), "Its attention_maps take prompts, but it has no word_keys.")
    assert isinstance(model, TextAttentionModel)
    prompt, images = "one c\u00edrculo", level_images(model.spec, 1)
    words = model.word_keys(prompt)
    require([word for word, _ in words] == prompt.split(), f"word_keys() gives {words} for the prompt {prompt!r}.")
    with isolated():
        given, other = (model.attention_maps(images, prompts=[text]) for text in (prompt, "one two"))
    for name, weights in given.items():
        _check_weights(name, weights)
        places = math.prod(attention_grid(model, name))
        keys = [key for _, part in words for key in part]
        require(len(set(keys)) == len(keys), "Words share keys.")
        outside = min(keys) < 0 or max(keys) >= weights.shape[-1] - places
        require(not outside, f"Keys of words are none of {name}, or are those of places.")
    same = all(torch.equal(weights, other[name]) for name, weights in given.items())
    require(not same, "Another prompt gives the same attention maps.")


def _check_weights(name: str, weights: Tensor) -> None:
    """Check that weights (B, heads, queries, keys) of a block are shares."""
    require(weights.is_floating_point() and bool((weights >= 0).all()), f"{name} has weights below 0.")
    sums = weights.double().sum(-1)
    require(torch.allclose(sums, torch.ones_like(sums), atol=1e-3), f"Rows of {name} do not sum to 1.")


def encodes_and_decodes(case: ModelCase) -> None:
    """Its latents are float (B, D, h, w) or (B, D), each from its own image alone, and decode to images; tokens too."""
    model = case.load()
    if not isinstance(model, FirstStage):
        not_applicable("it encodes no images")
    images = level_images(model.spec, len(SEEDS))
    try:
        with isolated():
            first, alone = model.encode(images), model.encode(images[1:])
            decoded = model.decode(first)
    except UserError as error:
        not_applicable(str(error))
    shape = tuple(first.shape)
    require(len(shape) in (2, 4) and shape[0] == len(images), f"encode() returns {shape}, not (B, D, h, w) or (B, D).")
    require(first.is_floating_point() and bool(first.isfinite().all()), "encode() returns no finite floats.")
    require(torch.allclose(first[1:], alone, atol=1e-4), "An image's latents depend on the other images of the call.")
    _check_pure(model, lambda: model.encode(images), first)
    require(decoded.shape == images.shape, f"decode() returns {tuple(decoded.shape)}, not {tuple(images.shape)}.")
    require(bool(decoded.abs().max() <= 1), "decode() returns images outside of [-1, 1].")
    if isinstance(model, Tokenizer):
        _check_tokens(model, images)


def _check_tokens(model: Tokenizer, images: Tensor) -> None:
    with isolated():
        tokens, alone, decoded = model.tokens(images), model.tokens(images[1:]), model.from_tokens(model.tokens(images))
    fits = tokens.dtype == torch.int64 and tokens.ndim == 2 and len(tokens) == len(images)
    require(fits, f"tokens() returns {tokens.dtype} {tuple(tokens.shape)}, not int64 (B, N).")
    require(bool((tokens >= 0).all() and (tokens < model.num_codes).all()), "Tokens are not from 0 to num_codes - 1.")
    require(torch.equal(tokens[1:], alone), "An image's tokens depend on the other images of the call.")
    require(decoded.shape == images.shape, f"from_tokens() returns {tuple(decoded.shape)}, not {tuple(images.shape)}.")


def inverts_images(case: ModelCase) -> None:
    """The latents that it finds for images have the shape of its seeds' latents, each from its own image alone."""
    model = case.load()
    if not isinstance(model, InvertibleGenerator):
        not_applicable("it finds no latents of images")
    images = level_images(model.spec, len(SEEDS))
    with isolated():
        first, alone = model.invert(images), model.invert(images[1:])
    wanted = tuple(model.latents(SEEDS).shape)
    require(tuple(first.shape) == wanted, f"invert() returns {tuple(first.shape)}, but latents() {wanted}.")
    require(torch.allclose(first[1:], alone, atol=1e-3), "An image's latents depend on the other images of the call.")
    _check_pure(model, lambda: model.invert(images), first)


def _ways(model: Any, count: int) -> list[dict[str, list[Any]]]:
    """Return the arguments of `log_likelihood` with all that it takes, and with what it cannot do without."""
    everything = given_to_likelihood(model, count)
    parameters = signature(model.log_likelihood).parameters
    least = {
        name: value
        for name, value in everything.items()
        if name == "seeds" or parameters[name].default is Parameter.empty
    }
    return [everything] if least.keys() == everything.keys() else [everything, least]


def _check_nats(nats: Tensor, kind: str, count: int) -> None:
    """Fail unless log-likelihoods have the right shape, type and range."""
    require(tuple(nats.shape) == (count,), f"log_likelihood() returns {tuple(nats.shape)}, not {(count,)}.")
    require(nats.dtype == torch.float64, f"log_likelihood() returns {nats.dtype}, not float64.")
    require(bool(nats.isfinite().all()), "log_likelihood() returns values that are not finite.")
    most = nats.max().item()
    require(kind != "exact" or most <= 0, f"An exact log-probability is {most:.3g}, above 0.")


def _check_pure(model: ImageModel, run: Any, first: Tensor) -> None:
    """Fail unless a method returns the same again, in training mode too, without side effects."""
    model.train()
    state = torch.get_rng_state()
    again = run()
    require(torch.equal(first, again), "It returns something else at a second call or in training mode.")
    require(torch.equal(state, torch.get_rng_state()), "It draws from the global random state.")
    require(model.training, "It changes the mode of the model.")
    require(not again.requires_grad, "It keeps the autograd graph.")
    model.eval()
