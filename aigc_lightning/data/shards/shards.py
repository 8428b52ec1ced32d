"""Images in WebDataset's tar shards, for datasets that are too large for a folder of files.

WebDataset's own pipeline reads streams, whose position cannot be expressed as a number. Here an index gives the
location of every sample, so a run's position in its data is the number of batches done, as for all other data.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from aigc_lightning.core import keyed
from aigc_lightning.core.io.checksums import DamagedFileError
from aigc_lightning.core.io.download import is_address
from aigc_lightning.core.run.seed import run_seed
from aigc_lightning.core.sampler import SampleKey, StreamSampler
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ImageSource
from aigc_lightning.data.console import warn
from aigc_lightning.data.decode import CorruptImageError, Profile, decode
from aigc_lightning.data.folders.base import FolderData, Resize
from aigc_lightning.data.loader import StreamLoader
from aigc_lightning.data.shards.index import (
    INDEX_FILE,
    Shard,
    ShardIndex,
    build_index,
    read_table,
    shard_names,
    write_index,
)
from aigc_lightning.data.shards.scan import CorruptShardError, Rows, scan_shard
from aigc_lightning.data.shards.source import ShardSource
from aigc_lightning.data.shards.store import LocalStore, RemoteStore
from aigc_lightning.data.unreadable import named
from aigc_lightning.errors import UserError


class ShardSampler(StreamSampler):
    """A stream that reads shards sequentially, with different shards in each process.

    In each epoch the shards are put in a random order and the sequence of their samples is cut into one piece per
    process. So a shard is read by one process, or by two if a cut goes through it. Within a piece samples are shuffled:
    each moves by at most `buffer` places, as in a shuffle buffer of that size, by an offset that is a function of
    (seed, epoch, place). Every sample is visited once per epoch.

    The order depends on the number of processes that the run began with. If it continues on another number, these take
    their parts of the same batches and may have to read more shards.

    Args:
        counts: number of samples of each shard.
        buffer: number of places by which a sample may move; 0 keeps the order within shards.
        batch_size: samples per process in a batch.
        seed: seed of the run.
        rank: rank of this process.
        world_size: number of processes.
        position: returns the number of batches already done.
        original_world_size: see `StreamSampler`.

    Raises:
        UserError: see `StreamSampler`.
    """

    def __init__(
        self,
        counts: Sequence[int],
        buffer: int,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], int] = lambda: 0,
        original_world_size: int | None = None,
    ) -> None:
        super().__init__(
            sum(counts),
            batch_size,
            seed,
            rank=rank,
            world_size=world_size,
            position=position,
            original_world_size=original_world_size,
        )
        self.counts, self.buffer = np.asarray(counts), buffer

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield an epoch's number of batches from the current position on, across the end of an epoch."""
        position = self.position()
        pieces: dict[int, npt.NDArray[np.int64]] = {}
        pieces_epoch = -1
        for step in range(position, position + len(self)):
            epoch, number = divmod(step, len(self))
            if epoch != pieces_epoch:
                pieces, pieces_epoch = {}, epoch
            yield [SampleKey(epoch, index) for index in self._batch(epoch, number, pieces)]

    def _batch(self, epoch: int, number: int, pieces: dict[int, npt.NDArray[np.int64]]) -> Iterator[int]:
        """Yield this process's samples of a global batch, which consists of a part of each piece, in order.

        Args:
            epoch: of the batch.
            number: number of the batch in the epoch.
            pieces: cache of the epoch's pieces; missing ones are added.
        """
        own = self.layout(number)
        for part in range(self.original_world_size):
            share = self._share(number, part, self.original_world_size)
            first, last = (min(max(end - share.start, 0), share.count) for end in (own.start, own.start + own.count))
            if first < last:
                if part not in pieces:
                    pieces[part] = self._piece(epoch, part)
                begin = number * self._piece_batch
                yield from pieces[part][begin + first : begin + last].tolist()

    @property
    def _piece_batch(self) -> int:
        """Number of samples from each piece in a full batch."""
        return self.global_batch_size // self.original_world_size

    def _piece(self, epoch: int, part: int) -> npt.NDArray[np.int64]:
        """Return the samples of a piece of an epoch, in order."""
        last = self._share(len(self) - 1, part, self.original_world_size)
        full = (len(self) - 1) * self._piece_batch
        first = full * part + last.start
        order = keyed.permutation(len(self.counts), self.seed, epoch).numpy()
        ends = np.cumsum(self.counts[order])
        starts_in_set = (np.cumsum(self.counts) - self.counts)[order]
        places = np.arange(first, first + full + last.count)
        shard = np.searchsorted(ends, places, side="right")
        samples = starts_in_set[shard] + places - (ends - self.counts[order])[shard]
        moved = places + self.buffer * keyed.uniform(self.seed, epoch, places)
        return np.asarray(samples[np.argsort(moved, kind="stable")])


