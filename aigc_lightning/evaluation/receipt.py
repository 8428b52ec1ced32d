"""Scores with everything they depend on, as JSON, and the refusal of comparisons that are not valid."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.redaction import redacted
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command

#: Raised when the way of computing any score changes, so that old and new numbers are not compared.
PROTOCOL_VERSION = 1
Kind = Literal[
    "generation",
    "pairs",
    "classification",
    "likelihood",
    "retrieval",
    "text_retrieval",
    "few_shot",
    "membership",
    "robustness",
    "generalisation",
    "detection",
]
SCORES_FILE = "scores.json"
_PACKAGES = ("aigc-lightning", "torch", "torchvision", "torchmetrics", "numpy")


@dataclass(frozen=True)
class Section:
    """Scores of one kind.

    Args:
        kind: "generation" (a set of images against real ones), "pairs" (images against their targets),
            "classification", "likelihood" (of real images under the model), "retrieval" (by class, by embeddings),
            "text_retrieval" (by caption, by embeddings), "few_shot" (new classes from a few examples, by embeddings),
            "membership" (training images told from others by their losses), "robustness" (scores of corrupted images),
            "generalisation" (training images beside held-out ones) or "detection" (generated images told from real
            ones).
        scores: numbers by key, such as "frechet_distance".
        protocol: what must be equal for two scores to be comparable: extractor, resize, reference, counts, settings.
        baseline: the same scores of a known baseline, such as real against real images, or the unedited images.
        baseline_name: description of the baseline.
        classes: one mapping of scores per class.
        subject: what was scored: such as the images' name, seeds, and whether averaged weights generated them.
        left_out: why a score that was not explicitly requested could not be computed, by score.
    """

    kind: Kind
    scores: dict[str, float]
    protocol: dict[str, Any]
    baseline: dict[str, float] = field(default_factory=dict)
    baseline_name: str = ""
    classes: dict[str, dict[str, float]] = field(default_factory=dict)
    subject: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Receipt:
    """All scores of one evaluation.

    Args:
        name: of what was scored.
        sections: by kind.
        model: class path, checkpoint, its SHA-256 and step; empty for folders.
        versions: of packages.
    """

    name: str
    sections: list[Section]
    model: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: package_versions())

    def save(self, path: Path) -> None:
        """Write the receipt as JSON.

        Raises:
            UserError: the file cannot be written.
        """
        values = redacted({"protocol_version": PROTOCOL_VERSION, **asdict(self)})
        text = json.dumps(_without_nan(values), indent=2, ensure_ascii=False, allow_nan=False)
        try:
            with replacing(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}.", "Choose another path.") from error


def _without_nan(value: Any) -> Any:
    """Return the value with null for numbers that JSON cannot represent."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that scores depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def load_receipt(path: Path) -> Receipt:
    """Read a receipt.

    Args:
        path: a JSON file of `aigc evaluate`, or a run or folder that holds one.

    Raises:
        UserError: there is none, or it was written by another version of the scores.
    """
    candidates = [path] if path.is_file() else [path / "evaluation" / SCORES_FILE, path / SCORES_FILE]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise UserError(f"{path} holds no scores.", f"Make them first: {command('aigc', 'evaluate', path)}")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        made_by = values.pop("protocol_version")
        receipt = Receipt(**{**values, "sections": [Section(**section) for section in values["sections"]]})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} was not written by `aigc evaluate`.", "Give its --json file, or a run.") from error
    if made_by != PROTOCOL_VERSION:
        raise UserError(
            f"{file} has scores of protocol version {made_by}, and this version computes {PROTOCOL_VERSION}.",
            "Evaluate again.",
        )
    return receipt


def check_comparable(receipts: Mapping[str, Receipt]) -> list[str]:
    """Return the kinds of scores that all receipts have, in order.

    Args:
        receipts: by name, at least two.

    Raises:
        UserError: they share no kind, or their protocols differ; the message names the difference.
    """
    names = list(receipts)
    by_kind = {name: {section.kind: section for section in receipt.sections} for name, receipt in receipts.items()}
    first = names[0]
    kinds = [kind for kind in by_kind[first] if all(kind in sections for sections in by_kind.values())]
    if not kinds:
        each = "; ".join(f"{name} has {' and '.join(sections) or 'none'}" for name, sections in by_kind.items())
        raise UserError(f"The runs have no kind of score in common: {each}.", "Compare runs of one task.")
    for kind in kinds:
        for name in names[1:]:
            wanted, given = by_kind[first][kind].protocol, by_kind[name][kind].protocol
            differing = [key for key in {**wanted, **given} if wanted.get(key) != given.get(key)]
            if differing:
                key = differing[0]
                raise UserError(
                    f"The {kind} scores of {first} and {name} differ in their {key.replace('_', ' ')}: "
                    f"{wanted.get(key)} and {given.get(key)}.",
                    "Evaluate both in the same way; scores of different protocols are not comparable.",
                )
    return list(kinds)
