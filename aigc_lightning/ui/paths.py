"""Which files the page may read: those below the folder of the runs, and below folders given for data."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from aigc_lightning.core.io.download import is_address
from aigc_lightning.errors import UserError

#: Such as `pipe:` and `file:`, which libraries of shards take for orders.
_SCHEME = re.compile(r"[A-Za-z][\w+.-]+:\S")


class NotThereError(UserError):
    """A path leads out of the folder, or to nothing: both are answered alike."""

    def __init__(self) -> None:
        super().__init__("There is no such file in this folder.", "Choose one from the lists.")


def confined(root: Path, name: str) -> Path:
    """Return the path of a file or folder below a root that exists, with links resolved.

    Args:
        root: the folder.
        name: a relative path with forward slashes; "" or "." for the root.

    Raises:
        NotThereError: it does not exist, is no relative path, or leads out of the root, by `..` or by a link.
    """
    if "\0" in name or "\\" in name or os.path.isabs(name) or ".." in name.split("/"):
        raise NotThereError
    try:
        path, top = (root / name).resolve(strict=True), root.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise NotThereError from None
    if not path.is_relative_to(top):
        raise NotThereError
    return path


def check_value(value: str, roots: Sequence[Path], *, allow_addresses: bool = False) -> None:
    """Check that the value of an option names no address, and no file outside of the folders that the page may read.

    Args:
        value: as on the command line, which runs in the first of the folders.
        roots: the folders.
        allow_addresses: whether a checkpoint may be an http(s) address.

    Raises:
        UserError: it does.
    """
    if is_address(value):
        if allow_addresses and value.startswith(("https://", "http://")):
            return
        raise UserError("Addresses are not read from the page.", "Start: aigc ui --allow-addresses")
    for part in {value, *value.replace("[", ",").replace("]", ",").replace("{", ",").replace("}", ",").split(",")}:
        text = part.rpartition(": ")[2].strip().strip("'\"")
        path = roots[0] / text
        if "\\" in text or text.startswith("~") or _SCHEME.match(text):
            raise UserError(f"{text!r} is no plain value.", "Give a number, a word, or a path with forward slashes.")
        is_path = "/" in text or ".." in text or os.path.lexists(path)
        if text and is_path and not any(_is_below(path, root) for root in roots):
            raise UserError(
                f"{text!r} is outside of the folders that the page may read.",
                "Start: aigc ui FOLDER --data FOLDER_OF_PICTURES",
            )


def _is_below(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):
        return False
