"""The available scores: their names, which direction is better, what they need, and how they are computed.

Shapes: B batch, N and M samples, D features, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.evaluation.bank import FeatureBank
from aigc_lightning.metrics import pairs
from aigc_lightning.metrics.classes import accuracy, intra_class_frechet
from aigc_lightning.metrics.copies import copies
from aigc_lightning.metrics.frechet import frechet_distance
from aigc_lightning.metrics.inception_score import inception_score
from aigc_lightning.metrics.kernel_distance import kernel_distance
from aigc_lightning.metrics.manifold import density_coverage, precision_recall
from aigc_lightning.metrics.shares import homogeneity, share_distance

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Sides:
    """The two sides of a comparison.

    Args:
        real: bank of the reference.
        fake: bank of the images to score.
        seen: bank of all training images, in which copies are searched for.
        held_out: bank of real images that the model has not seen.
        class_names: classes of the extractor's logits.
        fake_class_names: classes of the fakes' labels.
        path_length: returns mean and standard deviation of the perceptual path length; None without latents.
    """

    real: FeatureBank
    fake: FeatureBank
    seen: FeatureBank | None = None
    held_out: FeatureBank | None = None
    class_names: tuple[str, ...] = ()
    fake_class_names: tuple[str, ...] = ()
    path_length: Callable[[], tuple[float, float]] | None = None

    @property
    def features(self) -> tuple[Tensor, Tensor]:
        """Features of both sides, (N, D) and (M, D)."""
        assert self.real.features is not None and self.fake.features is not None
        return self.real.features, self.fake.features


@dataclass(frozen=True)
class Score:
    """A score of a set of images against real ones.

    Args:
        keys: names of its values; one that ends in `_std` is the standard deviation of the one before.
        better: whether lower or higher values are better, except for standard deviations.
        compute: returns the values.
        lacks: returns what is missing to compute it, "" if nothing is.
        settings: parameters that affect the values.
        by_default: whether it is computed when no scores are requested.
        has_floor: whether real images can be scored in place of the fakes.
    """

    keys: tuple[str, ...]
    better: Better
    compute: Callable[[Sides], Sequence[float]]
    lacks: Callable[[Sides], str] = lambda sides: ""
    settings: dict[str, int | float] = field(default_factory=dict)
    by_default: bool = True
    has_floor: bool = True


def _labelled(sides: Sides) -> str:
    if sides.real.labels is None or sides.fake.labels is None:
        return "images with classes on both sides"
    return ""


def _recognised(sides: Sides) -> str:
    if sides.fake.logits is None or sides.fake.labels is None or sides.class_names != sides.fake_class_names:
        return "a class-conditional model, and an extractor with the same classes"
    return ""


def _intra_class(sides: Sides) -> tuple[float]:
    real, fake = sides.features
    assert sides.real.labels is not None and sides.fake.labels is not None
    return (intra_class_frechet(real, sides.real.labels, fake, sides.fake.labels, len(sides.fake_class_names)).mean,)


def _class_accuracy(sides: Sides) -> tuple[float]:
    assert sides.fake.logits is not None and sides.fake.labels is not None
    return (accuracy(sides.fake.logits, sides.fake.labels),)


def predicted_counts(bank: FeatureBank) -> Tensor:
    """Return how many images of a bank with logits (N, K) the extractor takes for each class, int64 (K,)."""
    assert bank.logits is not None
    return torch.bincount(bank.logits.argmax(1), minlength=bank.logits.shape[1])


def _judged(sides: Sides) -> str:
    """Both sides are judged alike, so that mistakes of the judge are in the shares of both."""
    named = sides.class_names and sides.real.logits is not None and sides.fake.logits is not None
    return "" if named else "an extractor with named classes, such as a run of a classifier"


def _class_shares(sides: Sides) -> tuple[float, float]:
    real, fake = predicted_counts(sides.real), predicted_counts(sides.fake)
    return share_distance(real, fake), homogeneity(torch.stack([real, fake]))


def _copy_rate(sides: Sides) -> tuple[float]:
    seen, held_out, fake = (bank.features if bank else None for bank in (sides.seen, sides.held_out, sides.fake))
    assert seen is not None and held_out is not None and fake is not None
    return (copies(seen, held_out, fake).rate,)


def _path_length(sides: Sides) -> tuple[float, float]:
    assert sides.path_length is not None
    return sides.path_length()


def _inception_score(sides: Sides) -> Sequence[float]:
    assert sides.fake.logits is not None
    return inception_score(sides.fake.logits)


#: Scores of sets of images.
DISTRIBUTION: dict[str, Score] = {
    "frechet_distance": Score(
        ("frechet_distance",), "lower", lambda sides: (frechet_distance(sides.real.moments, sides.fake.moments),)
    ),
    "kernel_distance": Score(
        ("kernel_distance", "kernel_distance_std"),
        "lower",
        lambda sides: kernel_distance(*sides.features),
        settings={"subsets": 100, "subset_size": 1000, "seed": 0},
    ),
    "inception_score": Score(
        ("inception_score", "inception_score_std"),
        "higher",
        _inception_score,
        lambda sides: "an extractor with classes" if sides.fake.logits is None else "",
        settings={"splits": 10, "seed": 0},
    ),
    "precision_recall": Score(
        ("precision", "recall"), "higher", lambda sides: precision_recall(*sides.features), settings={"k": 3}
    ),
    "density_coverage": Score(
        ("density", "coverage"), "higher", lambda sides: density_coverage(*sides.features), settings={"k": 5}
    ),
    "class_accuracy": Score(("class_accuracy",), "higher", _class_accuracy, _recognised),
    "intra_class_frechet_distance": Score(("intra_class_frechet_distance",), "lower", _intra_class, _labelled),
    "class_shares": Score(("class_share_distance", "class_share_p_value"), "lower", _class_shares, _judged),
    "copy_rate": Score(
        ("copy_rate",),
        "lower",
        _copy_rate,
        lambda sides: "training images (--part train) and held-out ones" if sides.seen is None else "",
        settings={"false_alarms": 0.01},
        has_floor=False,
    ),
    "perceptual_path_length": Score(
        ("perceptual_path_length", "perceptual_path_length_std"),
        "lower",
        _path_length,
        lambda sides: "a model with latents" if sides.path_length is None else "",
        settings={"num": 1000, "epsilon": 1e-4, "seed": 0},
        by_default=False,
        has_floor=False,
    ),
}


@dataclass(frozen=True)
class PairScore:
    """A score of images against their targets, as the mean over images.

    Args:
        better: whether lower or higher values are better.
        compute: returns one value per image (B,) from images and targets (B, C, H, W) in [0, 1].
        smallest: minimum height and width in pixels.
        by_default: whether it is computed when no scores are requested.
    """

    better: Better
    compute: Callable[[Tensor, Tensor], Tensor]
    smallest: int = 1
    by_default: bool = True


#: PSNR in dB assigned to an image equal to its target, which would otherwise make the mean infinite.
PSNR_OF_EQUAL = 100.0


def _psnr(images: Tensor, targets: Tensor, channel: Literal["rgb", "y"] = "rgb") -> Tensor:
    return pairs.psnr(images, targets, channel=channel).clamp(max=PSNR_OF_EQUAL)


#: Scores of pairs of images; `lpips` is added on request only, since it needs weights.
PAIRS: dict[str, PairScore] = {
    "mse": PairScore("lower", pairs.mse),
    "mae": PairScore("lower", pairs.mae),
    "psnr": PairScore("higher", _psnr),
    "psnr_y": PairScore("higher", partial(_psnr, channel="y"), by_default=False),
    "ssim": PairScore("higher", pairs.ssim, smallest=11),
    "ms_ssim": PairScore("higher", pairs.ms_ssim, smallest=161),
}
LPIPS = "lpips"
_SMALLEST_FOR_LPIPS = 16

#: The score of a model's likelihoods of held-out images.
BITS_PER_DIM = "bits_per_dim"

#: The scores of embeddings by class, requested under one name, and their keys; in [0, 1].
RETRIEVAL = "retrieval"
RETRIEVAL_KEYS = ("recall_at_1", "recall_at_5", "recall_at_10", "mean_average_precision")

#: The score of membership inference, the share of recognised members that is reported beside it.
MEMBERSHIP_AUC, MEMBERSHIP_TPR = "membership_auc", "membership_true_positives"
#: The same score of planted canaries.
CANARY_AUC = "canary_auc"

#: Scores of classifiers, in [0, 1].
CLASSIFICATION = ("accuracy", "precision", "recall", "f1")


def smallest_side(name: str) -> int:
    """Return the minimum height and width in pixels for a score of pairs."""
    return _SMALLEST_FOR_LPIPS if name == LPIPS else PAIRS[name].smallest


def check_names(names: Sequence[str]) -> None:
    """Refuse scores that do not exist.

    Raises:
        UserError: a name is unknown.
    """
    for name in names:
        known = [*DISTRIBUTION, *PAIRS, LPIPS, BITS_PER_DIM, RETRIEVAL, MEMBERSHIP_AUC]
        if name not in known:
            raise UserError(f"There is no score {name!r}.", did_you_mean(name, known) or f"Known: {', '.join(known)}.")


class Scores(NamedTuple):
    """Values by key, and the reasons for missing scores."""

    values: dict[str, float]
    left_out: dict[str, str]


def distribution_scores(sides: Sides, asked: Sequence[str] = ()) -> Scores:
    """Return scores of a set of images.

    Args:
        sides: the two sides of the comparison.
        asked: names from `DISTRIBUTION`; if empty, all default scores that can be computed.

    Raises:
        UserError: a requested score cannot be computed.
    """
    found = Scores({}, {})
    for name in [name for name in DISTRIBUTION if name in asked] or default_scores():
        try:
            found.values.update(_computed(name, sides))
        except UserError as error:
            if name in asked:
                raise UserError(f"The score {name} cannot be computed: {error.what}", leave_out(name)) from error
            found.left_out[name] = error.what
    return found


def default_scores() -> list[str]:
    """Return the names of the scores computed when none are requested."""
    return [name for name, score in DISTRIBUTION.items() if score.by_default]


def leave_out(name: str) -> str:
    """Return a hint for a requested score that cannot be computed."""
    return f"Leave {name} out of --metrics; in training, out of evaluation.scores."


def _computed(name: str, sides: Sides) -> dict[str, float]:
    score = DISTRIBUTION[name]
    lacks = score.lacks(sides)
    if lacks:
        raise UserError(f"It needs {lacks}.")
    return dict(zip(score.keys, map(float, score.compute(sides)), strict=True))


def spread_key(key: str) -> str:
    """Return the key under which a section has the spread of a score, if it has one."""
    return f"{key}_stderr" if key in (BITS_PER_DIM, MEMBERSHIP_AUC, CANARY_AUC) else f"{key}_std"


def is_spread(key: str) -> bool:
    """Return whether a key is that of a standard deviation or a standard error."""
    return key.endswith(("_std", "_stderr"))


def is_better(key: str) -> Better | None:
    """Return whether lower or higher values are better; None for spreads and unknown keys."""
    for score in DISTRIBUTION.values():
        if key in score.keys and not is_spread(key) and not key.endswith("_p_value"):
            return score.better
    if key in PAIRS:
        return PAIRS[key].better
    lower = (LPIPS, BITS_PER_DIM, MEMBERSHIP_AUC, MEMBERSHIP_TPR, CANARY_AUC)
    return "lower" if key in lower else "higher" if key in (*CLASSIFICATION, *RETRIEVAL_KEYS) else None


def settings_of(keys: Sequence[str]) -> dict[str, dict[str, int | float]]:
    """Return the settings of the scores that have these keys, by score."""
    used = {name: score for name, score in DISTRIBUTION.items() if score.keys[0] in keys}
    return {name: dict(score.settings) for name, score in used.items() if score.settings}
