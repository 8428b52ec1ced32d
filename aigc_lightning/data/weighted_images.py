"""Images of any data whose groups, such as classes, are shown in given proportions, or of which few are kept."""

import math
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.core.run.seed import run_seed
from aigc_lightning.core.sampler import BalancedSampler, StreamSampler
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import FieldSource, ImageDataModule, ImageSource, Visits
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.data.sources import read_fields
from aigc_lightning.errors import UserError, did_you_mean

#: The group of images whose captions have none of the words.
OTHER = "other"
_KEPT = 0x4E97  # key of the choice of images
_MOST = 1000  # largest weight
_BLOCK = 256  # captions read at once


class PartSource:
    """Some of the samples of a source.

    Args:
        source: all samples.
        numbers: int64 (N,) which of them.
    """

    def __init__(self, source: ImageSource | FieldSource, numbers: Tensor) -> None:
        self._source, self._numbers = source, numbers
        self.kinds = getattr(source, "kinds", {})

    def __len__(self) -> int:
        """Return N."""
        return len(self._numbers)

    def fields(self, visits: Visits) -> dict[str, Any]:
        """Return these samples by batch key."""
        fields = read_fields(self._source, visits._replace(indices=self._numbers.numpy()[visits.indices]))
        return {name: value for name, value in fields.items() if name != "label"}

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return their labels, int64 (B,), or None if there are none."""
        return self._source.labels(self._numbers[torch.as_tensor(indices)].tolist())


class WeightedImages(ImageDataModule):
    """Single images of any data, whose groups are shown in given proportions while training, or are thinned out.

    Groups are classes, or the images whose captions have a word: `by` is "label", or such as "caption=she,he". An image
    with several of the words belongs to the first of them, one with none to "other".

    Args:
        data: source of the images; its batch size, workers and balance are not used. Digits by default.
        by: what groups are made by.
        weights: whole numbers by group: how often it is shown, beside 1 for the groups that are not named, whatever its
            number of images; None shows all images equally often.
        keep: share of the training images of a group that there are, by group: makes data with a known bias.
        batch_size: images per process in a step.
        num_workers: number of loader processes.
        augmentation: augmentation during training; that of `data` by default.

    Raises:
        UserError: there is no such group, a number is out of range, or the data is not for generation.
    """

    def __init__(
        self,
        data: ImageDataModule | None = None,
        by: str = "label",
        weights: dict[str, int] | None = None,
        keep: dict[str, float] | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
    ) -> None:
        self.data = Digits() if data is None else data
        super().__init__(batch_size, num_workers, augmentation or self.data.augmentation)
        self.weights, self.keep = weights, dict(keep or {})
        for name, weight in (weights or {}).items():
            if not 0 <= weight <= _MOST:
                raise UserError(f"data.weights.{name} is {weight}.", f"Give a whole number from 0 to {_MOST}.")
        for name, share in self.keep.items():
            if not 0 < share <= 1:
                raise UserError(f"data.keep.{name} is {share}.", "Give a share above 0, at most 1.")
        field, _, listed = by.partition("=")
        self.words = tuple(word.strip().casefold() for word in listed.split(",") if word.strip())
        if field not in ("label", "caption") or bool(self.words) != (field == "caption"):
            raise UserError(f"data.by is {by!r}.", "Give label, or words of captions as in caption=she,he.")

    @property
    def spec(self) -> ImageSpec:
        """The spec of the images."""
        spec = self.data.spec
        if spec.task != "generation":
            raise UserError(f"data.data gives {spec.task} images.", "Choose data of single images, such as digits.")
        if not (spec.captions if self.words else spec.num_classes):
            raise UserError(f"data.data has no {'captions' if self.words else 'labels'} ({spec}).", "Change data.by.")
        groups = [*self.words, OTHER] if self.words else spec.class_names
        for name in (*(self.weights or {}), *self.keep):
            if name not in groups:
                raise UserError(f"There is no group {name!r}.", did_you_mean(name, groups))
        return spec

    def prepare_data(self) -> None:
        """Prepare the images."""
        self.data.prepare_data()

    def train_source(self) -> PartSource:
        """Return the images to train on that are kept."""
        return self._training[0]

    def val_source(self) -> ImageSource | FieldSource:
        """Return the held-out images, all of them."""
        return self.data.val_source()

    def test_source(self) -> ImageSource | FieldSource:
        """Return the images to test on, all of them."""
        return self.data.test_source()

    def train_sampler(self) -> StreamSampler:
        """Return the order of the training images for this process, with groups in the given proportions.

        Raises:
            UserError: no group with images has a weight, or training is private.
        """
        if self.weights is None:
            return super().train_sampler()
        if self.private_secret is not None:
            raise UserError("privacy.epsilon takes each image independently.", "Leave data.weights out.")
        groups = self._training[1]
        weights = [self.weights.get(name, 1) for name in self._groups]
        if not any(weights[group] for group in set(groups.tolist())):
            raise UserError("The weights in data.weights show no image.", "Give a group a weight above 0.")
        return BalancedSampler(groups, self.batch_size, run_seed(), weights=weights, **self._place())

    @property
    def _groups(self) -> tuple[str, ...]:
        return (*self.words, OTHER) if self.words else self.spec.class_names

    @cached_property
    def _training(self) -> tuple[PartSource, Tensor]:
        """The training images that are kept, and the group of each."""
        source, names = self.data.train_source(), self._groups
        groups = self._by_words(cast(FieldSource, source)) if self.words else source.labels(range(len(source)))
        assert groups is not None
        kept = torch.ones(len(source), dtype=torch.bool)
        for name, share in self.keep.items():
            members = (groups == names.index(name)).nonzero().flatten()
            order = keyed.permutation(len(members), _KEPT, names.index(name))
            kept[members[order[math.ceil(share * len(members)) :]]] = False
        numbers = kept.nonzero().flatten()
        return PartSource(source, numbers), groups[numbers]

    def _by_words(self, source: FieldSource) -> Tensor:
        """Return the number of each sample's group."""
        found: list[int] = []
        for first in range(0, len(source), _BLOCK):
            indices = np.arange(first, min(first + _BLOCK, len(source)))
            captions = source.fields(Visits(0, np.zeros_like(indices), indices))["caption"]
            for caption in captions:
                words = re.findall(r"\w+", caption.casefold())
                found.append(next((place for place, word in enumerate(self.words) if word in words), len(self.words)))
        return torch.tensor(found)
