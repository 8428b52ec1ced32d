"""Omniglot: handwritten characters of many alphabets, for learning from few examples.

Source: Lake, Salakhutdinov, Tenenbaum, Human-level concept learning through probabilistic program induction, Science
2015; https://github.com/brendenlake/omniglot. Each character was drawn by 20 people.
"""

import zipfile
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, ImageDataModule
from aigc_lightning.data.decode import CorruptImageError, decode
from aigc_lightning.data.sets.torchvision_sets import data_folder
from aigc_lightning.errors import UserError

_ARCHIVES = ("images_background", "images_evaluation", "images_background_small1", "images_background_small2")
_SIDE = 105
_MOST_BYTES = 2**20  # of a drawing; they have a few hundred
_TURNS = 4


class _Drawing(NamedTuple):
    archive: Path
    member: str
    character: str  # alphabet/character


class Omniglot(ImageDataModule):
    """White drawings of characters on black; the alphabets that are held out appear in no training image.

    Reads the published archives images_background.zip, images_evaluation.zip, or images_background_small1.zip and
    images_background_small2.zip, in `root` or `root/omniglot`, without unpacking them. If images_evaluation.zip is
    there, its alphabets are held out, as published; otherwise the last ones by name are, as many as `held_out` says.

    Args:
        root: folder that has the archives; $AIGC_DATA by default, or ~/.cache/aigc_lightning/data.
        size: height and width in pixels, from 8 to 105; reduced by averaging.
        held_out: number of alphabets that are held out if there is no images_evaluation.zip.
        rotations: whether training characters turned by 90, 180 and 270 degrees are further classes, as is usual
            (Santoro et al., One-shot Learning with Memory-Augmented Neural Networks, 2016, section 4.1).
        batch_size: images per process in a step.
        num_workers: number of loader processes; 0 is fastest, since the images are in memory.
        augmentation: augmentation during training.
        balanced: show all classes equally often during training, whatever their share of the images.

    Raises:
        UserError: a number is out of range; on first use of the data: there are no archives, or they are damaged.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        size: int = 28,
        held_out: int = 2,
        rotations: bool = True,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__(batch_size, num_workers, augmentation, balanced)
        if not 8 <= size <= _SIDE:
            raise UserError(f"data.size is {size} pixels.", f"Give 8 to {_SIDE}, the size of the drawings.")
        if held_out < 1:
            raise UserError(f"data.held_out is {held_out}.", "Hold out at least one alphabet.")
        self.root = Path(root).expanduser() if root is not None else data_folder()
        self.size, self.held_out, self.rotations = size, held_out, rotations

    @property
    def spec(self) -> ImageSpec:
        """Grey, `size` x `size`; the classes are the training characters, then the held-out ones."""
        return ImageSpec(1, self.size, self.size, (*self._train_classes, *self._val_classes))

    def train_source(self) -> ArraySource:
        """Return the drawings of the training alphabets and, with `rotations`, turned copies."""
        return self._sources[0]

    def val_source(self) -> ArraySource:
        """Return the drawings of the held-out alphabets."""
        return self._sources[1]

    @cached_property
    def _drawings(self) -> tuple[list[_Drawing], list[_Drawing]]:
        """The drawings to train on and the held-out ones, by character."""
        folder = next((folder for folder in (self.root, self.root / "omniglot") if _archives(folder)), None)
        if folder is None:
            what = f"There is no archive of Omniglot in {self.root}."
            raise UserError(what, "Put images_background.zip there, from https://github.com/brendenlake/omniglot")
        found = {path.stem: _listed(path) for path in _archives(folder)}
        if "images_evaluation" in found:
            held_out = found.pop("images_evaluation")
            train = [drawing for drawings in found.values() for drawing in drawings]
            names = {drawing.character for drawing in held_out}
            return [drawing for drawing in train if drawing.character not in names], held_out
        return self._split([drawing for drawings in found.values() for drawing in drawings])

    def _split(self, drawings: list[_Drawing]) -> tuple[list[_Drawing], list[_Drawing]]:
        # The small archives are parts of images_background: nothing may appear twice.
        drawings = list({(item.character, PurePosixPath(item.member).name): item for item in drawings}.values())
        alphabets = sorted({drawing.character.split("/")[0] for drawing in drawings})
        if len(alphabets) <= self.held_out:
            what = f"data.held_out is {self.held_out}, and {self.root} has {len(alphabets)} alphabets."
            raise UserError(what, "Leave alphabets to train on.")
        last = set(alphabets[-self.held_out :])
        parts = defaultdict(list)
        for drawing in drawings:
            parts[drawing.character.split("/")[0] in last].append(drawing)
        return parts[False], parts[True]

    @property
    def _train_classes(self) -> list[str]:
        names = sorted({drawing.character for drawing in self._drawings[0]})
        turned = [f"{name} turned {90 * turn}" for turn in range(1, _TURNS) for name in names]
        return names + (turned if self.rotations else [])

    @property
    def _val_classes(self) -> list[str]:
        return sorted({drawing.character for drawing in self._drawings[1]})

    @cached_property
    def _sources(self) -> tuple[ArraySource, ArraySource]:
        train, val = self._drawings
        images, labels = self._read(train, self._train_classes)
        if self.rotations:
            count = len({drawing.character for drawing in train})
            labels = torch.cat([labels + count * turn for turn in range(_TURNS)])
            images = torch.cat([torch.rot90(images, turn, (2, 3)) for turn in range(_TURNS)])
        held_out, numbers = self._read(val, self._val_classes)
        return ArraySource(images, labels), ArraySource(held_out, numbers + len(self._train_classes))

    def _read(self, drawings: Sequence[_Drawing], classes: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return white drawings on black, uint8 (N, 1, size, size), and their classes (N,)."""
        numbers = {name: number for number, name in enumerate(classes)}
        files: dict[Path, zipfile.ZipFile] = {}
        images = torch.empty(len(drawings), 1, self.size, self.size, dtype=torch.uint8)
        try:
            for place, drawing in enumerate(drawings):
                file = files.setdefault(drawing.archive, zipfile.ZipFile(drawing.archive))
                images[place] = _decoded(file, drawing, self.size)
        finally:
            for file in files.values():
                file.close()
        return images, torch.tensor([numbers[drawing.character] for drawing in drawings])


