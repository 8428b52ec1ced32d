"""The plain record in the files that this package writes: what made them, as text that anybody can change."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from aigc_lightning.core.io.atomic import open_regular

_COMMENTED = ("image/jpeg", "image/gif")
_LONGEST = 100_000  # characters of a record; ours have hundreds


def text_record(path: Path, kind: str | None) -> dict[str, Any] | None:
    """Return the record in a file that says that this package made it; None if there is none.

    Args:
        path: a picture or a film.
        kind: its media type.

    Raises:
        OSError: the file cannot be read.
        ModuleNotFoundError: PyAV, which MP4 needs, is not installed.
    """
    if kind == "video/mp4":
        return _parsed(_film_comment(path))
    if kind != "image/png" and kind not in _COMMENTED:
        return None
    try:
        with open_regular(path) as file, Image.open(file, formats=[str(kind).removeprefix("image/")]) as image:
            found = image.info.get("comment" if kind in _COMMENTED else "aigc")
    except (SyntaxError, ValueError, Image.DecompressionBombError, UnidentifiedImageError):  # damaged
        return None
    return _parsed(found.decode("utf-8", "replace") if isinstance(found, bytes) else found)


def _film_comment(path: Path) -> str | None:
    import av

    try:
        with open_regular(path) as file, av.open(file, format="mp4") as container:
            return container.metadata.get("comment")
    except av.error.FFmpegError:
        return None


def _parsed(text: Any) -> dict[str, Any] | None:
    """Return the record, which is the last line of a comment; None if it is not one of ours."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        return None
    try:
        record = json.loads(text.rstrip("\0\n").rpartition("\n")[2])
    except (ValueError, RecursionError):
        return None
    is_ours = isinstance(record, Mapping) and isinstance(record.get("generated"), bool)
    return dict(record) if is_ours else None
