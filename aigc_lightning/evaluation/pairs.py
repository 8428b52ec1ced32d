"""The scores of images against their targets.

Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aigc_lightning.evaluation.assets import find_asset
from aigc_lightning.evaluation.images import ImageSet
from aigc_lightning.evaluation.progress import Progress, silent
from aigc_lightning.evaluation.receipt import Section
from aigc_lightning.evaluation.scores import LPIPS, PAIRS, PSNR_OF_EQUAL
from aigc_lightning.metrics import pairs as pair_metrics


def score_pairs(
    edited: ImageSet,
    targets: ImageSet,
    given: ImageSet | None,
    asked: Sequence[str] = (),
    progress: Progress = silent,
) -> Section:
    """Score images against their targets, and the images as they were before against the same.

    Args:
        edited: what is scored.
        targets: what it should be, in the same order.
        given: the images before they were edited; their scores are the baseline where they have the targets' size.
        asked: names from `PAIRS`, or "lpips"; all that the size of the images allows when empty.
        progress: shows what is done.

    Raises:
        UserError: sizes differ, or a score that was asked for cannot be computed.
    """
    lpips = pair_metrics.LPIPS(find_asset("vgg16")) if LPIPS in asked else None
    values: dict[str, list[Tensor]] = {}
    before: dict[str, list[Tensor]] = {}
    block = min(edited.block, targets.block)
    progress(edited.name, len(edited), 0)
    for start in range(0, len(edited), block):
        places = slice(start, start + block)
        target = _unit(targets.read(targets.numbers[places])[0])
        _add_scores(values, asked, _unit(edited.read(edited.numbers[places])[0]), target, lpips)
        if given is not None:
            inputs = _unit(given.read(given.numbers[places])[0])
            if inputs.shape == target.shape:
                _add_scores(before, asked, inputs, target, lpips)
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
    name = "input, not edited" if before else ""
    return Section("pairs", _means(values), protocol, _means(before), name, {}, subject)


def _add_scores(
    values: dict[str, list[Tensor]],
    asked: Sequence[str],
    images: Tensor,
    targets: Tensor,
    lpips: pair_metrics.LPIPS | None,
) -> None:
    size = min(targets.shape[-2:])
    names = asked or [name for name, score in PAIRS.items() if score.by_default and size >= score.smallest]
    for name in names:
        compute = lpips if name == LPIPS and lpips is not None else PAIRS[name].compute
        values.setdefault(name, []).append(compute(images, targets).cpu())


def _means(values: dict[str, list[Tensor]]) -> dict[str, float]:
    return {name: float(torch.cat(parts).double().mean()) for name, parts in values.items()}


def _unit(images: Tensor) -> Tensor:
    return images.float() / 255
