"""Checksums that show whether a file is intact, verified before its content is used.

A zip archive, such as a checkpoint, has a CRC-32 for each entry, which torch does not check. Safetensors and JSON files
have no checksums, so ours carry a SHA-256 of their content.
"""

import hashlib
import json
import logging
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.serialization import get_crc32_options, set_crc32_options

from aigc_lightning.core.io.atomic import check_regular, replacing
from aigc_lightning.errors import UserError

#: Key under which a safetensors or JSON file keeps its digest.
DIGEST = "sha256"
_PIECE = 2**20
_FOLDER = 0x10  # the zip attribute of a folder
_log = logging.getLogger(__name__)


class DamagedFileError(UserError):
    """A file is damaged: its content is not what was written.

    Args:
        path: the file.
        reason: what is wrong with it, without a full stop.
        hint: what to do.
    """

    def __init__(self, path: Path | str, reason: str, hint: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} is damaged: {reason}.", hint)

    def __reduce__(self) -> tuple[type["DamagedFileError"], tuple[Path | str, str, str]]:
        """Pickle the arguments: by default an exception is rebuilt from its message."""
        return type(self), (self.path, self.reason, self.hint)


def check_archive(path: Path, hint: str, *, suffix: str = "") -> None:
    """Verify the checksum of every entry of a zip archive that `torch.save` wrote.

    Args:
        path: the archive.
        hint: what to do if it is damaged.
        suffix: check only the entries whose names end with it.

    Raises:
        DamagedFileError: an entry does not match its checksum, or the file is not such an archive.
    """
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if not _is_plain(entries, path.stat().st_size):
                raise zipfile.BadZipFile("its entries are not those that torch.save writes")
            for entry in entries:
                if entry.filename.endswith(suffix):
                    with archive.open(entry) as stored:
                        while stored.read(_PIECE):
                            pass  # the last read verifies the checksum
    except Exception as error:  # corrupt bytes can make the reader fail anywhere
        raise DamagedFileError(path, _reason(error), hint) from error


@contextmanager
def with_checksums() -> Iterator[None]:
    """Make `torch.save` compute the checksum of each entry even if a program has switched that off."""
    before = get_crc32_options()
    set_crc32_options(True)
    try:
        yield
    finally:
        set_crc32_options(before)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, with a digest of the whole content.

    Args:
        path: the file; an old one is replaced when the new one is complete.
        tensors: by name.
        metadata: texts by name.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(kept, temporary, metadata={**metadata, DIGEST: _digest(kept, metadata)})


def read_tensors(path: Path, hint: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and texts that `write_tensors` wrote, after their digest is verified.

    A file without a digest, such as those of other programs and of version 0.1, is read with a warning.

    Args:
        path: the file.
        hint: what to do if it is damaged.

    Raises:
        DamagedFileError: the content does not match its digest, or it is not such a file.
        OSError: it cannot be read.
    """
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise DamagedFileError(path, f"it is not a complete safetensors file ({_reason(error)})", hint) from error
    digest = metadata.pop(DIGEST, None)
    if digest is None:
        _log.warning("%s has no checksum, so damage to it cannot be detected.", path)
    elif digest != _digest(tensors, metadata):
        raise DamagedFileError(path, "its content does not match its checksum", hint)
    return tensors, metadata


def read_texts(path: Path, hint: str) -> dict[str, str]:
    """Return the texts in a file of `write_tensors` alone; no digest is verified.

    Args:
        path: the file.
        hint: what to do if it is damaged.

    Raises:
        DamagedFileError: it is not such a file.
    """
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise DamagedFileError(path, f"it is not a complete safetensors file ({_reason(error)})", hint) from error


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors, independent of their file and their order."""
    return _hash_of(tensors).hexdigest()


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of plain values with its digest added."""
    return {**record, DIGEST: _record_digest(record)}


def unsealed(record: Mapping[str, Any], path: Path | str, hint: str) -> dict[str, Any]:
    """Verify a record's digest and return the record without it; a record without a digest gives a warning.

    Args:
        record: as returned by `sealed`.
        path: the file that holds it, or its URL.
        hint: what to do if it is damaged.

    Raises:
        DamagedFileError: the record does not match its digest.
    """
    held = {name: value for name, value in record.items() if name != DIGEST}
    if DIGEST not in record:
        _log.warning("%s has no checksum, so damage to it cannot be detected.", path)
    elif record[DIGEST] != _record_digest(held):
        raise DamagedFileError(path, "its content does not match its checksum", hint)
    return held


def _is_plain(entries: list[zipfile.ZipInfo], size: int) -> bool:
    """Whether all entries are uncompressed files, each once: others could unpack to more than memory holds."""
    stored = all(
        entry.compress_type == zipfile.ZIP_STORED
        and entry.compress_size == entry.file_size
        and not entry.external_attr & _FOLDER  # torch would leave its memory uninitialized
        for entry in entries
    )
    once = len({entry.filename for entry in entries}) == len(entries)
    return stored and once and sum(entry.file_size for entry in entries) <= size


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    found = _hash_of(tensors)
    found.update(json.dumps(metadata, sort_keys=True).encode())
    return found.hexdigest()


def _hash_of(tensors: Mapping[str, Tensor]) -> "hashlib._Hash":
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found


def _record_digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0].rstrip(".")[:200]
