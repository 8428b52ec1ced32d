"""The expected content of checkpoints and exports, by name and type, validated before use.

The files are untrusted. A value of the wrong type, a newer format, or a structure so deep that it exhausts the stack
must end in one clear sentence.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn

from aigc_lightning import __version__
from aigc_lightning.errors import UserError

#: Key under which a checkpoint keeps the record of how it was made.
RECORD_KEY = "aigc"
#: Version of the record; raised when older programs would misread a newer file.
FORMAT = 1
#: The record's entry with, for each optimizer, the number of parameters it has state for.
OPTIMIZER_SIZES = "optimizer_sizes"

#: A kind: a type, several types, a list of one kind, or a mapping from required keys to their kinds. The
#: key `str` stands for any text.
Kind = Any
_RECORD: dict[Any, Kind] = {
    "class_path": str,
    "config": {str: object},
    "spec": {"channels": int, "height": int, "width": int},
    "versions": {str: str},
}
#: Kinds of a record's optional entries.
_MORE: dict[Any, Kind] = {
    "format": int,
    "engine": {str: object},
    "ema": {str: object},
    "privacy": {str: object},
    "distill": {str: object},
    "data": {"class_path": str, "config": {str: object}},
    "seed": (int, NoneType),
    "precision": str,
    "components": {str: {"address": str, "sha256": str}},
    OPTIMIZER_SIZES: [int],
}
#: What training resumes from, besides the record and the weights.
_RESUMABLE: dict[Any, Kind] = {
    "global_step": int,
    "epoch": int,
    "pytorch-lightning_version": str,
    "loops": {"fit_loop": {str: object}},
    "callbacks": {str: object},
    "optimizer_states": [{"state": dict, "param_groups": [dict]}],
    "lr_schedulers": [dict],
}
_DEEPEST, _MOST = 64, 5_000_000  # levels and values in a file


def first_mismatch(value: Any, kind: Kind, place: str = "") -> str:
    """Return where a value does not match a kind, as in "spec.height is a str"; "" if it matches.

    Args:
        value: as read from the file.
        kind: see `Kind`; integers must not be negative.
        place: the name of the value.
    """
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return _said(place, value)
        for key, inner in kind.items():
            if key is str:
                keys: Iterable[Any] = value
                wrong = next((name for name in value if not isinstance(name, str)), None)
                if wrong is not None:
                    return f"{place or 'it'} has the key {str(wrong)[:40]}"
            elif key in value:
                keys = [key]
            else:
                return f"{f'{place}.{key}' if place else key} is missing"
            for name in keys:
                if found := first_mismatch(value[name], inner, f"{place}.{name}" if place else str(name)):
                    return found
        return ""
    if isinstance(kind, list):
        if not isinstance(value, list):
            return _said(place, value)
        return next((found for item in value if (found := first_mismatch(item, kind[0], place))), "")
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not {bool, object} & {*kinds}):
        return _said(place, value)
    return f"{place} is {value}" if int in kinds and isinstance(value, int) and value < 0 else ""


def checked_state(state: Any, kinds: dict[Any, Kind], what: str) -> dict[str, Any]:
    """Return the state of a part of a run from a checkpoint.

    Args:
        state: as read from the file.
        kinds: of its required entries.
        what: what the state is of, for the message.

    Raises:
        UserError: it has a different structure.
    """
    if found := first_mismatch(state, kinds, what):
        raise UserError(
            f"Training cannot resume from the checkpoint: {found}.",
            "Give an unmodified one written by `aigc fit`.",
        )
    return {name: state[name] for name in kinds}


def kind_of(value: Any) -> Kind:
    """Return the kind of a value: mappings by their keys, everything else by its type."""
    return {key: kind_of(item) for key, item in value.items()} if isinstance(value, dict) else type(value)


def check_size(held: Any, path: Path) -> None:
    """Check that the content of a file is neither too deeply nested nor too large to be processed.

    Raises:
        UserError: it is.
    """
    waiting, seen = [(held, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > _DEEPEST or seen > _MOST:
            what = f"is nested more than {_DEEPEST} levels deep" if depth > _DEEPEST else f"holds over {_MOST:,} values"
            raise UserError(f"{path} {what}.", "Give a file that `aigc fit` or `aigc export` wrote.")
        if isinstance(value, Mapping):
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += [(item, depth + 1) for item in value]


def check_record(record: Any, path: Path) -> None:
    """Check that a file has a record of its model in a format that this version reads.

    Raises:
        UserError: it has not.
    """
    held = record if isinstance(record, dict) else {}
    number = held.get("format", FORMAT)
    if isinstance(number, int) and not isinstance(number, bool) and number > FORMAT:
        versions = held.get("versions")
        made_by = str(versions.get("aigc_lightning", "?")) if isinstance(versions, dict) else "?"
        raise UserError(
            f"{path} has format {number}, but aigc_lightning {__version__} reads formats up to {FORMAT}.",
            f"Install a newer version: the file was written by {made_by[:40]}.",
        )
    found = first_mismatch(held, _RECORD)
    found = found or first_mismatch(held, {name: kind for name, kind in _MORE.items() if name in held})
    found = found or ("format is 0" if number == 0 else "")
    spec = held.get("spec", {})
    optional = {"class_names": [str], "task": str, "captions": bool, "masks": bool, "scale": (int, float)}
    found = found or first_mismatch(spec, {name: kind for name, kind in optional.items() if name in spec}, "spec")
    if found:
        raise UserError(
            f"{path} was not written by aigc_lightning: in its record, {found}.",
            "Give a checkpoint that `aigc fit` or `aigc export` wrote.",
        )


def check_weights(weights: Any, path: Path) -> None:
    """Check that weights are tensors by name.

    Raises:
        UserError: they are not.
    """
    found = first_mismatch(weights, {str: Tensor}, "state_dict")
    if found:
        raise UserError(
            f"{path} was not written by aigc_lightning: {found}.", "Give a checkpoint that `aigc fit` wrote."
        )


def check_resumable(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Check that training can resume from a checkpoint.

    Raises:
        UserError: something is missing or of another kind, or the optimizers' state does not match the record.
    """
    found = first_mismatch(checkpoint, _RESUMABLE)
    sizes = checkpoint.get(RECORD_KEY, {}).get(OPTIMIZER_SIZES)  # version 0.1 did not write it
    if not found and sizes not in (None, optimizer_sizes(checkpoint)):
        found = f"optimizer_states has entries for {optimizer_sizes(checkpoint)} parameters but {sizes} were saved"
    if found:
        raise UserError(
            f"Training cannot resume from {path}: {found}.", "Give an unmodified checkpoint written by `aigc fit`."
        )


