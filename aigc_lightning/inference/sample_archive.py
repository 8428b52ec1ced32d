"""Sampling into one file: for tens of thousands of pictures that a program reads, not a person.

Shapes: N pictures, H and W height and width in pixels, C channels.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.output import plain_metadata
from aigc_lightning.core.io.pictures import to_picture
from aigc_lightning.inference.loaded_model import LoadedModel
from aigc_lightning.inference.sample import Drawing, Wanted
from aigc_lightning.inference.trust.watermark import PictureMarker

#: Extension of the file.
SUFFIX = ".npz"


def write_archive(
    target: str | LoadedModel, wanted: Wanted, path: Path, *, device: str, marker: PictureMarker | None = None
) -> int:
    """Write all pictures into one file for `numpy.load`, as they are drawn, and return how many there are.

    The file has `arr_0`, uint8 (N, H, W, C), which is where OpenAI's guided-diffusion and its evaluator have samples;
    `seeds`, int64 (N,); `prompts`, texts (N,), if there are prompts; and `record`, the JSON that the text of a PNG
    has. The pixels are those of the PNG files of `write_samples`.

    Args:
        target: a run folder, a checkpoint or an exported file, or its model, if that is loaded already.
        wanted: what is to be drawn.
        path: the file; one that is there is replaced once all pictures are drawn.
        device: such as "cpu".
        marker: writes watermarks into the pictures.

    Raises:
        UserError: as `Drawing`.
    """
    drawing = Drawing(target, wanted, device)
    pairs = drawing.pairs()
    with replacing(path) as temporary, ZipFile(temporary, "w") as archive:
        pictures = _pictures(drawing, path, marker)
        first = next(pictures)
        with archive.open("arr_0.npy", "w", force_zip64=True) as file:
            shape = (len(pairs), *first.shape)
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for picture in chain([first], pictures):
                file.write(picture.tobytes())
        for name, values in _about(drawing, marker).items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
    return len(pairs)


def _pictures(drawing: Drawing, path: Path, marker: PictureMarker | None) -> Iterator[np.ndarray]:
    """Yield the pixels (H, W, C) of each picture."""
    pairs = drawing.pairs()
    for pair, image in zip(pairs, drawing.images(pairs), strict=True):
        if marker:
            marked, _ = marker.marked(to_picture(image), drawing.text(*pair), path)
            yield np.asarray(marked).reshape(image.shape[1], image.shape[2], -1)
        else:
            yield image.permute(1, 2, 0).numpy()


def _about(drawing: Drawing, marker: PictureMarker | None) -> dict[str, np.ndarray]:
    """Return what the file holds beside the pictures."""
    pairs = drawing.pairs()
    text = drawing.loaded.text(list(drawing.wanted.seeds), drawing.record)
    record = plain_metadata(marker.text(text) if marker and not marker.failed else text)["aigc"]
    found = {"seeds": np.array([seed for seed, _ in pairs], dtype=np.int64), "record": np.array(record)}
    if drawing.wanted.prompts:
        found["prompts"] = np.array([str(prompt) for _, prompt in pairs])
    return found
