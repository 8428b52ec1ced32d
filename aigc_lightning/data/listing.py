"""The image files of a folder: their names, which are held out, and their classes. Nothing is decoded here."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from aigc_lightning.data.decode import SUFFIXES
from aigc_lightning.errors import UserError, did_you_mean

#: What a folder has that `aigc data prepare` made.
PREPARED_FILE = "prepared.json"
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
        numbers: the label of each file where it is not the number of its class folder.
    """

    root: Path
    parts: dict[str, list[str]]
    class_names: tuple[str, ...]
    depth: int
    numbers: Mapping[str, int] | None = None

    def labels(self, names: Sequence[str]) -> list[int] | None:
        """Return the labels of these files, or None where there are none."""
        if self.numbers is not None:
            return [self.numbers[name] for name in names]
        if not self.class_names:
            return None
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return [numbers[name.split("/")[self.depth]] for name in names]


def part_of(word: str) -> str | None:
    """Return the part that a word such as "valid" stands for: "train", "val", "test" or None."""
    return _PART_FOLDERS.get(word.casefold())


def list_images(root: Path, val_share: float, classes: str) -> Listing:
    """List a folder.

    Args:
        root: the folder.
        val_share: share of the images to hold out where the folder has no splits of its own.
        classes: "auto", "folders" or "none", see `ImageFolder`.

    Raises:
        UserError: no such folder, no images in it or in one of its parts, or no classes where some are asked for.
    """
    folders = {entry.name for entry in os.scandir(root) if entry.is_dir()} if root.is_dir() else set()
    return arrange(root, _image_names(root), folders, val_share, classes)


def arrange(root: Path, names: Sequence[str], folders: Collection[str], val_share: float, classes: str) -> Listing:
    """Return the listing of a folder whose files are known.

    Args:
        root: the folder.
        names: of its image files, sorted.
        folders: names of the folders that lie in it.
        val_share: as for `list_images`.
        classes: as for `list_images`.

    Raises:
        UserError: as for `list_images`, but for a folder that is not there.
    """
    parts, depth = _parts_by_folder(root, names, folders), 1
    if parts is None:
        parts, depth = _parts_by_name(root, names, val_share), 0
    return Listing(root, parts, _class_names(root, parts, depth, classes), depth)


@dataclass(frozen=True)
class Domain:
    """The image files of one domain of a folder that holds several.

    Args:
        root: the folder.
        parts: under "train", "val" and perhaps "test" the files' keys and names, sorted. The name is relative to the
            root; the key is the name below the domain's own folder, without ending, and so the same for the files of
            two domains that belong together.
        by_name: whether the parts were made by the hash of the names.
    """

    root: Path
    parts: dict[str, list[tuple[str, str]]]
    by_name: bool

    @property
    def listing(self) -> Listing:
        """The names alone."""
        return Listing(self.root, {part: [name for _, name in files] for part, files in self.parts.items()}, (), 0)


def list_domain(root: Path, name: str, val_share: float) -> Domain:
    """List the images of a domain in any of the usual layouts.

    Those of a domain A:

    - `train/A`, `val/A` (or `test/A`): splits that hold domains, and so also classes;
    - `trainA`, `valA` (or `testA`);
    - `A`, which may have splits of its own, and without them is split as by `list_images`.

    Args:
        root: the folder.
        name: of the domain; a path is relative to the root.
        val_share: share of the images to hold out where there are no splits.

    Raises:
        UserError: there is no such domain, or it has no images.
    """
    _refuse_prepared(root)
    folders = _split_folders(root, name)
    if "train" in folders and len(folders) > 1:
        parts = {part: [f"{folder}/{file}" for file in _image_names(root / folder)] for part, folder in folders.items()}
        keyed = {part: [(_key(file, folders[part]), file) for file in files] for part, files in parts.items()}
        if "val" not in keyed:
            keyed["val"] = keyed.pop("test")
        return Domain(root, keyed, by_name=False)
    if not (root / name).is_dir():
        inside = sorted(entry.name for entry in os.scandir(root) if entry.is_dir()) if root.is_dir() else []
        hint = did_you_mean(name, inside) or f"It has the folders {', '.join(inside[:8]) or '(none)'}."
        raise UserError(f"{root} has no folder {name}, train/{name} or train{name}.", hint)
    inner = list_images(root / name, val_share, "none")
    parts = {part: [f"{name}/{file}" for file in files] for part, files in inner.parts.items()}
    keyed = {part: [(_key(file, name), file) for file in files] for part, files in parts.items()}
    return Domain(root, keyed, by_name=not inner.depth)


def _split_folders(root: Path, name: str) -> dict[str, str]:
    """Return the folders of a domain in the splits of a root, relative to it, by what they are for."""
    found: dict[str, str] = {}
    for folder in sorted(entry.name for entry in os.scandir(root) if entry.is_dir()) if root.is_dir() else []:
        purpose = _PART_FOLDERS.get(folder.casefold())
        if purpose and (root / folder / name).is_dir():
            found.setdefault(purpose, f"{folder}/{name}")
        elif folder.endswith(name) and folder[: -len(name)].casefold() in _PART_FOLDERS:
            found.setdefault(_PART_FOLDERS[folder[: -len(name)].casefold()], folder)
    return found


def _key(file: str, prefix: str) -> str:
    return os.path.splitext(file[len(prefix) + 1 :])[0]


def _image_names(root: Path) -> list[str]:
    """Return the sorted names of all image files below a folder."""
    if not root.exists():
        raise UserError(f"There is no folder {root}.", "Check data.root; it is relative to the working directory.")
    if not root.is_dir():
        raise UserError(f"{root} is a file, not a folder.", "Unpack archives first and give the folder of the images.")
    _refuse_prepared(root)
    names = sorted(_walk(root, "", ()))
    images = [name for name in names if name.lower().endswith(SUFFIXES)]
    if not images:
        found = f"{len(names)} other files, such as {names[0]}" if names else "no files"
        raise UserError(f"{root} has no images: it has {found}.", f"Images end in {', '.join(SUFFIXES)}.")
    return images


def _refuse_prepared(root: Path) -> None:
    if (root / PREPARED_FILE).is_file():
        what = f"{root} was made by `aigc data prepare`, which only image_folder reads."
        raise UserError(what, "Give the folder of the images themselves.")


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


def _parts_by_folder(root: Path, names: Sequence[str], folders: Collection[str]) -> dict[str, list[str]] | None:
    """Return the names in the folder's own splits, or None when it has none."""
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
