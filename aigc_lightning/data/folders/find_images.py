"""The image files below a folder, found by their names alone: no file is opened, and few are asked for their status."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from aigc_lightning.core.io.escape import shown
from aigc_lightning.data.console import warn, watched
from aigc_lightning.data.decoding.formats import SUFFIXES, passed_over
from aigc_lightning.data.folders.litter import is_litter
from aigc_lightning.data.packed_strings import PackedStrings
from aigc_lightning.errors import UserError

_Identity = tuple[int, int]  # device and number of a folder


class PassedOver(NamedTuple):
    """Something below a folder that may hold images and cannot be used.

    Args:
        name: relative to the folder.
        reason: why, without a full stop.
    """

    name: str
    reason: str


@dataclass
class FoundImages:
    """The image files below a folder.

    Args:
        names: relative to the folder, with slashes, sorted.
        passed_over: folders that cannot be listed, and what has an image's name and is no file.
        others: number of the other files by their endings, in lower case and with the dot, "" for none.
        example: the name of one of these, "" where there is none.
    """

    names: PackedStrings = field(default_factory=PackedStrings)
    passed_over: list[PassedOver] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    example: str = ""


def find_images(root: Path) -> FoundImages:
    """Find all image files below a folder.

    Links to files and folders are followed, but not back to a folder that they lie in. Litter (`is_litter`) is left
    out. A name that looks like an image is taken for one, also where it is a link to nothing: reading it says so.

    Raises:
        UserError: the folder itself cannot be listed.
    """
    found = FoundImages()
    found.names = PackedStrings(watched(_walk(root, found), f"Listing {shown(root.name or root)}"))
    if found.passed_over:
        some = ", ".join(f"{shown(name)} ({reason})" for name, reason in found.passed_over[:3])
        more = f" and {len(found.passed_over) - 3} more" if len(found.passed_over) > 3 else ""
        warn("Passed over in %s: %s%s.", shown(root), some, more)
    return found


def warn_of_others(root: Path, others: Mapping[str, int]) -> None:
    """Say how many files below a folder are passed over, and what it takes to read those that are images."""
    if count := sum(others.values()):
        warn("Passed over %d files in %s: %s.", count, shown(root), passed_over(others))


def _walk(root: Path, found: FoundImages) -> Iterator[str]:
    """Yield the names of the image files in order; note what else there is."""
    try:
        real = root.resolve()
        around, names = frozenset(map(_identity, (real, *real.parents))), _listed(root, "", found)
    except (OSError, RuntimeError) as error:  # the latter for links in circles
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{shown(root)} cannot be listed: {reason}.", "Check its permissions.") from error
    # Not by recursion: folders may be nested more deeply than functions.
    stack: list[tuple[str, frozenset[_Identity], Iterator[str]]] = [("", around, iter(names))]
    while stack:
        prefix, above, rest = stack[-1]
        name = next(rest, None)
        if name is None:
            stack.pop()
        elif not name.endswith("/"):
            yield prefix + name
        else:
            try:
                identity = _identity(root / prefix / name)
                if identity not in above:  # a link back
                    names = _listed(root / prefix / name, prefix + name, found)
                    stack.append((prefix + name, above | {identity}, iter(names)))
            except OSError as error:
                found.passed_over.append(PassedOver(prefix + name, _reason(error)))


def _listed(folder: Path, prefix: str, found: FoundImages) -> list[str]:
    """Return the names of the images and folders in a folder, those of folders with a slash at their end, sorted.

    With the slash they sort as the paths of what they hold.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_litter(entry.name):
                continue
            looks_like_image = entry.name.lower().endswith(SUFFIXES)
            try:
                if entry.is_dir():
                    names.append(f"{entry.name}/")
                elif looks_like_image and (entry.is_file() or entry.is_symlink()):
                    names.append(entry.name)
                elif looks_like_image:
                    found.passed_over.append(PassedOver(prefix + entry.name, "it is no regular file"))
                else:
                    found.others[os.path.splitext(entry.name)[1].lower()] += 1
                    found.example = min(found.example or prefix + entry.name, prefix + entry.name)
            except OSError as error:  # a link to itself
                if looks_like_image:
                    names.append(entry.name)
                else:
                    found.passed_over.append(PassedOver(prefix + entry.name, _reason(error)))
    return sorted(names)


def _identity(folder: Path) -> _Identity:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
