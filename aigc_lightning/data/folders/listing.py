"""The image files of a folder: their names, their splits and their classes. Nothing is decoded here.

A folder may hold millions of files, so nothing here keeps one object per file: names are packed, labels are arrays.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aigc_lightning.core.io.escape import shown
from aigc_lightning.data.console import warn
from aigc_lightning.data.decoding.formats import SUFFIXES, passed_over
from aigc_lightning.data.folders.find_images import FoundImages, PassedOver, find_images, warn_of_others
from aigc_lightning.data.folders.layouts import folders_in, part_of, refuse_incomplete_splits
from aigc_lightning.data.packed_strings import PackedStrings
from aigc_lightning.errors import UserError

#: File that marks a folder made by `aigc data prepare`.
PREPARED_FILE = "prepared.json"

#: Labels or other numbers, int64 (N,).
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Listing:
    """The image files of a folder.

    Args:
        root: the folder.
        parts: names relative to the root, with slashes and sorted, under "train", "val" and, only where the folder has
            a test split beside a validation split, "test".
        class_names: escaped for display, in the order of the labels; empty if the images have no labels.
        labels: labels of each part's files; None if the images have none.
        partners: names of the files paired with those of `parts`; None if files are not paired.
        passed_over: entries that may have images but cannot be used.
        by_name: whether the split was made by a hash of the names.
        others: number of skipped files by extension, see `FoundImages`.
    """

    root: Path
    parts: Mapping[str, PackedStrings]
    class_names: tuple[str, ...] = ()
    labels: Mapping[str, Numbers] | None = None
    partners: Mapping[str, PackedStrings] | None = None
    passed_over: tuple[PassedOver, ...] = ()
    by_name: bool = False
    others: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of files, counting a pair as one."""
        return sum(map(len, self.parts.values()))


def list_images(root: Path, val_share: float, classes: str) -> Listing:
    """List a folder.

    Args:
        root: the folder.
        val_share: fraction of the images to hold out if the folder has no splits.
        classes: "auto", "folders" or "none", see `ImageFolder`.

    Raises:
        UserError: no such folder, no images in it or in one of its parts, an incomplete layout with splits, or no
            classes although they are required.
    """
    found = image_files(root)
    listing = arrange(root, found.names, folders_in(root), val_share, classes, tuple(found.passed_over))
    return replace(listing, others=found.others)


def image_files(root: Path, used: Collection[str] = ()) -> FoundImages:
    """Return the usable image files below a folder, and warn about the other files.

    Args:
        root: the folder.
        used: extensions of other files that the data uses.

    Raises:
        UserError: no such folder, no images in it, or a prepared folder.
    """
    if not root.exists():
        what = f"There is no folder {shown(root)}."
        raise UserError(what, "Check data.root; it is relative to the working directory.")
    if not root.is_dir():
        hint = "Unpack archives first and give the folder of the images."
        raise UserError(f"{shown(root)} is a file, not a folder.", hint)
    refuse_prepared(root)
    found = find_images(root)
    if not found.names:
        example = f"such as {shown(found.example)}: {passed_over(found.others)}"
        others = f"{found.others.total():,} other files, {example}"
        others = others if found.others else "no files"
        passed = f" and {len(found.passed_over)} that cannot be used" if found.passed_over else ""
        what = f"{shown(root)} has no images: it has {others}{passed}."
        raise UserError(what, f"Image files end in {', '.join(SUFFIXES)}.")
    for ending in used:
        found.others.pop(ending, None)
    warn_of_others(root, found.others)
    return found


def refuse_prepared(root: Path) -> None:
    """Reject a folder made by `aigc data prepare`.

    Raises:
        UserError: it is such a folder.
    """
    if (root / PREPARED_FILE).is_file():
        what = f"{shown(root)} was made by `aigc data prepare`, which only image_folder can read."
        raise UserError(what, "Give the folder of the images themselves.")


def arrange(
    root: Path,
    names: PackedStrings,
    folders: Iterable[str],
    val_share: float,
    classes: str,
    passed_over: tuple[PassedOver, ...] = (),
) -> Listing:
    """Return the listing of a folder with known files.

    Args:
        root: the folder.
        names: sorted names of its image files.
        folders: names of the folders in it.
        val_share: as for `list_images`.
        classes: as for `list_images`.
        passed_over: as for `Listing`.

    Raises:
        UserError: as for `list_images`, except for a missing folder.
    """
    parts, depth = _parts_by_folder(root, names, folders), 1
    if parts is None:
        refuse_incomplete_splits(root, names)
        parts, depth = _parts_by_name(root, names, val_share), 0
    folders, labels = _labelled(root, parts, depth, classes)
    class_names = tuple(map(shown, folders))
    return Listing(root, parts, class_names, labels, passed_over=passed_over, by_name=depth == 0)


