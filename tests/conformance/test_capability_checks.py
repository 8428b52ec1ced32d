"""The kit on models with likelihoods, embedded texts and attention maps, and on models that get them wrong."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from aigc_lightning.core.image_model import ImageModel, seeded_normal
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.core.words import byte_words
from aigc_lightning.errors import UserError
from aigc_lightning.testing import capability_checks, condition_checks
from aigc_lightning.testing.checks import CheckFailedError, NotApplicableError

SPEC = ImageSpec(1, 4, 4, class_names=("a", "b"))


def case(kind: type[ImageModel], spec: ImageSpec = SPEC) -> Any:
    return SimpleNamespace(load=lambda: kind(spec).eval())


class Levels(ImageModel):
    """A distribution over the 256 levels for each class, the mean of which holds without a class."""

    likelihood_kind: Any = "exact"

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        logits = torch.randn(spec.num_classes, 256, generator=torch.Generator().manual_seed(0))
        self.logits = nn.Parameter(logits)

    def log_likelihood(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        levels = ((images + 1) * 127.5).round().long().flatten(1)
        with self.inference():
            each = self.logits.double().log_softmax(1)
            table = each.mean(0).expand(len(images), -1) if labels is None else each[list(labels)]
            found: Tensor = table.gather(1, levels).sum(1)
            return found


class Drawn(Levels):
    """With noise of each image's seed."""

    likelihood_kind = "estimate"

    def log_likelihood(
        self, images: Tensor, labels: Sequence[int] | None = None, seeds: Sequence[int] | None = None
    ) -> Tensor:
        return super().log_likelihood(images, labels) + seeded_normal(seeds or [0] * len(images), 1)[:, 0].double()


class OnlyByClass(Levels):
    def log_likelihood(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        if labels is None:
            raise UserError("It was never trained without labels.", "Give them.")
        return super().log_likelihood(images, labels)


@pytest.mark.parametrize("kind", [Levels, Drawn, OnlyByClass])
def test_models_with_likelihoods_conform(kind):
    capability_checks.computes_log_likelihoods(case(kind))
    condition_checks.obeys_what_it_takes(case(kind))


def test_models_that_refuse_or_have_none_are_left_out():
    class Refusing(Levels):
        def log_likelihood(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
            raise UserError("It has 16 levels.", "Train it with 256.")

    with pytest.raises(NotApplicableError, match="16 levels"):
        capability_checks.computes_log_likelihoods(case(Refusing))
    for check in (
        capability_checks.computes_log_likelihoods,
        capability_checks.embeds_texts,
        capability_checks.maps_its_attention,
    ):
        with pytest.raises(NotApplicableError):
            check(case(ImageModel))


class Unnamed(Levels):
    likelihood_kind = "bits"


class Single(Levels):
    def log_likelihood(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        return super().log_likelihood(images, labels).float()


class Density(Levels):
    def log_likelihood(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        return super().log_likelihood(images, labels) + 1000


class OfTheBatch(Levels):
    def log_likelihood(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        found = super().log_likelihood(images, labels)
        return found + found.mean()


class Summed(Levels):
    def log_likelihood(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        return super().log_likelihood(images, labels).sum()


class Random(Levels):
    def log_likelihood(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        return super().log_likelihood(images, labels) - torch.rand(len(images), dtype=torch.float64)


class DeafToSeeds(Drawn):
    def log_likelihood(
        self, images: Tensor, labels: Sequence[int] | None = None, seeds: Sequence[int] | None = None
    ) -> Tensor:
        return super().log_likelihood(images, labels)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Unnamed, "likelihood_kind is 'bits'"),
        (Single, "float32, not float64"),
        (Density, "above 0"),
        (OfTheBatch, "depends on the other images"),
        (Summed, r"returns \(\), not \(2,\)"),
        (Random, "global random state"),
        (DeafToSeeds, "Another seed changes nothing"),
    ],
)
def test_wrong_likelihoods_are_found(kind, message):
    with pytest.raises(CheckFailedError, match=message):
        capability_checks.computes_log_likelihoods(case(kind))


def test_a_class_without_an_effect_on_likelihoods_is_found():
    class Deaf(Levels):
        def log_likelihood(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
            return super().log_likelihood(images)

    made = case(Deaf)
    longer = SimpleNamespace(load=lambda *_: made.load(), resume=lambda *_: None, trained=None)
    with pytest.raises(CheckFailedError, match="Another class gives the same result: `labels` of log_likelihood"):
        condition_checks.obeys_what_it_takes(longer)  # type: ignore[arg-type]


class Texts(ImageModel):
    """Embeds images by their mean, and texts by their hash."""

    def embed(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None].expand(-1, 3)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        return seeded_normal([crc32(text.encode()) for text in texts], 3)


class Wide(Texts):
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        return super().embed_text(texts).repeat(1, 2)


class Alike(Texts):
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        return super().embed_text(["one"] * len(texts))


class Centred(Texts):
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        found = super().embed_text(texts)
        return found - found.mean(0)


class OnlyTexts(ImageModel):
    embed_text = Texts.embed_text


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Wide, r"\(2, 6\), not \(2, 3\)"),
        (Alike, "same vector"),
        (Centred, "other texts of the call"),
        (OnlyTexts, "no embed"),
    ],
)
def test_wrong_vectors_of_texts_are_found(kind, message):
    capability_checks.embeds_texts(case(Texts))
    with pytest.raises(CheckFailedError, match=message):
        capability_checks.embeds_texts(case(kind))


class Attends(ImageModel):
    """Rows of an image look at each other."""

    attention_grid = (4, 1)

    def attention_maps(self, images: Tensor) -> dict[str, Tensor]:
        rows = images.mean(1)
        return {"blocks.0": (rows @ rows.mT).softmax(-1)[:, None]}


class Unnormalised(Attends):
    def attention_maps(self, images: Tensor) -> dict[str, Tensor]:
        return {name: weights.square() for name, weights in super().attention_maps(images).items()}


class Headless(Attends):
    def attention_maps(self, images: Tensor) -> dict[str, Tensor]:
        return {name: weights[:, 0] for name, weights in super().attention_maps(images).items()}


class Mixed(Attends):
    def attention_maps(self, images: Tensor) -> dict[str, Tensor]:
        return super().attention_maps(images - images.mean(0))


class Placeless(Attends):
    attention_grid = (4, 4)


class Nothing(Attends):
    def attention_maps(self, images: Tensor) -> dict[str, Tensor]:
        return {}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Unnormalised, "do not sum to 1"),
        (Headless, r"\(2, 4, 4\), not"),
        (Mixed, "other images of the call"),
        (Nothing, "no mapping of blocks"),
        (Placeless, "4 keys for the 16 places"),
    ],
)
def test_wrong_attention_maps_are_found(kind, message):
    capability_checks.maps_its_attention(case(Attends))
    with pytest.raises(CheckFailedError, match=message):
        capability_checks.maps_its_attention(case(kind))


