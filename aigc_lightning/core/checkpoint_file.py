"""Checkpoint and export files: read without executing anything in them, after their checksums are verified."""

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aigc_lightning.core.io.atomic import open_regular
from aigc_lightning.core.io.checksums import check_archive, read_tensors
from aigc_lightning.core.records import RECORD_KEY, check_record, check_size, check_weights
from aigc_lightning.errors import UserError

_ANOTHER = "Take another checkpoint of the run, such as best.ckpt."


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU, after its checksums are verified.

    Raises:
        UserError: it cannot be read, is damaged, holds more than tensors and plain values, or is not ours.
    """
    if path.suffix == ".safetensors":
        raise UserError(f"{path} holds weights only.", "Use it with `aigc sample`; here, give a run folder or a .ckpt.")
    check_archive(path, _ANOTHER)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds objects that could run code: {first_line(error)}",
            "Only checkpoints of tensors and plain values are loaded. Take another one, such as best.ckpt.",
        ) from error
    except Exception as error:  # corrupt bytes can make the reader fail anywhere
        raise UserError(f"{path} cannot be read as a checkpoint: {first_line(error)}", _ANOTHER) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise UserError(f"{path} was not written by aigc_lightning.", "Give a checkpoint that `aigc fit` wrote.")
    check_size(checkpoint, path)
    check_record(checkpoint.get(RECORD_KEY), path)
    check_weights(checkpoint["state_dict"], path)
    return checkpoint


def step_of(path: Path) -> int:
    """Return the number of steps that a checkpoint's run had done, -1 if unreadable; reads no tensor."""
    try:
        check_archive(path, _ANOTHER, suffix="data.pkl")
        step = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]
    except Exception:  # corrupt bytes can make the reader fail anywhere
        return -1
    return step if isinstance(step, int) else -1


def file_hash(path: Path) -> str:
    """Return the first 16 hexadecimal digits of a file's SHA-256."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def read_record(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the record and the weights of a checkpoint or an export.

    The record of a checkpoint also has `step`, the number of training steps done.

    Raises:
        UserError: see `read_checkpoint`.
    """
    if path.suffix != ".safetensors":
        checkpoint = read_checkpoint(path)
        return {**checkpoint[RECORD_KEY], "step": checkpoint.get("global_step")}, checkpoint["state_dict"]
    hint = "Export it again."
    try:
        weights, metadata = read_tensors(path, hint)
        record = json.loads(metadata[RECORD_KEY])
    except UserError:
        raise
    except (OSError, KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path} was not written by `aigc export`: {first_line(error)}", hint) from error
    check_size(record, path)
    check_record(record, path)
    return record, weights


def first_line(error: Exception, number: int = 0) -> str:
    """Return one line of an error's message, by default the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[min(number, len(lines) - 1)][:200]
