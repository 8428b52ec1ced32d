"""A self-contained HTML report of scores, samples and their nearest neighbours."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.output import html
from aigc_lightning.core.io.pictures import image_grid
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.class_rows import alike, ends_of, is_end
from aigc_lightning.evaluation.receipt import Receipt, Section
from aigc_lightning.evaluation.score_names import (
    BITS_PER_DIM,
    FEW_SHOT_SIZES,
    MEMBERSHIP_TPR,
    RETRIEVAL_KEYS,
    TEXT_RETRIEVAL_KEYS,
    is_better,
    is_spread,
    spread_key,
    without_corruption,
)
from aigc_lightning.evaluation.score_titles import TITLES

_SHARES = {
    *(
        "class_accuracy",
        "class_share_distance",
        "share",
        "share_of_data",
        "copy_rate",
        "coverage",
        "class_coverage",
        MEMBERSHIP_TPR,
    ),
    *("changed_copy_rate", "accuracy", "precision", "recall", "f1"),
    *RETRIEVAL_KEYS,
    *TEXT_RETRIEVAL_KEYS,
    *FEW_SHOT_SIZES,
}
_KINDS = {
    "generation": "Images against real images",
    "pairs": "Images against their targets",
    "classification": "Classification",
    "likelihood": "Likelihood of real images",
    "retrieval": "Retrieval of images of the same class",
    "text_retrieval": "Retrieval of images by their captions",
    "membership": "Training images told from held-out ones by their loss",
    "few_shot": "Classification from a few examples",
    "robustness": "Robustness to corruptions",
    "generalisation": "Training images beside held-out ones",
    "detection": "Generated images told from real ones",
}
#: A lower bound of the likelihood is an upper bound of the bits.
_MARKS = {"lower_bound": "≤ ", "estimate": "≈ "}
#: The style sheet of pages.
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .9rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}img{max-width:100%;image-rendering:pixelated}
figure{margin:1.5rem 0}figcaption,.note{color:#555;font-size:.9rem}
pre{overflow-x:auto;background:#f6f6f6;padding:1rem;font-size:.8rem}
"""


@dataclass
class Picture:
    """A picture of the page.

    Args:
        image: the picture.
        title: its heading.
        caption: what it shows.
    """

    image: Image.Image
    title: str
    caption: str


@dataclass
class Report:
    """What a page shows.

    Args:
        receipt: the scores.
        pictures: in order.
    """

    receipt: Receipt
    pictures: list[Picture] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the page.

        Raises:
            UserError: the file cannot be written.
        """
        try:
            with replacing(path) as temporary:
                temporary.write_text(_page(self), encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}.", "Choose another --out.") from error


def title_of(key: str, section: Section | None = None) -> str:
    """Return the title of a score: a Frechet distance is called FID only for its extractor and resize protocol."""
    if section is not None and section.subject.get("is_standard_fid"):
        key = {"frechet_distance": "FID", "kernel_distance": "KID"}.get(key, key)
    score = without_corruption(key)
    if score != key:
        kind = "relative to clean images" if key.startswith("relative") else "corrupted images"
        return f"{title_of(score, section)}, {kind}"
    if key.endswith("_ranking"):
        return f"{title_of(key.removesuffix('_ranking'), section)}, ranking of severities"
    return TITLES.get(key, key.replace("_", " ").capitalize() if key.islower() else key)


def arrow_of(key: str) -> str:
    """Return an arrow that points to where a number is better, or nothing."""
    return {"lower": " ↓", "higher": " ↑", None: ""}[is_better(key)]


def score_rows(section: Section) -> list[tuple[str, str, str]]:
    """Return title, value and baseline of each score; spreads stand behind their means."""
    rows = []
    for key in section.scores:
        if is_spread(key):
            continue
        spread = section.scores.get(spread_key(key))
        form = ".2%" if key in _SHARES else ".2g"
        shown = marked(key, section) + (f" ± {spread:{form}}" if spread is not None else "")
        baseline = formatted(key, section.baseline[key]) if key in section.baseline else ""
        rows.append((title_of(key, section) + arrow_of(key), shown, baseline))
    return rows


def left_out_lines(section: Section) -> list[str]:
    """Return a line for each score that could not be computed, with the reason."""
    return [f"{title_of(name, section)} ({name}) is left out. {why}" for name, why in section.left_out.items()]


def gap_lines(section: Section) -> list[str]:
    """Return a line for each score by class: the best and the worst class, and whether chance explains the gap."""
    lines = []
    for key in _columns(section):
        better = is_better(key)
        values = {name: row[key] for name, row in section.classes.items() if not _is_unknown(row.get(key))}
        if better is None or len({*values.values()}) < 2:
            continue
        low, high = min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])
        best, worst = (high, low) if better == "higher" else (low, high)
        (of_best, of_worst), gap = (formatted(key, values[name]) for name in (best, worst)), values[high] - values[low]
        p_value = alike(key, section.classes)
        chance = "" if math.isnan(p_value) else f"; if all classes were alike: p = {p_value:.2g}"
        lines.append(
            f"{title_of(key)} by class: best {best} ({of_best}), worst {worst} ({of_worst}), "
            f"gap {formatted(key, gap)}{chance}"
        )
    return lines


def _columns(section: Section) -> list[str]:
    """Return the keys of scores by class, without the ends of their intervals."""
    keys = dict.fromkeys(key for row in section.classes.values() for key in row)
    return [key for key in keys if not is_end(key)]


def _is_unknown(value: float | None) -> bool:
    return value is None or math.isnan(value)


def formatted(key: str, value: float | None) -> str:
    """Return a number formatted for display: shares in percent."""
    if value is None or math.isnan(value):
        return "-"
    if key == "images":
        return f"{value:.0f}"
    return f"{value:.2%}" if without_corruption(key) in _SHARES else f"{value:.4g}"


def marked(key: str, section: Section) -> str:
    """Return a section's score formatted for display, with a sign before bits per dimension that are not exact."""
    mark = _MARKS.get(str(section.subject.get("likelihood")), "") if key == BITS_PER_DIM else ""
    return mark + formatted(key, section.scores.get(key))


