"""Images in shards as a source: each is one read of its shard's file."""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aigc_lightning.data.decode import CorruptImageError
from aigc_lightning.data.lost import LostImage, report, too_many
from aigc_lightning.data.shard_index import CorruptShardError, Rows, Shard
from aigc_lightning.data.shard_store import LocalStore, RemoteStore

_OPEN_SHARDS = 16  # files that a process keeps open


class ShardSource:
    """Images in shards, read when they are asked for.

    A shard or an image that cannot be read is reported once; samples of the next shard, or the next image, stand in for
    it with their own labels, and the batch keeps the index that was asked for. So the order of the others stays.

    Args:
        store: where the shards are.
        shards: those of this source.
        table: gives the rows of all shards; called once in each process.
        labelled: whether the images have labels.
        read: gives the uint8 (C, H, W) image of a file's bytes.
        max_bad: share of the samples that may turn out to be bad, over all processes.
    """

    def __init__(
        self,
        store: LocalStore | RemoteStore,
        shards: Sequence[Shard],
        table: Callable[[], Rows],
        labelled: bool,
        read: Callable[[bytes], Tensor],
        max_bad: float,
    ) -> None:
        self._store, self._shards, self._table, self._labelled = store, shards, table, labelled
        self._read, self._max_bad = read, max_bad
        self._ends = list(accumulate(shard.count for shard in shards))
        self._stand_ins: dict[int, int] = {}
        self._bad_shards: set[int] = set()
        self._open: OrderedDict[int, int] = OrderedDict()
        self._bad: list[CorruptImageError] = []

    def __getstate__(self) -> dict[str, Any]:
        """Leave what belongs to this process: open files, and the table, of which only parts are in memory."""
        state = {name: value for name, value in self.__dict__.items() if name != "_rows"}
        return {**state, "_open": OrderedDict()}

    def __del__(self) -> None:
        for handle in self.__dict__.get("_open", {}).values():
            os.close(handle)

    def __len__(self) -> int:
        """Return N."""
        return self._ends[-1] if self._ends else 0

    @property
    def counts(self) -> list[int]:
        """Number of samples of each shard."""
        return [shard.count for shard in self._shards]

    def check(self) -> None:
        """Look for shards that are missing or cut, as far as that can be seen without reading them.

        Raises:
            UserError: more samples than allowed are in them.
        """
        problems = [(shard, self._store.problem(shard)) for shard in self._shards]
        bad = [(shard, CorruptImageError(self._path(shard), problem)) for shard, problem in problems if problem]
        lost = sum(shard.count for shard, _ in bad)
        if lost == len(self) or lost > self._max_bad * len(self):
            raise too_many(self._root, [error for _, error in bad], len(self), self._max_bad, lost)

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return these images, uint8 (B, C, H, W).

        Raises:
            UserError: none can be read.
        """
        return torch.stack([self._image(index) for index in indices])

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return the labels of the images that `images` gave for these indices, int64 (B,), or None."""
        if not self._labelled:
            return None
        rows = [self._row(self._stand_in(index)) for index in indices]
        return torch.tensor([int(row["label"]) for row in rows])

    def _image(self, index: int) -> Tensor:
        while True:
            sample = self._stand_in(index)
            number = bisect_right(self._ends, sample)
            row = self._row(sample)
            offset, size = int(row["offset"]), int(row["size"])
            try:
                handle = self._descriptor(number)
                if not 0 <= offset < offset + size <= self._shards[number].size:
                    raise CorruptImageError("", "by the index it lies outside of its shard")
                return self._read(os.pread(handle, size, offset))
            except CorruptShardError as error:
                self._bad_shards.add(number)
                shard = self._shards[number]
                self._report(CorruptImageError(self._path(shard), error.reason), shard.count)
            except CorruptImageError as error:
                shard = self._shards[number]
                place = sample - self._ends[number] + shard.count
                self._stand_ins[sample] = (sample + 1) % len(self)
                self._report(CorruptImageError(f"{self._path(shard)}, image {place}", error.reason), 1)

    def _report(self, error: CorruptImageError, count: int) -> None:
        self._bad.append(error)
        lost = sum(self._shards[number].count for number in self._bad_shards) + len(self._stand_ins)
        if lost >= len(self):  # there is nothing to stand in
            raise too_many(self._root, self._bad, len(self), self._max_bad, len(self))
        report(LostImage(error, self._root, len(self), self._max_bad, count))

    def _path(self, shard: Shard) -> str:
        return f"{self._store.where.rstrip('/')}/{shard.name}"

    @property
    def _root(self) -> Path:
        return Path(self._store.where)

    def _stand_in(self, index: int) -> int:
        while True:
            number = bisect_right(self._ends, index)
            if number in self._bad_shards:
                following = (number + 1) % len(self._shards)
                place = index - (self._ends[number] - self._shards[number].count)
                first = self._ends[following] - self._shards[following].count
                index = first + place % self._shards[following].count
            elif index in self._stand_ins:
                index = self._stand_ins[index]
            else:
                return index

    def _row(self, sample: int) -> Any:
        number = bisect_right(self._ends, sample)
        shard = self._shards[number]
        return self._rows[shard.first + sample - (self._ends[number] - shard.count)]

    @cached_property
    def _rows(self) -> Rows:
        return self._table()

    def _descriptor(self, number: int) -> int:
        """Return a descriptor of a shard's file; the one that was not used for longest is closed."""
        if number not in self._open:
            self._open[number] = self._store.open(self._shards[number])
            if len(self._open) > _OPEN_SHARDS:
                os.close(self._open.popitem(last=False)[1])
        self._open.move_to_end(number)
        return self._open[number]
