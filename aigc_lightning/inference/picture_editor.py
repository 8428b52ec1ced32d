"""A model that edits pictures of any size."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, ImageChops
from torch import Tensor

from aigc_lightning.core.capabilities import Editor, reach, reference_size, size_multiple
from aigc_lightning.core.io.pictures import to_picture, to_uint8
from aigc_lightning.core.method_options import option_hashes, output_scale
from aigc_lightning.errors import UserError
from aigc_lightning.inference.edit_conditions import NOTHING, Beside, Conditions
from aigc_lightning.inference.loaded_model import LoadedModel
from aigc_lightning.inference.standalone import PictureModel, standalone_editor
from aigc_lightning.inference.tiles import (
    ChangedShapeError,
    Tiling,
    bands_in_tiles,
    equals_whole,
    fixed_tiling,
    free_tiling,
)

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class PictureEditor:
    """A model that edits pictures of any size.

    Args:
        model: can edit; on its device.
        tile: side in pixels of the tiles into which larger pictures are cut if the model takes any size.
        conditions: what the model gets beside the pictures.

    Attributes:
        options: values of the model's own options.

    Raises:
        UserError: the model does not take a condition, or needs one that is not given.
    """

    def __init__(self, model: PictureModel, tile: int, conditions: Conditions) -> None:
        self.model, self.tile, self.conditions = model, tile, conditions
        self.options = conditions.options_of(model)
        self.scale, self.reach = output_scale(model, self.options), reach(model)

    def tiling(self, width: int, height: int) -> Tiling:
        """Return the positions of a picture's tiles."""
        multiple = size_multiple(self.model)
        if multiple is None:
            return fixed_tiling(height, width, (self.model.spec.height, self.model.spec.width))
        return free_tiling(height, width, multiple, self.tile, self.reach)

    def warning(self) -> str:
        """Return what to say of pictures that were cut into tiles, or "" if that changes nothing as far as is known."""
        if size_multiple(self.model) is None or equals_whole(self.reach, self.tile):
            return ""
        sight = "the whole picture" if math.isinf(self.reach) else f"{self.reach:g} pixels in each direction"
        return (
            f"A pixel of the {type(self.model).__name__} depends on {sight}, so that tiles of {self.tile} pixels may "
            "differ slightly from the whole; raise --tile if memory allows."
        )

    def beside(self, path: Path, picture: Image.Image) -> Beside:
        """Return what the model gets beside the picture of a file.

        Raises:
            UserError: see `Conditions.beside`.
        """
        channels = self.model.spec.channels
        return self.conditions.beside(path, picture, channels, reference_size(cast(Editor, self.model)))

    def edit(self, picture: Image.Image, advance: Callable[[int], None], beside: Beside = NOTHING) -> Image.Image:
        """Return the edited picture, in the model's colours, of the same size times the model's `scale`.

        A model without an alpha channel sees a transparent picture on white, as in training. Its result then gets the
        original transparency, and colours that on white look like the model's output. What a mask lets it fill becomes
        opaque.

        Args:
            picture: in mode L, RGB or RGBA.
            advance: called with the number of tiles done since the last call.
            beside: the picture's mask and references.

        Raises:
            UserError: the model returns images of another size, or needs more memory than is available.
        """
        channels = self.model.spec.channels
        if picture.mode == "RGBA" and beside.mask is not None:
            picture = picture.copy()
            picture.putalpha(ImageChops.lighter(picture.getchannel("A"), beside.mask))
        alpha = picture.getchannel("A") if picture.mode == "RGBA" and channels != 4 else None
        planes = [_in_mode(picture, _MODES[channels]), *(() if alpha is None else [alpha])]
        planes += [] if beside.mask is None else [beside.mask]  # cut and padded in one piece
        bands = self._edited(torch.cat([_bytes(plane) for plane in planes]), advance, beside, alpha is not None)
        size = (self.scale * picture.width, self.scale * picture.height)
        original = picture if self.scale == 1 or alpha is None else picture.resize(size, Image.Resampling.BICUBIC)
        result, top = Image.new(_MODES[channels], size), 0
        for band in bands:  # a picture of floats would take several times the memory
            if alpha is not None:
                band = self._uncomposited(band, original.crop((0, top, size[0], top + band.shape[1])))
            result.paste(to_picture(to_uint8(band)), (0, top))
            top += band.shape[1]
        if alpha is not None:
            result = _in_mode(result, "RGB")
            result.putalpha(original.getchannel("A"))
        return result

    def _uncomposited(self, edited: Tensor, original: Image.Image) -> Tensor:
        """Return colours (C, H, W) that on white, with the transparency of the original, look like edited ones."""
        pixels = _signed(_bytes(original.convert(_MODES[self.model.spec.channels])))
        alpha = _opacity(_bytes(original.getchannel("A")))
        return torch.where(alpha > 0, (edited - (1 - alpha)) / alpha.clamp_min(1e-6), pixels)

    def _edited(
        self, image: Tensor, advance: Callable[[int], None], beside: Beside, transparent: bool
    ) -> Iterator[Tensor]:
        """Yield the result from top to bottom, float (C, rows, W), for an image that may have an alpha and a mask."""
        edit, name, device = self.model.edit, type(self.model).__name__, self.model.device
        channels = self.model.spec.channels
        references = [_signed(_bytes(reference)).to(device) for reference in beside.references]

        def function(tiles: Tensor) -> Tensor:
            asked, pixels = self._asked(len(tiles)), _signed(tiles[:, :channels])
            if transparent:
                alpha = _opacity(tiles[:, channels : channels + 1])
                pixels = pixels * alpha + (1 - alpha)
            if beside.mask is not None:
                asked["masks"] = tiles[:, -1:].gt(127).float().contiguous().to(device)
            if references:
                given = references[0] if len(references) == 1 else torch.stack(references)
                asked["references"] = given.expand(len(tiles), *given.shape)
            return edit(pixels.contiguous().to(device), **asked)

        tiling = self.tiling(image.shape[2], image.shape[1])
        size: dict[str, Any] = {"batch_pixels": self.tile**2, "channels": channels, "scale": self.scale}
        try:
            yield from bands_in_tiles(function, image, tiling, advance=advance, **size)
        except ChangedShapeError as error:
            raise UserError(f"The {name} changes the size: {error}.", "Use a model that keeps it.") from error
        except RuntimeError as error:  # torch.OutOfMemoryError on GPUs
            if "memory" not in str(error):
                raise
            hint = f"Give a --tile below {self.tile}."
            raise UserError(f"The {name} needs more memory than is available.", hint) from error

    def _asked(self, count: int) -> dict[str, Any]:
        """Return what the model gets beside any picture, for a number of tiles."""
        conditions = self.conditions
        asked = dict(self.options)
        if conditions.direction is not None:
            asked["direction"] = conditions.direction
        if conditions.seed is not None:
            asked["seeds"] = [conditions.seed] * count
        if conditions.prompt is not None:
            asked["prompts"] = [conditions.prompt] * count
        return asked


