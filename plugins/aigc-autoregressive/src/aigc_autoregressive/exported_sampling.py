"""Images from the exported network of an `image_gpt`, `maskgit` or `var`. Needs NumPy and onnxruntime alone.

    python FILE_sample.py --seeds 0 1 2

The network is FILE.onnx beside this file; of an image's tokens it gives the logits of each, and of models with a
tokenizer also the image. Images are those of `aigc sample` for the same seeds, and classes or texts, as far as two
tokens are not as good as equal. Without a cache of keys and values, each step costs a pass over the whole image.

Papers: Chen et al., Generative Pretraining from Pixels, ICML 2020 (token by token); Chang et al., MaskGIT, CVPR 2022,
https://arxiv.org/abs/2202.04200 (the most confident tokens first); Tian et al., Visual Autoregressive Modeling, NeurIPS
2024, https://arxiv.org/abs/2404.02905 (scale by scale)
Shapes: B batch, N tokens of an image, L tokens of a text, P places, K codes, C channels, H and W height and width.
"""

import argparse
import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: Takes arrays by name and returns the outputs in order.
Run = Callable[[Mapping[str, Array]], Sequence[Array]]
#: Returns the logits (B, N, K) of tokens (B, N), led to the class by a strength, of which 1 is none.
Predict = Callable[[Array, float], Array]
Settings = Mapping[str, Any]
#: Kana and ideographs, each of which is a word.
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


def sample(
    run: Run,
    settings: Settings,
    seeds: Sequence[int],
    labels: Sequence[int] | None = None,
    prompts: Sequence[str] | None = None,
    temperature: float = 1.0,
    guidance: float = 1.0,
    steps: int = 8,
    choice_temperature: float = 4.5,
    images: Run | None = None,
) -> Array:
    """Return one image per seed, float32 (B, C, H, W) in [-1, 1].

    Args:
        run: the exported network.
        settings: shape, codes, classes and order of the tokens, from the metadata.
        seeds: non-negative.
        labels: the class of each image, for models with classes; by default the seed modulo their number.
        prompts: the text of each image, for models with prompts; by default none.
        temperature: below 1 draws likelier tokens, 0 the likeliest.
        guidance: strength of the class or text; 1 is none.
        steps: of `maskgit`; in each, all tokens that are missing are drawn and the most confident ones stay.
        choice_temperature: of `maskgit`: of the noise on the confidences.
        images: the exported network where only the image is wanted, the last output of `run`.
    """
    shown, of_nothing = _conditions(settings, seeds, labels, prompts)

    def predict(tokens: Array, strength: float) -> Array:
        logits = run({"tokens": tokens, **shown})[0]
        if strength == 1:
            return logits
        open_ = run({"tokens": tokens, **of_nothing})[0]
        guided: Array = open_ + np.float32(strength) * (logits - open_)
        return guided

    if settings["order"] == "confidence":
        tokens = _by_confidence(predict, settings, seeds, temperature, guidance, steps, choice_temperature)
    else:
        tokens = _in_parts(predict, settings, seeds, temperature, guidance)
    if settings["has_tokenizer"]:
        found: Array = (run if images is None else images)({"tokens": tokens, **shown})[-1]
        return found
    channels, height, width = settings["shape"]
    pixels = tokens.reshape(len(seeds), height, width, channels).transpose(0, 3, 1, 2)
    result: Array = pixels.astype(np.float32) * np.float32(2 / (settings["num_codes"] - 1)) - 1
    return result


