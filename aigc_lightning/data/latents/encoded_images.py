"""A dataset that a first stage has encoded in advance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ImageDataModule, Visits
from aigc_lightning.data.latents.format import PIECE, Encoded, Piece, piece_path, read_description, read_piece
from aigc_lightning.errors import UserError

_WRITE = "aigc data encode RUN SRC DST writes such a folder."


class EncodedSource:
    """The samples of a part of an encoded dataset.

    A piece is opened, and its checksum verified, when its first sample is asked for.

    Args:
        folder: of the dataset.
        part: "train" or "val".
        encoded: what the folder says of itself.
    """

    def __init__(self, folder: Path, part: str, encoded: Encoded) -> None:
        self._folder, self._part, self._encoded = folder, part, encoded
        self._pieces: dict[int, Piece] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Exclude what is open from pickling; a loader process opens its own."""
        return {**self.__dict__, "_pieces": {}}

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._encoded.counts[self._part]

    def fields(self, visits: Visits) -> dict[str, Any]:
        """Return `latent` float (B, D, h, w), `tokens` int64 (B, N) or `image` uint8 (B, C, H, W); any `caption`."""
        places = [divmod(index, PIECE) for index in visits.indices.tolist()]
        pieces = {number: self._piece(number) for number in {number for number, _ in places}}
        names = next(iter(pieces.values())).tensors.keys() - {"label"}
        fields: dict[str, Any] = {
            name: torch.stack([pieces[number].tensors[name][row] for number, row in places]) for name in names
        }
        if "tokens" in fields:  # which are kept in fewer bits
            fields["tokens"] = fields["tokens"].long()
        if self._encoded.spec.captions:
            fields["caption"] = [pieces[number].captions[row] for number, row in places]
        return fields

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return the labels of samples, int64 (B,), or None if there are none."""
        if not self._encoded.spec.class_names:
            return None
        places = [divmod(int(index), PIECE) for index in indices]
        return torch.stack([self._piece(number).tensors["label"][row] for number, row in places])

    def _piece(self, number: int) -> Piece:
        found = self._pieces.get(number)
        if found is None:
            count = min(PIECE, len(self) - number * PIECE)
            found = self._pieces[number] = read_piece(piece_path(self._folder, self._part, number), count)
        return found


class EncodedImages(ImageDataModule):
    """Images that `aigc data encode` has encoded, for models that work on latents or tokens, such as latent diffusion.

    Training batches have `latent` or `tokens` for `image`; held-out images are kept as they were. The model must have
    the first stage that encoded them. Encoded images cannot be augmented.

    Args:
        root: the folder that `aigc data encode` wrote.
        batch_size: images per process in a step.
        num_workers: number of loader processes.
        balanced: show all classes equally often while training; needs classes.

    Raises:
        UserError: the folder holds no such data, or not all of it.
    """

    def __init__(self, root: str, batch_size: int = 64, num_workers: int = 0, balanced: bool = False) -> None:
        super().__init__(batch_size, num_workers, balanced=balanced)
        self.root = Path(root).expanduser()
        found = read_description(self.root)
        if found is None:
            raise UserError(f"{self.root} holds no encoded images.", _WRITE)
        if not found.complete:
            raise UserError(f"{self.root} is not complete.", "Run the same `aigc data encode` again; it continues.")
        self._encoded = found

    @property
    def spec(self) -> ImageSpec:
        """The spec of the images."""
        return self._encoded.spec

    @property
    def kind(self) -> str:
        """What training batches have: "latent" or "tokens"."""
        return self._encoded.kind

    @property
    def first_stage(self) -> str:
        """SHA-256 of the weights that encoded the images."""
        return self._encoded.first_stage

    def train_source(self) -> EncodedSource:
        """Return the encoded training images."""
        return EncodedSource(self.root, "train", self._encoded)

    def val_source(self) -> EncodedSource:
        """Return the held-out images."""
        return EncodedSource(self.root, "val", self._encoded)
