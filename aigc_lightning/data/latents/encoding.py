"""Encoding a dataset with a first stage: in pieces, and resumable after an interruption."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from aigc_lightning.core.capabilities import FirstStage, Tokenizer
from aigc_lightning.core.component import Component
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.data.base import ImageDataModule, ImageSamples
from aigc_lightning.data.latents.format import (
    PARTS,
    PIECE,
    Encoded,
    Piece,
    piece_path,
    read_description,
    read_piece,
    write_description,
    write_piece,
)
from aigc_lightning.data.unreadable import LOST_KEY, LostImage
from aigc_lightning.errors import UserError

_AT_ONCE = 64  # images in the encoder


def encode_data(
    component: Component,
    data: ImageDataModule,
    source: str,
    target: Path,
    *,
    latents: bool = False,
    watch: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[Encoded, list[LostImage]]:
    """Encode the training images of some data, and keep the held-out ones as they are, for scores.

    Intact pieces of an earlier call are kept.

    Args:
        component: the first stage.
        data: with single images.
        source: the data in words, which `encoded.json` says and by which another call recognises it.
        target: the folder.
        latents: keep the latents of a tokenizer, before they are quantized, instead of its tokens.
        watch: called with the numbers of finished samples and of all.

    Returns:
        What the folder holds, and the images that could not be read, which others replace.

    Raises:
        UserError: the model or the data is not of this kind, or the target holds something else.
    """
    _check(component, data)
    sources = {"train": data.train_source(), "val": data.val_source()}
    counts = {part: len(sources[part]) for part in PARTS}
    kind = "tokens" if isinstance(component.model, Tokenizer) and not latents else "latent"
    encoded = Encoded(data.spec, source, kind, component.sha256, counts, complete=False)
    _claim(target, encoded)
    write_description(target, encoded)
    lost: list[LostImage] = []
    done, total = 0, sum(counts.values())
    for part in PARTS:
        samples = data.samples(sources[part])
        for number, first in enumerate(range(0, counts[part], PIECE)):
            indices = range(first, min(first + PIECE, counts[part]))
            path = piece_path(target, part, number)
            if not _is_intact(path, len(indices)):
                write_piece(path, _made(component.model, kind if part == "train" else "image", samples, indices, lost))
            done += len(indices)
            watch(done, total)
    complete = replace(encoded, complete=True)
    write_description(target, complete)
    return complete, lost


def _check(component: Component, data: ImageDataModule) -> None:
    name = type(component.model).__name__
    if not isinstance(component.model, FirstStage):
        raise UserError(f"The {name} does not encode images.", "Use an autoencoder, a vae or a tokenizer.")
    if data.spec.task != "generation":
        raise UserError(f"The data are {data.spec.task} images.", "Encode single images.")
    if data.spec.channels != component.model.spec.channels:
        raise UserError(f"The {name} encodes {component.model.spec}, the data are {data.spec}.", "Use equal channels.")


def _claim(target: Path, encoded: Encoded) -> None:
    """Check that the folder is empty, or holds the beginning of this very dataset."""
    before = read_description(target)
    if before is None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is not empty.", "Give a new folder, or one that this command was writing.")
    if before is not None and {**vars(before), "complete": False} != vars(encoded):
        raise UserError(
            f"{target} holds {before.source} as {before.kind} of the network {before.first_stage[:12]}.",
            "Give another folder.",
        )
    target.mkdir(parents=True, exist_ok=True)


def _is_intact(path: Path, count: int) -> bool:
    try:
        return path.is_file() and bool(read_piece(path, count))
    except UserError:
        return False


def _made(model: Any, kind: str, samples: ImageSamples, indices: range, lost: list[LostImage]) -> Piece:
    """Return a piece of samples that became latents or tokens, or stay images."""
    parts = [_part(model, kind, batch) for batch in _batches(samples, indices, lost)]
    captions = [caption for part in parts for caption in part.pop("caption", [])]
    return Piece({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, captions)


def _part(model: Any, kind: str, batch: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {name: batch[name] for name in ("label", "caption") if name in batch}
    if kind == "image":
        return {"image": to_uint8(batch["image"]), **fields}
    if kind == "tokens":
        return {"tokens": model.tokens(batch["image"]).cpu().to(_smallest_type(model.num_codes)), **fields}
    return {"latent": model.encode(batch["image"]).float().cpu(), **fields}


def _smallest_type(num_codes: int) -> torch.dtype:
    """Return the integers that hold numbers from 0 to `num_codes` - 1."""
    types = (torch.uint8, torch.int16, torch.int32)
    return next(dtype for dtype in types if num_codes - 1 <= torch.iinfo(dtype).max)


def _batches(samples: ImageSamples, indices: range, lost: list[LostImage]) -> Iterator[dict[str, Any]]:
    for first in range(0, len(indices), _AT_ONCE):
        batch = samples.__getitems__(indices[first : first + _AT_ONCE])
        lost += batch.pop(LOST_KEY, [])
        yield batch
