"""What `aigc edit` gives a model beside each picture: masks, references, a prompt, a seed and a direction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import Parameter, signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor

from aigc_lightning.core.batch import MASK_THRESHOLD
from aigc_lightning.core.capabilities import CONDITIONS
from aigc_lightning.core.checkpoint import file_hash
from aigc_lightning.core.io.escape import shown
from aigc_lightning.data.decode import CorruptImageError, decode, tell
from aigc_lightning.errors import UserError
from aigc_lightning.inference.model_options import check_condition, model_options
from aigc_lightning.inference.picture_file import read_picture

#: The colour of holes that are transparent.
TRANSPARENT = "transparent"
_COLOURED = 16  # levels by which the channels of a grey picture may differ after JPEG compression
_OPTIONS = ("--mask-from-color", "--out", "--ops", "--before", "--after", "--opaque", "--tile", "--device", "--sign")
_KNOWN = (*_OPTIONS, *CONDITIONS["edit"].values())


class Beside(NamedTuple):
    """What a model gets beside one picture.

    Args:
        mask: in mode L with the values 0 and 255, of the picture's size; None without one.
        references: of the size of the model's references; empty without one.
        record: the files and their hashes, for the result's metadata.
    """

    mask: Image.Image | None = None
    references: tuple[Image.Image, ...] = ()
    record: Mapping[str, object] = MappingProxyType({})


#: What a model gets that takes pictures alone.
NOTHING = Beside()


@dataclass(frozen=True)
class Conditions:
    """What a user gives for all pictures.

    Args:
        masks: the file with the mask of each picture.
        references: the file with the reference of each picture, once for each reference that a picture gets.
        prompt: what to make of the pictures.
        seed: one of the model's variants.
        direction: "AtoB" or "BtoA".
        given: values of the model's own options, as texts.
        hole_color: without masks, the colour of the pixels that are to be filled, see `color_mask`.
    """

    masks: Mapping[Path, Path] = field(default_factory=dict)
    references: Sequence[Mapping[Path, Path]] = ()
    prompt: str | None = None
    seed: int | None = None
    direction: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    hole_color: str | None = None

    @cached_property
    def asked(self) -> dict[str, Any]:
        """The values that are given, by the names of the arguments of `edit`."""
        values = {
            "masks": self.masks or self.hole_color,
            "references": self.references or None,
            "prompts": self.prompt,
            "seeds": self.seed,
            "direction": self.direction,
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def record(self) -> dict[str, object]:
        """What is the same for all pictures, for their metadata."""
        values = {"seed": self.seed, "direction": self.direction, "prompt": self.prompt}
        return {name: value for name, value in values.items() if value is not None}

    def options_of(self, model: object) -> dict[str, Any]:
        """Return the values of a model's own options, by argument name.

        Raises:
            UserError: the model does not take what is given, or needs something that is not.
        """
        for name in self.asked:
            check_condition(model, "edit", name)
        if len(self.references) > 1 and not getattr(model, "mixes_references", False):
            what = f"{type(model).__name__} takes one reference, and {len(self.references)} are given."
            raise UserError(what, "Give --reference once.")
        parameters = signature(model.edit).parameters  # type: ignore[attr-defined]
        for name, option in CONDITIONS["edit"].items():
            if name in parameters and parameters[name].default is Parameter.empty and name not in self.asked:
                raise UserError(f"{type(model).__name__} needs {option}.", f"Add {option}; see: aigc edit --help")
        return model_options(model, "edit", self.given, _KNOWN)

    def beside(self, path: Path, picture: Image.Image, channels: int, size: tuple[int, int]) -> Beside:
        """Return what belongs to a picture.

        Args:
            path: the picture's file.
            picture: as the model gets it.
            channels: of the model's images.
            size: (H, W) of the model's references, to which they are cropped and resized.

        Raises:
            UserError: a file cannot be read, or a mask does not fit the picture.
        """
        file = self.masks.get(path)
        mask = None if file is None else read_mask(file, picture.size)
        record: dict[str, object] = {} if file is None else {"mask": _described(file)}
        if self.hole_color is not None:
            mask, record = color_mask(path, picture, self.hole_color), {"mask": {"color": self.hole_color}}
        references = [found[path] for found in self.references if path in found]
        if references:
            described = [_described(file) for file in references]
            record["reference"] = described if len(described) > 1 else described[0]
        return Beside(
            mask,
            tuple(_read_reference(file, channels, size) for file in references),
            record,
        )


def read_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """Return a mask in mode L: 255 where the file has at least 128, 0 elsewhere.

    Args:
        path: a grey picture, white where the image is to be filled.
        size: width and height that it must have.

    Raises:
        UserError: the file cannot be read, has another size, colours, transparency, or nothing white.
    """
    picture = read_picture(path).picture
    if picture.size != size:
        sizes = f"{picture.width}x{picture.height} pixels and its picture {size[0]}x{size[1]}"
        raise UserError(f"The mask {shown(path)} has {sizes}.", "Give a mask of the picture's size.")
    pixels = np.asarray(picture).astype(np.int16)
    if picture.mode == "RGBA":
        raise UserError(f"The mask {shown(path)} is transparent.", "Save it in black and white.")
    if picture.mode == "RGB":
        if np.ptp(pixels, axis=2).max() > _COLOURED:
            raise UserError(f"The mask {shown(path)} is coloured.", "Save it in black and white.")
        pixels = np.asarray(picture.convert("L")).astype(np.int16)
    white = pixels >= MASK_THRESHOLD
    if not white.any():
        what = f"The mask {shown(path)} has no white pixel (of at least {MASK_THRESHOLD}), so nothing would be filled."
        raise UserError(what, "Paint white what is to be filled.")
    if between := np.count_nonzero((pixels > 0) & (pixels < 255)):
        share = 100 * between / pixels.size
        tell(path, [f"{share:.2g} % of the mask is neither black nor white; {MASK_THRESHOLD} and more count as white"])
    return Image.fromarray(np.where(white, 255, 0).astype(np.uint8))


def color_mask(path: Path, picture: Image.Image, color: str) -> Image.Image:
    """Return a mask in mode L of a picture's own pixels of a colour: 255 there, 0 elsewhere.

    Args:
        path: the picture's file, for messages.
        picture: in mode L, RGB or RGBA.
        color: "transparent", for pixels of less than half opacity, or a colour that `ImageColor` knows, which channels
            may miss by up to 16 levels, as JPEG compression makes them.

    Raises:
        UserError: no pixel has the colour.
    """
    if color == TRANSPARENT:
        alpha = np.asarray(picture.getchannel("A")) if picture.mode == "RGBA" else np.full(picture.size[::-1], 255)
        chosen = alpha < MASK_THRESHOLD
    else:
        distances = np.asarray(picture.convert("RGB")).astype(np.int16) - np.array(ImageColor.getrgb(color)[:3])
        chosen = np.abs(distances).max(axis=2) <= _COLOURED
    if not chosen.any():
        raise UserError(f"No pixel of {shown(path)} is {color}, so nothing would be filled.", "Give another colour.")
    return Image.fromarray(np.where(chosen, 255, 0).astype(np.uint8))


def _described(file: Path) -> dict[str, str]:
    return {"file": shown(file), "sha256": file_hash(file)}


def _read_reference(path: Path, channels: int, size: tuple[int, int]) -> Image.Image:
    """Return a reference of this size (H, W) in the mode of the model's images."""
    try:
        pixels = decode(path, channels, size=size).permute(1, 2, 0).numpy()
    except CorruptImageError as error:
        raise UserError(f"The reference {shown(path)} cannot be read: {error.reason}.", "Give another one.") from error
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
