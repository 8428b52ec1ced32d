"""Images from the exported network of an `image_gpt` of pixels. Needs NumPy and onnxruntime alone.

    python FILE_sample.py --seeds 0 1 2

The network is FILE.onnx beside this file; it gives the logits of each pixel from those before it. Images are those of
`aigc sample` for the same seeds and classes, as far as two tokens are not as good as equal. Without a cache of keys and
values, each pixel costs a pass over the whole image.

Paper: Chen et al., Generative Pretraining from Pixels, ICML 2020
Shapes: B batch, N tokens of an image (row by row, a pixel's channels together), K levels, C channels, H and W height
and width.
"""

import argparse
import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: Takes arrays by name and returns the outputs in order.
Run = Callable[[Mapping[str, Array]], Sequence[Array]]
Settings = Mapping[str, Any]


def sample(
    run: Run,
    settings: Settings,
    seeds: Sequence[int],
    labels: Sequence[int] | None = None,
    temperature: float = 1.0,
    guidance: float = 1.0,
) -> Array:
    """Return one image per seed, float32 (B, C, H, W) in [-1, 1].

    Args:
        run: the exported network.
        settings: shape, levels and classes, from the metadata.
        seeds: non-negative.
        labels: the class of each image, for models with classes; by default the seed modulo their number.
        temperature: below 1 draws likelier tokens, 0 the likeliest.
        guidance: strength of the class; 1 is none.
    """
    channels, height, width = settings["shape"]
    num_levels, num_classes = settings["num_levels"], settings["num_classes"]
    if num_classes and labels is None:
        labels = [seed % num_classes for seed in seeds]
    tokens = np.zeros((len(seeds), channels * height * width), np.int64)
    for place in range(tokens.shape[1]):
        inputs: dict[str, Array] = {"tokens": tokens}
        if labels is not None:
            inputs["labels"] = np.asarray(labels, np.int64)
        logits = run(inputs)[0][:, place]
        if guidance != 1:
            open_ = run({**inputs, "labels": np.full(len(seeds), num_classes, np.int64)})[0][:, place]  # of any class
            logits = open_ + np.float32(guidance) * (logits - open_)
        if temperature > 0:
            logits = logits / np.float32(temperature) + gumbel(seeds, place, num_levels)
        tokens[:, place] = logits.argmax(1)
    images = tokens.reshape(len(seeds), height, width, channels).transpose(0, 3, 1, 2)
    result: Array = images.astype(np.float32) * np.float32(2 / (num_levels - 1)) - 1
    return result


def gumbel(seeds: Sequence[int], place: int, count: int) -> Array:
    """Return the Gumbel noise of each token at a place, float32 (B, `count`), keyed by seed, place and token.

    A key is mixed by a round of SplitMix64 for each of its parts.
    """
    state = np.zeros((), np.uint64)
    parts = (np.array(seeds, np.uint64)[:, None], np.uint64(place), np.arange(count, dtype=np.uint64))
    with np.errstate(over="ignore"):
        for part in parts:
            state = (state ^ part) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    uniform = (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
    result: Array = -np.log(-np.log(np.maximum(uniform, 2.0**-54)))
    return result.astype(np.float32)


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


def main() -> None:
    """Write `seed_N.png` for each seed into the current folder."""
    import onnxruntime

    parser = argparse.ArgumentParser(description="Make images with the exported network beside this file.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--labels", type=int, nargs="+", help="the class of each image (default: seed modulo classes)")
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1: likelier pixels (default: 1)")
    parser.add_argument("--guidance", type=float, default=1.0, help="strength of the class (default: 1, none)")
    options = parser.parse_args()
    here = Path(__file__)
    session = onnxruntime.InferenceSession(here.with_name(here.stem.removesuffix("_sample") + ".onnx"))
    settings = json.loads(session.get_modelmeta().custom_metadata_map["aigc"])["loop"]["settings"]
    if min(options.seeds) < 0 or options.temperature < 0:
        parser.error("seeds and the temperature are at least 0")
    if options.labels is not None:
        if len(options.labels) != len(options.seeds):
            parser.error("give one label for each seed")
        if not all(0 <= label < settings["num_classes"] for label in options.labels):
            parser.error(f"the model has {settings['num_classes']} classes")
    if options.guidance != 1 and not settings["has_guidance"]:
        parser.error("the model was not trained for guidance")
    images = sample(
        lambda inputs: session.run(None, dict(inputs)),
        settings, options.seeds, options.labels, options.temperature, options.guidance,
    )  # fmt: skip
    for seed, image in zip(options.seeds, images, strict=True):
        write_png(Path(f"seed_{seed}.png"), image)
        print(f"seed_{seed}.png")


if __name__ == "__main__":
    main()
