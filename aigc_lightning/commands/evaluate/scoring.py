"""The implementation of `aigc evaluate`."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from aigc_lightning.commands.evaluate.both_sides import CURVES, add_generalisation, add_membership, add_robustness
from aigc_lightning.commands.evaluate.evaluation import FIELDS, SETS, Embeddings, Evaluation, Folders
from aigc_lightning.commands.listings import print_rows
from aigc_lightning.config.data import chosen_data
from aigc_lightning.core.capabilities import (
    Classifier,
    Editor,
    Embedder,
    Generator,
    LikelihoodModel,
    TextEmbedder,
    likelihood_kind,
)
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.pictures import image_grid, near_square, save_png
from aigc_lightning.core.method_options import described_options, method_options
from aigc_lightning.core.run.folder import CHECKPOINTS
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.classification import score_classifier
from aigc_lightning.evaluation.extractors import ModelExtractor
from aigc_lightning.evaluation.generation import score_set
from aigc_lightning.evaluation.image_sets import DataImages, Edits, ImageSet, Part, Samples, chosen
from aigc_lightning.evaluation.likelihood_scores import score_likelihood
from aigc_lightning.evaluation.membership_scores import has_losses
from aigc_lightning.evaluation.pair_scores import score_pairs
from aigc_lightning.evaluation.path_length_scores import path_length_of
from aigc_lightning.evaluation.receipt import SCORES_FILE, Receipt, Section
from aigc_lightning.evaluation.references import MOST, reference_of, samples_like
from aigc_lightning.evaluation.report import (
    Picture,
    Report,
    confusion_picture,
    gap_lines,
    left_out_lines,
    neighbour_picture,
    score_rows,
)
from aigc_lightning.evaluation.report_progress import Progress
from aigc_lightning.evaluation.score_names import (
    BITS_PER_DIM,
    FEW_SHOT,
    GENERALISATION,
    MEMBERSHIP_AUC,
    RETRIEVAL,
    ROBUSTNESS,
    TEXT_RETRIEVAL,
    check_names,
)
from aigc_lightning.evaluation.scores import CHANGED_COPY_RATE
from aigc_lightning.inference.loaded_model import LoadedModel
from aigc_lightning.inference.model_options import model_options

_SHOWN = 64
_ROWS = 8


def run(options: argparse.Namespace, data_options: list[str]) -> Path:
    """Score what the options name; print a table, write JSON and a page, and return their folder.

    Raises:
        UserError: an option is invalid, or nothing can be scored.
    """
    asked = [name.strip() for name in options.metrics.split(",") if name.strip()] if options.metrics else []
    check_names(asked)
    began = time.monotonic()
    with _bars() as progress:
        kind = Folders if options.fake else _Model if options.target else Embeddings
        evaluation = kind(options, asked, progress)
        evaluation.score(data_options)
    receipt = Receipt(evaluation.name, evaluation.sections, evaluation.record)
    out = options.out or evaluation.folder
    receipt.save(out / SCORES_FILE)
    if options.json is not None:
        receipt.save(options.json)
    for picture in evaluation.pictures:
        if picture.title == CURVES:
            save_png(picture.image, out / "robustness.png", {})
    Report(receipt, evaluation.pictures).save(out / "report.html")
    for section in receipt.sections:
        _print(section)
    echo("", f"{time.monotonic() - began:.0f} s. Scores: {out / SCORES_FILE}  Page: {out / 'report.html'}")
    return out


class _Model(Evaluation):
    """A model on data: as a generator, an editor, a classifier or a likelihood model, whichever it is."""

    def score(self, data_options: list[str]) -> None:
        model, data = self._loaded(data_options)
        task = data.spec.task
        edits = isinstance(model, Editor) and task in FIELDS
        translates = isinstance(model, Editor) and task == "unpaired"
        samples = isinstance(model, Generator) and task == "generation"
        reconstructs = edits and task == "generation" and not samples
        has_likelihood = isinstance(model, LikelihoodModel) and task == "generation"
        makes_sets = translates or samples or reconstructs
        unfit = [*([] if edits else self.of_pairs()), *([] if makes_sets else self.of_sets())]
        unfit += [BITS_PER_DIM] if BITS_PER_DIM in self.asked and not has_likelihood else []
        embeds = [name for name in (RETRIEVAL, FEW_SHOT) if name in self.asked]
        unfit += [] if isinstance(model, Embedder) and data.spec.num_classes else embeds
        if TEXT_RETRIEVAL in self.asked:
            embeds.append(TEXT_RETRIEVAL)
            unfit += [] if isinstance(model, TextEmbedder) and data.spec.captions else [TEXT_RETRIEVAL]
        infers = MEMBERSHIP_AUC in self.asked
        unfit += [MEMBERSHIP_AUC] if infers and not has_losses(model, DataImages(data, "val")) else []
        classifies = isinstance(model, Classifier)
        robust = ROBUSTNESS in self.asked
        unfit += [ROBUSTNESS] if robust and not (classifies or edits or samples) else []
        generalises = GENERALISATION in self.asked
        others = edits or translates or samples or embeds or infers or classifies or generalises
        if unfit or not (others or has_likelihood):
            raise _nothing_to_score(model, task, unfit)
        pairs = edits and bool(self.of_pairs() or not self.asked)
        by_default = not self.asked and (self.options.extractor or not reconstructs)
        sets = makes_sets and bool(self.of_sets() or by_default)
        robust_edits, robust_samples = robust and edits and not classifies, robust and not (edits or classifies)
        scored = {
            "edit": robust_edits or pairs or (sets and not samples),
            "sample": robust_samples or (generalises and samples) or (sets and samples),
            "log_likelihood": has_likelihood,
        }
        self._check_options(model, [method for method, applies in scored.items() if applies])
        if isinstance(model, Classifier) and not self.asked:
            self._classify(model, data)
        if embeds:
            self.embed(ModelExtractor(model).to(model.device), data, embeds)
        if infers:
            add_membership(self, model, data, self._options_of(model, "log_likelihood"))
        if robust:
            method = "edit" if robust_edits else "sample" if robust_samples else "classify"
            add_robustness(self, model, data, {} if method == "classify" else self._options_of(model, method))
        if generalises:
            own = [self._options_of(model, method) for method in ("log_likelihood", "sample")]
            add_generalisation(self, model, data, *own)
        if pairs:
            self._edit(model, data, *FIELDS[task])
        why = self._likelihood(model, data, alone=not others) if has_likelihood else ""
        if sets:
            self._generate(model, data, None if samples else SETS[task])
        if why:
            last = self.sections[-1]
            self.sections[-1] = replace(last, left_out={**last.left_out, BITS_PER_DIM: why})

    def _loaded(self, data_options: list[str]) -> tuple[ImageModel, ImageDataModule]:
        """Return the model and its data, and note what the report says of them."""
        loaded = LoadedModel(self.options.target, self.options.device)
        model, path = loaded.model, loaded.path
        data = chosen_data(data_options, loaded.record.get("data"), f"the record of {path.name}")
        self.name = f"{loaded.name}, {path.stem}, on {type(data).__name__}"
        self.folder = path.parent.parent / "evaluation" if path.parent.name == CHECKPOINTS else Path("evaluation")
        step, averages = loaded.record.get("step"), len(model.averages)
        self.record = {**loaded.origin, "step": step, "averaged_weights": averages > 0}
        return model, data

    def _check_options(self, model: ImageModel, methods: Sequence[str]) -> None:
        """Refuse an option that none of the methods to be scored takes.

        Raises:
            UserError: there is such an option.
        """
        taken = {name for method in methods for name in method_options(getattr(model, method))}
        unknown = {name: text for name, text in self.options.given.items() if name not in taken}
        if unknown and methods:
            model_options(model, methods[0], unknown, self.options.known)
        if unknown:
            raise UserError(f"aigc evaluate does not know '--{next(iter(unknown))}'.", "See: aigc evaluate --help")

    def _options_of(self, model: ImageModel, method: str) -> dict[str, Any]:
        """Return the values of those of the given options that a method of the model takes."""
        if not hasattr(model, method):
            return {}
        taken = method_options(getattr(model, method))
        given = {name: text for name, text in self.options.given.items() if name in taken}
        return model_options(model, method, given)

    def _likelihood(self, model: ImageModel, data: ImageDataModule, *, alone: bool) -> str:
        """Add bits per dimension, unless only other scores are requested; return why they are left out, or "".

        Args:
            model: with the capability `log_likelihood`.
            data: the dataset.
            alone: whether the model has no other scores.
        """
        if self.asked and BITS_PER_DIM not in self.asked:
            return ""
        assert isinstance(model, LikelihoodModel)
        required = alone or BITS_PER_DIM in self.asked
        if likelihood_kind(model) == "estimate" and not required:
            return f"An estimate can take long; request it with --metrics {BITS_PER_DIM}."
        options = self._options_of(model, "log_likelihood")
        whole = DataImages(data, self.options.part or "val")
        images = whole.subset(chosen(len(whole), self.options.num or MOST))
        try:
            self.sections.append(score_likelihood(model, images, options, self.progress))
        except UserError as error:
            if required:
                raise
            return error.what
        return ""

    def _generate(self, model: ImageModel, data: ImageDataModule, edited: tuple[str, str] | None) -> None:
        """Score samples, or edits of one field of the data by another, as sets of images."""
        try:
            judge = self.judge()
        except UserError as error:
            if self.options.extractor or not self.sections or self.of_sets():
                raise
            echo(f"Sets of images are not scored: {error.what} Give --extractor.")
            return
        part: Part = self.options.part or ("val" if edited else "train")
        reference = reference_of(data, part, self.options.num, edited[1] if edited else "image")
        if edited:
            given = DataImages(data, part, edited[0])
            numbers = chosen(len(given), len(reference.images))
            fake: ImageSet = Edits(model, given.subset(numbers), self._options_of(model, "edit"))
        else:
            options = self._options_of(model, "sample")
            fake = samples_like(reference.images, model, self.options.num, self.options.seed, options)
        paths = path_length_of(model, judge.extractor)
        generation = score_set(judge, fake, reference, self.of_sets(), paths and paths.compute)
        if paths and "perceptual_path_length" in generation.section.scores:
            generation.section.protocol["settings"]["perceptual_path_length"].update(paths.settings)
        method = "edit" if edited else "sample"
        generation.section.subject.update(described_options(model, method, self._options_of(model, method)))
        if isinstance(fake, Samples):
            generation.section.subject["seeds"] = f"{self.options.seed}-{self.options.seed + len(fake) - 1}"
        if isinstance(fake, Samples) and fake.prompts:
            generation.section.subject["prompts"] = "the captions of the reference, in order"
        self.add_generation(generation, fake, reference.images, judge)
        if CHANGED_COPY_RATE in generation.section.scores and reference.seen is not None:
            self.add_copies(generation, fake, reference.seen)
        self._show(model, fake)

    def _show(self, model: ImageModel, fake: ImageSet) -> None:
        """Add a grid of the scored images, with one row per class if there are classes."""
        if isinstance(fake, Samples) and fake.class_names and not fake.prompts:
            columns = max(2, min(10, 200 // len(fake.class_names)))
            seeds = [self.options.seed + number for number in range(columns * len(fake.class_names))]
            labels = [place // columns for place in range(len(seeds))]
            images = Samples(model, seeds, labels, options=fake.options).read(seeds)[0]
            caption = f"One row per class: {', '.join(fake.class_names)}; seeds from {self.options.seed}."
        else:
            images = fake.read(fake.numbers[:_SHOWN])[0]
            columns = near_square(len(images))
            caption = f"The first {len(images)} of the {len(fake)} images that were scored."
        self.pictures.insert(0, Picture(image_grid(images, columns), "Samples", caption))

    def _edit(self, model: ImageModel, data: ImageDataModule, source: str, target: str) -> None:
        part: Part = self.options.part or "val"
        whole = DataImages(data, part, source)
        numbers = chosen(len(whole), self.options.num or MOST)
        given, targets = DataImages(data, part, source, numbers), DataImages(data, part, target, numbers)
        edited = Edits(model, given, self._options_of(model, "edit"))
        before = None if source == target else given
        section = score_pairs(edited, targets, before, self.of_pairs(), self.progress)
        subject = {**section.subject, **described_options(model, "edit", edited.options)}
        self.sections.append(replace(section, subject=subject))
        rows = []
        for number in numbers[:_ROWS]:
            own = given.read([number])[0][0]
            rows.append((own, [images.read([number])[0][0] for images in (edited, targets)]))
        caption = "Left to right: the input, the model's output, the target."
        self.pictures.append(Picture(neighbour_picture(rows), "Edits", caption))

    def _classify(self, model: ImageModel, data: ImageDataModule) -> None:
        whole = DataImages(data, self.options.part or "test")
        images = whole.subset(chosen(len(whole), self.options.num or len(whole)))
        section, confusion = score_classifier(model, images, self.progress)
        self.sections.append(section)
        caption = f"Rows: true class; columns: predicted class; in the order {', '.join(images.class_names)}."
        self.pictures.append(Picture(confusion_picture(confusion), "Confusion matrix", caption))


def _nothing_to_score(model: ImageModel, task: str, unfit: Sequence[str]) -> UserError:
    asked = f" {', '.join(unfit)}" if unfit else ""
    return UserError(
        f"There is no score{asked} for a {type(model).__name__} on data of the task {task}.",
        "Give other --metrics, or other --data.",
    )


def _print(section: Section) -> None:
    rows = [
        {"score": title, "value": value, section.baseline_name or " ": baseline}
        for title, value, baseline in score_rows(section)
    ]
    echo("")
    print_rows(rows, as_json=False, titles=True)
    for line in (*gap_lines(section), *left_out_lines(section)):
        echo(line)


@contextmanager
def _bars() -> Iterator[Progress]:
    """Show progress bars during the block, if the output is a terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, transient=True, disable=not sys.stdout.isatty()) as bars:
        tasks: dict[str, Any] = {}

        def progress(what: str, total: int, done: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(shown(what), total=total)
            bars.advance(tasks[what], done)

        with torch.inference_mode(False):
            yield progress
