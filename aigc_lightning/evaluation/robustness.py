"""How the scores of a model change when images are corrupted.

Paper: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR
2019, https://arxiv.org/abs/1903.12261. A classifier and an editor get corrupted images. The samples of a generator are
corrupted before they are judged, as in Heusel et al., NeurIPS 2017, https://arxiv.org/abs/1706.08500 (figure 3): a
score should be worse for them, and more so in higher severities.
Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from itertools import combinations
from statistics import mean
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.data.common_corruptions import COMMON, WORST, CommonCorruption
from aigc_lightning.data.corruptions import corrupt
from aigc_lightning.data.sources import to_signed
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.bank import Labelled
from aigc_lightning.evaluation.generation import Judge
from aigc_lightning.evaluation.image_sets import DataImages, Edits, ImageSet
from aigc_lightning.evaluation.pair_scores import score_pairs
from aigc_lightning.evaluation.receipt import Section
from aigc_lightning.evaluation.report_progress import Progress, silent
from aigc_lightning.evaluation.score_names import is_better, is_spread
from aigc_lightning.evaluation.scores import Sides, distribution_scores

#: What happens to samples on their way to a viewer: noise, blur, resizing and compression.
OF_SAMPLES = ("gaussian_noise", "defocus_blur", "pixelate", "jpeg_compression")
_KEY = 1200  # above the keys of other draws
_SCORES_OF_SAMPLES = ("frechet_distance", "kernel_distance", "precision_recall", "density_coverage")

#: Values by severity, from 0, by the kind of the corruption.
Curves = dict[str, list[float]]


class Robustness(NamedTuple):
    """Scores of corrupted images, and the curves by score."""

    section: Section
    curves: dict[str, Curves]


class CorruptedData(DataImages):
    """Images of a part of a dataset, corrupted by their index.

    Args:
        images: the images.
        kind: of the corruption.
        severity: from 0, which changes nothing, to 5.
    """

    def __init__(self, images: DataImages, kind: str, severity: int) -> None:
        super().__init__(images.data, images.part, images.field, images.numbers)
        self.name = images.name
        self.corruption = CommonCorruption(kind, severity)

    def batch(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Return a whole batch as a model gets it, with corrupted images."""
        batch = super().batch(numbers)
        pixels = corrupted(to_uint8(batch[self.field]), self.corruption, numbers)
        return {**batch, self.field: to_signed(pixels)} if self.corruption.severity else batch


class CorruptedImages(ImageSet):
    """Images of any set, corrupted by their numbers.

    Args:
        images: the images, all of one size.
        kind: of the corruption.
        severity: from 0, which changes nothing, to 5.
    """

    def __init__(self, images: ImageSet, kind: str, severity: int) -> None:
        super().__init__(f"{images.name}, {kind} {severity}", images.numbers, images.class_names)
        self.images, self.corruption = images, CommonCorruption(kind, severity)

    def read(self, numbers: Sequence[int]) -> Labelled:
        """Return these images."""
        pixels, found, labels = self.images.read(numbers)
        return corrupted(pixels, self.corruption, numbers), found, labels


def corrupted(pixels: Tensor, corruption: CommonCorruption, numbers: Sequence[int]) -> Tensor:
    """Return images uint8 (B, C, H, W), each corrupted by its number."""
    return corrupt(pixels, [corruption], [(_KEY, number) for number in numbers])


def classifier_robustness(model: Any, images: DataImages, progress: Progress = silent) -> Robustness:
    """Return a classifier's accuracy on corrupted images: clean, mean over all kinds and severities, and their ratio.

    Args:
        model: with the capability `classify`.
        images: with the classes of the model.
        progress: shows progress.

    Raises:
        UserError: the images have other classes.
    """
    if images.class_names != model.spec.class_names:
        raise UserError("The images have other classes than the model.", "Give data with the same classes.")

    def accuracy(kind: str, severity: int) -> float:
        spoilt, right = CorruptedData(images, kind, severity), 0
        for start in range(0, len(images), images.block):
            batch = spoilt.batch(images.numbers[start : start + images.block])
            answers = model.classify(batch[images.field].to(model.device)).argmax(1).cpu()
            right += int((answers == batch["label"]).sum())
        return right / len(images)

    curves = _curves(accuracy, list(COMMON), images.name, progress)
    clean, spoilt = _ends(curves)
    scores = {"accuracy": clean, "corrupted_accuracy": spoilt, "relative_accuracy": spoilt / clean if clean else 0.0}
    return _robustness({"accuracy": curves}, scores, images, {"images": images.name})


