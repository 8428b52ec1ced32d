"""Writing changed programs of a model, such as quantized ones, and refusing what is not worth it."""

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
_CALIBRATION = 128  # images at most
_FIELDS = {"masks": "mask", "references": "reference", "labels": "label"}


class CardWriter:
    """Writes changed programs of a model with cards that say what the change gains and loses.

    Args:
        model: that was exported.
        data: gives the inputs.
        floor: the least score.
        force: whether to write what would be refused.
    """

    most_judged = 1024  # images

    def __init__(self, model: ImageModel, data: ImageDataModule, floor: float | None, force: bool) -> None:
        self.model, self.data, self.floor, self.force = model, data, floor, force
        data.prepare_data()

    def write(self, name: str, graph: ExportGraph, file: OnnxFile, path: Path, metadata: dict[str, Any]) -> Card:
        """Write a changed program, and beside it its card, `NAME_card.json`.

        Args:
            name: of the graph.
            graph: that was exported.
            file: its program in float32.
            path: to write.
            metadata: of the program, to which the card is added.

        Raises:
            ExportError: it cannot be changed, or is refused.
        """
        raise NotImplementedError

    def check(self, name: str, card: Card) -> None:
        """Refuse what is not worth having.

        Raises:
            ExportError: it is not.
        """
        if card.problems and not self.force:
            hint = "Choose another way, another --floor, or write it anyway with --force."
            raise ExportError(name, f"as {card.quantization}, {' and '.join(card.problems)}", hint)

    @staticmethod
    def write_card(path: Path, card: Card) -> None:
        """Write the card of a program."""
        with replacing(path.with_name(f"{path.stem}_card.json")) as temporary:
            temporary.write_text(json.dumps(card.record(), indent=1) + "\n")

    def examples(
        self, name: str, graph: ExportGraph, images: DataImages, most: int = most_judged
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
                raise ExportError(name, f"the data has no {key} to compare results with", "Export it as it is.")


class Quantizing(CardWriter):
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
        super().__init__(model, data, floor, force)
        self.kind = kind

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
        calibration, _ = self.examples(name, graph, DataImages(self.data, "train"), _CALIBRATION)
        judged, classes = self.examples(name, graph, DataImages(self.data, "val"))
        labels = classes if name == "classify" else None
        model, card = quantized(name, graph, file, self.kind, calibration, judged, labels, self.floor)
        self.check(name, card)
        with replacing(path) as temporary:
            write_onnx(model, temporary, json.dumps({**metadata, "quantization": card.record()}))
        self.write_card(path, card)
        return card
