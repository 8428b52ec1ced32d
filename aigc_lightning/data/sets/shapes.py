"""Procedural pictures of shapes, for tasks that need more than plain images. Nothing is downloaded."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ImageDataModule, Visits
from aigc_lightning.data.sets.scenes import KINDS, Scene, chalk, line_drawing, paper, random_scene
from aigc_lightning.errors import UserError

Style = Callable[[Scene, int, int], npt.NDArray[np.uint8]]
Task = Literal["generation", "paired", "unpaired"]

#: Maximum number of bytes of pictures that are kept.
MEMORY_LIMIT = 2**28

_TRAIN, _VAL = range(2)  # parts, each with its own scenes
_KINDS = tuple(KINDS)
#: The part for the second domain of unpaired training images: no training scene is in both.
_OTHER_TRAIN = 2


class ShapesSource:
    """Scenes drawn on request; if all fit into `MEMORY_LIMIT`, each is drawn only once per process.

    Args:
        styles: for each batch key, the drawing style and the part that its scenes come from.
        num: number of scenes in a part.
        size: (H, W) in pixels.
        words: whether to provide labels and captions.
        ground: background of all scenes; "" for each scene's own.
    """

    def __init__(
        self, styles: dict[str, tuple[Style, int]], num: int, size: tuple[int, int], words: bool, ground: str
    ) -> None:
        self._styles, self._num, self._size, self._words, self._ground = styles, num, size, words, ground

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the pictures from pickling; a loader process draws its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_drawn"}

    def __len__(self) -> int:
        """Return the number of scenes."""
        return self._num

    def fields(self, visits: Visits) -> dict[str, Any]:
        """Return each image, uint8 (B, 3, H, W), and perhaps `caption`; they depend only on the indices."""
        indices = visits.indices.tolist()
        fields: dict[str, Any] = {
            key: torch.stack([self._picture(key, index) for index in indices]) for key in self._styles
        }
        if self._words:
            fields["caption"] = [self._scene(self._first_part, index).caption for index in indices]
        return fields

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return the kind of the larger shape, int64 (B,), or None without words."""
        if not self._words:
            return None
        kinds = [self._scene(self._first_part, index).shapes[0].kind for index in indices]
        return torch.tensor([_KINDS.index(kind) for kind in kinds])

    @property
    def _first_part(self) -> int:
        return next(iter(self._styles.values()))[1]

    def _scene(self, part: int, index: int) -> Scene:
        scene = random_scene(part, index)
        return replace(scene, ground=self._ground) if self._ground else scene

    @cached_property
    def _drawn(self) -> dict[tuple[str, int], Tensor]:
        """The cached pictures, by key and index."""
        return {}

    def _picture(self, key: str, index: int) -> Tensor:
        picture = self._drawn.get((key, index))
        if picture is None:
            style, part = self._styles[key]
            picture = torch.from_numpy(style(self._scene(part, index), *self._size)).permute(2, 0, 1).contiguous()
            if len(self) * len(self._styles) * picture.numel() <= MEMORY_LIMIT:
                self._drawn[key, index] = picture
        return picture


class Shapes(ImageDataModule):
    """Pictures of coloured shapes, drawn on the fly, with captions, line drawings and a second style.

    A scene has one or two of eight shapes in six colours on one of four backgrounds, and depends only on its number,
    not on the seed of the run. Held-out scenes have other numbers than training scenes.

    - "generation": `image` in the style of coloured paper, `label` (the kind of the larger shape) and `caption`.
    - "paired": `source`, a line drawing whose hatching encodes the colours, and `target`, the same scene in paper
    style; all have the same background, which a drawing does not show. The direction "BtoA" swaps the two. -
    "unpaired": `image_a` in paper style and `image_b` in chalk on a blackboard. In training they show different scenes;
    held-out images with the same index show the same scene, against which a translation can be scored.

    Args:
        size: one number of pixels for squares, or (height, width); at least 16.
        task: "generation", "paired" or "unpaired".
        direction: direction of pairs, "AtoB" (drawing to paper) or "BtoA".
        num_train: number of training scenes.
        num_val: number of held-out scenes.
        batch_size: images per process in a step.
        num_workers: number of loader processes.
        augmentation: augmentation during training. Flips contradict captions that say left or right.
        balanced: show all kinds equally often during training.

    Raises:
        UserError: an argument out of range, or a task or direction that does not exist.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 64,
        task: Task = "generation",
        direction: Literal["AtoB", "BtoA"] = "AtoB",
        num_train: int = 4096,
        num_val: int = 256,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__(batch_size, num_workers, augmentation, balanced)
        height, width = (size, size) if isinstance(size, int) else size
        if not 16 <= min(height, width) <= max(height, width) <= 2048:
            raise UserError(f"data.size is {size} pixels.", "Give numbers from 16 to 2048.")
        if task not in ("generation", "paired", "unpaired"):
            raise UserError(f'data.task is "{task}".', 'Give "generation", "paired" or "unpaired".')
        if direction not in ("AtoB", "BtoA"):
            raise UserError(f'data.direction is "{direction}".', 'Give "AtoB" or "BtoA".')
        for name, num in {"num_train": num_train, "num_val": num_val}.items():
            if num < 1:
                raise UserError(f"data.{name} is {num}.", "Give at least 1.")
        self.size, self.task, self.direction = (height, width), task, direction
        self.num_train, self.num_val = num_train, num_val

    @property
    def spec(self) -> ImageSpec:
        """RGB at the requested size; the kinds of shapes are the classes, except in pairs."""
        described = self.task == "generation"
        return ImageSpec(3, *self.size, _KINDS if described else (), self.task, captions=described)

    def train_source(self) -> ShapesSource:
        """Return the training scenes."""
        return self._source(_TRAIN, _OTHER_TRAIN, self.num_train)

    def val_source(self) -> ShapesSource:
        """Return the held-out scenes."""
        return self._source(_VAL, _VAL, self.num_val)

    def _source(self, part: int, other: int, num: int) -> ShapesSource:
        if self.task == "generation":
            return ShapesSource({"image": (paper, part)}, num, self.size, words=True, ground="")
        if self.task == "unpaired":
            styles: dict[str, tuple[Style, int]] = {"image_a": (paper, part), "image_b": (chalk, other)}
            return ShapesSource(styles, num, self.size, words=False, ground="")
        keys = ("source", "target") if self.direction == "AtoB" else ("target", "source")
        styles = {keys[0]: (line_drawing, part), keys[1]: (paper, part)}
        return ShapesSource(styles, num, self.size, words=False, ground="cream")
