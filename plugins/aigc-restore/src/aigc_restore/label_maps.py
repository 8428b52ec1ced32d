"""`aigc edit RUN photo.jpg --after crf`: label maps and masks that follow the edges of their photographs.

Shapes: C channels, H and W height and width in pixels, K labels. Images lie in [-1, 1].
"""

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from aigc_lightning.core.io.checksums import read_tensors, write_tensors
from aigc_lightning.data.decode import decode
from aigc_lightning.errors import UserError, did_you_mean
from PIL import Image, ImageColor
from torch import Tensor

from aigc_restore.crf import CRF, LARGEST_DENSE

_BLOCK = 256  # pixels of a side that are refined at a time: what bounds the memory
_WINDOW = 7  # pixels to each side, as in `CRF`
_MOST_LABELS = 64
_COLOR_SPACING = 1e-3  # least distance of two labels' colours


@dataclass(frozen=True)
class Settings:
    """What can be set behind the labels, such as `crf=#000000+#ffffff:num_steps=3`.

    Args:
        num_steps: updates of the mean field.
        appearance_weight: of pairs of near pixels with similar colours.
        smoothness_weight: of pairs of near pixels.
        position_std: reach of the first in pixels.
        color_std: difference of colours that counts in the first, on a scale of 2.
        smoothness_std: reach of the second in pixels.
        softness: standard deviation of a label's colour, as a share of the least distance of two labels' colours.
    """

    num_steps: int = 5
    appearance_weight: float = 1.0
    smoothness_weight: float = 0.5
    position_std: float = 6.0
    color_std: float = 0.15
    smoothness_std: float = 1.5
    softness: float = 0.5


def crf(value: str) -> Callable[[Image.Image, Image.Image], Image.Image]:
    """Make label maps and masks follow the edges of their pictures, by a conditional random field.

    Args:
        value: the labels' colours, as in "#0000de+#0030ff", or a picture without any others, such as a label map; ""
            for the colours of a result that has at most 64, and black and white for masks in grey. Settings follow,
            as in ":num_steps=3:color_std=0.1", or a file of `save_crf`, as in ":weights=crf.safetensors", which counts
            for as many labels as it was learned for.

    Returns:
        A function of a result and of the picture that the model saw.

    Raises:
        UserError: labels or settings that do not exist or are out of range.
    """
    labels, *written = re.split(r":(?=[a-z_]+=)", value)
    colors = None if not labels else _colors_of_picture(Path(labels)) if Path(labels).is_file() else _colors(labels)
    weights = [text.removeprefix("weights=") for text in written if text.startswith("weights=")]
    others = [text for text in written if not text.startswith("weights=")]
    settings = _settings(others)
    learned = _learned(Path(weights[-1]), others) if weights else None
    return lambda result, original: _refined(result, original, colors, settings, learned)


def save_crf(layer: CRF, path: Path) -> None:
    """Write the learned weights of a layer to a file for `--after crf=COLORS:weights=FILE`."""
    write_tensors(path, layer.state_dict(), {})


def refine(logits: Tensor, images: Tensor, layer: CRF) -> Tensor:
    """Return the most probable labels, int64 (B, H, W), refined by an image of any size in bounded memory.

    Blocks are refined with a margin from which nothing reaches them, so that the result is that of the whole image.

    Args:
        logits: (B, K, H, W).
        images: (B, C, H, W) in [-1, 1].
        layer: its `radius` is None.
    """
    height, width = images.shape[-2:]
    with torch.inference_mode():
        if height * width <= LARGEST_DENSE:
            whole: Tensor = layer(logits, images).argmax(dim=1)
            return whole
        layer.radius, margin = _WINDOW, layer.num_steps * _WINDOW
        labels = torch.zeros((len(images), height, width), dtype=torch.int64)
        for top in range(0, height, _BLOCK):
            for left in range(0, width, _BLOCK):
                above, before = max(top - margin, 0), max(left - margin, 0)
                around = (..., slice(above, top + _BLOCK + margin), slice(before, left + _BLOCK + margin))
                found = layer(logits[around], images[around]).argmax(dim=1)
                inside = found[:, top - above :, left - before :][:, :_BLOCK, :_BLOCK]
                labels[:, top : top + _BLOCK, left : left + _BLOCK] = inside
        layer.radius = None
    return labels


def color_logits(images: Tensor, colors: Tensor, softness: float) -> Tensor:
    """Return logits of labels (B, K, H, W): how near each pixel's colour is to those of the labels.

    Args:
        images: (B, C, H, W) in [-1, 1].
        colors: (K, C), of which no two are equal.
        softness: standard deviation of a label's colour, as a share of the least distance of two colours.
    """
    distances = torch.pdist(colors.double())
    std = softness * max(float(distances.min()) if len(distances) else 1.0, _COLOR_SPACING)
    squares = [(images - color[:, None, None]).square().sum(dim=1) for color in colors]
    return -torch.stack(squares, dim=1) / (2 * std**2)


