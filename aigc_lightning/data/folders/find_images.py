"""The image files below a folder, found by their names: no file is opened, and few need a stat call."""

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

_Identity = tuple[int, int]  # device and inode of a folder


class PassedOver(NamedTuple):
    """Something below a folder that may have images but cannot be used.

    Args:
        name: name relative to the folder.
        reason: why, without a full stop.
    """

    name: str
    reason: str


@dataclass
class FoundImages:
    """The image files below a folder.

    Args:
        names: names relative to the folder, with slashes, sorted.
        passed_over: folders that cannot be listed, and entries with an image's name that are not files.
        others: number of other files by extension, in lower case with the dot, "" for none.
        example: the name of one of these, or "".
    """

    names: PackedStrings = field(default_factory=PackedStrings)
    passed_over: list[PassedOver] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    example: str = ""


def find_images(root: Path) -> FoundImages:
    """Find all image files below a folder.

    Links to files and folders are followed, but not back to a folder that contains them. Litter (`is_litter`) is
    skipped. A file with an image's name counts as an image, even a broken link, which is reported when it is read.

    Raises:
        UserError: the folder itself cannot be listed.
    """
    found = FoundImages()
    found.names = PackedStrings(watched(_walk(root, found), f"Listing {shown(root.name or root)}"))
    if found.passed_over:
        some = ", ".join(f"{shown(name)} ({reason})" for name, reason in found.passed_over[:3])
        more = f" and {len(found.passed_over) - 3} more" if len(found.passed_over) > 3 else ""
        warn("Skipped in %s: %s%s.", shown(root), some, more)
    return found


def warn_of_others(root: Path, others: Mapping[str, int]) -> None:
    """Warn how many files below a folder are skipped, and how to read those that are images."""
    if count := sum(others.values()):
        warn("Skipped %d files in %s: %s.", count, shown(root), passed_over(others))


def _walk(root: Path, found: FoundImages) -> Iterator[str]:
    """Yield the names of the image files in order; record other entries."""
    try:
        real = root.resolve()
        around, names = frozenset(map(_identity, (real, *real.parents))), _listed(root, "", found)
    except (OSError, RuntimeError) as error:  # the latter for circular links
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{shown(root)} cannot be listed: {reason}.", "Check its permissions.") from error
    # Not recursive: folders may be nested more deeply than Python's stack allows.
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
                if identity not in above:  # not a link back
                    names = _listed(root / prefix / name, prefix + name, found)
                    stack.append((prefix + name, above | {identity}, iter(names)))
            except OSError as error:
                found.passed_over.append(PassedOver(prefix + name, _reason(error)))


def _listed(folder: Path, prefix: str, found: FoundImages) -> list[str]:
    """Return the sorted names of the images and folders in a folder; those of folders end with a slash.

    With the slash they sort like the paths of their contents.
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
                    found.passed_over.append(PassedOver(prefix + entry.name, "it is not a regular file"))
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