def optimizer_sizes(checkpoint: Mapping[str, Any]) -> list[int]:
    """Return, for each optimizer, the number of parameters it has state for."""
    # Some strategies gather the states in the first process only.
    return [len(optimizer.get("state", ())) for optimizer in checkpoint["optimizer_states"]]


def check_finite(model: nn.Module, weights: Mapping[str, Tensor], path: Path | str) -> None:
    """Check that all parameters are finite and no buffer has NaN.

    Args:
        model: the model they belong to.
        weights: by name.
        path: the file, for the message.

    Raises:
        UserError: some are not; the message names the first.
    """
    parameters = {name for name, _ in model.named_parameters()}
    for name, tensor in weights.items():
        # The sum is much faster but can overflow although all numbers are finite, so then each one is checked.
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor.sum())):
            continue
        bad = ~torch.isfinite(tensor) if name in parameters else torch.isnan(tensor)
        if bool(bad.any()):
            raise UserError(
                f"{int(bad.sum()):,} of {tensor.numel():,} numbers of {name} in {path} are not finite: its training "
                "diverged.",
                "Take an earlier checkpoint of the run, such as best.ckpt, or train with a smaller learning rate.",
            )


def _said(place: str, value: Any) -> str:
    return f"{place or 'it'} is a {type(value).__name__}"
