"""The image files of a folder: their names, which are held out, and their classes. Nothing is decoded here."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from aigc_lightning.data.decode import SUFFIXES
from aigc_lightning.errors import UserError

# Sub-folders that say what their images are for; without "val" the test images are validated on.
_PART_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Listing:
    """The image files of a folder.

    Args:
        root: the folder.
        parts: names relative to the root, in POSIX form and sorted, under "train", "val" and, only where the folder has
            a test split beside a validation split, "test".
        class_names: sorted; empty when the images have no labels.
        depth: how many folders below the root the class folders lie.
    """

    root: Path
    parts: dict[str, list[str]]
    class_names: tuple[str, ...]
    depth: int

    def labels(self, names: Sequence[str]) -> list[int] | None:
        """Return the numbers of these files' classes, or None without classes."""
        if not self.class_names:
            return None
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return [numbers[name.split("/")[self.depth]] for name in names]


def list_images(root: Path, val_share: float, classes: str) -> Listing:
    """List a folder.

    Args:
        root: the folder.
        val_share: share of the images to hold out where the folder has no splits of its own.
        classes: "auto", "folders" or "none", see `ImageFolder`.

    Raises:
        UserError: no such folder, no images in it or in one of its parts, or no classes where some are asked for.
    """
    names = _image_names(root)
    parts, depth = _parts_by_folder(root, names), 1
    if parts is None:
        parts, depth = _parts_by_name(root, names, val_share), 0
    return Listing(root, parts, _class_names(root, parts, depth, classes), depth)


def _image_names(root: Path) -> list[str]:
    """Return the sorted names of all image files below a folder."""
    if not root.exists():
        raise UserError(f"There is no folder {root}.", "Check data.root; it is relative to the working directory.")
    if not root.is_dir():
        raise UserError(f"{root} is a file, not a folder.", "Unpack archives first and give the folder of the images.")
    names = sorted(_walk(root, "", ()))
    images = [name for name in names if name.lower().endswith(SUFFIXES)]
    if not images:
        found = f"{len(names)} other files, such as {names[0]}" if names else "no files"
        raise UserError(f"{root} has no images: it has {found}.", f"Images end in {', '.join(SUFFIXES)}.")
    return images


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield the files below a folder that are not hidden; a link back to a folder above is not followed."""
    try:
        status = folder.stat()
        entries = list(os.scandir(folder))
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}.", "Check its permissions.") from error
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, here))
        else:
            yield prefix + entry.name


def _parts_by_folder(root: Path, names: Sequence[str]) -> dict[str, list[str]] | None:
    """Return the names in the folder's own splits, or None when it has none."""
    folders = {entry.name for entry in os.scandir(root) if entry.is_dir()}
    purposes = {_PART_FOLDERS[folder.casefold()] for folder in folders if folder.casefold() in _PART_FOLDERS}
    if "train" not in purposes or len(purposes) == 1:
        return None
    parts: dict[str, list[str]] = {purpose: [] for purpose in ("train", "val", "test") if purpose in purposes}
    for name in names:
        folder, slash, _ = name.partition("/")
        purpose = _PART_FOLDERS.get(folder.casefold()) if slash else None
        if purpose:
            parts[purpose].append(name)
    for purpose, members in parts.items():
        if not members:
            raise UserError(f"The {purpose} folder in {root} has no images.", "Fill it, or remove it.")
    if "val" not in parts:
        parts["val"] = parts.pop("test")
    return parts


def _parts_by_name(root: Path, names: Sequence[str], val_share: float) -> dict[str, list[str]]:
    """Hold out the names whose hash is small; of a few images always at least one, and never all."""
    places = sorted(_place(name) for name in names)
    share = val_share
    if len(places) > 1:  # chance may leave a small folder without an image on one side
        share = min(max(share, places[1]), places[-1])
    train = [name for name in names if _place(name) >= share]
    val = [name for name in names if _place(name) < share]
    for members, purpose in ((train, "train on"), (val, "validate on")):
        if not members:
            what = f"data.val_share {val_share} of the {len(names)} images in {root} leaves none to {purpose}."
            raise UserError(what, "Change the share, or sort the images into the folders train and val.")
    return {"train": train, "val": val}


def _place(name: str) -> float:
    """Return a number in [0, 1) that depends on a file's name alone, so that new files do not move old ones."""
    digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _class_names(root: Path, parts: dict[str, list[str]], depth: int, rule: str) -> tuple[str, ...]:
    """Return the names of the folders that are classes, none when they are not."""
    if rule == "none":
        return ()
    # Splits by folder must not hold a class that training never sees; a split by name takes the classes of all.
    seen = parts["train"] if depth else [name for members in parts.values() for name in members]
    folders = {_class_folder(name, depth) for name in seen}
    if "" in folders or len(folders) < 2:
        if rule == "auto":
            return ()
        lacks = "images beside its folders" if "" in folders else "images in one folder only"
        raise UserError(
            f"{root} has {lacks}, so it has no classes.", "Give each class a folder, or data.classes: none."
        )
    for members in parts.values():
        for name in members:
            if _class_folder(name, depth) not in folders:
                what = f"{root / name} lies in no class of the training images ({len(folders)} folders)."
                raise UserError(what, "Move the file, or give data.classes: none.")
    return tuple(sorted(folders))


def _class_folder(name: str, depth: int) -> str:
    """Return the folder of a file's class, "" when it lies beside such folders."""
    folders = name.split("/")[depth:-1]
    return folders[0] if folders else ""
