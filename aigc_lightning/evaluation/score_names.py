"""The names of all scores, those of sets and pairs of images and those of models, and what a score's key says."""

from collections.abc import Sequence

from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.evaluation.scores import DISTRIBUTION, LPIPS, PAIRS, Better

#: The score of a model's likelihoods of held-out images.
BITS_PER_DIM = "bits_per_dim"

#: The scores of embeddings by class, requested under one name, and their keys; in [0, 1].
RETRIEVAL = "retrieval"
RETRIEVAL_KEYS = ("recall_at_1", "recall_at_5", "recall_at_10", "mean_average_precision")

#: The same scores of captions as queries for images, requested under one name, and their keys.
TEXT_RETRIEVAL = "text_retrieval"
TEXT_RETRIEVAL_KEYS = tuple(f"text_{key}" for key in RETRIEVAL_KEYS)

#: The score of membership inference, the share of recognised members that is reported beside it.
MEMBERSHIP_AUC, MEMBERSHIP_TPR = "membership_auc", "membership_true_positives"
#: The same score of planted canaries.
CANARY_AUC = "canary_auc"

#: Few-shot accuracies of embeddings, requested under one name: ways and shots by key; in [0, 1].
FEW_SHOT = "few_shot"
FEW_SHOT_SIZES = {
    "few_shot_5_way_1_shot": (5, 1),
    "few_shot_5_way_5_shot": (5, 5),
    "few_shot_20_way_1_shot": (20, 1),
    "few_shot_20_way_5_shot": (20, 5),
}

#: How the scores of a model change with corrupted images, requested under one name.
ROBUSTNESS = "robustness"
#: Scores of training images beside those of held-out ones, requested under one name, and their keys.
GENERALISATION, GAP = "generalisation", "generalisation_gap"
_SIDES = ("training_loss", "held_out_loss", "training_frechet_distance", "held_out_frechet_distance")
_CORRUPTED, _RELATIVE, _RANKING = "corrupted_", "relative_", "_ranking"

#: Scores of classifiers, in [0, 1].
CLASSIFICATION = ("accuracy", "precision", "recall", "f1")


def check_names(names: Sequence[str]) -> None:
    """Refuse scores that do not exist.

    Raises:
        UserError: a name is unknown.
    """
    for name in names:
        known = [
            *DISTRIBUTION,
            *PAIRS,
            LPIPS,
            BITS_PER_DIM,
            RETRIEVAL,
            TEXT_RETRIEVAL,
            FEW_SHOT,
            MEMBERSHIP_AUC,
            ROBUSTNESS,
            GENERALISATION,
        ]
        if name not in known:
            raise UserError(f"There is no score {name!r}.", did_you_mean(name, known) or f"Known: {', '.join(known)}.")


def spread_key(key: str) -> str:
    """Return the key under which a section has the spread of a score, if it has one."""
    return f"{key}_stderr" if key in (BITS_PER_DIM, MEMBERSHIP_AUC, CANARY_AUC, GAP, *FEW_SHOT_SIZES) else f"{key}_std"


def is_spread(key: str) -> bool:
    """Return whether a key is that of a standard deviation or a standard error."""
    return key.endswith(("_std", "_stderr"))


def is_better(key: str) -> Better | None:
    """Return whether lower or higher values are better; None for spreads and unknown keys."""
    if key.endswith(_RANKING):
        return "higher"
    key = without_corruption(key)
    for score in DISTRIBUTION.values():
        if key in score.keys and not is_spread(key) and not key.endswith("_p_value"):
            return score.better
    if key in PAIRS:
        return PAIRS[key].better
    lower = (LPIPS, BITS_PER_DIM, MEMBERSHIP_AUC, MEMBERSHIP_TPR, CANARY_AUC, GAP, *_SIDES)
    higher = (
        *CLASSIFICATION,
        *RETRIEVAL_KEYS,
        *TEXT_RETRIEVAL_KEYS,
        *FEW_SHOT_SIZES,
        "interpolation_smoothness",
        "class_coverage",
    )
    return "lower" if key in lower else "higher" if key in higher else None


def without_corruption(key: str) -> str:
    """Return the score that a score of corrupted images is one of, such as "accuracy" for "corrupted_accuracy"."""
    return key.removeprefix(_CORRUPTED).removeprefix(_RELATIVE)


def settings_of(keys: Sequence[str]) -> dict[str, dict[str, int | float]]:
    """Return the settings of the scores that have these keys, by score."""
    used = {name: score for name, score in DISTRIBUTION.items() if score.keys[0] in keys}
    return {name: dict(score.settings) for name, score in used.items() if score.settings}
