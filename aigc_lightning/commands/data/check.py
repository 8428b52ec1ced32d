"""`aigc data check`: problems in data."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from aigc_lightning.commands.data.options import data_parser, parse_data
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import echo

if TYPE_CHECKING:
    from aigc_lightning.data.base import ImageDataModule
    from aigc_lightning.data.inspection.inspect import Inspected

_SHOWN = 5


def main(argv: list[str]) -> int:
    """Look for bad files, duplicates, and overlap of training and held-out images; 1 if any are bad or overlap."""
    parser = data_parser(
        "check",
        "Look for bad files, duplicates and overlap. Exits with 1 if files cannot be read or the same image is both "
        "trained on and held out.",
        num=10_000,
        num_help="images per part, evenly spaced",
    )
    parser.add_argument(
        "--embedder",
        metavar="RUN_OR_EXTRACTOR",
        help="also look for near duplicates, mirrored and cropped ones too, by its embeddings",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    options, data_options = parse_data(parser, argv)

    from aigc_lightning.config.data import chosen_data
    from aigc_lightning.core.run.quiet import quiet_console

    with quiet_console():
        data = chosen_data(data_options)
        report = check(data, options.num)
        if options.embedder is not None:
            from aigc_lightning.commands.data.near import near_duplicates  # imports the embedders

            report |= near_duplicates(data, options.num, options.embedder, [*report["equal"], *report["overlap"]])
    echo(*(json.dumps(report, indent=2) if options.json else as_text(report)).split("\n"))
    return 1 if report["bad"] or report["overlap"] else 0


def check(data: "ImageDataModule", num: int) -> dict[str, Any]:
    """Return the findings, as plain values.

    Args:
        data: the data to check.
        num: number of images per part to look at.

    Returns:
        "images" by part, "sizes" and "modes" with their numbers, "passed_over" files by extension, "bad" files or
        samples with reasons, "odd" files with remarks, "equal" groups within a part, "overlap" groups across parts, and
        pairs that look "alike", those across parts first. An image is "part/name".
    """
    from aigc_lightning.data.inspection.inspect import PARTS, inspect, passed_over_by
    from aigc_lightning.data.inspection.similarity import equal_groups, look_alikes

    found, bad = inspect(data, num)
    report: dict[str, Any] = {
        "data": f"{type(data).__name__}, {data.spec}, {data.spec.task}",
        "images": {part: count for part in PARTS if (count := sum(item.part == part for item in found))},
        "sizes": _counted(f"{item.size[0]}x{item.size[1]}" for item in found),
        "modes": _counted(item.mode for item in found),
        "passed_over": passed_over_by(data),
        "bad": {error.path: error.reason for error in bad},
        "odd": {_names([item])[0]: "; ".join(item.remarks) for item in found if item.remarks},
    }
    equal: list[list[Inspected]] = []
    alike: list[tuple[Inspected, Inspected]] = []
    for _, group in groupby(sorted(found, key=lambda item: item.kind), key=lambda item: item.kind):
        items = list(group)
        prints = [item.print for item in items]
        equal += [[items[number] for number in numbers] for numbers in equal_groups(prints)]
        alike += [(items[first], items[second]) for first, second, _ in look_alikes(prints)]
    alike.sort(key=lambda pair: pair[0].part == pair[1].part)
    return report | {
        "equal": [_names(group) for group in equal if len({item.part for item in group}) == 1],
        "overlap": [_names(group) for group in equal if len({item.part for item in group}) > 1],
        "alike": [_names(pair) for pair in alike],
        "alike_over_parts": sum(first.part != second.part for first, second in alike),
    }


def as_text(report: dict[str, Any]) -> str:
    """Return a report as text."""
    from aigc_lightning.data.decoding.formats import passed_over

    parts = ", ".join(f"{count} {part}" for part, count in report["images"].items())
    bad = [shown(f"{path} ({reason})") for path, reason in report["bad"].items()]
    odd = [shown(f"{name} ({remarks})") for name, remarks in report["odd"].items()]
    equal, overlap = ([shown(_equal(group)) for group in report[key]] for key in ("equal", "overlap"))
    alike = [shown(" ~ ".join(pair)) for pair in report["alike"]]
    over, pairs = report["alike_over_parts"], "pair looks the same" if len(alike) == 1 else "pairs look the same"
    lines = [
        report["data"],
        f"images   {parts or 'none'}",
        f"sizes    {_most(report['sizes'])}",
        f"modes    {_most(report['modes'])}",
        f"passed   {passed_over(report['passed_over']) or 'none'}",
        f"bad      {_some(bad, 'cannot be read')}",
        f"odd      {_some(odd, f'{_are(odd)} read with a remark')}",
        f"equal    {_some(equal, f'{_groups(equal)} of the same image within a part')}",
        f"overlap  {_some(overlap, f'{_groups(overlap)} of the same image in several parts')}",
        f"alike    {_some(alike, f'{pairs}, {over} of them in several parts')}",
    ]
    if "near" in report:
        lines.append(f"near     {_near(report)}")
    return "\n".join(lines)


def _near(report: dict[str, Any]) -> str:
    pairs = [shown(f"{a} ~ {b} ({variant}, {distance:.3f})") for a, b, variant, distance in report["near"]]
    what = "pair is nearly the same" if len(pairs) == 1 else "pairs are nearly the same"
    limit = f"distances below {report['near_threshold']:.3f}"
    return _some(pairs, f"{what} ({limit}), {report['near_over_parts']} of them in several parts")


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _names(group: Iterable["Inspected"]) -> list[str]:
    return [item.name if item.name.startswith(f"{item.part}/") else f"{item.part}/{item.name}" for item in group]


def _most(counts: dict[str, int]) -> str:
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")


def _equal(group: Sequence[str]) -> str:
    more = f" and {len(group) - _SHOWN} more" if len(group) > _SHOWN else ""
    return " = ".join(group[:_SHOWN]) + more


def _are(items: Sequence[str]) -> str:
    return "is" if len(items) == 1 else "are"


def _groups(items: Sequence[str]) -> str:
    return "group" if len(items) == 1 else "groups"


def _some(items: Sequence[str], what: str) -> str:
    if not items:
        return "none"
    more = [f"         ... and {len(items) - _SHOWN} more (--json lists all)"] if len(items) > _SHOWN else []
    return "\n".join([f"{len(items)} {what}:", *(f"         {item}" for item in items[:_SHOWN]), *more])
