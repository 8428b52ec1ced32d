"""Images of any data with canaries among the training images, to measure what a model memorises.

Carlini et al., The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural Networks, USENIX Security
2019, https://arxiv.org/abs/1802.08232: what a model knows about planted noise it can only have memorised.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import FieldSource, ImageDataModule, ImageSource
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.errors import UserError

_KEY = 0xCA7A27  # of the canaries' pixels and labels


class PlantedSource:
    """The images of a source, and after them canaries: noise with random labels.

    Args:
        source: the images.
        spec: their format.
        numbers: of the canaries, each of which is determined by its number.
    """

    def __init__(self, source: ImageSource, spec: ImageSpec, numbers: range) -> None:
        self._source, self._numbers = source, numbers
        canaries = [torch.randint(256, spec.shape, generator=keyed.generator(_KEY, number)) for number in numbers]
        self._canaries = torch.stack(canaries).to(torch.uint8)
        labels = keyed.uniform(_KEY, torch.arange(numbers.start, numbers.stop).numpy()) * max(spec.num_classes, 1)
        self._labels = torch.from_numpy(labels).long()

    def __len__(self) -> int:
        """Return the number of images and canaries."""
        return len(self._source) + len(self._numbers)

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return images, uint8 (B, C, H, W), and canaries."""
        real, planted, order = self._split(indices)
        parts = [self._source.images(real)] if real else []
        return torch.cat([*parts, self._canaries[planted]])[order]

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return labels, int64 (B,), or None if the images have none."""
        real, planted, order = self._split(indices)
        found = self._source.labels(real or [0])
        return None if found is None else torch.cat([found[: len(real)], self._labels[planted]])[order]

    def _split(self, indices: Sequence[int]) -> tuple[list[int], list[int], Tensor]:
        """Return the numbers of images and of canaries, and where each index is found among both."""
        count = len(self._source)
        wanted = torch.as_tensor(indices, dtype=torch.int64)
        is_canary = wanted >= count
        order = torch.argsort(is_canary.long(), stable=True)
        return wanted[~is_canary].tolist(), (wanted[is_canary] - count).tolist(), torch.argsort(order)


class CanaryImages(ImageDataModule):
    """Single images of any data, with canaries planted among the training images: noise with random labels.

    `aigc evaluate RUN --metrics membership_auc` then also tells how well the canaries are told from others of their
    kind that were not planted.

    Args:
        data: source of the images; its batch size, workers and balance are not used. Digits by default.
        canaries: number of canaries, each of which is shown as often as any other image.
        batch_size: images per process in a step.
        num_workers: number of loader processes.
        augmentation: augmentation during training; that of `data` by default.

    Raises:
        UserError: fewer than two canaries, or data that is not single images without captions and masks.
    """

    def __init__(
        self,
        data: ImageDataModule | None = None,
        canaries: int = 20,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
    ) -> None:
        self.data = Digits() if data is None else data
        super().__init__(batch_size, num_workers, augmentation or self.data.augmentation)
        if canaries < 2:
            raise UserError(f"data.canaries is {canaries}.", "Give 2 or more.")
        self.canaries = canaries

    @property
    def spec(self) -> ImageSpec:
        """The spec of the images."""
        spec = self.data.spec
        if spec.task != "generation" or spec.captions or spec.masks:
            what = f"Canaries are single images with labels at most, but data.data gives {spec}, {spec.task}."
            raise UserError(what, "Choose data such as digits or image_folder.")
        return spec

    def prepare_data(self) -> None:
        """Prepare the images."""
        self.data.prepare_data()

    def train_source(self) -> PlantedSource:
        """Return the images to train on, followed by the canaries."""
        return self._with(range(self.canaries))

    def unplanted_source(self) -> PlantedSource:
        """Return the images to train on, followed by as many canaries that no model has been trained on."""
        return self._with(range(self.canaries, 2 * self.canaries))

    def val_source(self) -> ImageSource | FieldSource:
        """Return the held-out images, among which there are no canaries."""
        return self.data.val_source()

    def test_source(self) -> ImageSource | FieldSource:
        """Return the images to test on, among which there are no canaries."""
        return self.data.test_source()

    def _with(self, numbers: range) -> PlantedSource:
        return PlantedSource(cast(ImageSource, self.data.train_source()), self.spec, numbers)
