"""What a C2PA manifest says about a picture: that it was generated or edited, and by what."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aigc_lightning import __version__

_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED = f"{_SOURCE_TYPES}trainedAlgorithmicMedia"
EDITED_BY_MODEL = f"{_SOURCE_TYPES}compositeWithTrainedAlgorithmicMedia"
_COLLAGE = f"{_SOURCE_TYPES}composite"
ACTIONS = "c2pa.actions.v2"
NAME = "aigc_lightning"

#: Media types of files that may hold manifests, by how they begin: offset, bytes.
_SIGNATURES = {
    "image/png": (0, b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": (0, b"\xff\xd8\xff"),
    "image/gif": (0, b"GIF8"),
    "image/webp": (8, b"WEBP"),
    "image/avif": (4, b"ftypavif"),
    "image/heic": (4, b"ftyphei"),
    "image/heif": (4, b"ftypmif1"),
    "video/mp4": (4, b"ftyp"),
    "image/tiff": (0, b"II*\0"),
}


def media_type(beginning: bytes) -> str | None:
    """Return the media type of a file by its first 16 bytes; None if it is none that we know to hold manifests."""
    for kind, (offset, mark) in _SIGNATURES.items():
        if beginning[offset:].startswith(mark):
            return kind
    return None


def manifest(text: Mapping[str, str], title: str, parent: Path | None = None) -> dict[str, Any]:
    """Return the definition of the manifest of a picture that this package made.

    Args:
        text: the picture's metadata, whose `aigc` is the JSON of its record.
        title: name of the picture's file.
        parent: the file that was edited; the builder of the manifest adds it as an ingredient labelled "parent".

    Returns:
        A definition for `c2pa.Builder`.
    """
    record = json.loads(text["aigc"])
    agent = {"name": NAME, "version": __version__}
    done: dict[str, Any] = {
        "description": text["Description"],
        "softwareAgent": agent,
        # Texts alone: c2pa reads lists of small numbers as bytes.
        "parameters": {name: value if isinstance(value, str) else json.dumps(value) for name, value in record.items()},
    }
    if parent is not None:
        opened = {"action": "c2pa.opened", "softwareAgent": agent, "parameters": {"ingredientIds": ["parent"]}}
        source = {"digitalSourceType": EDITED_BY_MODEL} if "model" in record else {}
        actions = [opened, {"action": "c2pa.edited", **source, **done}]
    else:
        actions = [{"action": "c2pa.created", "digitalSourceType": _source_type(record), **done}]
    assertions = [{"label": ACTIONS, "data": {"actions": actions}}]
    return {"claim_generator_info": [agent], "title": title, "assertions": assertions}


def _source_type(record: Mapping[str, Any]) -> str:
    """Return the IPTC source type of a picture without a parent, such as a sheet of pictures before and after."""
    if record["generated"]:
        return GENERATED
    return EDITED_BY_MODEL if "model" in record else _COLLAGE
