"""From images in memory or in files to the batches that models train on."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aigc_lightning.core.batch import ImageBatch
from aigc_lightning.core.pictures import to_uint8 as to_uint8
from aigc_lightning.core.position import batches_done
from aigc_lightning.core.sampler import SampleKey, StreamSampler
from aigc_lightning.core.seed import run_seed
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment, augment
from aigc_lightning.errors import UserError

_LARGEST_BATCH = 2**31


class ImageSource(Protocol):
    """Numbered images of one size, in memory or in files."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return these images, uint8 (B, C, H, W)."""
        ...

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return their labels, int64 (B,), or None when there are none."""
        ...


class ArraySource:
    """Images that fit in memory.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), or None.
    """

    def __init__(self, images: Tensor, labels: Tensor | None = None) -> None:
        assert images.dtype == torch.uint8 and images.ndim == 4
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        """Return N."""
        return len(self._images)

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return these images, uint8 (B, C, H, W)."""
        return self._images[torch.as_tensor(indices)]

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return their labels, int64 (B,), or None."""
        return None if self._labels is None else self._labels[torch.as_tensor(indices)]


def to_signed(images: Tensor) -> Tensor:
    """Map uint8 [0, 255] to float32 [-1, 1]; 0 and 255 are exact."""
    return images.float().div_(127.5).sub_(1)


class ImageSamples(Dataset[ImageBatch]):
    """Fetches whole batches from a source: gather, augment by key, scale to [-1, 1].

    Args:
        source: the images.
        seed: of the augmentation.
        augmentation: what to vary, or None.
    """

    def __init__(self, source: ImageSource, seed: int = 0, augmentation: Augment | None = None) -> None:
        self.source, self.seed, self.augmentation = source, seed, augmentation

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.source)

    def __getitem__(self, key: int | SampleKey) -> ImageBatch:
        """Return one sample as a batch of one."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[int | SampleKey]) -> ImageBatch:
        """Return the batch of these keys; a plain index means epoch 0."""
        pairs = [key if isinstance(key, tuple) else SampleKey(0, key) for key in keys]
        indices = [pair.number for pair in pairs]
        images = self.source.images(indices)
        if self.augmentation is not None:
            epochs = np.array([pair.epoch for pair in pairs])
            images = augment(images, self.augmentation, self.seed, epochs, np.array(indices))
        batch = ImageBatch(image=to_signed(images), index=torch.tensor(indices))
        labels = self.source.labels(indices)
        if labels is not None:
            batch["label"] = labels
        return batch


def _as_fetched(batch: Any) -> Any:
    """Collate nothing: `ImageSamples` fetches whole batches."""
    return batch


class StreamLoader(DataLoader[Any]):
    """A loader whose place in the data follows from the sampler's position.

    Lightning asks loaders for their state to resume in mid-epoch; here the position is the trainer's batch count,
    which Lightning restores by itself, so there is nothing to keep.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the position is the trainer's."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Accept the nothing of `state_dict`."""


class ImageDataModule(pl.LightningDataModule):
    """Base of all data: a spec, a source to train on and a source to validate on.

    A subclass defines `spec`, `train_source` and `val_source`; downloading or checking files belongs in `prepare`.

    Args:
        batch_size: images per process in a step.
        num_workers: loader processes; 0 loads in the training process.
        augmentation: what to vary while training.
    """

    #: Arguments that may differ when a run is resumed, since they do not change what is seen.
    free_on_resume: tuple[str, ...] = ("num_workers", "root")

    def __init__(self, batch_size: int = 64, num_workers: int = 0, augmentation: Augment | None = None) -> None:
        super().__init__()
        if not 1 <= batch_size <= _LARGEST_BATCH:
            raise UserError(f"data.batch_size is {batch_size}.", f"Give a number from 1 to {_LARGEST_BATCH}.")
        if num_workers < 0:
            raise UserError(f"data.num_workers is {num_workers}.", "Give 0 or more.")
        self.batch_size, self.num_workers, self.augmentation = batch_size, num_workers, augmentation

    @property
    @abstractmethod
    def spec(self) -> ImageSpec:
        """What the images look like; may read files, and raises `UserError` when they cannot be used."""

    @abstractmethod
    def train_source(self) -> ImageSource:
        """Return the images to train on."""

    @abstractmethod
    def val_source(self) -> ImageSource:
        """Return the images that are held out."""

    def test_source(self) -> ImageSource:
        """Return the images to test on: the held-out ones, where a dataset has no test split of its own."""
        return self.val_source()

    def train_sampler(self) -> StreamSampler:
        """Return the order of the training images for this process, starting where the trainer stands."""
        trainer = self.trainer
        return StreamSampler(
            len(self.train_source()),
            self.batch_size,
            run_seed(),
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            position=partial(batches_done, trainer),
        )

    def train_dataloader(self) -> StreamLoader:
        """Return shuffled, augmented batches."""
        samples = ImageSamples(self.train_source(), run_seed(), self.augmentation)
        return self._loader(samples, batch_sampler=self.train_sampler())

    def val_dataloader(self) -> StreamLoader:
        """Return the held-out images in order, shared out between the processes."""
        return self._in_order(self.val_source())

    def test_dataloader(self) -> StreamLoader:
        """Return the test images in order, shared out between the processes."""
        return self._in_order(self.test_source())

    def predict_dataloader(self) -> StreamLoader:
        """Return the images of `test_dataloader`."""
        return self.test_dataloader()

    def _in_order(self, source: ImageSource) -> StreamLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        own = range(rank, len(source), world_size)
        return self._loader(ImageSamples(source), batch_size=self.batch_size, sampler=own)

    def _loader(self, samples: ImageSamples, **order: Any) -> StreamLoader:
        return StreamLoader(
            samples,
            num_workers=self.num_workers,
            collate_fn=_as_fetched,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            # Fork after the parent has used its thread pool can hang a worker; a server process has no such history.
            multiprocessing_context="forkserver" if self.num_workers > 0 else None,
            **order,
        )
