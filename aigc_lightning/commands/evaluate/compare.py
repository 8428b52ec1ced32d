"""The implementation of `aigc compare`."""

import json
from collections.abc import Sequence
from pathlib import Path

from aigc_lightning.commands.listings import print_rows
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.receipt import Receipt, check_comparable, load_receipt
from aigc_lightning.evaluation.report import arrow_of, formatted, marked, title_of
from aigc_lightning.evaluation.score_names import is_better, is_spread


def print_table(runs: Sequence[str], *, as_json: bool) -> None:
    """Print the scores of runs side by side; a star marks the best in each row.

    Raises:
        UserError: a run without scores, the same run twice, or scores of different protocols.
    """
    receipts = {run: load_receipt(Path(run)) for run in runs}
    if len(receipts) < len(runs):
        raise UserError("One run is given twice.", "Give different runs.")
    kinds = check_comparable(receipts)
    if as_json:
        scores = {
            run: {section.kind: section.scores for section in receipt.sections if section.kind in kinds}
            for run, receipt in receipts.items()
        }
        echo(*json.dumps(scores, indent=2).split("\n"))
        return
    for kind in kinds:
        _print_kind(receipts, kind)


def _print_kind(receipts: dict[str, Receipt], kind: str) -> None:
    sections = {
        run: next(section for section in receipt.sections if section.kind == kind) for run, receipt in receipts.items()
    }
    first = next(iter(sections.values()))
    rows = []
    for key in dict.fromkeys(key for section in sections.values() for key in section.scores):
        values = {run: section.scores.get(key) for run, section in sections.items()}
        if is_spread(key):
            continue
        best = _best(key, [value for value in values.values() if value is not None])
        cells = {run: marked(key, sections[run]) + (" *" if value == best else "") for run, value in values.items()}
        rows.append({kind: title_of(key, first) + arrow_of(key), **cells, first.baseline_name or " ": ""})
        rows[-1][first.baseline_name or " "] = formatted(key, first.baseline[key]) if key in first.baseline else ""
    print_rows(rows, as_json=False, titles=True)


def _best(key: str, values: Sequence[float]) -> float | None:
    better = is_better(key)
    if better is None or len(values) < 2:
        return None
    return min(values) if better == "lower" else max(values)
