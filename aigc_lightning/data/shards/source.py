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
from aigc_lightning.data.shards.index import Shard
from aigc_lightning.data.shards.scan import CorruptShardError, Rows, scan_shard
from aigc_lightning.data.shards.store import LocalStore, RemoteStore
from aigc_lightning.data.unreadable import Budget, LostImage, is_collected, report

_OPEN_SHARDS = 16  # files that a process keeps open


class ShardSource:
    """Images in shards, read when they are asked for.

    A shard or an image that cannot be read is reported once; samples of the next shard, or the next image, stand in for
    it with their own labels, and the batch keeps the index that was asked for. So the order of the others stays.

    Args:
        store: where the shards are.
        shards: those of this source.
        table: gives the rows of all shards; called once in each process.
        num_classes: of the labels; 0 where the images have none.
        read: gives the uint8 (C, H, W) image of a file's bytes.
        max_bad: share of the samples that may turn out to be bad, over all processes.
    """

    def __init__(
        self,
        store: LocalStore | RemoteStore,
        shards: Sequence[Shard],
        table: Callable[[], Rows],
        num_classes: int,
        read: Callable[[bytes], Tensor],
        max_bad: float,
    ) -> None:
        self._store, self._shards, self._table, self._num_classes = store, shards, table, num_classes
        self._read = read
        self._ends = list(accumulate(shard.count for shard in shards))
        self._budget = Budget(Path(store.where), len(self), max_bad)
        self._stand_ins: dict[int, int] = {}
        self._bad: dict[int, CorruptImageError] = {}  # by sample
        self._bad_shards: dict[int, CorruptImageError] = {}  # by number of the shard
        self._open: OrderedDict[int, int] = OrderedDict()
        self._members: tuple[int, list[str]] = (-1, [])  # names of the images of the shard that was last asked for

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
        lost, errors = sum(shard.count for shard, _ in bad), [error for _, error in bad]
        if lost == len(self):
            raise self._budget.none_left(errors)
        self._budget.check(errors, lost)

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return these images, uint8 (B, C, H, W).

        Raises:
            UserError: none can be read, or outside a loader more are bad than may be.
        """
        for index in indices:
            if self.problem(index):
                self._report(index, again=True)
        return torch.stack([self._image(index) for index in indices])

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return the labels of the images that `images` gave for these indices, int64 (B,), or None."""
        if not self._num_classes:
            return None
        rows = [self._row(self._stand_in(index)) for index in indices]
        return torch.tensor([int(row["label"]) for row in rows])

    def problem(self, index: int) -> CorruptImageError | None:
        """Return what is wrong with a sample or its shard, as far as `images` was asked for it."""
        return self._bad_shards.get(bisect_right(self._ends, index)) or self._bad.get(index)

    def name(self, index: int) -> str:
        """Return the shard of a sample and the name of its image in it, or its place where that cannot be read."""
        number = bisect_right(self._ends, index)
        shard = self._shards[number]
        place = index - self._ends[number] + shard.count
        if self._members[0] != number:
            try:
                self._members = number, scan_shard(self._store.path(shard)).members
            except CorruptShardError:
                self._members = number, []
        members = self._members[1]
        return f"{shard.name}, {members[place] if len(members) == shard.count else f'image {place}'}"

    def _image(self, index: int) -> Tensor:
        while True:
            sample = self._stand_in(index)
            number = bisect_right(self._ends, sample)
            try:
                return self._read_sample(sample, number)
            except CorruptShardError as error:
                self._bad_shards[number] = CorruptImageError(self._path(self._shards[number]), error.reason)
            except CorruptImageError as error:
                self._bad[sample] = CorruptImageError(f"{self._folder}/{self.name(sample)}", error.reason)
                self._stand_ins[sample] = (sample + 1) % len(self)
            self._report(sample)

    def _read_sample(self, sample: int, number: int) -> Tensor:
        row = self._row(sample)
        if self._num_classes and not 0 <= row["label"] < self._num_classes:
            reason = f"its class number {row['label']} is none of the {self._num_classes} classes"
            raise CorruptImageError("", reason)
        offset, size = int(row["offset"]), int(row["size"])
        if not 0 <= offset < offset + size <= self._shards[number].size:
            raise CorruptImageError("", "by the index it lies outside of its shard")
        handle = self._descriptor(number)
        try:
            content = os.pread(handle, size, offset)
        except (OSError, ValueError, OverflowError) as error:  # a damaged disk, or a damaged table
            raise CorruptImageError("", getattr(error, "strerror", None) or str(error)) from error
        return self._read(content)

    def _report(self, sample: int, *, again: bool = False) -> None:
        """Report a bad sample, or its bad shard."""
        number = bisect_right(self._ends, sample)
        in_shard = number in self._bad_shards
        error = self._bad_shards[number] if in_shard else self._bad[sample]
        report(LostImage(error, self._budget, self._shards[number].count if in_shard else 1), again=again)
        if again:
            return
        bad = [*self._bad_shards.values(), *self._bad.values()]
        lost = sum(self._shards[bad_shard].count for bad_shard in self._bad_shards) + len(self._bad)
        if lost >= len(self):
            raise self._budget.none_left(bad)
        if not is_collected():
            self._budget.check(bad, lost)

    def _path(self, shard: Shard) -> str:
        return f"{self._folder}/{shard.name}"

    @property
    def _folder(self) -> str:
        return self._store.where.rstrip("/")

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