class Reads(Attends):
    """Rows of an image look at each other, and at the bytes of a text."""

    def attention_maps(self, images: Tensor, prompts: Sequence[str] | None = None) -> dict[str, Tensor]:
        rows = images.mean(1)
        text = torch.zeros(len(images), 16, rows.shape[-1])
        for row, prompt in zip(text, prompts or [""] * len(images), strict=True):
            row[: len(prompt.encode()), 0] = torch.tensor(list(prompt.encode()), dtype=torch.float32) / 100
        return {"blocks.0": (rows @ torch.cat([text, rows], dim=1).mT).softmax(-1)[:, None]}

    def word_keys(self, prompt: str) -> list[tuple[str, range]]:
        return byte_words(prompt)


class Deaf(Reads):
    def attention_maps(self, images: Tensor, prompts: Sequence[str] | None = None) -> dict[str, Tensor]:
        return super().attention_maps(images)


class ByLetters(Reads):
    def word_keys(self, prompt: str) -> list[tuple[str, range]]:
        return [(letter, range(place, place + 1)) for place, letter in enumerate(prompt)]


class Late(Reads):
    def word_keys(self, prompt: str) -> list[tuple[str, range]]:
        return byte_words(prompt, first=8)


class Wordless(Attends):
    def attention_maps(self, images: Tensor, prompts: Sequence[str] | None = None) -> dict[str, Tensor]:
        return super().attention_maps(images)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Deaf, "Another prompt gives the same"),
        (ByLetters, "word_keys.. gives"),
        (Late, "are those of places"),
        (Wordless, "has no word_keys"),
    ],
)
def test_wrong_words_are_found(kind, message):
    capability_checks.maps_its_attention(case(Reads))
    capability_checks.looks_at_words(case(Reads))
    with pytest.raises(CheckFailedError, match=message):
        capability_checks.looks_at_words(case(kind))


class Halves(ImageModel):
    """Latents are the images of half the size; it also generates from noise."""

    def encode(self, images: Tensor) -> Tensor:
        return avg_pool2d(images, 2)

    def decode(self, latents: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        return latents.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3).clamp(-1, 1)

    def sample(self, seeds: Sequence[int]) -> Tensor:
        return self.decode(self.latents(seeds))

    def latents(self, seeds: Sequence[int]) -> Tensor:
        return seeded_normal(seeds, 1, 2, 2)

    def invert(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        return self.encode(images)


class BatchCentred(Halves):
    """Takes the mean of the batch away."""

    def encode(self, images: Tensor) -> Tensor:
        latents = super().encode(images)
        return latents - latents.mean(0)


class Large(Halves):
    def decode(self, latents: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        return 2 + super().decode(latents)


class Flat(Halves):
    def invert(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        return self.encode(images).flatten(1)


def test_latents_are_checked():
    for check in (capability_checks.encodes_and_decodes, capability_checks.inverts_images):
        check(case(Halves))
        with pytest.raises(NotApplicableError):
            check(case(Levels))
        with pytest.raises(CheckFailedError, match="depend on the other images"):
            check(case(BatchCentred))
    with pytest.raises(CheckFailedError, match="outside of"):
        capability_checks.encodes_and_decodes(case(Large))
    with pytest.raises(CheckFailedError, match="invert\\(\\) returns"):
        capability_checks.inverts_images(case(Flat))