def _refined(
    result: Image.Image,
    original: Image.Image,
    colors: Tensor | None,
    settings: Settings,
    learned: dict[str, Tensor] | None,
) -> Image.Image:
    """Return a result, in its mode, with the labels' colours alone."""
    pixels = np.array(result.convert("RGB"))
    own = _own_colors(pixels) if colors is None else None
    if own is not None:
        found = (torch.from_numpy(pixels)[:, :, None] == own).all(dim=3).permute(2, 0, 1).float()
        logits, colors = found / (2 * settings.softness**2), own  # as if all colours were equally far from each other
    else:
        colors = _black_and_white(pixels) if colors is None else colors
        logits = color_logits(_signed(torch.from_numpy(pixels)), _flat_signed(colors), settings.softness)[0]
    asked = asdict(settings)
    del asked["softness"]
    layer = CRF(len(colors), **asked)
    if learned is not None:
        _load(layer, learned)
    labels = refine(logits[None], _signed(_fitting(original, result.size)), layer)[0]
    refined = Image.fromarray(colors[labels].numpy())
    if result.mode == "RGBA":
        refined.putalpha(result.getchannel("A"))
    return refined if result.mode == "RGBA" else refined.convert(result.mode)


def _load(layer: CRF, learned: dict[str, Tensor]) -> None:
    try:
        layer.load_state_dict(learned)
    except RuntimeError:
        count = len(learned["compatibility"]) if "compatibility" in learned else 0
        what = f"The weights of crf are for {count} labels, and there are {len(layer.compatibility)}."
        raise UserError(what, "Name the colours of the labels that they were learned for, in their order.") from None


def _learned(path: Path, others: list[str]) -> dict[str, Tensor]:
    """Return learned weights, and refuse settings that they replace.

    Raises:
        UserError: the file cannot be read, or there are such settings.
    """
    replaced = [text for text in others if text.partition("=")[0] not in ("num_steps", "softness")]
    if replaced:
        raise UserError(f"crf has weights and {replaced[0]}.", "The weights contain it; leave one of them out.")
    try:
        return read_tensors(path, "Write it again by aigc_restore.label_maps.save_crf.")[0]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.", "Name a file of save_crf.") from error


def _own_colors(pixels: np.ndarray) -> Tensor | None:
    """Return the colours of a result that is a label map already, uint8 (K, 3); None if there are too many."""
    found = np.unique(pixels.reshape(-1, 3), axis=0)
    return torch.from_numpy(found) if len(found) <= _MOST_LABELS else None


def _black_and_white(pixels: np.ndarray) -> Tensor:
    if (pixels != pixels[..., :1]).any():
        raise UserError(
            f"The result has more than {_MOST_LABELS} colours, and crf does not know which of them are labels.",
            'Name them: --after "crf=#0000ff+#ff0000", or crf=labels.png, a picture of the labels.',
        )
    return torch.tensor([[0, 0, 0], [255, 255, 255]], dtype=torch.uint8)


def _fitting(original: Image.Image, size: tuple[int, int]) -> Tensor:
    """Return what the model saw, uint8 (H, W, 3), in the size of its result.

    Raises:
        UserError: the result is not a whole number of times as large.
    """
    ground = Image.new("RGBA", original.size, "white")
    shown = Image.alpha_composite(ground, original.convert("RGBA")).convert("RGB")
    factor = size[0] // original.width
    if size != (factor * original.width, factor * original.height):
        what = f"crf got a result of {size[0]}x{size[1]} pixels for a picture of {original.width}x{original.height}."
        raise UserError(what, "Put crf before operations that crop or turn the result.")
    return torch.from_numpy(np.array(shown.resize(size, Image.Resampling.BICUBIC) if factor > 1 else shown))


def _signed(pixels: Tensor) -> Tensor:
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def _flat_signed(colors: Tensor) -> Tensor:
    return colors.float() / 127.5 - 1


def _colors(text: str) -> Tensor:
    try:
        found = [ImageColor.getrgb(part)[:3] for part in text.split("+")]
    except ValueError:
        hint = 'Write "crf=#0000ff+#ff0000", or crf=labels.png with a picture that exists.'
        raise UserError(f"crf={text} names neither colours nor a picture.", hint) from None
    return _distinct(torch.tensor(found, dtype=torch.uint8), text)


def _colors_of_picture(path: Path) -> Tensor:
    pixels = decode(path, 3).permute(1, 2, 0).reshape(-1, 3)
    return _distinct(torch.from_numpy(np.unique(pixels.numpy(), axis=0)), str(path))


def _distinct(colors: Tensor, source: str) -> Tensor:
    if not 2 <= len(colors) <= _MOST_LABELS or len(colors.unique(dim=0)) < len(colors):
        what = f"crf={source} gives {len(colors.unique(dim=0))} different colours."
        raise UserError(what, f"Give 2 to {_MOST_LABELS}, each once; a picture of labels is a PNG without soft edges.")
    return colors


def _settings(written: list[str]) -> Settings:
    """Return the settings of texts such as "num_steps=3".

    Raises:
        UserError: there is no such setting, or its value is not a number above 0.
    """
    kinds = {field.name: type(getattr(Settings(), field.name)) for field in fields(Settings)}
    given: dict[str, float] = {}
    for text in written:
        name, _, value = text.partition("=")
        if name not in kinds:
            raise UserError(f"crf has no setting {name!r}.", did_you_mean(name, kinds))
        try:
            number = kinds[name](value)
        except ValueError:
            number = math.nan
        if not (0 < number < math.inf):
            raise UserError(
                f"crf has {text}.", f"Give {'a whole number' if kinds[name] is int else 'a number'} above 0."
            )
        given[name] = number
    return Settings(**given)  # type: ignore[arg-type]  # whole numbers are ints
