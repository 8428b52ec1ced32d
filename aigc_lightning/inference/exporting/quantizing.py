"""Quantizing what a model exports with the data of its run, and refusing what is not worth it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.predictions import input_key
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.evaluation.image_sets import DataImages, chosen
from aigc_lightning.inference.exporting.formats import Array, OnnxFile, write_onnx
from aigc_lightning.inference.exporting.quantized import Card, Quantization, quantized
from aigc_lightning.inference.exporting.traced import ExportError

_BATCH = 16
_CALIBRATION, _JUDGED = 128, 1024  # images at most
_FIELDS = {"masks": "mask", "references": "reference", "labels": "label"}


class Quantizing:
    """Quantizes programs of a model.

    Args:
        model: that was exported.
        kind: of quantization.
        data: its training images set the ranges of int8, its held-out images judge the result.
        floor: the least score, see `quantized`.
        force: whether to write what would be refused.
    """

    def __init__(
        self, model: ImageModel, kind: Quantization, data: ImageDataModule, floor: float | None, force: bool
    ) -> None:
        self.model, self.kind, self.data, self.floor, self.force = model, kind, data, floor, force
        data.prepare_data()

    def write(self, name: str, graph: ExportGraph, file: OnnxFile, path: Path, metadata: dict[str, Any]) -> Card:
        """Write a quantized program, and beside it its card, `NAME_card.json`.

        Args:
            name: of the graph.
            graph: that was exported.
            file: the program in float32, which gives what the model gives.
            path: to write.
            metadata: of the program; the card is added as `quantization`.

        Raises:
            ExportError: it cannot be quantized, or is refused.
        """
        calibration, _ = self._examples(name, graph, DataImages(self.data, "train"), _CALIBRATION)
        judged, classes = self._examples(name, graph, DataImages(self.data, "val"), _JUDGED)
        labels = classes if name == "classify" else None
        model, card = quantized(name, graph, file, self.kind, calibration, judged, labels, self.floor)
        if card.problems and not self.force:
            hint = "Choose another kind, lower --floor, or write it anyway with --force."
            raise ExportError(name, f"as {self.kind}, {' and '.join(card.problems)}", hint)
        with replacing(path) as temporary:
            write_onnx(model, temporary, json.dumps({**metadata, "quantization": card.record()}))
        with replacing(path.with_name(f"{path.stem}_card.json")) as temporary:
            temporary.write_text(json.dumps(card.record(), indent=1) + "\n")
        return card

    def _examples(
        self, name: str, graph: ExportGraph, images: DataImages, most: int
    ) -> tuple[list[Mapping[str, Array]], Array | None]:
        """Return inputs in batches of one size, and the labels of their images (N,) or None."""
        numbers = chosen(len(images), min(most, len(images)))
        size = min(_BATCH, len(numbers))
        parts = [numbers[start : start + size] for start in range(0, len(numbers) - size + 1, size)]
        examples: list[Mapping[str, Array]] = []
        labels = []
        for part in parts:
            batch = images.batch(part)
            examples.append({key: value.numpy() for key, value in self._inputs(name, graph, batch)})
            labels.append(batch.get("label"))
        found = [label for label in labels if label is not None]
        return examples, np.asarray(torch.cat(found)) if found else None

    def _inputs(self, name: str, graph: ExportGraph, batch: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
        """Yield the inputs of a graph for a batch of data; latents of generators and what has no data are random.

        Raises:
            ExportError: the data lacks a field.
        """
        num = len(batch["index"])
        generator = torch.Generator().manual_seed(int(batch["index"][0]))
        for key, given in graph.inputs.items():
            if key == "images":
                backwards = name == "edit_BtoA" and "image_b" in batch
                yield key, batch["image_b" if backwards else input_key(batch)].float()
            elif key == "latents" and "encode" in given.meaning:
                with torch.no_grad():
                    yield key, self.model.encode(batch[input_key(batch)].float())  # type: ignore[operator]
            elif key == "latents":
                yield key, given.example({"batch": num}, generator)
            elif _FIELDS.get(key) in batch:
                yield key, batch[_FIELDS[key]]
            elif given.integers:
                yield key, given.example({"batch": num}, generator)
            else:
                raise ExportError(name, f"the data has no {key} to quantize it with", "Leave --quantize out.")
