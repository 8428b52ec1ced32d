"""Indexes of images: a name, an embedding and a small picture of each, in one checksummed file.

The file stands alone: searching it opens none of the indexed images, and the names in it are only ever shown.
Shapes: N images, D dimensions.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from aigc_lightning.core.io.checksums import read_tensors, write_tensors
from aigc_lightning.core.io.pictures import to_picture
from aigc_lightning.data.decode import CorruptImageError, decode
from aigc_lightning.errors import UserError

_FORMAT = "aigc index 1"
_LOSSLESS = 96  # pixels of the longer side up to which pictures are kept as PNG
_HINT = "Make the index again with aigc index."
_TEXTS = ("extractor", "address", "source")


class Entry(NamedTuple):
    """An indexed image."""

    version: str  # differs when the image has changed
    vector: Tensor  # float32 (D,)
    picture: bytes  # a small copy, as PNG or JPEG


@dataclass(frozen=True)
class ImageIndex:
    """An index of images.

    Args:
        extractor: fingerprint of the extractor that embedded them.
        address: of the extractor: its name, or the path of a run.
        source: the images, in words.
        entries: by the images' names, in order.
        complete: whether all images of the source are in it.
    """

    extractor: str
    address: str
    source: str
    entries: dict[str, Entry]
    complete: bool

    @property
    def names(self) -> list[str]:
        """The names of the images, in order."""
        return list(self.entries)

    @property
    def vectors(self) -> Tensor:
        """The embeddings, float32 (N, D), in the order of `names`."""
        found = [entry.vector for entry in self.entries.values()]
        return torch.stack(found) if found else torch.empty(0, 0)

    def save(self, path: Path) -> None:
        """Write the index; an old file is replaced once the new one is complete."""
        entries = list(self.entries.items())
        listed = [[name, entry.version, len(entry.picture)] for name, entry in entries]
        tensors = {
            "vectors": self.vectors,
            "entries": _as_bytes(json.dumps(listed).encode()),
            "pictures": _as_bytes(b"".join(entry.picture for _, entry in entries)),
        }
        texts = {name: str(getattr(self, name)) for name in _TEXTS}
        write_tensors(path, tensors, {"format": _FORMAT, **texts, "complete": str(int(self.complete))})

    @classmethod
    def load(cls, path: Path) -> "ImageIndex":
        """Read an index.

        Raises:
            UserError: there is none, it is damaged, or the file is something else.
        """
        if not path.is_file():
            raise UserError(f"There is no index {path}.", "Make one: aigc index RUN FOLDER --out INDEX")
        tensors, texts = read_tensors(path, _HINT)
        if texts.get("format") != _FORMAT:
            raise UserError(f"{path} is not an index of images.", "Make one: aigc index RUN FOLDER --out INDEX")
        try:
            entries = _entries(tensors)
            extractor, address, source = (texts[name] for name in _TEXTS)
            return cls(extractor, address, source, entries, texts.get("complete") == "1")
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is a damaged index.", _HINT) from error


def load_complete(path: Path) -> ImageIndex:
    """Read an index for searching.

    Raises:
        UserError: it cannot be read, is incomplete, or is empty.
    """
    index = ImageIndex.load(path)
    if not index.complete:
        raise UserError(f"{path} is incomplete.", "Repeat the aigc index command that was interrupted.")
    if not index.entries:
        raise UserError(f"{path} has no images.", _HINT)
    return index


def small_picture(image: Tensor, side: int) -> bytes:
    """Return an image, uint8 (C, H, W), as a PNG, or a JPEG if it is large, reduced to `side` pixels at most."""
    picture = to_picture(image)
    picture = picture.convert("RGBA" if picture.mode == "RGBA" else "RGB" if picture.mode != "L" else "L")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    if max(picture.size) <= _LOSSLESS:
        picture.save(buffer, "PNG")
    else:
        flat = Image.new("RGB", picture.size, "white")
        flat.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
        flat.save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def pixels_of(picture: bytes, name: str) -> Tensor:
    """Return the pixels of a small picture, uint8 (3, H, W).

    Raises:
        UserError: it is damaged.
    """
    try:
        return decode(picture, 3)
    except CorruptImageError as error:
        raise UserError(f"The small picture of {name} in the index is damaged.", _HINT) from error


def _as_bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)


def _entries(tensors: dict[str, Tensor]) -> dict[str, Entry]:
    """Return the entries in an index file's tensors.

    Raises:
        ValueError: they contradict each other.
    """
    listed: Sequence[Any] = json.loads(tensors["entries"].numpy().tobytes())
    vectors, pictures = tensors["vectors"].float(), tensors["pictures"].numpy().tobytes()
    sizes = [int(size) for _, _, size in listed]
    if vectors.ndim != 2 or len(vectors) != len(listed) or min(sizes, default=0) < 0 or sum(sizes) != len(pictures):
        raise ValueError("counts differ")
    entries, start = {}, 0
    for (name, version, size), vector in zip(listed, vectors, strict=True):
        entries[str(name)] = Entry(str(version), vector, pictures[start : start + size])
        start += size
    return entries


def ordered(entries: dict[str, Entry], names: Iterable[str]) -> dict[str, Entry]:
    """Return the entries of these names, in this order, without names that have none."""
    return {name: entries[name] for name in names if name in entries}