def neighbour_picture(rows: Sequence[tuple[Tensor, Sequence[Tensor]]]) -> Image.Image:
    """Return a picture with a row for each image: the image, then its nearest real ones.

    Args:
        rows: uint8 (C, H, W) images with their neighbours, all of one number of channels.
    """
    height, width = rows[0][0].shape[-2:]
    images = [image for first, others in rows for image in (first, *others)]
    same = [image if image.shape[-2:] == (height, width) else _fitted(image, height, width) for image in images]
    return image_grid(torch.stack(same), 1 + len(rows[0][1]))


def confusion_picture(counts: Tensor, cell: int = 24) -> Image.Image:
    """Return a confusion matrix (K, K) as grey cells: darker for larger counts, one true class per row."""
    shares = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    grey = (255 * (1 - shares.sqrt())).round().to(torch.uint8)
    return Image.fromarray(grey.repeat_interleave(cell, 0).repeat_interleave(cell, 1).numpy())


def _fitted(image: Tensor, height: int, width: int) -> Tensor:
    resized = interpolate(image[None].float(), (height, width), mode="bilinear", antialias=True)
    return resized[0].round().clamp(0, 255).to(torch.uint8)


def _page(report: Report) -> str:
    receipt = report.receipt
    parts = [f"<h1>{html(receipt.name)}</h1>"]
    for section in receipt.sections:
        parts.append(_section(section))
    for picture in report.pictures:
        parts.append(
            f"<h2>{html(picture.title)}</h2><figure><img alt='{html(picture.title)}' src='{embedded(picture)}'>"
            f"<figcaption>{html(picture.caption)}</figcaption></figure>"
        )
    for section in receipt.sections:
        parts.append(_classes(section))
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{html(receipt.name)}</title><style>{STYLE}</style></head><body>{''.join(parts)}"
        f"{_receipt(receipt)}</body></html>\n"
    )


def _section(section: Section) -> str:
    rows = "".join(
        f"<tr><td>{html(title)}</td><td><b>{html(value)}</b></td><td>{html(baseline)}</td></tr>"
        for title, value, baseline in score_rows(section)
    )
    left_out = "".join(f"<p class='note'>{html(line)}</p>" for line in left_out_lines(section))
    about = " &middot; ".join(
        f"{html(key.replace('_', ' '))}: {html(_listed(value))}"
        for key, value in {**section.subject, **section.protocol}.items()
        if key not in ("settings", "is_standard_fid")
    )
    return (
        f"<h2>{_KINDS[section.kind]}</h2><table><tr><th></th><th>score</th><th>{html(section.baseline_name)}</th></tr>"
        f"{rows}</table>{left_out}<p class='note'>{about}</p>"
    )


def _listed(value: Any) -> str:
    """Return a value as a text, a mapping as "steps 50, probes 1"."""
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)


def _classes(section: Section) -> str:
    if not section.classes:
        return ""
    keys = _columns(section)
    head = "".join(f"<th>{html(title_of(key))}{arrow_of(key)}</th>" for key in keys)
    rows = "".join(
        f"<tr><td>{html(name)}</td>{''.join(f'<td>{_cell(key, row)}</td>' for key in keys)}</tr>"
        for name, row in section.classes.items()
    )
    gaps = "".join(f"<p class='note'>{html(line)}</p>" for line in gap_lines(section))
    note = "<p class='note'>In brackets: intervals of 95 %, of each class alone.</p>"
    if section.kind == "robustness":
        return f"<h2>By corruption</h2><table><tr><th></th>{head}</tr>{rows}</table>"
    return f"<h2>By class</h2><table><tr><th></th>{head}</tr>{rows}</table>{gaps}{note}"


def _cell(key: str, row: Mapping[str, float]) -> str:
    """Return a score of a class with its interval, if it has one."""
    low, high = (row.get(end) for end in ends_of(key))
    interval = "" if _is_unknown(low) else f" [{formatted(key, low)}, {formatted(key, high)}]"
    return formatted(key, row.get(key)) + interval


def _receipt(receipt: Receipt) -> str:
    lines = [f"{key}: {value}" for key, value in receipt.model.items()]
    lines += ["", *(f"{name} {version}" for name, version in receipt.versions.items())]
    text = "\n".join(map(html, lines))
    return f"<h2>Receipt</h2><pre>{text}</pre>"


def embedded(picture: Picture) -> str:
    """Return a picture as the address of an image that is part of a page."""
    buffer = BytesIO()
    picture.image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
