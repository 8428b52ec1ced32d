"""Images in shards as a source: each takes one read of its shard's file."""

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

_OPEN_SHARDS = 16  # maximum number of files that a process keeps open


class ShardSource:
    """Images in shards, read on request.

    An unreadable shard or image is reported once and replaced by samples of the next shard, or by the next image, with
    their own labels; the batch keeps the requested index. So the order of the others does not change.

    Args:
        store: location of the shards.
        shards: the shards of this source.
        table: returns the rows of all shards; called once per process.
        num_classes: number of classes; 0 if the images have no labels.
        read: decodes a file's bytes to a uint8 (C, H, W) image.
        max_bad: fraction of the samples that may be unreadable, over all processes.
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
        self._members: tuple[int, list[str]] = (-1, [])  # names of the images of the last requested shard

    def __getstate__(self) -> dict[str, Any]:
        """Exclude this process's open files and memory-mapped table from pickling."""
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
        """Look for missing or truncated shards, as far as that is possible without reading them.

        Raises:
            UserError: they contain more samples than may be lost.
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
            UserError: none is readable, or, outside a loader, more are unreadable than allowed.
        """
        for index in indices:
            if self.problem(index):
                self._report(index, again=True)
        return torch.stack([self._image(index) for index in indices])

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return the labels of the images that `images` returned for these indices, int64 (B,), or None."""
        if not self._num_classes:
            return None
        rows = [self._row(self._stand_in(index)) for index in indices]
        return torch.tensor([int(row["label"]) for row in rows])

    def problem(self, index: int) -> CorruptImageError | None:
        """Return what is wrong with a sample or its shard, if `images` has tried to read it."""
        return self._bad_shards.get(bisect_right(self._ends, index)) or self._bad.get(index)

    def name(self, index: int) -> str:
        """Return a sample's shard and its image's name in it, or its position if the name cannot be read."""
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
            raise CorruptImageError("", "the index places it outside its shard")
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
        """Return a descriptor of a shard's file, closing the least recently used one if necessary."""
        if number not in self._open:
            self._open[number] = self._store.open(self._shards[number])
            if len(self._open) > _OPEN_SHARDS:
                os.close(self._open.popitem(last=False)[1])
        self._open.move_to_end(number)
        return self._open[number]
