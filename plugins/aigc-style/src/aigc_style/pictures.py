"""Pictures of styles: files, and a few that come with scikit-image.

Shapes: H and W height and width in pixels.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from aigc_lightning.core.checkpoint import file_hash
from aigc_lightning.data.decode import CorruptImageError, decode
from aigc_lightning.errors import UserError, did_you_mean
from torch import Tensor

#: Pictures in scikit-image with much texture: stained tissue (University of Alabama), the Hubble Deep Field (NASA), and
#: three materials (CC0Textures).
BUNDLED = ("immunohistochemistry", "hubble_deep_field", "brick", "grass", "gravel")


def read_style(name: str) -> tuple[Tensor, str]:
    """Return a picture (1, 3, H, W) in [-1, 1], and the hash of its file or of its pixels.

    Args:
        name: a file, or one of `BUNDLED`.

    Raises:
        UserError: there is no such picture, or it cannot be read.
    """
    path = Path(name)
    if path.is_file():
        try:
            return _signed(decode(path, 3)), file_hash(path)
        except CorruptImageError as error:
            raise UserError(f"The style {path} cannot be read: {error.reason}.", "Give another picture.") from error
    if name not in BUNDLED:
        listed = ", ".join(BUNDLED)
        hint = did_you_mean(name, BUNDLED) or f"Give the path of a picture, or one of {listed}."
        raise UserError(f"There is no style {name!r}.", hint)
    from skimage import data  # a slow import, for these pictures only

    pixels = getattr(data, name)()
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=2)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return _signed(torch.from_numpy(pixels.copy()).permute(2, 0, 1)), digest


def read_photo(path: Path) -> Tensor:
    """Return the picture of a file, (1, 3, H, W) in [-1, 1], transparent parts on white.

    Raises:
        CorruptImageError: it cannot be read.
    """
    return _signed(decode(path, 3))


def _signed(pixels: Tensor) -> Tensor:
    return pixels[None].float().div(127.5).sub(1).contiguous()