def load_editor(
    target: str | LoadedModel, device: str, tile: int, conditions: Conditions
) -> tuple[PictureEditor, dict[str, object]]:
    """Return an editor with the model of a run or checkpoint, or one that a package provides ready for use.

    Args:
        target: a run, checkpoint, export or URL, what `standalone_editor` takes, or a model that is loaded already.
        device: such as "cpu".
        tile: see `PictureEditor`.
        conditions: see `PictureEditor`.

    Returns:
        The editor, and plain values that say what edits all pictures.

    Raises:
        UserError: the checkpoint cannot be used, its model does not edit, lacks an option or needs one, or there is no
            such device.
    """
    standalone = None if isinstance(target, LoadedModel) else standalone_editor(target, device)
    if standalone is not None:
        editor = PictureEditor(standalone[0], tile, conditions)
        return editor, _described(editor, standalone[1])
    loaded = LoadedModel.of(target, device)
    if not isinstance(loaded.model, Editor):
        raise UserError(
            f"The {loaded.name} in {loaded.path} does not edit images.",
            "Try another model; `aigc plugins show NAME` says what a model can do.",
        )
    editor = PictureEditor(cast(PictureModel, loaded.model), tile, conditions)
    return editor, _described(editor, loaded.origin)


def _described(editor: PictureEditor, origin: dict[str, object]) -> dict[str, object]:
    """Return what identifies the model, and everything that it was asked."""
    options: dict[str, object] = {"options": editor.options} if editor.options else {}
    return {**origin, **editor.conditions.record, **options, **option_hashes(editor.model, editor.options)}


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    return picture if picture.mode == mode else picture.convert(mode)


def _bytes(picture: Image.Image) -> Tensor:
    """Return a picture as uint8 (C, H, W)."""
    return torch.from_numpy(np.array(picture)).view(picture.height, picture.width, -1).permute(2, 0, 1)


def _signed(pixels: Tensor) -> Tensor:
    """Return uint8 pixels as floats in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)


def _opacity(alpha: Tensor) -> Tensor:
    """Return a uint8 alpha channel as floats in [0, 1]."""
    return _signed(alpha).add_(1).div_(2)