def _conditions(
    settings: Settings, seeds: Sequence[int], labels: Sequence[int] | None, prompts: Sequence[str] | None
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the inputs that say what the images are of, and those that leave it open."""
    count = len(seeds)
    if settings["num_classes"]:
        chosen = [seed % settings["num_classes"] for seed in seeds] if labels is None else labels
        return {"labels": np.asarray(chosen, np.int64)}, {"labels": np.full(count, settings["num_classes"], np.int64)}
    if settings["text_length"]:
        nothing = [""] * count
        return _texts(settings, nothing if prompts is None else prompts), _texts(settings, nothing)
    return {}, {}


def _texts(settings: Settings, texts: Sequence[str]) -> dict[str, Array]:
    """Return the numbers of texts' bytes and of their words, int64 (B, L) each.

    Raises:
        ValueError: a text that is too long.
    """
    length = settings["text_length"]
    found = np.zeros((2, len(texts), length), np.int64)
    for place, text in enumerate(texts):
        numbers = [1, *(2 + byte for byte in text.encode())]
        if len(numbers) > length:
            raise ValueError(f"A text has {len(numbers) - 1} bytes, and the model reads {length - 1}: {text[:40]!r}")
        words = words_of(text, settings["num_word_rows"])
        found[0, place, : len(numbers)], found[1, place, : len(words)] = numbers, words
    return {"texts": found[0], "words": found[1]}


def words_of(text: str, num_rows: int) -> list[int]:
    """Return the numbers of a text's words and of its pairs of neighbours: checksums from 1 to the number of rows."""
    words = re.findall(rf"[{_ALONE}]|[^\s{_ALONE}]+", text.casefold())
    return [1 + zlib.crc32(part.encode()) % num_rows for part in (*words, *map(" ".join, pairwise(words)))]


def _in_parts(predict: Predict, settings: Settings, seeds: Sequence[int], temperature: float, guidance: float) -> Array:
    """Return tokens, int64 (B, N), in parts of which each is drawn given those before: single tokens, or scales."""
    lengths = settings["lengths"]
    tokens, first = np.zeros((len(seeds), sum(lengths)), np.int64), 0
    for number, length in enumerate(lengths):
        share = number / max(1, len(lengths) - 1) if settings["order"] == "scales" else 1.0
        places = np.arange(first, first + length)
        logits = predict(tokens, 1 + share * (guidance - 1))[:, places]
        tokens[:, places] = _drawn(logits, seeds, places, temperature)
        first += length
    return tokens


def _by_confidence(
    predict: Predict,
    settings: Settings,
    seeds: Sequence[int],
    temperature: float,
    guidance: float,
    steps: int,
    choice_temperature: float,
) -> Array:
    """Return tokens, int64 (B, N): at each step all that are masked are drawn, and the most confident ones stay."""
    (length,), mask = settings["lengths"], settings["num_codes"]
    tokens = np.full((len(seeds), length), mask, np.int64)
    for step in range(steps):
        masked = tokens == mask
        logits = predict(tokens, guidance)
        places = step * (length + 1) + np.arange(length)  # a step has a key for each place and one more
        drawn = _drawn(logits, seeds, places, temperature)
        shifted = logits - logits.max(-1, keepdims=True)
        log_prob = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        confidence = np.take_along_axis(log_prob, drawn[..., None], axis=-1)[..., 0]
        noise = gumbel(seeds, [step * (length + 1) + length], length)[:, 0]
        confidence = confidence + np.float32(choice_temperature * (1 - (step + 1) / steps)) * noise
        left = np.floor(length * np.cos(np.pi / 2 * (step + 1) / steps))
        left = np.minimum(left, masked.sum(1) - 1)  # each step draws one at least
        ranks = np.where(masked, confidence, np.inf).argsort(1).argsort(1)
        tokens = np.where(masked & (ranks >= left[:, None]), drawn, tokens)
    return tokens


def _drawn(logits: Array, seeds: Sequence[int], places: Sequence[int] | Array, temperature: float) -> Array:
    """Return tokens, int64 (B, P), drawn from logits (B, P, K)."""
    if temperature > 0:
        logits = logits / np.float32(temperature) + gumbel(seeds, places, logits.shape[-1])
    tokens: Array = logits.argmax(-1)
    return tokens


def gumbel(seeds: Sequence[int], places: Sequence[int] | Array, count: int) -> Array:
    """Return the Gumbel noise of each token at some places, float32 (B, P, `count`), keyed by seed, place and token.

    A key is mixed by a round of SplitMix64 for each of its parts.
    """
    state = np.zeros((), np.uint64)
    keys = np.array(seeds, np.uint64)[:, None, None], np.array(places, np.uint64)[:, None]
    with np.errstate(over="ignore"):
        for part in (*keys, np.arange(count, dtype=np.uint64)):
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

    here = Path(__file__)
    session = onnxruntime.InferenceSession(here.with_name(here.stem.removesuffix("_sample") + ".onnx"))
    settings = json.loads(session.get_modelmeta().custom_metadata_map["aigc"])["loop"]["settings"]
    options = _options(settings)
    only_what_is_asked = onnxruntime.RunOptions()
    only_what_is_asked.only_execute_path_to_fetches = True

    def run(output: str) -> Run:
        return lambda inputs: session.run([output], dict(inputs), only_what_is_asked)

    images = sample(run("logits"), settings, **vars(options), images=run("images"))
    for seed, image in zip(options.seeds, images, strict=True):
        write_png(Path(f"seed_{seed}.png"), image)
        print(f"seed_{seed}.png")


def _options(settings: Settings) -> argparse.Namespace:
    """Return the arguments of `sample` from the command line, checked."""
    parser = argparse.ArgumentParser(description="Make images with the exported network beside this file.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    if settings["num_classes"]:
        help_ = "the class of each image (default: seed modulo classes)"
        parser.add_argument("--labels", type=int, nargs="+", help=help_)
    if settings["text_length"]:
        parser.add_argument("--prompts", nargs="+", help="the text of each image (default: none), or one for all")
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1: likelier tokens (default: 1)")
    if settings["has_guidance"]:
        parser.add_argument("--guidance", type=float, default=1.0, help="strength of class or text (default: 1, none)")
    if settings["order"] == "confidence":
        parser.add_argument("--steps", type=int, default=8, help="in which tokens are drawn (default: 8)")
        parser.add_argument(
            "--choice_temperature", type=float, default=4.5, help="of the noise on the confidences (default: 4.5)"
        )
    options = parser.parse_args()
    if min(options.seeds) < 0 or options.temperature < 0:
        parser.error("seeds and the temperature are at least 0")
    if settings["order"] == "confidence" and (options.steps < 1 or options.choice_temperature < 0):
        parser.error("steps are at least 1, the choice temperature at least 0")
    if getattr(options, "labels", None) is not None:
        if len(options.labels) != len(options.seeds):
            parser.error("give one label for each seed")
        if not all(0 <= label < settings["num_classes"] for label in options.labels):
            parser.error(f"the model has {settings['num_classes']} classes")
    if getattr(options, "prompts", None) is not None:
        if len(options.prompts) == 1:
            options.prompts *= len(options.seeds)
        if len(options.prompts) != len(options.seeds):
            parser.error("give one prompt, or one for each seed")
        if max(len(text.encode()) for text in options.prompts) >= settings["text_length"]:
            parser.error(f"prompts have at most {settings['text_length'] - 1} bytes")
    return options


if __name__ == "__main__":
    main()