class Shards(FolderData):
    """Images in tar shards in a folder or at a URL, as written by `aigc data shard` and WebDataset.

    A sample is an image file and, with classes, a `.cls` file with a number. Names such as `val-000000.tar` define the
    splits; without them the last shards are held out. Each process reads its own shards (see `ShardSampler`), and
    remote shards are first downloaded to this machine, each once.

    Shards without `shards.json`, which were written by other tools, are indexed on first use, with a report of what the
    index leaves out (see `scan.py` for which member is a sample's image). Unreadable shards and images are named and
    skipped, until more than `max_bad` of all samples are lost.

    Args:
        root: folder of the shards, or its address, such as https://host/folder.
        val_share: share of the shards to hold out where their names tell no splits, between 0 and 1.
        shuffle_buffer: places by which a sample may move in the order of the shards; 0 keeps it.
        max_bad: share of the samples that may be bad, from 0 to 1.
        cache: folder for the copies of shards behind an address; without one, in the temporary folder.
        cache_gb: room for the copies in gigabytes.
        num_workers: loader processes.

    Raises:
        UserError: an argument out of range; on first use of the data: no such folder or URL, no shards in it, nothing
            to hold out, or too many unreadable shards.
    """

    free_on_resume = ("num_workers", "root", "cache", "cache_gb")
    said_by_user = ("cache",)
    takes_addresses = True

    def __init__(
        self,
        root: str,
        size: int | tuple[int, int] = 64,
        channels: int = 3,
        resize: Resize = "crop",
        val_share: float = 0.1,
        shuffle_buffer: int = 10_000,
        max_bad: float = 0.01,
        cache: str | None = None,
        cache_gb: float = 100.0,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
        profile: Profile = "srgb",
    ) -> None:
        super().__init__(
            root,
            size,
            channels,
            resize,
            val_share,
            max_bad,
            batch_size,
            num_workers,
            augmentation,
            balanced=False,
            profile=profile,
        )
        if shuffle_buffer < 0:
            raise UserError(f"data.shuffle_buffer is {shuffle_buffer}.", "Give 0 or more.")
        if cache_gb <= 0:
            raise UserError(f"data.cache_gb is {cache_gb}.", "Give a positive number.")
        self.shuffle_buffer = shuffle_buffer
        self._store: LocalStore | RemoteStore = LocalStore(self.root)
        if is_address(root):
            folder = None if cache is None else Path(cache).expanduser()
            self._store = RemoteStore(root, folder, int(cache_gb * 1e9))

    @property
    def spec(self) -> ImageSpec:
        """Channels and size as requested, classes from the index."""
        return ImageSpec(*self.shape, class_names=self._index.class_names)

    def train_source(self) -> ImageSource:
        """Return the images to train on."""
        return self._sources["train"]

    def val_source(self) -> ImageSource:
        """Return the held-out images."""
        return self._sources["val"]

    def test_source(self) -> ImageSource:
        """Return the images of the test shards or, without them, the held-out images."""
        return self._sources.get("test", self._sources["val"])

    def left_out(self) -> list[CorruptImageError]:
        """Return what is wrong with the shards in the folder that the index does not name."""
        return self._unnamed(self._index)

    def _unnamed(self, index: ShardIndex) -> list[CorruptImageError]:
        if not isinstance(self._store, LocalStore):
            return []
        known = {shard.name for shard in index.shards}
        return [_unknown(self.root / name) for name in shard_names(self.root) if name not in known]

    def train_sampler(self) -> StreamSampler:
        """Return the order of the training images for this process, starting from the trainer's position."""
        counts = self._sources["train"].counts
        return ShardSampler(counts, self.shuffle_buffer, self.batch_size, run_seed(), **self._place())

    def _in_order(self, source: Any) -> StreamLoader:
        """Return images in order, one contiguous piece per process, so that each opens as few shards as possible."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        first, last = (len(source) * number // world_size for number in (rank, rank + 1))
        return self._loader(self.samples(source), batch_size=self.batch_size, sampler=range(first, last))

    @cached_property
    def _indexed(self) -> tuple[ShardIndex, Callable[[], Rows]]:
        index = self._store.index()
        if index is not None:
            if unnamed := self._unnamed(index):
                warn("Left out %d of the shards in %s: %s.", len(unnamed), self._store.where, named(self.root, unnamed))
            return index, partial(_table, self._store, index)
        rank_zero_info("Indexing the shards in %s once by reading their headers.", self.root)
        built = build_index(self.root)
        if len(built.bad) > self.max_bad * (len(built.bad) + len(built.index.shards)):
            raise built.bad[0]
        for note in built.notes():
            warn("%s", note)
        try:
            rank_zero_only(write_index)(self.root, built.index, built.table)
        except OSError as error:
            rank_zero_info("The index cannot be saved beside the shards (%s); each start repeats this.", error.strerror)
        return built.index, partial(_same, built.table)

    @property
    def _index(self) -> ShardIndex:
        return self._indexed[0]

    @cached_property
    def _sources(self) -> dict[str, ShardSource]:
        index, table = self._indexed
        parts: dict[str, list[Shard]] = {}
        for shard in index.shards:
            parts.setdefault(shard.part, []).append(shard)
        if "val" not in parts and "test" in parts:
            parts["val"] = parts.pop("test")
        if "val" not in parts:
            held_out = max(1, round(self.val_share * len(parts.get("train", []))))
            parts["val"] = parts.get("train", [])[-held_out:]
            parts["train"] = parts.get("train", [])[:-held_out]
        if not parts.get("train"):
            usable = "one shard" if len(index.shards) == 1 else f"{len(index.shards)} shards"
            what = f"{self._store.where} has {usable} that can be used, which leaves none to train on"
            if unnamed := self._unnamed(index):
                raise UserError(f"{what}: {named(self.root, unnamed)}.", "Write them again, or take them away.")
            hint = "Write smaller shards, so that there are several, with --samples of `aigc data shard`."
            raise UserError(f"{what}.", hint)
        channels, height, width = self.shape
        read = partial(decode, channels=channels, size=(height, width), resize=self.resize, profile=self.profile)
        sources = {
            part: ShardSource(self._store, shards, table, len(index.class_names), read, self.max_bad)
            for part, shards in parts.items()
        }
        for source in sources.values():
            source.check()
        return sources


def _table(store: LocalStore | RemoteStore, index: ShardIndex) -> Rows:
    path = store.table(index)
    try:
        return read_table(path, index)
    except DamagedFileError:
        if isinstance(store, LocalStore):
            raise
        path.unlink(missing_ok=True)  # the copy may be damaged
        return read_table(store.table(index), index)


def _same(table: Rows) -> Rows:
    return table


def _unknown(path: Path) -> CorruptImageError:
    """Return why a shard is not in the index of its folder."""
    try:
        scan_shard(path)
    except CorruptShardError as error:
        return CorruptImageError(path, error.reason)
    return CorruptImageError(path, f"{INDEX_FILE} does not list it; run: aigc data shard --index FOLDER")
