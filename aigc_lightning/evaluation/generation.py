"""The scores of a set of images against real images.

Shapes: B batch, C channels, H and W height and width in pixels, Z latent size.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.assets import cache_folder
from aigc_lightning.evaluation.bank import FeatureBank, collect
from aigc_lightning.evaluation.bank_cache import BankCache, BankKey
from aigc_lightning.evaluation.class_rows import generation_rows
from aigc_lightning.evaluation.extractor import Extractor
from aigc_lightning.evaluation.extractors import ModelExtractor
from aigc_lightning.evaluation.gate import check_extractor
from aigc_lightning.evaluation.image_sets import ImageSet, chosen
from aigc_lightning.evaluation.pretrained import EfficientNetLite
from aigc_lightning.evaluation.receipt import Section
from aigc_lightning.evaluation.report_progress import Progress, silent
from aigc_lightning.evaluation.score_names import settings_of
from aigc_lightning.evaluation.scores import CHANGED_COPY_RATE, DISTRIBUTION, Sides, distribution_scores
from aigc_lightning.evaluation.variants import VARIANTS, variants

_GATE_IMAGES = 500


class Reference(NamedTuple):
    """Real images that a set of images is compared with.

    Attributes:
        images: the reference.
        spare: other real images, for the distance between real images.
        seen: all images that a model was trained on, in which copies are searched for; if they are not the reference
            itself, only when that score is requested.
        held_out: real images that the model did not see.
    """

    images: ImageSet
    spare: ImageSet | None = None
    seen: ImageSet | None = None
    held_out: ImageSet | None = None


class Judge:
    """Computes feature banks with one extractor, and caches those of real images.

    Args:
        extractor: the feature extractor.
        cache: the cache of banks on disk.
        progress: shows progress.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        extractor: Extractor,
        cache: BankCache | None = None,
        progress: Progress = silent,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.extractor = extractor
        self.cache = cache or BankCache(cache_folder() / "banks")
        self.progress, self.rank, self.world_size = progress, rank, world_size

    def describe(self, images: ImageSet, what: str) -> FeatureBank:
        """Return the bank of images, of all processes."""
        self.progress(what, len(images), 0)
        batches = images.batches(self.rank, self.world_size)
        return collect(self.extractor, batches, progress=partial(self.progress, what, len(images))).gathered()

    def describe_varied(self, images: ImageSet, what: str) -> Tensor:
        """Return the features of images in all variants, (N, V, D), of all processes."""
        count, total = len(VARIANTS), len(images) * len(VARIANTS)
        self.progress(what, total, 0)
        varied = (
            (variant, index * count + number, None)
            for pixels, index, _ in images.batches(self.rank, self.world_size)
            for number, variant in enumerate(variants(pixels))
        )
        progress = partial(self.progress, what, total)
        features = collect(self.extractor, varied, with_logits=False, progress=progress).gathered().features
        assert features is not None
        return features.view(len(images), count, -1)

    def describe_real(self, images: ImageSet, what: str) -> tuple[FeatureBank, str]:
        """Return the bank of real images, from disk if it is cached, and the images' fingerprint."""
        fingerprint = images.fingerprint()
        key = BankKey(self.extractor.fingerprint, fingerprint, len(images), self.extractor.num_features)
        return self.cache.get(key, lambda: self.describe(images, what)), fingerprint

    def check(self, images: ImageSet) -> None:
        """Check on some of these images that the distances of an extractor without a published protocol are meaningful.

        Raises:
            UserError: they are not.
        """
        if not isinstance(self.extractor, ModelExtractor | EfficientNetLite):
            return
        numbers = [images.numbers[place] for place in chosen(len(images), _GATE_IMAGES)]
        parts = [images.read([number]) for number in numbers]
        shape = parts[0][0].shape
        parts = [part for part in parts if part[0].shape == shape]
        labels = [part[2] for part in parts if part[2] is not None]
        check_extractor(
            self.extractor,
            torch.cat([part[0] for part in parts]),
            torch.cat(labels) if len(labels) == len(parts) else None,
            images.class_names,
        )


class Generation(NamedTuple):
    """Scores of a set of images, and the banks that they were computed from."""

    section: Section
    sides: Sides


