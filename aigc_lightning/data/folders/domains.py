"""The image files of one domain in a folder of several, such as A and B of pairs and translations."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

from aigc_lightning.data.folders.find_images import PassedOver
from aigc_lightning.data.folders.layouts import domain_error, domain_folders, folders_in
from aigc_lightning.data.folders.listing import Listing, image_files, list_images, refuse_prepared
from aigc_lightning.data.packed_strings import PackedStrings


@dataclass(frozen=True)
class Domain:
    """The image files of one domain.

    Args:
        listing: the files, with names relative to the root.
        folders: by part, the domain's folder relative to the root.
    """

    listing: Listing
    folders: Mapping[str, str]

    def keys(self, part: str) -> Iterator[str]:
        """Yield each file's name relative to the domain's folder, without extension.

        It is equal for corresponding files of two domains, whatever their Unicode normalization.
        """
        start = len(self.folders[part]) + 1
        return (normalize("NFC", os.path.splitext(name[start:])[0]) for name in self.listing.parts[part])


def list_domain(root: Path, name: str, val_share: float) -> Domain:
    """List the images of a domain in any of the usual layouts.

    Those of a domain A:

    - `train/A`, `val/A` (or `test/A`): splits with one folder per domain, as with classes;
    - `trainA`, `valA` (or `testA`);
    - `A`, with its own splits or else split as by `list_images`.

    Args:
        root: the folder.
        name: name of the domain, or a path relative to the root.
        val_share: fraction of the images to hold out if there are no splits.

    Raises:
        UserError: there is no such domain, a part of it is missing, or it has no images.
    """
    refuse_prepared(root)
    folders = domain_folders(root, name)
    if "train" in folders and len(folders) > 1:
        found = {part: image_files(root / folder) for part, folder in folders.items()}
        parts = {part: _below(folders[part], files.names) for part, files in found.items()}
        passed_over = tuple(item for part, files in found.items() for item in _within(folders[part], files.passed_over))
        others = sum((files.others for files in found.values()), Counter[str]())
        if "val" not in parts:
            parts["val"], folders["val"] = parts.pop("test"), folders.pop("test")
        return Domain(Listing(root, parts, passed_over=passed_over, others=others), folders)
    if not (root / name).is_dir():
        raise domain_error(root, name, folders, folders_in(root))
    inner = list_images(root / name, val_share, "none")
    parts = {part: _below(name, files) for part, files in inner.parts.items()}
    passed_over = tuple(_within(name, inner.passed_over))
    listing = replace(inner, root=root, parts=parts, passed_over=passed_over)
    return Domain(listing, dict.fromkeys(parts, name))


def _within(folder: str, passed_over: Iterable[PassedOver]) -> Iterator[PassedOver]:
    return (item._replace(name=f"{folder}/{item.name}") for item in passed_over)


def _below(folder: str, names: PackedStrings) -> PackedStrings:
    return PackedStrings(f"{folder}/{name}" for name in names)
