"""Layouts of image folders: the names of splits, and messages about folders that almost have a known layout."""

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from aigc_lightning.core.io.escape import shown
from aigc_lightning.data.folders.litter import is_litter
from aigc_lightning.errors import UserError, did_you_mean

# Names of split folders; without "val" the test images are used for validation.
_PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
# Common alternative names, which are not accepted.
_OTHER_WORDS = {"training": "train", "testing": "test", "validate": "val", "evaluation": "val", "eval": "val"}


def part_of(word: str) -> str | None:
    """Return the part that a name such as "valid" stands for: "train", "val", "test" or None."""
    return _PARTS.get(word.casefold())


def refuse_incomplete_splits(root: Path, names: Iterable[str]) -> None:
    """Reject a folder without splits that looks as if it should have some.

    All its images are in folders, and either these are an incomplete set of splits, or a single folder contains the
    splits.

    Args:
        root: the folder.
        names: names of the image files in it.

    Raises:
        UserError: it looks like that.
    """
    tops: dict[str, set[str]] = {}  # top-level folders with their subfolders that have images
    for name in names:
        top, slash, rest = name.partition("/")
        if not slash:
            return
        if rest and (second := rest.partition("/"))[1]:
            tops.setdefault(top, set()).add(second[0])
        else:
            tops.setdefault(top, set())
    parts = {folder: part_of(folder) for folder in sorted(tops)}
    if all(parts.values()):
        _refuse_parts(root, parts)
    elif all(part or _OTHER_WORDS.get(folder.casefold()) for folder, part in parts.items()) and len(parts) > 1:
        names_to_give = ", ".join(
            f"{folder} to {_OTHER_WORDS[folder.casefold()]}" for folder, part in parts.items() if not part
        )
        what = f"{shown(root)} has the folders {_listed(parts)}, which look like splits."
        raise UserError(what, f"Splits must be named train, val and test: rename {names_to_give}.")
    elif len(tops) == 1:
        ((top, inner),) = tops.items()
        if {"train"} < {part for folder in inner if (part := part_of(folder))}:
            splits = _listed(folder for folder in inner if part_of(folder))
            what = f"The splits of {shown(root)} are one folder deeper: {shown(top)} has {splits}."
            raise UserError(what, f"Give data.root {shown(root / top)}.")


def _refuse_parts(root: Path, parts: dict[str, str | None]) -> None:
    folders = _listed(parts)
    if "train" in parts.values():
        what = f"{shown(root)} has the folder {folders}, but no val or test folder beside it to hold out."
        inner = shown(root / next(iter(parts)))
        raise UserError(what, f"Add one, or give data.root {inner}: data.val_share of its images is then held out.")
    what = f"{shown(root)} has the folder{'s' * (len(parts) > 1)} {folders}, but no train folder beside it."
    raise UserError(what, "Add the folder train, or set data.root to a folder of images without splits.")


def domain_error(root: Path, name: str, found: Mapping[str, str], inside: Collection[str]) -> UserError:
    """Return the error for a folder without a usable domain of this name.

    Args:
        root: the folder.
        name: of the domain, such as "A".
        found: existing folders of the domain, by part.
        inside: names of all folders in the root.
    """
    where, name = shown(root), shown(name)
    if "train" in found:
        folder = shown(found["train"])
        others = [f"{part}/{name}" if "/" in folder else f"{part}{name}" for part in ("val", "test")]
        what = f"{where} has {folder}, but no {' or '.join(others)} to hold out."
        hint = f"Add one, or give {folder} itself as data.folder_a or data.folder_b: data.val_share of it is held out."
        return UserError(what, hint)
    if found:
        return UserError(f"{where} has {_listed(found.values())}, but no train{name} or train/{name}.", "Add it.")
    what = f"{where} has no folder {name}, train/{name} or train{name}."
    near = did_you_mean(name, map(shown, inside))
    if near.startswith("Did"):
        return UserError(what, near)
    if len(inside) == 1:
        (only,) = inside
        if domain_folders(root / only, name) or (root / only / name).is_dir():
            return UserError(what, f"The folder {shown(only)} in it has: give data.root {shown(root / only)}.")
    return UserError(what, f"It has the folders {_listed(inside)}." if inside else "It has no folders.")


def folders_in(root: Path) -> list[str]:
    """Return the sorted names of the folders in a folder; empty if it does not exist."""
    return sorted(entry.name for entry in os.scandir(root) if _is_folder(entry)) if root.is_dir() else []


def domain_folders(root: Path, name: str) -> dict[str, str]:
    """Return the folders of a domain in a root's splits, relative to the root, by part."""
    found: dict[str, str] = {}
    for folder in folders_in(root):
        part = part_of(folder)
        if part and (root / folder / name).is_dir():
            found.setdefault(part, f"{folder}/{name}")
        elif folder.endswith(name) and (part := part_of(folder[: len(folder) - len(name)])):
            found.setdefault(part, folder)
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return not is_litter(entry.name) and entry.is_dir()
    except OSError:  # a link to itself
        return False


def _listed(names: Iterable[str], limit: int = 8) -> str:
    every = sorted(map(shown, names))
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return f"{', '.join(every[:limit])}{more}" if more or len(every) < 2 else f"{', '.join(every[:-1])} and {every[-1]}"
