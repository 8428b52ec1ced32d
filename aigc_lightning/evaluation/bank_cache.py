"""Banks on disk, so that the features of real images are computed once."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from aigc_lightning.core.io.checksums import DamagedFileError, read_tensors, write_tensors
from aigc_lightning.core.run.collectives import everyones
from aigc_lightning.evaluation.bank import FeatureBank

_RECORD = "bank"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BankKey:
    """All that a bank of real images depends on.

    Args:
        extractor: the extractor's fingerprint, which names the resize protocol.
        dataset: fingerprint of the images and of their order.
        num: how many of them.
        num_features: D.
        keep_features: see `FeatureBank`.
        with_logits: see `collect`.
    """

    extractor: str
    dataset: str
    num: int
    num_features: int
    keep_features: bool = True
    with_logits: bool = True

    @property
    def file(self) -> str:
        """Name of the bank's file."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32] + ".safetensors"

    @property
    def text(self) -> str:
        """The key as JSON, which is also stored in the file."""
        return json.dumps(asdict(self), sort_keys=True)


class BankCache:
    """A folder of banks.

    Args:
        folder: made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: BankKey, make: Callable[[], FeatureBank]) -> FeatureBank:
        """Return the bank of a key, from disk if it is there; otherwise compute and store it.

        Every process must call this. Either all of them read or all of them compute: if only some saw a file, the
        processes would wait for each other forever.

        Args:
            key: what the bank depends on.
            make: returns the bank of all processes, see `FeatureBank.gathered`.
        """
        found = self._read(key)
        everywhere = all(everyones(found is not None))
        if found is not None and everywhere:
            return found
        bank = make()
        self._write(key, bank)
        return bank

    def _read(self, key: BankKey) -> FeatureBank | None:
        path = self.folder / key.file
        if not path.is_file():
            return None
        try:
            tensors, metadata = read_tensors(path, "")
        except OSError:
            return None
        except DamagedFileError as error:
            _log.warning("%s The features are computed again.", error.what)
            return None
        return FeatureBank.from_tensors(tensors, key.num_features) if metadata.get(_RECORD) == key.text else None

    def _write(self, key: BankKey, bank: FeatureBank) -> None:
        try:
            write_tensors(self.folder / key.file, bank.to_tensors(), {_RECORD: key.text})
        except OSError:  # a full disk or a read-only home costs time, not the score
            return
