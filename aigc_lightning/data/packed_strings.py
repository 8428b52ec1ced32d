"""Many names or captions in little memory."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt


class PackedStrings(Sequence[str]):
    """Strings packed into two arrays: each takes its length and about 8 bytes; in a list it takes some 60 bytes more.

    Args:
        strings: the strings; consumed one by one.
    """

    def __init__(self, strings: Iterable[str] = ()) -> None:
        text, ends = bytearray(), array("q")
        for string in strings:
            text += string.encode("utf-8", "surrogateescape")
            ends.append(len(text))
        self._text = np.frombuffer(bytes(text), np.uint8)
        self._ends = np.frombuffer(ends, np.int64) if ends else np.empty(0, np.int64)

    def __len__(self) -> int:
        """Return the number of strings."""
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return one string, or several."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        first = self._ends[number - 1] if number else 0
        return self._text[first : self._ends[number]].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        """Yield the strings in order."""
        text, first = self._text.data, 0
        for last in self._ends.tolist():
            yield bytes(text[first:last]).decode("utf-8", "surrogateescape")
            first = last

    def __eq__(self, other: object) -> bool:
        """Return whether the other has the same strings in the same order."""
        if not isinstance(other, PackedStrings):
            return NotImplemented
        return np.array_equal(self._ends, other._ends) and np.array_equal(self._text, other._text)

    __hash__ = None  # type: ignore[assignment]

    def take(self, numbers: npt.NDArray[Any]) -> "PackedStrings":
        """Return the strings at these indices, or those where a mask (N,) is true, in order."""
        if numbers.dtype == bool:
            numbers = np.flatnonzero(numbers)
        lengths = np.diff(self._ends, prepend=0)
        firsts = self._ends - lengths
        text, chosen = self._text.data, PackedStrings()
        pieces = zip(firsts[numbers].tolist(), self._ends[numbers].tolist(), strict=True)
        chosen._text = np.frombuffer(b"".join(text[first:last] for first, last in pieces), np.uint8)
        chosen._ends = np.cumsum(lengths[numbers], dtype=np.int64)
        return chosen