def _archives(folder: Path) -> list[Path]:
    return [folder / f"{name}.zip" for name in _ARCHIVES if (folder / f"{name}.zip").is_file()]


def _listed(path: Path) -> list[_Drawing]:
    """Return the drawings in an archive, whose members are archive/alphabet/character/drawing.png."""
    try:
        with zipfile.ZipFile(path) as file:
            members = [item for item in file.infolist() if item.filename.endswith(".png")]
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read: {error}.", "Download it again.") from error
    if any(item.file_size > _MOST_BYTES for item in members):
        raise UserError(f"{path} has files that are too large for drawings.", "Download it again.")
    parts = [(item.filename, PurePosixPath(item.filename).parts) for item in sorted(members, key=lambda i: i.filename)]
    drawings = [_Drawing(path, name, f"{found[-3]}/{found[-2]}") for name, found in parts if len(found) == 4]
    if not drawings:
        raise UserError(f"{path} has no drawings.", "Download it again.")
    return drawings


def _decoded(file: zipfile.ZipFile, drawing: _Drawing, size: int) -> Tensor:
    try:
        ink = 255 - decode(file.read(drawing.member), 1)
    except (CorruptImageError, OSError, zipfile.BadZipFile, RuntimeError) as error:
        raise UserError(
            f"{drawing.archive}: {drawing.member} cannot be read: {error}.", "Download it again."
        ) from error
    if size == ink.shape[-1]:
        return ink
    # Thin lines vanish when pixels are picked or cubically interpolated: the mean over an area keeps them.
    small = torch.nn.functional.adaptive_avg_pool2d(ink[None].float(), (size, size))[0]
    return torch.from_numpy(np.round(small.numpy()).astype(np.uint8))
