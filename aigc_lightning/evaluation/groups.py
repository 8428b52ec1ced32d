"""How a part of a dataset divides into groups: by label, or by the words of its captions."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import FieldSource, ImageSource
from aigc_lightning.data.inspection.inspect import chosen, samples
from aigc_lightning.data.sources import field_kind
from aigc_lightning.errors import UserError
from aigc_lightning.metrics.shares import homogeneity, wilson_interval

_MOST_WORDS = 30
_WORD = re.compile(r"\w+")


class Grouping(NamedTuple):
    """What groups are made by: labels, or words; all frequent ones if none are given."""

    field: str  # "label" or "caption"
    words: tuple[str, ...] = ()

    @classmethod
    def parsed(cls, text: str, spec: ImageSpec) -> "Grouping":
        """Return the grouping that a text such as "label", "caption" or "caption=she,he" names.

        Raises:
            UserError: there is no such field, or the data does not have it.
        """
        name, equals, listed = text.partition("=")
        words = tuple(word.strip().casefold() for word in listed.split(",") if word.strip())
        if name not in ("label", "caption") or (equals and (name == "label" or not words)):
            raise UserError(f"--by is {text!r}.", "Give label, caption, or words of captions as in caption=she,he.")
        if not (spec.num_classes if name == "label" else spec.captions):
            raise UserError(f"The data has no {name}s ({spec}).", "Group it by something else.")
        return cls(name, words)


def groups(
    source: ImageSource | FieldSource, grouping: Grouping, spec: ImageSpec, num: int
) -> dict[str, dict[str, float]]:
    """Return the groups of a part of a dataset.

    Args:
        source: the part.
        grouping: what groups are made by; an image is in the group of each word of its caption.
        spec: of the data.
        num: number of images to look at, evenly spaced; labels are counted in all.

    Returns:
        By name: "images", their "share" with the interval of 95 % from "share_low" to "share_high", and the mean
        "brightness" from 0 to 1 with its standard error "brightness_stderr".
    """
    counts: Counter[str] = Counter()
    brightness: dict[str, list[float]] = defaultdict(list)
    total = 0
    for numbers, fields in samples(source, chosen(len(source), num)):
        names = _names(source, grouping, spec, numbers, fields)
        for of_image, level in zip(names, _brightness(source, fields), strict=True):
            total += 1
            for name in of_image:
                counts[name] += 1
                brightness[name].append(level)
    if grouping.field == "label":
        labels = source.labels(range(len(source)))
        assert labels is not None
        counts = Counter({spec.class_names[label]: count for label, count in Counter(labels.tolist()).items()})
        total, wanted = len(source), list(spec.class_names)
    else:
        wanted = list(grouping.words) or [name for name, _ in counts.most_common(_MOST_WORDS)]
    return {name: _described(counts[name], total, brightness[name]) for name in wanted}


def same_shares(parts: Sequence[dict[str, dict[str, float]]]) -> float:
    """Return the p-value of the hypothesis that labels have the same shares in all parts."""
    names = dict.fromkeys(name for part in parts for name in part)
    counts = [[part[name]["images"] if name in part else 0.0 for name in names] for part in parts]
    return homogeneity(torch.tensor(counts))


def _names(
    source: ImageSource | FieldSource, grouping: Grouping, spec: ImageSpec, numbers: list[int], fields: dict[str, Any]
) -> list[set[str]]:
    """Return the groups of each image of a batch."""
    if grouping.field == "label":
        labels = source.labels(numbers)
        assert labels is not None
        return [{spec.class_names[label]} for label in labels.tolist()]
    found = [{*_WORD.findall(caption.casefold())} for caption in fields["caption"]]
    return [words & {*grouping.words} for words in found] if grouping.words else found


def _brightness(source: ImageSource | FieldSource, fields: dict[str, Any]) -> list[float]:
    """Return the mean level, from 0 to 1, of each image of a batch; of its first image if it has several."""
    images = next(value for key, value in fields.items() if field_kind(source, key, value) == "image")
    levels: list[float] = (images[:, :3].flatten(1).double().mean(1) / 255).tolist()
    return levels


def _described(count: int, total: int, levels: list[float]) -> dict[str, float]:
    share = wilson_interval(count, total)
    values = torch.tensor(levels, dtype=torch.float64)
    stderr = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {
        "images": count,
        "share": share.share,
        "share_low": share.low,
        "share_high": share.high,
        "brightness": float(values.mean()) if levels else math.nan,
        "brightness_stderr": stderr,
    }
