"""`aigc data stats`: statistics of data."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_lightning.commands.data.options import data_parser, parse_data
from aigc_lightning.commands.listings import print_rows
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import echo

if TYPE_CHECKING:
    from aigc_lightning.data.base import FieldSource, ImageDataModule, ImageSource

_UNBALANCED = 2.0  # ratio of the largest to the smallest class above which balancing is suggested
_BAR = 40  # characters of the longest bar


def main(argv: list[str]) -> int:
    """Print numbers of images, brightness, and the balance of classes."""
    parser = data_parser(
        "stats",
        "Print numbers of images, brightness by channel, and the balance of classes, before augmentation.",
        num=5000,
        num_help="images per part to average over",
    )
    parser.add_argument("--out", type=Path, help="also draw a picture, such as stats.png")
    parser.add_argument(
        "--by",
        metavar="FIELD",
        help="also number, share and brightness of groups: label, caption (its words), or words as in caption=she,he",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    options, data_options = parse_data(parser, argv)

    from aigc_lightning.config.data import chosen_data
    from aigc_lightning.core.run.quiet import quiet_console

    with quiet_console():
        data = chosen_data(data_options)
        by = None if options.by is None else grouped(data, options.by, options.num)
        report = {**statistics(data, options.num), **({} if by is None else {"by": by})}
    if options.out is not None:
        draw(report, options.out)
    if options.json:
        echo(*json.dumps(report, indent=2).split("\n"))
    else:
        _print(report)
        if options.out is not None:
            echo("", f"Picture: {options.out}")
    return 0


def statistics(data: "ImageDataModule", num: int) -> dict[str, Any]:
    """Return the numbers, as plain values.

    Args:
        data: the data to describe.
        num: number of images per part to average over, evenly spaced.

    Returns:
        "data", "classes" (their names), "files" (smallest, median and largest height and width, and modes) and "parts":
        for each part "samples", "labels" (images of each class), "captions" (number, distinct ones and mean number of
        words) and "images": by batch key "mean" and "std" of each channel and "histogram" (32 bins), all of pixels from
        0 to 1.
    """
    from aigc_lightning.data.inspection.inspect import clean, headers, sources

    data = clean(data)
    parts = {part: _of_part(source, num) for part, source in sources(data).items()}
    return {
        "data": f"{type(data).__name__}, {data.spec}, {data.spec.task}",
        "classes": list(data.spec.class_names),
        "files": _of_files(headers(data, num)),
        "parts": parts,
    }


def grouped(data: "ImageDataModule", by: str, num: int) -> dict[str, Any]:
    """Return the groups of each part, as plain values.

    Args:
        data: the data to describe.
        by: what groups are made by, see `Grouping.parsed`.
        num: number of images per part to look at, evenly spaced.

    Raises:
        UserError: the data cannot be grouped like this.
    """
    from aigc_lightning.data.inspection.inspect import clean, sources
    from aigc_lightning.evaluation.groups import Grouping, groups, same_shares

    data = clean(data)
    grouping = Grouping.parsed(by, data.spec)
    parts = {part: groups(source, grouping, data.spec, num) for part, source in sources(data).items()}
    p_value = same_shares([*parts.values()]) if grouping.field == "label" else math.nan
    return {
        "field": by,
        "parts": {part: {name: _plain(group) for name, group in found.items()} for part, found in parts.items()},
        **({} if math.isnan(p_value) else {"p_value_of_equal_shares": p_value}),
    }


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else round(value, 5) for key, value in values.items()}


def _of_files(found: list[tuple[int, int, str]]) -> dict[str, Any]:
    if not found:
        return {}
    heights, widths = (sorted(file[side] for file in found) for side in (0, 1))
    return {
        "number": len(found),
        "heights": [heights[0], heights[len(heights) // 2], heights[-1]],
        "widths": [widths[0], widths[len(widths) // 2], widths[-1]],
        "modes": dict(Counter(mode for _, _, mode in found).most_common()),
    }


def _of_part(source: "ImageSource | FieldSource", num: int) -> dict[str, Any]:
    import torch

    from aigc_lightning.data.inspection.inspect import chosen, samples
    from aigc_lightning.data.sources import field_kind

    counts: dict[str, torch.Tensor] = {}  # of each grey level, by batch key: int64 (C, 256)
    captions: list[str] = []
    for _, fields in samples(source, chosen(len(source), num)):
        captions += fields.get("caption", [])
        for key, images in fields.items():
            if field_kind(source, key, images) == "image":
                channels = images.transpose(0, 1).flatten(1).long()
                levels = torch.stack([torch.bincount(channel, minlength=256) for channel in channels])
                counts[key] = counts.get(key, torch.zeros_like(levels)) + levels
    labels = source.labels(range(len(source)))
    return {
        "samples": len(source),
        "labels": {} if labels is None else {str(label): count for label, count in _counted(labels.tolist())},
        "captions": _of_captions(captions),
        "images": {key: _of_levels(levels) for key, levels in counts.items()},
    }


def _counted(labels: list[int]) -> list[tuple[int, int]]:
    return sorted(Counter(labels).items())


def _of_captions(captions: list[str]) -> dict[str, float]:
    if not captions:
        return {}
    words = sum(len(caption.split()) for caption in captions) / len(captions)
    return {"number": len(captions), "distinct": len(set(captions)), "mean_words": round(words, 2)}


def _of_levels(counts: Any) -> dict[str, Any]:
    """Return mean, standard deviation and histogram of each channel from counts of grey levels (C, 256)."""
    import torch

    levels = torch.arange(256, dtype=torch.float64) / 255
    shares = counts.double() / counts.sum(1, keepdim=True)
    mean = (shares * levels).sum(1)
    std = ((shares * levels**2).sum(1) - mean**2).clamp(min=0).sqrt()
    histogram = shares.view(len(shares), 32, 8).sum(2)
    return {
        "mean": [round(value, 4) for value in mean.tolist()],
        "std": [round(value, 4) for value in std.tolist()],
        "histogram": [[round(value, 5) for value in channel] for channel in histogram.tolist()],
    }


def _print(report: dict[str, Any]) -> None:
    echo(report["data"])
    if report["files"]:
        files = report["files"]
        modes = ", ".join(f"{mode} ({count})" for mode, count in files["modes"].items())
        sides = ", ".join(f"{name} {' to '.join(map(str, files[name]))}" for name in ("heights", "widths"))
        echo(f"{files['number']} files, {modes}; smallest, median and largest: {sides}")
    rows = []
    for part, numbers in report["parts"].items():
        for key, image in numbers["images"].items():
            mean, std = (" ".join(f"{value:.3f}" for value in image[name]) for name in ("mean", "std"))
            rows.append({"part": part, "samples": str(numbers["samples"]), "key": key, "mean": mean, "std": std})
    print_rows(rows, as_json=False, titles=True)
    for part, numbers in report["parts"].items():
        if numbers["captions"]:
            found = numbers["captions"]
            echo("", f"{part}: {found['distinct']} distinct captions of {found['number']}, {found['mean_words']} words")
        if numbers["labels"]:
            hint = part == "train" and "; data.balanced true shows all equally often"
            echo("", f"{part}: {balance(numbers['labels'], len(report['classes']), hint or '')}")
            _print_bars(numbers["labels"], report["classes"])
    if "by" in report:
        _print_groups(report["by"])


def _print_groups(by: dict[str, Any]) -> None:
    """Print the groups, those of a part below one another."""
    rows = []
    for part, found in by["parts"].items():
        for name, group in found.items():
            low, high = (f"{group[key]:.1%}" if group[key] is not None else "-" for key in ("share_low", "share_high"))
            level, stderr = group["brightness"], group["brightness_stderr"]
            rows.append(
                {
                    "part": part,
                    by["field"].partition("=")[0]: name,
                    "images": str(group["images"]),
                    "share, 95 % interval": f"{low} to {high}",
                    "brightness": "-" if level is None else f"{level:.3f}" + (f" ± {stderr:.3f}" if stderr else ""),
                }
            )
    echo("")
    print_rows(rows, as_json=False, titles=True)
    if "p_value_of_equal_shares" in by:
        echo(f"If all parts had the same shares, such differences would have p = {by['p_value_of_equal_shares']:.2g}.")


def balance(counts: dict[str, int], num_classes: int, hint: str) -> str:
    """Describe the balance of the classes.

    Args:
        counts: images of each label that has any.
        num_classes: number of labels.
        hint: appended if they are unbalanced.
    """
    most, least = max(counts.values()), min(counts.values())
    empty = num_classes - len(counts)
    text = f"{num_classes} classes, the largest has {most / least:.3g} times the images of the smallest"
    if empty:
        text += f"; {empty} have none"
    return text + (hint if most >= _UNBALANCED * least else "")


def _print_bars(counts: dict[str, int], classes: list[str]) -> None:
    most = max(counts.values())
    rows = [
        {"class": name, "images": str(count), "bar": "#" * round(_BAR * count / most)}
        for number, name in enumerate(classes)
        for count in [counts.get(str(number), 0)]
    ]
    print_rows(rows, as_json=False)


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw histograms of brightness and, if there are any, of classes, and write the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from aigc_lightning.core.io.atomic import replacing

    drawn = [(part, key, image) for part, found in report["parts"].items() for key, image in found["images"].items()]
    labelled = {part: found["labels"] for part, found in report["parts"].items() if found["labels"]}
    columns = len(drawn) + bool(labelled)
    figure = Figure(figsize=(3.6 * columns, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis, (part, key, image) in zip(axes, drawn, strict=False):
        colors = {1: ["black"], 3: ["tab:red", "tab:green", "tab:blue"]}.get(len(image["mean"]))
        for channel, values in enumerate(image["histogram"]):
            middles = [(number + 0.5) / len(values) for number in range(len(values))]
            axis.plot(middles, values, color=colors[channel] if colors else None, linewidth=1.2)
        axis.set(title=f"{part}: {key}", xlabel="brightness, 0 to 1", ylim=(0, None))
    axes[0].set_ylabel("share of the pixels")
    for number, (part, counts) in enumerate(labelled.items()):
        places = [place + 0.4 * number for place in range(len(report["classes"]))]
        values = [counts.get(str(label), 0) for label in range(len(report["classes"]))]
        axes[-1].barh(places, values, height=0.38, label=part)
    if labelled:
        axes[-1].set(title="images of each class", yticks=range(len(report["classes"])))
        names = [shown(name) for name in report["classes"]]
        axes[-1].set_yticklabels(names, parse_math=False)  # names may contain dollar signs
        axes[-1].invert_yaxis()
        axes[-1].legend()
    figure.suptitle(report["data"])
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
