"""Pictures on which a detector of generated images is trained, and how well it tells them from real ones.

Detectors learn file formats, compression and sizes before they learn anything about generators. So all pictures, real
and generated, have one size and are written in the same way: as JPEG, once or several times, with qualities drawn
alike. What is left to such a shortcut shows where real pictures are told from the same ones saved once more.
Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.core.capabilities import Classifier
from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.pictures import to_picture
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.data.decode import decode, size_and_kind
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.image_sets import DataImages, FolderImages, ImageSet, Samples
from aigc_lightning.inference.loaded_model import LoadedModel
from aigc_lightning.metrics.membership import Membership, membership

#: The detector's classes.
GENERATED, REAL = "generated", "real"
_QUALITIES = range(75, 96)
_SAVES = 3  # the most
_RESAVED = 75  # quality of the save that is one too many
_HELD_OUT = 4  # one of so many pictures is held out
_LEAST = 8  # pictures on a side
_CHUNK = 64

#: Shows how many of how many pictures are done.
Watch = Callable[[int, int], None]


class Pictures(NamedTuple):
    """Pictures from one place.

    Attributes:
        name: such as "runs/dcgan_digits/1".
        training: those to train on; empty for a generator that is not shown in training.
        held_out: those to score.
    """

    name: str
    training: ImageSet
    held_out: ImageSet


class Row(NamedTuple):
    """How well a detector tells pictures from real ones.

    Attributes:
        name: of the pictures.
        kind: "seen" or "unseen" for generators, "resaved" for real pictures saved once more.
        found: the AUC with its interval, and the share that is found where 1 % of the real pictures are suspected.
    """

    name: str
    kind: str
    found: Membership


def real_pictures(source: Path | ImageDataModule, num: int) -> tuple[Pictures, ImageSpec]:
    """Return real pictures and their format.

    Args:
        source: a folder of pictures of one size, or data for generation.
        num: the most to train on; a quarter of that is held out.

    Raises:
        UserError: there are too few, or JPEG cannot hold them.
    """
    training: ImageSet
    held_out: ImageSet
    if isinstance(source, Path):
        folder = FolderImages(source)
        spec = ImageSpec(3, *size_and_kind(folder.root / folder.files[0])[:2])
        _check_sizes(folder, spec)
        training, held_out = _halves(folder, num)
        name = str(source)
    else:
        spec, name = source.spec, type(source).__name__
        if spec.task != "generation":
            raise UserError(f"The data are {spec.task} images.", "Give data of single images, or a folder.")
        training, held_out = DataImages(source, "train"), DataImages(source, "val")
        training = training.subset(_some(len(training), num))
        held_out = held_out.subset(_some(len(held_out), num // _HELD_OUT))
    if spec.channels == 4:
        raise UserError("The pictures have transparency, which JPEG cannot hold.", "Give pictures without it.")
    return _enough(Pictures(name, training, held_out)), spec


def generated_pictures(target: str, spec: ImageSpec, num: int, num_held_out: int, device: str) -> Pictures:
    """Return pictures of a generator.

    Args:
        target: a run, a checkpoint, or a folder of pictures.
        spec: format of the real pictures.
        num: number to train on; 0 for a generator that the detector does not get to know.
        num_held_out: number to score.
        device: on which a model generates.

    Raises:
        UserError: there are too few, or a model makes pictures of another form or none.
    """
    folder = Path(target)
    if folder.is_dir() and not (folder / "checkpoints").is_dir():
        images = FolderImages(folder, spec.channels)
        _check_sizes(images, spec)
        training, held_out = _halves(images, num)
        if not num:
            held_out = images.subset(_some(len(images), num_held_out))
        return _enough(Pictures(target, training, held_out), needs_training=num > 0)
    loaded = LoadedModel(target, device)
    loaded.generator()
    if loaded.model.spec.shape != spec.shape:
        raise UserError(
            f"{target} makes {loaded.model.spec} images, but the real ones are {spec}: a detector would learn that.",
            "Give real images of that form, such as the data that the model was trained on.",
        )
    first, last = Samples(loaded.model, range(num)), Samples(loaded.model, range(num, num + num_held_out))
    return _enough(Pictures(target, first, last), needs_training=num > 0)


def write_pictures(real: Pictures, generated: Sequence[Pictures], spec: ImageSpec, root: Path, watch: Watch) -> None:
    """Write all pictures to train on, and the held-out ones, as a data set of two classes.

    Args:
        real: real pictures.
        generated: of all generators that the detector gets to know.
        spec: format of the pictures.
        root: folder of `train` and `val`.
        watch: shows progress.
    """
    sets = [(part, REAL, getattr(real, field)) for part, field in _PARTS]
    sets += [(part, GENERATED, getattr(pictures, field)) for pictures in generated for part, field in _PARTS]
    total, done = sum(len(images) for *_, images in sets), 0
    for part, label, images in sets:
        (root / part / label).mkdir(parents=True, exist_ok=True)
        for image in chain.from_iterable(batch for batch, *_ in images.batches()):
            with replacing(root / part / label / f"{done:06d}.jpg", durable=False) as temporary:
                temporary.write_bytes(_saved(image, done))
            done += 1
            watch(done, total)


def rows(
    detector: LoadedModel,
    real: Pictures,
    seen: Sequence[Pictures],
    unseen: Sequence[Pictures],
    spec: ImageSpec,
    watch: Watch,
) -> list[Row]:
    """Return how well a detector tells held-out pictures of each generator, and real ones saved twice, from real ones.

    Args:
        detector: a classifier of `GENERATED` and `REAL`.
        real: real pictures.
        seen: of generators that it was trained on.
        unseen: of others.
        spec: format of the pictures.
        watch: shows progress.
    """
    jobs = [(pictures, "seen", False) for pictures in seen] + [(pictures, "unseen", False) for pictures in unseen]
    jobs = [(real, "real", False), (real, "resaved", True), *jobs]
    scores = []
    for done, (pictures, _, twice) in enumerate(jobs):
        watch(done, len(jobs))
        scores.append(_scores(detector, pictures.held_out, spec, twice=twice))
    watch(len(jobs), len(jobs))
    # The lower loss of a member there is the higher score of a generated picture here.
    found = [membership(-score, -scores[0]) for score in scores]
    named = [Row(pictures.name, kind, one) for (pictures, kind, _), one in zip(jobs, found, strict=True)]
    return [*named[2:], named[1]]


_PARTS = (("train", "training"), ("val", "held_out"))


def _scores(detector: LoadedModel, images: ImageSet, spec: ImageSpec, *, twice: bool) -> Tensor:
    """Return the log-odds (N,) that a detector gives to each picture being generated."""
    model = detector.model
    assert isinstance(model, Classifier)
    place = model.spec.class_names.index(GENERATED)
    scores, chunk = [], []
    for number, image in enumerate(chain.from_iterable(batch for batch, *_ in images.batches())):
        if twice:
            image = decode(_encoded(image, _RESAVED), spec.channels)
        chunk.append(decode(_saved(image, number), spec.channels))
        if len(chunk) == _CHUNK or number == len(images) - 1:
            logits = model.classify(torch.stack(chunk).float() / 127.5 - 1).cpu()
            scores.append(logits[:, place] - logits[:, 1 - place])
            chunk = []
    return torch.cat(scores)


def _check_sizes(images: FolderImages, spec: ImageSpec) -> None:
    for name in images.files:
        height, width, _ = size_and_kind(images.root / name)
        if (height, width) != (spec.height, spec.width):
            what = f"{shown(images.root / name)} is {height}x{width}, and others are {spec.height}x{spec.width}"
            raise UserError(f"{what}: a detector would learn that.", "Give pictures of one size.")


def _encoded(image: Tensor, quality: int) -> bytes:
    buffer = BytesIO()
    to_picture(image).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def _saved(image: Tensor, number: int) -> bytes:
    """Return a picture as JPEG, saved once to three times; each kind gets all qualities and numbers of saves.

    Args:
        image: uint8 (C, H, W).
        number: on which both depend.
    """
    first, *others = (_QUALITIES[keyed.mixed(number, save) % len(_QUALITIES)] for save in range(_SAVES))
    saved = _encoded(image, first)
    for quality in others[: keyed.mixed(number) % _SAVES]:
        saved = _encoded(decode(saved, len(image)), quality)
    return saved


def _halves(images: FolderImages, num: int) -> tuple[FolderImages, FolderImages]:
    """Return up to so many pictures to train on, and a quarter of their number to hold out."""
    order = keyed.permutation(len(images), 0).tolist()
    last = min(num // _HELD_OUT, len(images) // (_HELD_OUT + 1))
    return images.subset(order[last : last + num]), images.subset(order[:last])


def _some(total: int, num: int) -> list[int]:
    numbers: list[int] = keyed.permutation(total, 0)[:num].tolist()
    return numbers


def _enough(pictures: Pictures, *, needs_training: bool = True) -> Pictures:
    held_out, training = len(pictures.held_out), len(pictures.training)
    if held_out < _LEAST or (needs_training and training < _LEAST):
        what = f"{pictures.name} has {training} pictures to train on and {held_out} to hold out."
        raise UserError(what, f"A detector needs at least {_LEAST} of each.")
    return pictures
