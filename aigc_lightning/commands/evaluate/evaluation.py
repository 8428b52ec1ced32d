"""What all evaluations have in common, and those of folders and of extractors."""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aigc_lightning.config.data import chosen_data
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.embedding_scores import (
    EmbeddedImages,
    score_few_shot,
    score_retrieval,
    score_text_retrieval,
)
from aigc_lightning.evaluation.extractors import Extractor, find_extractor
from aigc_lightning.evaluation.generation import Generation, Judge, Reference, score_set
from aigc_lightning.evaluation.image_sets import DataImages, FolderImages, ImageSet, chosen, same_names
from aigc_lightning.evaluation.pair_scores import score_pairs
from aigc_lightning.evaluation.receipt import Section
from aigc_lightning.evaluation.references import MOST
from aigc_lightning.evaluation.report import Picture, neighbour_picture
from aigc_lightning.evaluation.report_progress import Progress
from aigc_lightning.evaluation.score_names import (
    BITS_PER_DIM,
    FEW_SHOT,
    GENERALISATION,
    MEMBERSHIP_AUC,
    RETRIEVAL,
    ROBUSTNESS,
    TEXT_RETRIEVAL,
)
from aigc_lightning.evaluation.scores import DISTRIBUTION, LPIPS, PAIRS, changed_copies
from aigc_lightning.inference.loaded_model import chosen_device
from aigc_lightning.metrics.neighbours import nearest

_ROWS = 8
_NEIGHBOURS = 3
#: Batch keys of an editor's input and target, by the data's task.
FIELDS = {"paired": ("source", "target"), "restoration": ("degraded", "image"), "generation": ("image", "image")}
#: Those of editors whose results are compared as a set of images.
SETS = {"unpaired": ("image_a", "image_b"), "generation": ("image", "image")}


class Evaluation(ABC):
    """Base class of evaluations, which collect scores and pictures.

    Args:
        options: options of the command.
        asked: names of scores; all that apply if empty.
        progress: shows progress.
    """

    def __init__(self, options: argparse.Namespace, asked: Sequence[str], progress: Progress) -> None:
        self.options, self.asked, self.progress = options, asked, progress
        self.name, self.folder = "", Path("evaluation")
        self.record: dict[str, Any] = {}
        self.sections: list[Section] = []
        self.pictures: list[Picture] = []

    @abstractmethod
    def score(self, data_options: list[str]) -> None:
        """Fill `sections` and `pictures`."""

    def of_sets(self) -> list[str]:
        """Return the requested scores of sets of images."""
        return [name for name in self.asked if name in DISTRIBUTION]

    def of_pairs(self) -> list[str]:
        """Return the requested scores of pairs."""
        return [name for name in self.asked if name in PAIRS or name == LPIPS]

    def extractor(self) -> Extractor:
        """Return the requested extractor."""
        options = self.options
        found = find_extractor(options.extractor or "inception", resize=options.resize, weights=options.weights)
        return found.to(chosen_device(options.device))

    def judge(self) -> Judge:
        """Return a judge with the requested extractor."""
        return Judge(self.extractor(), progress=self.progress)

    def embed(self, extractor: Extractor, data: ImageDataModule, names: Sequence[str]) -> None:
        """Add scores of embeddings of held-out images."""
        whole = DataImages(data, self.options.part or "val")
        images = whole.subset(chosen(len(whole), self.options.num or MOST))
        if TEXT_RETRIEVAL in names:
            self.sections.append(score_text_retrieval(extractor, images, self.progress))
        if not {RETRIEVAL, FEW_SHOT}.intersection(names):
            return
        embedded = EmbeddedImages(extractor, images, self.progress)
        if RETRIEVAL in names:
            self.sections.append(score_retrieval(embedded))
        if FEW_SHOT in names:
            self.sections.append(score_few_shot(embedded))

    def add_generation(self, generation: Generation, fake: ImageSet, real: ImageSet, judge: Judge) -> None:
        """Add scores, and a picture of the samples nearest to real images."""
        subject = {**generation.section.subject, "is_standard_fid": judge.extractor.is_standard_fid}
        self.sections.append(replace(generation.section, subject=subject))
        fakes, reals = generation.sides.fake, generation.sides.real
        assert fakes.features is not None and reals.features is not None
        distances, places = nearest(fakes.features, reals.features, min(_NEIGHBOURS, len(reals)))
        closest = distances[:, 0].argsort()[:_ROWS].tolist()
        rows = []
        for row in closest:
            own = fake.read([int(fakes.index[row])])[0][0]
            neighbours = [real.read([int(reals.index[place])])[0][0] for place in places[row].tolist()]
            rows.append((own, neighbours))
        caption = "Left: the images nearest to a real one. Beside each: its nearest real images."
        self.pictures.append(Picture(neighbour_picture(rows), "Nearest neighbours", caption))

    def add_copies(self, generation: Generation, fake: ImageSet, seen: ImageSet) -> None:
        """Add a picture of the samples that are nearest to training images when they are mirrored or cropped."""
        found, index = changed_copies(generation.sides), generation.sides.fake.index
        numbers = sorted(seen.numbers)  # the order of the bank
        rows = []
        for row in found.distances.argsort()[:_ROWS].tolist():
            original = seen.read([numbers[int(found.nearest[row])]])[0][0]
            rows.append((fake.read([int(index[row])])[0][0], [original]))
        called = int((found.distances < found.threshold).sum())
        caption = (
            "Left: the images nearest to a training image, as they are, mirrored or cropped. Right: that image. "
            f"{called} of {len(found.distances)} are called copies; the nearest come first."
        )
        self.pictures.append(Picture(neighbour_picture(rows), "Copies of training images", caption))


class Embeddings(Evaluation):
    """An extractor of features on data with classes, without a model."""

    def score(self, data_options: list[str]) -> None:
        """Fill `sections`."""
        for name in set(self.asked) - {RETRIEVAL, FEW_SHOT}:
            raise UserError(f"{name} is no score of an extractor.", f"Give {RETRIEVAL} or {FEW_SHOT}, or a run.")
        data = chosen_data(data_options)
        extractor = self.extractor()
        self.name = f"{self.options.extractor} on {type(data).__name__}"
        self.embed(extractor, data, self.asked or [RETRIEVAL])


class Folders(Evaluation):
    """One folder of images against another."""

    def score(self, data_options: list[str]) -> None:
        """Fill `sections` and `pictures`."""
        options = self.options
        of_models = {BITS_PER_DIM, RETRIEVAL, TEXT_RETRIEVAL, FEW_SHOT, GENERALISATION, MEMBERSHIP_AUC, ROBUSTNESS}
        for name in of_models.intersection(self.asked):
            raise UserError(f"{name} is a score of models, not of folders.", "Give a run or checkpoint.")
        self.name = f"{options.fake.name} against {options.real.name}"
        fake, real = FolderImages(options.fake), FolderImages(options.real)
        if self.of_pairs():
            targets, edited = same_names(real, fake)
            self.sections.append(score_pairs(edited, targets, None, self.of_pairs(), self.progress))
        if self.of_sets() or not self.asked:
            num = options.num or min(MOST, len(fake), len(real))
            judge = self.judge()
            numbers = chosen(len(real), num)
            rest = sorted(set(range(len(real))) - set(numbers))
            reference = Reference(real.subset(numbers), real.subset(rest) if len(rest) >= num else None)
            subset = fake.subset(chosen(len(fake), num))
            generation = score_set(judge, subset, reference, self.of_sets())
            self.add_generation(generation, subset, reference.images, judge)