def _parts_by_folder(root: Path, names: PackedStrings, folders: Iterable[str]) -> dict[str, PackedStrings] | None:
    """Return the names in the folder's own splits, or None if it has none."""
    purposes = {part for folder in folders if (part := part_of(folder)) is not None}
    if "train" not in purposes or len(purposes) == 1:
        return None
    tops = [name.partition("/")[::2] for name in names]
    of_names = np.array([(part_of(top) or "") if rest else "" for top, rest in tops])
    parts: dict[str, PackedStrings] = {}
    for part in ("train", "val", "test"):
        if part in purposes:
            parts[part] = names.take(of_names == part)
    for part, members in parts.items():
        if not members:
            raise UserError(f"The {part} folder in {shown(root)} has no images.", "Fill it, or remove it.")
    if "val" not in parts:
        parts["val"] = parts.pop("test")
    return parts


def _parts_by_name(root: Path, names: PackedStrings, val_share: float) -> dict[str, PackedStrings]:
    """Hold out the names with small hashes; of few images always at least one, and never all."""
    places = np.array([_place(name) for name in names])
    share = val_share
    if len(places) > 1:  # by chance, a part of a small folder could be empty
        share = min(max(share, np.partition(places, 1)[1]), places.max())
    held_out = places < share
    parts = {"train": names.take(~held_out), "val": names.take(held_out)}
    for part, purpose in (("train", "train on"), ("val", "validate on")):
        if not parts[part]:
            what = f"data.val_share {val_share} of the {len(names)} images in {shown(root)} leaves none to {purpose}."
            raise UserError(what, "Change data.val_share, or sort the images into the folders train and val.")
    return parts


def _place(name: str) -> float:
    """Return a number in [0, 1) that depends on a file's name only, so that new files do not move old ones."""
    digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _labelled(
    root: Path, parts: Mapping[str, PackedStrings], depth: int, rule: str
) -> tuple[list[str], dict[str, Numbers] | None]:
    """Return the class folders and the labels of each part; empty if there are no classes."""
    if rule == "none":
        return [], None
    # Split folders must not have classes that are missing in training; a split by name uses all classes.
    seen = {_class_folder(name, depth) for part in (["train"] if depth else parts) for name in parts[part]}
    if "" in seen or len(seen) < 2:
        if rule == "auto":
            if "" in seen:
                _warn_of_stray(root, parts, depth, len(seen) - 1)
            else:
                text = "All images of %s are in the folder %s. Classes need two or more, so there are no labels."
                warn(text, shown(root), shown(*seen))
            return [], None
        lacks = "images beside its folders" if "" in seen else f"images in the one folder {shown(*seen)} only"
        hint = "Classes need at least two folders of images. Add the others, or set data.classes: none."
        raise UserError(f"{shown(root)} has {lacks}, so it has no classes.", hint)
    folders = sorted(seen)
    numbers = {folder: number for number, folder in enumerate(folders)}
    labels = {}
    for part, members in parts.items():
        found = np.fromiter((numbers.get(_class_folder(name, depth), -1) for name in members), np.int64, len(members))
        if (found < 0).any():
            stray = shown(root / members[int(found.argmin())])
            what = f"{stray} is in none of the classes of the training images ({len(folders)} folders)."
            raise UserError(what, "Move the file, or set data.classes: none.")
        labels[part] = found
    return folders, labels


def _warn_of_stray(root: Path, parts: Mapping[str, PackedStrings], depth: int, folders: int) -> None:
    """Say that images beside folders keep these from being classes, where there are enough of them."""
    if folders > 1:
        beside = (name for members in parts.values() for name in members if not _class_folder(name, depth))
        values = shown(root), folders, shown(next(beside))
        warn("%s has %d folders of images and others beside them, such as %s, so there are no labels.", *values)


def _class_folder(name: str, depth: int) -> str:
    """Return the folder of a file's class, "" if it is beside the class folders."""
    folders = name.split("/", depth + 1)[depth:-1]
    return folders[0] if folders else ""
