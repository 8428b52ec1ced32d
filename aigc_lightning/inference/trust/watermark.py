"""Watermarks in the pixels of pictures: written before signing, and read by `aigc verify`."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aigc_lightning.core.capabilities import Watermarker
from aigc_lightning.core.io.atomic import open_regular
from aigc_lightning.core.io.film import read_frames
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.pictures import to_picture, to_uint8
from aigc_lightning.data.decode import MAX_PIXELS, CorruptImageError, decode, in_mode
from aigc_lightning.data.sources import to_signed
from aigc_lightning.errors import UserError
from aigc_lightning.inference.loaded_model import LoadedModel
from aigc_lightning.inference.trust.manifest import media_type

_MODES = {1: "L", 3: "RGB"}
_FRAMES = 16  # of a film, read at most


@dataclass(frozen=True)
class Watermark:
    """What was read from the pixels of a picture, or of the first frames of a film.

    Args:
        payload: hexadecimal digits; None if there is no watermark of this run. Of a film, the one that more than half
            of the frames hold.
        confidence: share of the coded bits, in [0, 1], that agree with the nearest valid word; of a film, the mean.
        false_positive_rate: probability that a payload is found in a picture without a watermark, if its bits are read
            like fair coins; that of a film is lower.
        frames: number of frames that were read; 1 for a picture.
        unread: why nothing was read.
    """

    payload: str | None
    confidence: float
    false_positive_rate: float
    frames: int = 1
    unread: str = ""


class PictureMarker:
    """Writes and reads the watermark of a trained model, such as `watermark` of the package aigc-trust.

    The payload is the beginning of the SHA-256 of the checkpoint that made the picture; 0 where none was used.

    Args:
        target: a run folder or a checkpoint of such a model.
        device: such as "cpu".

    Attributes:
        failed: the files whose pictures could not be marked.

    Raises:
        UserError: the checkpoint cannot be used, or its model writes no watermarks.
    """

    def __init__(self, target: str, device: str = "cpu") -> None:
        loaded = LoadedModel(target, device)
        if not isinstance(loaded.model, Watermarker):
            what = f"The {loaded.name} in {loaded.path} writes no watermarks."
            raise UserError(what, "Train one: aigc fit --config watermark_photos (package aigc-trust).")
        self._model: Any = loaded.model
        self._digest = loaded.digest
        self.failed: list[Path] = []

    def text(self, text: Mapping[str, str]) -> dict[str, str]:
        """Return the metadata of a marked picture, which names the payload and the watermark's checkpoint."""
        record = json.loads(text["aigc"])
        mark = {"payload": self._hexadecimal(self._payload(record)), "sha256": self._digest}
        return {**text, "aigc": json.dumps({**record, "watermark": mark})}

    def marked(self, picture: Image.Image, text: Mapping[str, str], path: Path) -> tuple[Image.Image, dict[str, str]]:
        """Return a picture with its watermark, and its metadata; both unchanged if it cannot be marked.

        A failure is said, and kept in `failed`.

        Args:
            picture: in mode L, RGB or RGBA; transparency is kept.
            text: its metadata, whose `aigc` is the JSON of its record.
            path: the file that it will be written to.
        """
        try:
            return self.frame(picture, text), self.text(text)
        except UserError as error:
            if path not in self.failed:
                self.failed.append(path)
                echo(f"Without a watermark: {path}, which is complete otherwise: {error.what}", error=True)
            return picture, dict(text)

    def frame(self, picture: Image.Image, text: Mapping[str, str]) -> Image.Image:
        """Return a picture with its watermark.

        Raises:
            UserError: it is too small, or grey where the watermark is for colours, or the reverse.
        """
        channels = self._model.spec.channels
        mode = _MODES.get(channels)
        if picture.mode.removesuffix("A") != mode:
            what = f"Its mode is {picture.mode}, and this watermark is for {mode}."
            raise UserError(what, "Train another one with data.channels.")
        pixels = _pixels(picture)
        image = to_signed(pixels[None, :channels])
        result = to_uint8(self._model.mark(image, self._payload(json.loads(text["aigc"])))).cpu()[0]
        return to_picture(torch.cat([result, pixels[channels:]])) if len(pixels) > channels else to_picture(result)

    def read(self, path: Path) -> Watermark:
        """Return what is read from a picture or a film.

        Raises:
            OSError: the file cannot be read.
        """
        rate = self._model.false_positive_rate
        try:
            images = self._images(path)
        except CorruptImageError as error:
            return Watermark(None, 0.0, rate, 0, error.reason)
        except ModuleNotFoundError:
            return Watermark(None, 0.0, rate, 0, "frames of an MP4 need: pip install 'aigc-lightning[video]'")
        read = [self._model.read(to_signed(image)[None])[0] for image in images]
        payload, count = Counter(payload for payload, _ in read).most_common(1)[0]
        found = None if payload is None or 2 * count <= len(read) else self._hexadecimal(payload)
        return Watermark(found, sum(confidence for _, confidence in read) / len(read), rate, len(read))

    def _images(self, path: Path) -> list[Tensor]:
        """Return the picture of a file, or the first frames of its film, each uint8 (C, H, W)."""
        channels = self._model.spec.channels
        with open_regular(path) as file:
            kind = str(media_type(file.read(16))).rpartition("/")[2]
            if kind not in ("gif", "mp4"):
                return [decode(path, channels)]
            file.seek(0)
            frames = read_frames(file, kind, _FRAMES, MAX_PIXELS)
        if not frames:
            raise CorruptImageError(path, "no frame can be read")
        return [_pixels(in_mode(frame, channels)) for frame in frames]

    def _payload(self, record: Mapping[str, Any]) -> int:
        """Return the first bits of the hash of the checkpoint that made a picture."""
        digest = record.get("sha256") or "0" * 16
        bits: int = self._model.payload_bits
        return int(str(digest)[:16], 16) >> (64 - bits)

    def _hexadecimal(self, payload: int) -> str:
        return f"{payload:0{-(-self._model.payload_bits // 4)}x}"


def _pixels(picture: Image.Image) -> Tensor:
    """Return a picture as uint8 (C, H, W)."""
    return torch.from_numpy(np.array(picture)).view(picture.height, picture.width, -1).permute(2, 0, 1)
