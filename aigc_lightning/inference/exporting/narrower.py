"""Exporting a smaller model beside the one that it stands for, and refusing what is not worth it.

Shapes: N images.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aigc_lightning.core.capabilities import Generator
from aigc_lightning.core.export_graphs import ExportGraph, export_graphs
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.bank import Labelled, collect
from aigc_lightning.evaluation.extractors import find_extractor
from aigc_lightning.evaluation.image_sets import DataImages, chosen
from aigc_lightning.inference.exporting.formats import Array, OnnxFile, write_onnx
from aigc_lightning.inference.exporting.measured import Score, measured, score_of, session_of
from aigc_lightning.inference.exporting.proof import exported_and_proved
from aigc_lightning.inference.exporting.quantized import Card, Narrowing
from aigc_lightning.inference.exporting.quantizing import CardWriter
from aigc_lightning.inference.exporting.reestimated import reestimate_norms
from aigc_lightning.inference.exporting.traced import ExportError
from aigc_lightning.metrics.frechet import frechet_distance

_REESTIMATED, _JOINED = 512, 4  # images for the statistics of norms, and batches of examples that make one
_MOST_DISTANCE = 1.1  # times that of the other model, by default


class Narrower(CardWriter):
    """Compares the programs of a smaller model with those of a larger one.

    Args:
        model: the smaller one.
        larger: the model that it stands for.
        change: how it became smaller: "pruned" or "smaller".
        data: its held-out images judge editors and classifiers, its training images generators.
        judge: an extractor for Frechet distances, see `find_extractor`; needed by generators.
        floor: least score, or greatest Frechet distance; see `score_of`, and by default 10 % more distance.
        force: whether to write what would be refused.
    """

    def __init__(
        self,
        model: ImageModel,
        larger: ImageModel,
        change: Narrowing,
        data: ImageDataModule,
        judge: str | None,
        floor: float | None,
        force: bool,
    ) -> None:
        super().__init__(model, data, floor, force)
        self.larger, self.change = larger, change
        self.extractor = None if judge is None else find_extractor(judge)
        larger.float()

    def reestimate_norms(self) -> None:
        """Give the batch norms of a pruned model the statistics of training images, or of the latents it draws."""
        images = DataImages(self.data, "train")
        for name, graph in export_graphs(self.model).items():
            if isinstance(graph, str) or graph.loop is not None:
                continue
            examples, _ = self.examples(name, graph, images, _REESTIMATED)
            joined = (examples[start : start + _JOINED] for start in range(0, len(examples), _JOINED))
            batches = (
                {key: torch.from_numpy(np.concatenate([each[key] for each in part])) for key in part[0]}
                for part in joined
            )
            reestimate_norms(self.model, graph.call, batches)

    def write(self, name: str, graph: ExportGraph, file: OnnxFile, path: Path, metadata: dict[str, Any]) -> Card:
        """Write a program, and beside it its card, `NAME_card.json`.

        Args:
            name: of the graph.
            graph: of the smaller model.
            file: its program.
            path: to write.
            metadata: of the program; the card is added as `comparison`.

        Raises:
            UserError: a generator has no judge.
            ExportError: the larger model has no such program, or the smaller one's is refused.
        """
        draws = name == "decode" and isinstance(self.model, Generator)
        if draws and self.extractor is None:
            raise UserError(
                "A generator is judged by a Frechet distance, which needs an extractor.",
                "Add --judge RUN, a run of cnn on the same data, or a name of docs/evaluation.md.",
            )
        other = export_graphs(self.larger).get(name)
        if not isinstance(other, ExportGraph):
            raise ExportError(name, "the larger model does not have it", "Compare with a model of the same kind.")
        before = exported_and_proved(name, other, "onnx").file
        assert isinstance(before, OnnxFile)
        judged, classes = self.examples(name, graph, DataImages(self.data, "val"))
        programs = [before.serialized, file.serialized]
        if draws:
            score = self._distances(name, graph, programs)
        else:
            outputs = [[session.run(None, dict(each))[0] for each in judged] for session in map(session_of, programs)]
            shapes = [tuple(parts[0].shape[1:]) for parts in outputs]
            if shapes[0] != shapes[1]:
                sizes = " and ".join("x".join(map(str, shape)) for shape in shapes)
                raise ExportError(name, f"its results have another size than before, {sizes}, so nothing compares them")
            labels = classes if name == "classify" else None
            score = score_of(graph, outputs[0], outputs[1], labels, self.floor)
            score = replace(score, name=score.name.replace("float32", "the larger"))
        old, new = measured(programs, judged[0])
        card = Card(self.change, [], old, new, score, 0)
        self.check(name, card)
        with replacing(path) as temporary:
            write_onnx(file.model(), temporary, json.dumps({**metadata, "comparison": card.record()}))
        self.write_card(path, card)
        return card

    def _distances(self, name: str, graph: ExportGraph, programs: Sequence[bytes]) -> Score:
        """Return the Frechet distances to the training images of what both programs make of the same latents."""
        assert self.extractor is not None
        images = DataImages(self.data, "train")
        numbers = chosen(len(images), min(self.most_judged, len(images)))
        real = collect(self.extractor, [images.read(numbers)]).moments
        judged, _ = self.examples(name, graph, images)
        distances = []
        for session in map(session_of, programs):
            made = np.concatenate([session.run(None, dict(inputs))[0] for inputs in judged])
            distances.append(frechet_distance(collect(self.extractor, [_numbered(made)]).moments, real))
        floor = _MOST_DISTANCE * distances[0] if self.floor is None else self.floor
        return Score("Frechet distance", distances[0], distances[1], floor, len(made), lower=True)


def _numbered(images: Array) -> Labelled:
    """Return images (N, C, H, W) in [-1, 1] as a batch of numbered 8-bit ones."""
    return to_uint8(torch.from_numpy(images)), torch.arange(len(images)), None
