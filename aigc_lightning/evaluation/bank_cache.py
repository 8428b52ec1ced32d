"""Banks on disk, so that real images are described once."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from aigc_lightning.core.files import replacing
from aigc_lightning.evaluation.bank import FeatureBank, everyones

_RECORD = "bank"


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
        """The key as JSON, which the file holds, too."""
        return json.dumps(asdict(self), sort_keys=True)


class BankCache:
    """A folder of banks.

    Args:
        folder: made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: BankKey, make: Callable[[], FeatureBank]) -> FeatureBank:
        """Return the bank of a key: from the disk, or made and written for the next time.

        Every process must call this. All of them read, or all of them make: processes of which some see a file and
        some do not would wait for each other for ever.

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
        try:
            with safe_open(self.folder / key.file, framework="pt") as file:
                if (file.metadata() or {}).get(_RECORD) != key.text:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (OSError, SafetensorError):  # not there, or damaged: it is made anew
            return None
        return FeatureBank.from_tensors(tensors, key.num_features)

    def _write(self, key: BankKey, bank: FeatureBank) -> None:
        try:
            with replacing(self.folder / key.file) as temporary:
                save_file(bank.to_tensors(), temporary, metadata={_RECORD: key.text})
        except OSError:  # a full disk or a read-only home costs time, not the score
            return
