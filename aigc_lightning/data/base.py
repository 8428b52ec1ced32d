"""From images in memory or in files to the batches that models train on."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import Dataset

from aigc_lightning.core import keyed
from aigc_lightning.core.docstrings import inherit_argument_texts
from aigc_lightning.core.io.pictures import to_uint8 as to_uint8
from aigc_lightning.core.privacy.poisson import PoissonSampler
from aigc_lightning.core.run.loop_state import check_stream, checked_stream, place_in_stream, stream_state
from aigc_lightning.core.run.processes import clean_context, obey_parent_alone
from aigc_lightning.core.run.seed import run_seed
from aigc_lightning.core.sampler import BalancedSampler, SampleKey, StreamSampler
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment, augment
from aigc_lightning.data.loader import StreamLoader, as_fetched
from aigc_lightning.data.sources import ArraySource as ArraySource
from aigc_lightning.data.sources import FieldSource as FieldSource
from aigc_lightning.data.sources import ImageSource as ImageSource
from aigc_lightning.data.sources import Visits as Visits
from aigc_lightning.data.sources import field_kind, read_fields, to_batch
from aigc_lightning.data.sources import to_signed as to_signed
from aigc_lightning.data.unreadable import LOST_KEY, LostImages, collected
from aigc_lightning.errors import UserError

_LARGEST_BATCH = 2**31
_SETUP = 0x5E7  # key of the images that a model is set up from
# Fields that show something different from the others are augmented independently.
_OWN_DRAWS = {"image_b": 1, "reference": 2}


class ImageSamples(Dataset[dict[str, Any]]):
    """Fetches whole batches from a source: gather, augment by key, scale to [-1, 1].

    Images of one scene, such as the source and target of a pair, are augmented alike, and so are masks and label maps.

    Args:
        source: the images.
        seed: of the augmentation.
        augmentation: applied to the images, or None.
    """

    def __init__(self, source: ImageSource | FieldSource, seed: int = 0, augmentation: Augment | None = None) -> None:
        self.source, self.seed, self.augmentation = source, seed, augmentation

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.source)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Return one sample as a batch of one."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[int | SampleKey]) -> dict[str, Any]:
        """Return the batch of these keys (a plain index means epoch 0), and unreadable images under `LOST_KEY`."""
        with collected() as lost:
            batch = self.read(keys)
        return {**batch, LOST_KEY: lost} if lost else batch

    def read(self, keys: Sequence[int | SampleKey]) -> dict[str, Any]:
        """Return the batch of these keys outside a loader.

        Raises:
            UserError: more of the images read so far are unreadable than allowed.
        """
        pairs = [key if isinstance(key, tuple) else SampleKey(0, key) for key in keys]
        epochs, indices = np.array(pairs, np.int64).reshape(-1, 2).T
        fields = self.fields(Visits(self.seed, epochs, indices))
        batch = {name: to_batch(field, field_kind(self.source, name, field)) for name, field in fields.items()}
        return {**batch, "index": torch.tensor(indices)}

    def fields(self, visits: Visits) -> dict[str, Any]:
        """Return the augmented samples of these visits, with images and masks still as the source gave them."""
        fields = read_fields(self.source, visits)
        return {name: self._varied(name, field, visits) for name, field in fields.items()}

    def _varied(self, name: str, field: Any, visits: Visits) -> Any:
        kind = field_kind(self.source, name, field)
        if self.augmentation is None or kind not in ("image", "mask", "label_map"):
            return field
        return augment(field, self.augmentation, *visits, stream=_OWN_DRAWS.get(name, 0), kind=kind)


class ImageDataModule(pl.LightningDataModule):
    """Base class of all data modules: a spec, a source to train on and a source to validate on.

    A subclass defines `spec`, `train_source` and `val_source`; downloading or checking files belongs in `prepare_data`.
    What its docstring leaves out of `Args:` is what its bases say about the argument.

    Args:
        batch_size: images per process in a step.
        num_workers: loader processes; 0 loads in the training process.
        augmentation: what to vary while training.
        balanced: show all classes equally often while training, whatever their share of the images; needs labels.
    """

    #: Arguments that may change when a run is resumed, since they do not affect the samples.
    free_on_resume: tuple[str, ...] = ("num_workers", "root")
    #: Arguments that contact a server or name a place to write to; records and configs of runs cannot set them.
    said_by_user: tuple[str, ...] = ()
    __str__ = object.__str__  # Lightning's would read the data to describe the loaders

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the help of each class describe all of its arguments, though those of its bases are described there."""
        super().__init_subclass__(**kwargs)
        inherit_argument_texts(cls)

    def __init__(
        self,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= batch_size <= _LARGEST_BATCH:
            raise UserError(f"data.batch_size is {batch_size}.", f"Give a number from 1 to {_LARGEST_BATCH}.")
        if num_workers < 0:
            raise UserError(f"data.num_workers is {num_workers}.", "Give 0 or more.")
        self.batch_size, self.num_workers, self.augmentation = batch_size, num_workers, augmentation
        self.balanced = balanced
        self._lost = LostImages()
        #: Key of Poisson batches, for training with differential privacy; None for ordinary batches.
        self.private_secret: int | None = None
        self._stream: StreamSampler | None = None  # of the run, once it has started
        self._saved: dict[str, int] = {}  # the stream's state in the checkpoint of a resumed run

    @property
    @abstractmethod
    def spec(self) -> ImageSpec:
        """Description of the images; may read files, and raises `UserError` if they cannot be used."""

    @abstractmethod
    def train_source(self) -> ImageSource | FieldSource:
        """Return the images to train on."""

    @abstractmethod
    def val_source(self) -> ImageSource | FieldSource:
        """Return the held-out images."""

    def test_source(self) -> ImageSource | FieldSource:
        """Return the images to test on: the held-out ones if a dataset has no test split."""
        return self.val_source()

    def samples(
        self, source: ImageSource | FieldSource, seed: int = 0, augmentation: Augment | None = None
    ) -> ImageSamples:
        """Return the dataset that fetches batches of a source; override it to change images after augmentation."""
        return ImageSamples(source, seed, augmentation)

    def training_batch(self, count: int) -> dict[str, Any]:
        """Return training images that the run's seed chooses, not augmented, the same in all processes.

        Args:
            count: number of images; all of them if there are fewer.
        """
        source = self.train_source()
        order = torch.randperm(len(source), generator=keyed.generator(run_seed(), _SETUP))
        return self.samples(source).read(order[:count].tolist())

    def train_sampler(self) -> StreamSampler:
        """Return the order of the training images for this process, starting from the trainer's position.

        Raises:
            UserError: balanced classes are requested but there are no labels.
        """
        source = self.train_source()
        if self.private_secret is not None:
            return self._private_sampler(len(source), self.private_secret)
        if not self.balanced:
            return StreamSampler(len(source), self.batch_size, run_seed(), **self._place())
        # Not the labels of replacements for bad files: which of those are known depends on what was read before.
        labels = getattr(source, "listed_labels", None)
        labels = source.labels(range(len(source))) if labels is None else labels
        if labels is None:
            raise UserError(f"data.balanced is true but the images have no classes ({self.spec}).", "Leave it out.")
        return BalancedSampler(labels, self.batch_size, run_seed(), **self._place())

    def _private_sampler(self, size: int, secret: int) -> PoissonSampler:
        if self.balanced:
            raise UserError("privacy.epsilon takes each image independently.", "Leave data.balanced out.")
        if self.batch_size > size:
            raise UserError(f"data.batch_size is {self.batch_size} for {size} images.", "Give at most as many.")
        return PoissonSampler(size, self.batch_size, secret, position=partial(place_in_stream, self.trainer))

    def _place(self) -> dict[str, Any]:
        """Return the arguments of a `StreamSampler` for this process and the run's position."""
        trainer = self.trainer
        return {
            "rank": trainer.global_rank if trainer else 0,
            "world_size": trainer.world_size if trainer else 1,
            "position": partial(place_in_stream, trainer),
            "original_world_size": self._saved.get("world_size"),
        }

    # A trainer calls this in inference mode, but what sources cache must be usable in training as well.
    @torch.inference_mode(False)
    def train_dataloader(self) -> StreamLoader:
        """Return shuffled, augmented batches.

        Raises:
            UserError: the resumed run took another number of images per step.
        """
        samples = self.samples(self.train_source(), run_seed(), self.augmentation)
        self._stream = self.train_sampler()
        if self._saved:
            check_stream(self._saved, self._stream)
        return self._loader(samples, batch_sampler=self._stream)

    def state_dict(self) -> dict[str, Any]:
        """Return the run's position in its data, counted in samples, and what that depends on."""
        return {} if self._stream is None else stream_state(self._stream)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a result of `state_dict`; it is compared with this run's data when training begins."""
        self._saved = checked_stream(state_dict)

    @torch.inference_mode(False)
    def val_dataloader(self) -> StreamLoader:
        """Return the held-out images in order, divided among the processes."""
        return self._in_order(self.val_source())

    @torch.inference_mode(False)
    def test_dataloader(self) -> StreamLoader:
        """Return the test images in order, divided among the processes."""
        return self._in_order(self.test_source())

    def predict_dataloader(self) -> StreamLoader:
        """Return the images of `test_dataloader`."""
        return self.test_dataloader()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Remove the reports of lost images from the batch and count them.

        Raises:
            UserError: more were lost than allowed.
        """
        if self.private_secret is not None and LOST_KEY in batch and self.trainer and self.trainer.training:
            raise UserError(
                "An image cannot be read; in its place another would count twice, which privacy.epsilon forbids.",
                "Take it out of the data: `aigc data check` names it.",
            )
        if self.trainer is not None:
            self._lost.take(batch, self.trainer)
        return batch

    def _in_order(self, source: ImageSource | FieldSource) -> StreamLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        own = range(rank, len(source), world_size)
        return self._loader(self.samples(source), batch_size=self.batch_size, sampler=own)

    def _loader(self, samples: ImageSamples, **order: Any) -> StreamLoader:
        return StreamLoader(
            samples,
            num_workers=self.num_workers,
            collate_fn=as_fetched,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            multiprocessing_context=clean_context() if self.num_workers > 0 else None,
            worker_init_fn=obey_parent_alone,
            **order,
        )
