"""The files of an encoded dataset, which `aigc data encode` writes and `EncodedImages` reads.

`encoded.json` describes the whole. The samples are in pieces such as `train-000000.safetensors`, each with checksums:
`latent` (N, D, h, w) or (N, D), or `tokens` (N, T) of the smallest type that holds them, or for held-out samples
`image` uint8 (N, C, H, W); `label` (N,) if there are classes; and the captions as JSON in the metadata.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from aigc_lightning.core.io.atomic import found_inside, replacing
from aigc_lightning.core.io.checksums import DamagedFileError, read_tensors, sealed, unsealed, write_tensors
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError

ENCODED_FILE = "encoded.json"
PARTS = ("train", "val")
#: Samples in a piece, the last one of a part excepted.
PIECE = 1024
_FORMAT = 2
_AGAIN = "Run the same `aigc data encode` again; intact pieces are kept."


@dataclass(frozen=True)
class Encoded:
    """What an encoded dataset holds.

    Args:
        spec: of the images.
        source: the data that was encoded, in words.
        kind: what a sample became: "latent" or "tokens".
        first_stage: SHA-256 of the weights that encoded it.
        counts: samples by part.
        complete: whether all of them have been written.
    """

    spec: ImageSpec
    source: str
    kind: str
    first_stage: str
    counts: Mapping[str, int]
    complete: bool


class Piece(NamedTuple):
    """Some samples.

    Args:
        tensors: by field.
        captions: of each sample; empty if there are none.
    """

    tensors: dict[str, Tensor]
    captions: list[str]


def write_description(folder: Path, encoded: Encoded) -> None:
    """Write `encoded.json`."""
    record = {"format": _FORMAT, **vars(encoded), "spec": encoded.spec.to_dict(), "counts": dict(encoded.counts)}
    with replacing(folder / ENCODED_FILE) as temporary:
        temporary.write_text(json.dumps(sealed(record), indent=1) + "\n", encoding="utf-8")


def read_description(folder: Path) -> Encoded | None:
    """Return what a folder holds, or None if it is no encoded dataset.

    Raises:
        UserError: the description cannot be used.
    """
    path = found_inside(folder, ENCODED_FILE)
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != _FORMAT:
            raise ValueError(f"format {record['format']}, but this version reads {_FORMAT}")
        record = unsealed(record, path, _AGAIN)
        counts = {part: int(record["counts"][part]) for part in PARTS}
        source, kind, first_stage = (str(record[name]) for name in ("source", "kind", "first_stage"))
        spec = ImageSpec.from_dict(record["spec"])
        return Encoded(spec, source, kind, first_stage, counts, bool(record["complete"]))
    except DamagedFileError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} cannot be used: {type(error).__name__} {error}.", _AGAIN) from error


def piece_path(folder: Path, part: str, number: int) -> Path:
    """Return the file of a piece."""
    return found_inside(folder, f"{part}-{number:06d}.safetensors")


def write_piece(path: Path, piece: Piece) -> None:
    """Write a piece with its checksum; an interrupted write leaves no file."""
    metadata = {"captions": json.dumps(piece.captions)} if piece.captions else {}
    write_tensors(path, piece.tensors, metadata)


def read_piece(path: Path, count: int) -> Piece:
    """Return a piece, whose tensors stay in the file until they are needed, after its checksum is verified.

    Args:
        path: the file.
        count: of the samples that it must have.

    Raises:
        DamagedFileError: it is missing, damaged, or has another number of samples.
    """
    try:
        tensors, metadata = read_tensors(path, _AGAIN)
        captions: Any = json.loads(metadata.get("captions", "[]"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFileError(path, str(error), _AGAIN) from error
    lengths = {len(tensor) for tensor in tensors.values() if tensor.ndim} | ({len(captions)} if captions else set())
    if not tensors or lengths != {count} or not all(isinstance(caption, str) for caption in captions):
        raise DamagedFileError(path, f"it does not have {count} samples", _AGAIN)
    return Piece(tensors, captions)
