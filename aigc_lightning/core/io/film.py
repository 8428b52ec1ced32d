"""Films: GIF with Pillow only, MP4 if PyAV is installed."""

import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageSequence

from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.redaction import redacted_text
from aigc_lightning.errors import UserError

#: Supported file extensions.
FILM_SUFFIXES = (".gif", ".mp4")
FRAMES_PER_SECOND = 20
_QUALITY = "18"  # constant rate factor of H.264; lower is better, and 18 looks like the original


def check_film(path: Path) -> None:
    """Check that a film with this file name can be written.

    Raises:
        UserError: unsupported extension, or PyAV is missing for an MP4.
    """
    if path.suffix.lower() not in FILM_SUFFIXES:
        raise UserError(f"{path} is not a supported kind of film.", f"Use the extension {' or '.join(FILM_SUFFIXES)}.")
    if path.suffix.lower() == ".mp4" and importlib.util.find_spec("av") is None:
        raise UserError(
            f"{path.name} needs the package av, which is not installed.",
            "Install it with: pip install 'aigc-lightning[video]', or use the extension .gif.",
        )


def write_film(frames: Iterable[Image.Image], path: Path, comment: str) -> None:
    """Write frames as a looping GIF or an MP4 (H.264), depending on the extension of the path.

    Args:
        frames: at least one, all of the same size, in mode L, RGB or RGBA; transparency is composited on white.
        path: the file; its folder is created if necessary.
        comment: text to store in the file.

    Raises:
        UserError: as `check_film`.
    """
    check_film(path)
    comment = redacted_text(comment)
    opaque = (_on_white(frame) for frame in frames)
    with replacing(path) as temporary:
        if path.suffix.lower() == ".gif":
            next(opaque).save(
                temporary,
                format="GIF",
                save_all=True,
                append_images=opaque,
                duration=1000 // FRAMES_PER_SECOND,
                loop=0,
                comment=comment.encode(),
            )
        else:
            _write_mp4(opaque, temporary, comment)


def read_frames(file: BinaryIO, kind: str, num: int, max_pixels: int) -> list[Image.Image]:
    """Return the first frames of a film, as many as can be read.

    Args:
        file: open for reading.
        kind: "gif" or "mp4"; nothing is guessed from the content, which comes from strangers.
        num: number of frames; a film may be shorter.
        max_pixels: stop at a frame with more pixels.

    Raises:
        ModuleNotFoundError: PyAV, which MP4 needs, is not installed.
    """
    frames: list[Image.Image] = []
    for frame in islice(_gif_frames(file) if kind == "gif" else _mp4_frames(file), num):
        if frame.width * frame.height > max_pixels:
            break
        frames.append(frame.to_image() if kind == "mp4" else frame.copy())
    return frames


def _gif_frames(file: BinaryIO) -> Iterator[Any]:
    damaged = (SyntaxError, ValueError, OSError, Image.DecompressionBombError)
    with suppress(*damaged), Image.open(file, formats=["gif"]) as film:  # a damaged film ends there
        yield from ImageSequence.Iterator(film)


def _mp4_frames(file: BinaryIO) -> Iterator[Any]:
    import av

    damaged = (av.error.FFmpegError, IndexError)  # IndexError: there are no pictures
    with suppress(*damaged), av.open(file, "r", format="mp4") as container:  # a damaged film ends there
        yield from container.decode(container.streams.video[0])


def _write_mp4(frames: Iterator[Image.Image], path: Path, comment: str) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        container.metadata["comment"] = comment
        stream: Any = None
        for frame in frames:
            # Colours are stored at half the resolution, so both sides must be even.
            pixels = np.asarray(frame.convert("RGB"))
            pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
            if stream is None:
                stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"crf": _QUALITY})
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def _on_white(frame: Image.Image) -> Image.Image:
    if frame.mode != "RGBA":
        return frame
    return Image.alpha_composite(Image.new("RGBA", frame.size, "white"), frame).convert("RGB")