def score_set(
    judge: Judge,
    fake: ImageSet,
    reference: Reference,
    asked: Sequence[str] = (),
    path_length: Callable[[], tuple[float, float]] | None = None,
    *,
    with_floor: bool = True,
) -> Generation:
    """Score a set of images against real images.

    Args:
        judge: computes the feature banks.
        fake: the images to score.
        reference: the real images to compare with.
        asked: names of scores; if empty, all that need nothing else.
        path_length: see `Sides`.
        with_floor: also check the extractor, and score real images against real ones; both are the same each time.

    Raises:
        UserError: the extractor fails its sanity check, or a score cannot be computed.
    """
    if with_floor:
        judge.check(reference.images)
    real, fingerprint = judge.describe_real(reference.images, "real images")
    sides = Sides(
        real,
        judge.describe(fake, fake.name),
        *_copy_banks(judge, reference, real, asked),
        judge.extractor.class_names,
        fake.class_names,
        path_length,
    )
    if CHANGED_COPY_RATE in asked and sides.seen is not None and reference.held_out is not None:
        held_out = judge.describe_varied(reference.held_out, "changed held-out images")
        sides = replace(sides, varied=(held_out, judge.describe_varied(fake, f"changed {fake.name}")))
    scores = distribution_scores(sides, asked)
    floor, floor_name = _floor(judge, reference, sides, list(scores.values)) if with_floor else ({}, "")
    protocol = {
        "extractor": judge.extractor.fingerprint,
        "resize": judge.extractor.resize,
        "num_real": len(real),
        "num_fake": len(sides.fake),
        "reference": fingerprint,
        "settings": settings_of(list(scores.values)),
    }
    subject = {"images": fake.name, "reference": reference.images.name}
    rows = generation_rows(sides)
    section = Section("generation", scores.values, protocol, floor, floor_name, rows, subject, scores.left_out)
    return Generation(section, sides)


def _copy_banks(
    judge: Judge, reference: Reference, real: FeatureBank, asked: Sequence[str]
) -> tuple[FeatureBank | None, FeatureBank | None]:
    """Return the banks of training and held-out images, if copies are searched for."""
    if reference.seen is None or reference.held_out is None:
        return None, None
    is_reference = reference.seen is reference.images
    if not ({"copy_rate", CHANGED_COPY_RATE}.intersection(asked) or (is_reference and not asked)):
        return None, None
    seen = real if is_reference else judge.describe_real(reference.seen, "training images")[0]
    return seen, judge.describe_real(reference.held_out, "held-out images")[0]


def _floor(judge: Judge, reference: Reference, sides: Sides, keys: list[str]) -> tuple[dict[str, float], str]:
    """Return the scores of real images against real images, at the same sample sizes if there are enough."""
    real = sides.real
    spare = judge.describe_real(reference.spare, "more real images")[0] if reference.spare else None
    if spare is not None and len(spare) >= len(sides.fake):
        other = _rows(spare, range(len(sides.fake)))
    else:
        pool = real if spare is None else _joined(real, spare)
        half = len(pool) // 2
        places = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0)).tolist()
        real, other = _rows(pool, places[:half]), _rows(pool, places[half : 2 * half])
    against = Sides(real, other, None, None, sides.class_names, sides.fake_class_names)
    scores: dict[str, float] = {}
    for name, score in DISTRIBUTION.items():
        if score.keys[0] in keys and score.has_floor:
            with suppress(UserError):  # too few real images for a second set
                scores |= distribution_scores(against, [name]).values
    return scores, f"real against real, {len(real)} and {len(other)} images" if scores else ""


def _rows(bank: FeatureBank, places: Sequence[int]) -> FeatureBank:
    """Return a bank of the samples at some positions, reindexed from 0."""
    chosen_places = torch.tensor(list(places))
    part = FeatureBank(bank.num_features)
    features, logits, labels = bank.features, bank.logits, bank.labels
    assert features is not None
    part.add(
        features[chosen_places],
        torch.arange(len(chosen_places)),
        None if logits is None else logits[chosen_places],
        None if labels is None else labels[chosen_places],
    )
    return part


def _joined(first: FeatureBank, second: FeatureBank) -> FeatureBank:
    """Return a bank of all samples of two banks, whose indices may overlap."""
    joined = FeatureBank(first.num_features)
    for bank, start in ((first, 0), (second, len(first))):
        assert bank.features is not None
        joined.add(bank.features, torch.arange(len(bank)) + start, bank.logits, bank.labels)
    return joined
