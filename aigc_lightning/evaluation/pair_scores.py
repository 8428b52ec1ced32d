"""The scores of images against their targets.

Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.assets import find_asset
from aigc_lightning.evaluation.image_sets import ImageSet
from aigc_lightning.evaluation.receipt import Section
from aigc_lightning.evaluation.report_progress import Progress, silent
from aigc_lightning.evaluation.scores import LPIPS, PAIRS, PSNR_OF_EQUAL, leave_out, smallest_side
from aigc_lightning.metrics import pairs as pair_metrics


def score_pairs(
    edited: ImageSet,
    targets: ImageSet,
    given: ImageSet | None,
    asked: Sequence[str] = (),
    progress: Progress = silent,
) -> Section:
    """Score edited images against their targets, and the unedited images against the same targets.

    Args:
        edited: the images to score.
        targets: their targets, in the same order.
        given: the unedited images; their scores are the baseline if they have the targets' size.
        asked: names from `PAIRS`, or "lpips"; if empty, all that the size of every image allows.
        progress: shows progress.

    Raises:
        UserError: sizes differ, or a requested score cannot be computed.
    """
    scoring = _Scoring(asked)
    block = min(edited.block, targets.block)
    progress(edited.name, len(edited), 0)
    for start in range(0, len(edited), block):
        places = slice(start, start + block)
        target = _unit(targets.read(targets.numbers[places])[0])
        scoring.add(_unit(edited.read(edited.numbers[places])[0]), target)
        if given is not None:
            inputs = _unit(given.read(given.numbers[places])[0])
            if inputs.shape == target.shape:
                scoring.add_before(inputs, target)
        progress(edited.name, len(edited), len(target))
    protocol: dict[str, Any] = {
        "num": len(targets),
        "reference": targets.fingerprint(),
        "mean": "over images",
        "psnr_of_equal_images": PSNR_OF_EQUAL,
    }
    if given is not None:
        protocol["input"] = given.fingerprint()
    subject = {"images": edited.name, "reference": targets.name}
    before = scoring.means(scoring.before)
    name = "input, not edited" if before else ""
    values = scoring.means(scoring.values)
    return Section("pairs", values, protocol, before, name, {}, subject, scoring.left_out())


class _Scoring:
    """Scores of pairs, batch by batch.

    Args:
        asked: names of scores; if empty, the default ones.
    """

    def __init__(self, asked: Sequence[str]) -> None:
        self.asked = asked
        self.names = asked or [name for name, score in PAIRS.items() if score.by_default]
        self.values: dict[str, list[Tensor]] = {name: [] for name in self.names}
        self.before: dict[str, list[Tensor]] = {name: [] for name in self.names}
        self._lpips = pair_metrics.LPIPS(find_asset("vgg16")) if LPIPS in asked else None
        self._count = 0
        self._too_small: dict[str, int] = {}  # number of images, by score
        self._smallest = (0, 0)

    def add(self, images: Tensor, targets: Tensor) -> None:
        """Score images (B, C, H, W) in [0, 1] against their targets.

        Raises:
            UserError: they are too small for a requested score.
        """
        height, width = targets.shape[-2:]
        if not self._count or min(height, width) < min(self._smallest):
            self._smallest = (height, width)
        self._count += len(targets)
        for name in self.names:
            if min(height, width) < smallest_side(name):
                self._too_small[name] = self._too_small.get(name, 0) + len(targets)
        refused = [name for name in self.asked if name in self._too_small]
        if refused:
            raise UserError(
                f"The score {refused[0]} cannot be computed: {self._reason(refused[0])}", leave_out(refused[0])
            )
        self._compute(self.values, images, targets)

    def add_before(self, images: Tensor, targets: Tensor) -> None:
        """Score the unedited images."""
        self._compute(self.before, images, targets)

    def means(self, values: dict[str, list[Tensor]]) -> dict[str, float]:
        """Return the mean of each score that was computed for all images."""
        whole = {name: torch.cat(parts) for name, parts in values.items() if parts}
        return {name: float(found.double().mean()) for name, found in whole.items() if len(found) == self._count}

    def left_out(self) -> dict[str, str]:
        """Return why a score has no mean, by score."""
        return {name: self._reason(name) for name in self._too_small}

    def _reason(self, name: str) -> str:
        few = self._too_small[name]
        which = "the images have" if few == self._count else f"{few} of {self._count} images are smaller, one is"
        height, width = self._smallest
        return f"It needs {smallest_side(name)} pixels per side, but {which} {height}x{width}."

    def _compute(self, values: dict[str, list[Tensor]], images: Tensor, targets: Tensor) -> None:
        for name in self.names:
            if name not in self._too_small:
                compute = self._lpips if name == LPIPS and self._lpips is not None else PAIRS[name].compute
                values[name].append(compute(images, targets).cpu())


def _unit(images: Tensor) -> Tensor:
    return images.float() / 255
