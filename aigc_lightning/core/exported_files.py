"""What the Python files beside exported programs have in common: command lines, texts and pictures.

`ExportLoop.source` copies it into these files, so it needs NumPy alone; onnxruntime, and Pillow for pictures that are
read, are imported where they are used.
Shapes: B batch, C channels, H and W height and width in pixels, L tokens of a text. Images lie in [-1, 1].
"""

import argparse
import json
import struct
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: Takes arrays by name and returns the outputs in order.
Run = Callable[[Mapping[str, Array]], Sequence[Array]]
Settings = Mapping[str, Any]


# ---- programs and command lines


def opened(script: Path) -> tuple[Settings, Callable[[str], Run]]:
    """Return the settings in the program beside a file, and what runs the program for one of its outputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(_program(script, ".onnx"))
    settings = json.loads(session.get_modelmeta().custom_metadata_map["aigc"])["loop"]["settings"]
    only_what_is_asked = onnxruntime.RunOptions()
    only_what_is_asked.only_execute_path_to_fetches = True
    return settings, lambda output: lambda inputs: session.run([output], dict(inputs), only_what_is_asked)


def opened_beside(script: Path, name: str) -> Run:
    """Return what runs another program beside a file, such as one that encodes pictures."""
    import onnxruntime

    session = onnxruntime.InferenceSession(_program(script, f"_{name}.onnx"))
    return lambda inputs: session.run(None, dict(inputs))


def _program(script: Path, ending: str) -> Path:
    path = script.with_name(script.stem.removesuffix("_sample") + ending)
    if not path.is_file():
        print(f"{path} is missing; `aigc export` writes it beside {script.name}.", file=sys.stderr)
        raise SystemExit(2)
    return path


def option_parser(settings: Settings) -> argparse.ArgumentParser:
    """Return a parser of what `asked` understands, as far as the model has it."""
    parser = argparse.ArgumentParser(description="Make images with the exported network beside this file.")
    parser.add_argument("--seeds", type=int, nargs="+", help="one for each image (default: 0)")
    if settings["edits"]:
        is_all = settings["edits"] == "pairs"
        help_ = "pictures of the model's size to edit: files, or uint8 .npy arrays (H, W) or (H, W, C)"
        parser.add_argument("--pictures", type=Path, nargs="+", required=is_all, help=help_)
    if settings["edits"] == "holes":
        parser.add_argument("--mask", type=Path, help="white where the pictures are filled; all else stays as it is")
    if settings["num_classes"]:
        help_ = "the class of each image (default: seed modulo classes)"
        parser.add_argument("--labels", type=int, nargs="+", help=help_)
    if settings["text_length"]:
        parser.add_argument("--prompts", nargs="+", help="the text of each image (default: none), or one for all")
    if settings["has_guidance"]:
        parser.add_argument("--guidance", type=float, default=1.0, help="strength of class or text (default: 1, none)")
    return parser


def asked(parser: argparse.ArgumentParser, settings: Settings) -> tuple[list[str], dict[str, Any]]:
    """Return names of the files that are to be written, and the arguments of `sample`, from the command line."""
    options = vars(parser.parse_args())
    files: list[Path] = options.pop("pictures", None) or []
    mask: Path | None = options.pop("mask", None)
    _check_options(parser, settings, options, files, mask)
    count = len(files or options["seeds"] or [0])
    options["seeds"] = options["seeds"] or [0]
    for name in ("seeds", "prompts"):
        if options.get(name) and len(options[name]) == 1:
            options[name] *= count
    for name in ("seeds", "labels", "prompts"):
        if options.get(name) and len(options[name]) != count:
            parser.error(f"give one of the --{name} for each image")
    if not files:
        return [f"seed_{seed}.png" for seed in options["seeds"]], options
    try:
        options["pictures"] = np.stack([read_picture(file, settings["image_shape"]) for file in files])
        if mask is not None:
            hole = read_picture(mask, [1, *settings["image_shape"][1:]]) >= 0
            options["masks"] = np.tile(hole.astype(np.float32), (count, 1, 1, 1))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return [f"{file.stem}_edited.png" for file in files], options


def _check_options(
    parser: argparse.ArgumentParser, settings: Settings, options: dict[str, Any], files: list[Path], mask: Path | None
) -> None:
    """End with a message if options are out of range or would not act."""
    if min(options["seeds"] or [0]) < 0:
        parser.error("seeds are at least 0")
    if not all(0 <= label < settings["num_classes"] for label in options.get("labels") or []):
        parser.error(f"the model has {settings['num_classes']} classes")
    if any(len(text.encode()) >= settings["text_length"] for text in options.get("prompts") or []):
        parser.error(f"prompts have at most {settings['text_length'] - 1} bytes")
    if len({file.stem for file in files}) < len(files):
        parser.error("two of the pictures have the same name")
    if files and options.get("labels"):
        parser.error("--labels has no effect on pictures")
    if files and options.get("guidance", 1) != 1 and not options.get("prompts"):
        parser.error("--guidance has no effect on pictures without --prompts")
    if not files and (mask is not None or options.get("strength")):
        parser.error(f"--{'strength' if mask is None else 'mask'} acts on --pictures")


def write_images(names: Sequence[str], images: Array) -> None:
    """Write images (B, C, H, W) into the current folder, and print the names of the files."""
    for name, image in zip(names, images, strict=True):
        write_png(Path(name), image)
        print(name)


# ---- texts


def text_tokens(texts: Sequence[str], length: int) -> Array:
    """Return the tokens int64 (B, L) of texts: 1, then their bytes in UTF-8 plus 2, then zeros.

    Raises:
        ValueError: a text that is too long.
    """
    found = np.zeros((len(texts), length), np.int64)
    for row, text in zip(found, texts, strict=True):
        numbers = [1, *(2 + byte for byte in text.encode())]
        if len(numbers) > length:
            raise ValueError(f"A text has {len(numbers) - 1} bytes, and the model reads {length - 1}: {text[:40]!r}")
        row[: len(numbers)] = numbers
    return found


# ---- pictures


def holes_of(pictures: Array, masks: Array | None) -> Array:
    """Return where pictures (B, C, H, W) are to be filled, bool (B, 1, H, W): where masks are 1, or the lower half."""
    if masks is not None:
        return masks >= 0.5
    holes = np.zeros_like(pictures[:, :1], bool)
    holes[:, :, holes.shape[2] // 2 :] = True
    return holes


def pooled(holes: Array, size: Sequence[int]) -> Array:
    """Return which cells of a grid of some rows and columns have a hole, bool (B, 1, rows, columns).

    Args:
        holes: bool (B, 1, H, W).
        size: rows and columns, see `hole_shares`.
    """
    return hole_shares(holes, size) > 0


def hole_shares(holes: Array, size: Sequence[int]) -> Array:
    """Return the share of each cell of a grid that is hole, float64 (B, 1, rows, columns).

    Args:
        holes: bool (B, 1, H, W).
        size: rows and columns, at most H and W. Cell i of n reaches from pixel iH // n to, rounded up, (i + 1)H / n.
    """
    counts = np.stack([holes, np.ones_like(holes)]).astype(np.int64)
    for axis, count in zip((3, 4), size, strict=True):
        length = counts.shape[axis]
        bounds = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        counts = np.stack([counts.take(range(*each), axis).sum(axis) for each in bounds], axis)
    shares: Array = counts[0] / counts[1]
    return shares


def write_png(path: Path, image: Array) -> None:
    """Write an image (C, H, W) in [-1, 1] of up to 4 channels as a PNG file."""
    pixels = np.round((image.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, (0, 4, 2, 6)[channels - 1], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def read_picture(path: Path, shape: Sequence[int]) -> Array:
    """Return a picture, float32 (C, H, W), of the file of an array or, with Pillow, of any other kind.

    Args:
        path: of the file; an array in .npy is uint8 (H, W) or (H, W, C).
        shape: C, H and W that it must have, or C alone; colours are converted if it is no array.

    Raises:
        OSError: the file cannot be read.
        ValueError: the picture has another size, or more than 8 bits; or Pillow is not installed.
    """
    pixels = np.load(path) if path.suffix == ".npy" else _with_pillow(path, shape[0])
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    expected = (*(shape[1:] or pixels.shape[:2]), shape[0])
    if pixels.dtype != np.uint8 or pixels.shape != expected:
        found, wanted = ("x".join(map(str, each)) for each in (pixels.shape, expected))
        raise ValueError(f"{path} is {found} of {pixels.dtype}, and the model takes {wanted} of uint8")
    image: Array = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - 1
    return image


def _with_pillow(path: Path, channels: int) -> Array:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ValueError(
            f"{path}: Pillow reads pictures (pip install pillow); give an array in .npy without"
        ) from error
    with Image.open(path) as file:
        picture = ImageOps.exif_transpose(file)
        if picture.mode[0] in "IF":
            raise ValueError(f"{path} has more than 8 bits")
        if channels < 4 and ("A" in picture.getbands() or "transparency" in picture.info):  # seen on white
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture.convert("RGBA"))
        return np.asarray(picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
