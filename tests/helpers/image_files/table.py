"""Which files are read how: the table that is tested, and from which docs/data_files.md is made.

A row stands for a product of variants; each of its files has the picture that it has to give, or the reason with which
it has to be refused.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import features


@dataclass(frozen=True)
class Case:
    """One file.

    Args:
        name: of the variant.
        data: its bytes.
        shown: the picture that it gives, float (H, W, 4) from 0 to 1, see `expected.py`.
        refusal: or a pattern of the reason why it gives none.
        levels: by how many of 255 levels the picture may differ.
        ending: of its name, where that matters.
    """

    name: str
    data: bytes
    shown: np.ndarray | None = None
    refusal: str = ""
    levels: float = 1.0
    ending: str = ""


@dataclass(frozen=True)
class Row:
    """Files that are read in one way.

    Args:
        format: their kind.
        stored: what varies in how they are stored.
        read: what becomes of them.
        cases: gives the files, or what makes them.
        step: quick tests try one file in so many.
        optional: whether they take a package, or a Pillow that was built for them.
        missing: why they cannot be tried in this environment; empty where they can.
    """

    format: str
    stored: str
    read: str
    cases: Callable[[], Iterator[Case | Callable[[], Case]]]
    step: int = 1
    optional: bool = False
    missing: str = ""

    def files(self, *, quick: bool = False) -> Iterator[Case]:
        """Yield the files, or some of them."""
        for case in islice(self.cases(), 0, None, self.step if quick else 1):
            yield case if isinstance(case, Case) else case()

    def __len__(self) -> int:
        """Return the number of files."""
        return sum(1 for _ in self.cases())


def needs(package: str = "", feature: str = "") -> str:
    """Return why files cannot be tried that take a package or a feature of Pillow."""
    if package and importlib.util.find_spec(package) is None:
        return f"{package} is not installed"
    if feature and not (feature in {*features.modules, *features.codecs} and features.check(feature)):
        return f"this Pillow was built without {feature}"
    return ""


def noise(height: int, width: int, count: int, below: int = 256, seed: int = 0) -> np.ndarray:
    """Return random whole numbers (H, W, C), the smallest and the largest among them."""
    drawn = np.random.default_rng(seed).integers(0, below, (height, width, count), dtype=np.uint64, endpoint=False)
    drawn.reshape(-1)[:2] = 0, below - 1
    return drawn


def table() -> list[Row]:
    """Return all rows, in the order of the page."""
    from image_files import other_cases, png_cases, profile_cases, tiff_cases

    return [*png_cases.rows(), *tiff_cases.rows(), *other_cases.rows(), *profile_cases.rows()]