def editor_robustness(
    model: Any,
    given: DataImages,
    targets: DataImages,
    options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Robustness:
    """Return the PSNR of an editor's results from corrupted inputs against the targets of the clean ones.

    Args:
        model: with the capability `edit`.
        given: its inputs.
        targets: their targets, in the same order.
        options: of the model's own `edit`.
        progress: shows progress.
    """

    def psnr(kind: str, severity: int) -> float:
        edited = Edits(model, CorruptedData(given, kind, severity), options)
        return score_pairs(edited, targets, None, ["psnr"]).scores["psnr"]

    curves = _curves(psnr, list(COMMON), given.name, progress)
    clean, spoilt = _ends(curves)
    scores = {"psnr": clean, "corrupted_psnr": spoilt}
    return _robustness({"psnr": curves}, scores, given, {"images": given.name, "reference": targets.name})


def sample_robustness(judge: Judge, fake: ImageSet, real: ImageSet) -> Robustness:
    """Return how the scores of samples change when these are corrupted: clean, mean, and the ranking of severities.

    The ranking is Kendall's tau between severity and score, the mean over the kinds: 1 if less corrupted samples always
    have the better score, -1 if they always have the worse one.

    Args:
        judge: computes features.
        fake: the samples.
        real: the images to compare them with, as they are.
    """
    bank = judge.describe_real(real, "real images")[0]
    found: dict[tuple[str, int], dict[str, float]] = {}

    def scored(kind: str, severity: int) -> float:
        images = CorruptedImages(fake, kind, severity) if severity else fake
        sides = Sides(bank, judge.describe(images, images.name))
        values = distribution_scores(sides, _SCORES_OF_SAMPLES).values
        found[kind, severity] = {key: value for key, value in values.items() if not is_spread(key)}
        return 0.0

    kinds = list(OF_SAMPLES)
    _curves(scored, kinds, "corrupted samples", silent)
    clean = found[kinds[0], 0]
    curves, scores = {}, {}
    for key in clean:
        values = {kind: [clean[key], *(found[kind, step][key] for step in range(1, WORST + 1))] for kind in kinds}
        scores[key], scores[f"corrupted_{key}"] = _ends(values)
        sign = 1 if is_better(key) == "lower" else -1
        scores[f"{key}_ranking"] = mean(_tau([sign * value for value in row]) for row in values.values())
        curves[key] = values
    robustness = _robustness(curves, scores, real, {"images": fake.name, "reference": real.name})
    robustness.section.protocol.update(extractor=judge.extractor.fingerprint, num_fake=len(fake))
    return robustness


def draw_curves(curves: Mapping[str, Curves]) -> Image.Image:
    """Return a picture of each score by severity, with a line for each kind of corruption."""
    from matplotlib.figure import Figure  # takes a second and is needed once

    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(5.5 * columns + 1.5, 4.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    for axes, (key, by_kind) in zip(panels, curves.items(), strict=False):
        for number, (kind, values) in enumerate(by_kind.items()):
            style = ("-", "--", ":")[number // 5 % 3]
            axes.plot(values, style, color=f"C{number % 5}", marker="o", markersize=3, label=kind.replace("_", " "))
        axes.set_xlabel("severity")
        axes.set_title(key.replace("_", " "), loc="left")
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer).convert("RGB")


def _curves(score: Callable[[str, int], float], kinds: Sequence[str], name: str, progress: Progress) -> Curves:
    """Return a score by kind and severity; severity 0 is the same for all kinds."""
    steps = range(1, WORST + 1)
    progress(f"{name}, corrupted", len(kinds) * WORST, 0)
    clean = score(kinds[0], 0)
    curves: Curves = {}
    for kind in kinds:
        curves[kind] = [clean]
        for step in steps:
            curves[kind].append(score(kind, step))
            progress(f"{name}, corrupted", len(kinds) * WORST, 1)
    return curves


def _ends(curves: Curves) -> tuple[float, float]:
    """Return the clean score, and the mean over all kinds and severities above 0."""
    return next(iter(curves.values()))[0], mean(value for values in curves.values() for value in values[1:])


def _robustness(
    curves: dict[str, Curves], scores: dict[str, float], reference: ImageSet, subject: dict[str, Any]
) -> Robustness:
    rows = {}
    for key, by_kind in curves.items():
        for kind, values in by_kind.items():
            name = kind if len(curves) == 1 else f"{key}, {kind}"
            rows[name] = {f"severity_{step}": value for step, value in enumerate(values)}
    protocol: dict[str, Any] = {
        "num": len(reference),
        "reference": reference.fingerprint(),
        "corruptions": ", ".join(next(iter(curves.values()))),
        "severities": WORST,
    }
    return Robustness(Section("robustness", scores, protocol, {}, "", rows, subject), curves)


def _tau(values: Sequence[float]) -> float:
    """Return Kendall's tau between positions and values: the share of pairs in ascending order less the other share."""
    pairs = [torch.tensor(later - earlier).sign().item() for earlier, later in combinations(values, 2)]
    return float(sum(pairs) / len(pairs))
