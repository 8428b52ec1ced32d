"""Images from the exported network of an `image_gpt`, `maskgit` or `var`. Needs NumPy and onnxruntime alone.

    python FILE_sample.py --seeds 0 1 2
    python FILE_sample.py --pictures photo.png --mask hole.png

The network is FILE.onnx beside this file; of an image's tokens it gives the logits of each, and of models with a
tokenizer also the image. Images are those of `aigc sample` for the same seeds, and classes or texts, or those of
`aigc edit` for the same pictures, as far as two tokens are not as good as equal. Without a cache of keys and values,
each step costs a pass over the whole image. Of models with a tokenizer, FILE_encode.onnx gives the tokens of pictures;
of `var` those that follow coarser tokens.

Papers: Chen et al., Generative Pretraining from Pixels, ICML 2020 (token by token); Chang et al., MaskGIT, CVPR 2022,
https://arxiv.org/abs/2202.04200 (the most confident tokens first); Tian et al., Visual Autoregressive Modeling, NeurIPS
2024, https://arxiv.org/abs/2404.02905 (scale by scale)
Shapes: B batch, N tokens of an image, L tokens of a text, P places, K codes, C channels, H and W height and width.
"""

import re
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aigc_lightning.core.exported_files import (
    Array,
    Run,
    Settings,
    asked,
    hole_shares,
    holes_of,
    opened,
    opened_beside,
    option_parser,
    text_tokens,
    write_images,
)

from aigc_autoregressive.exported_noise import gumbel

#: Returns the logits (B, N, K) of tokens (B, N), led to the class by a strength, of which 1 is none.
Predict = Callable[[Array, float], Array]
#: Kana and ideographs, each of which is a word.
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


class Known(NamedTuple):
    """Tokens that are given, and which of them are kept."""

    tokens: Callable[[Array], Array]  # of a picture, int64 (B, N), given coarser tokens (B, N) of models with scales
    kept: Array  # bool (B, N)


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
    pictures: Array | None = None,
    masks: Array | None = None,
    encode: Run | None = None,
) -> Array:
    """Return one image per seed, float32 (B, C, H, W) in [-1, 1]; with pictures, these with their holes filled.

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
        pictures: float32 (B, C, H, W) in [-1, 1].
        masks: (B, 1, H, W), 1 where pictures are filled and 0 where they stay as they are; the lower half by default.
        encode: of models with a tokenizer, the program that gives the tokens of pictures; with scales, of pictures and
            the coarser tokens.
    """
    shown, of_nothing = _conditions(settings, seeds, labels, prompts)
    if pictures is not None and prompts is None:
        shown = of_nothing

    def predict(tokens: Array, strength: float) -> Array:
        logits = run({"tokens": tokens, **shown})[0]
        if strength == 1:
            return logits
        open_ = run({"tokens": tokens, **of_nothing})[0]
        guided: Array = open_ + np.float32(strength) * (logits - open_)
        return guided

    def drawn(known: Known | None) -> Array:
        if settings["order"] == "confidence":
            tokens = _by_confidence(predict, settings, seeds, temperature, guidance, steps, choice_temperature, known)
        else:
            tokens = _in_parts(predict, settings, seeds, temperature, guidance, known)
        if not settings["has_tokenizer"]:
            return _of_levels(settings, tokens)
        return (run if images is None else images)({"tokens": tokens, **shown})[-1]

    return drawn(None) if pictures is None else _filled(drawn, settings, pictures, masks, encode)


def _filled(
    drawn: Callable[[Known], Array], settings: Settings, pictures: Array, masks: Array | None, encode: Run | None
) -> Array:
    """Return pictures whose holes have what is drawn given the tokens of the rest; each pass encodes them again."""
    holes = holes_of(pictures, masks)
    kept, filled = ~_touched(settings, holes), _covered(pictures, holes)
    for _ in range(settings["passes"]):
        known = Known(partial(_tokens, settings, encode, filled), kept)
        filled = np.where(holes, drawn(known), pictures)
    return filled


def _touched(settings: Settings, holes: Array) -> Array:
    """Return which tokens have a pixel in a hole, or at coarser scales half of their pixels, bool (B, N)."""
    *coarse, finest = settings["grids"]
    cells = [hole_shares(holes, grid) >= 0.5 for grid in coarse] + [hole_shares(holes, finest) > 0]
    places = np.concatenate([each.reshape(len(holes), -1) for each in cells], axis=1)
    return places.repeat(settings["tokens_of_place"], axis=1)


def _tokens(settings: Settings, encode: Run | None, images: Array, tokens: Array) -> Array:
    """Return the tokens of images (B, C, H, W), of models with scales given the coarser ones of other tokens."""
    if encode is None:
        return _levels(settings, images)
    return encode({"images": images, **({"given": tokens} if settings["order"] == "scales" else {})})[0]


def _of_levels(settings: Settings, tokens: Array) -> Array:
    """Return the images (B, C, H, W) of the levels of pixels, int64 (B, N)."""
    channels, height, width = settings["image_shape"]
    pixels = tokens.reshape(len(tokens), height, width, channels).transpose(0, 3, 1, 2)
    images: Array = pixels.astype(np.float32) * np.float32(2 / (settings["num_codes"] - 1)) - 1
    return images


def _levels(settings: Settings, images: Array) -> Array:
    last = settings["num_codes"] - 1
    levels = np.round((images + 1) * np.float32(last / 2)).clip(0, last).astype(np.int64)
    return levels.transpose(0, 2, 3, 1).reshape(len(images), -1)


def _covered(images: Array, holes: Array) -> Array:
    """Return images whose holes have the mean colour of the rest."""
    rest = ~holes
    mean = (images * rest).sum((2, 3), keepdims=True) / rest.sum((2, 3), keepdims=True).clip(1)
    return np.where(holes, mean.astype(np.float32), images)


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
    found = np.zeros((len(texts), length), np.int64)
    for row, text in zip(found, texts, strict=True):
        words = words_of(text, settings["num_word_rows"])[:length]
        row[: len(words)] = words
    return {"texts": text_tokens(texts, length), "words": found}


def words_of(text: str, num_rows: int) -> list[int]:
    """Return the numbers of a text's words and of its pairs of neighbours: checksums from 1 to the number of rows."""
    words = re.findall(rf"[{_ALONE}]|[^\s{_ALONE}]+", text.casefold())
    return [1 + zlib.crc32(part.encode()) % num_rows for part in (*words, *map(" ".join, pairwise(words)))]


def _in_parts(
    predict: Predict,
    settings: Settings,
    seeds: Sequence[int],
    temperature: float,
    guidance: float,
    known: Known | None = None,
) -> Array:
    """Return tokens, int64 (B, N), in parts of which each is drawn given those before: single tokens, or scales."""
    lengths, has_scales = settings["lengths"], settings["order"] == "scales"
    tokens, first = np.zeros((len(seeds), sum(lengths)), np.int64), 0
    kept = np.zeros_like(tokens, bool) if known is None else known.kept
    for number, length in enumerate(lengths):
        share = number / max(1, len(lengths) - 1) if has_scales else 1.0
        places = np.arange(first, first + length)
        if known is not None and (has_scales or number == 0):
            tokens[:, first:] = known.tokens(tokens)[:, first:]
        first += length
        if kept[:, places].all():
            continue
        logits = predict(tokens, 1 + share * (guidance - 1))[:, places]
        drawn = _drawn(logits, seeds, places, temperature)
        tokens[:, places] = np.where(kept[:, places], tokens[:, places], drawn)
    return tokens


def _by_confidence(
    predict: Predict,
    settings: Settings,
    seeds: Sequence[int],
    temperature: float,
    guidance: float,
    steps: int,
    choice_temperature: float,
    known: Known | None = None,
) -> Array:
    """Return tokens, int64 (B, N): at each step all that are masked are drawn, and the most confident ones stay."""
    (length,), mask = settings["lengths"], settings["num_codes"]
    tokens = np.full((len(seeds), length), mask, np.int64)
    if known is not None:
        tokens = np.where(known.kept, known.tokens(tokens), mask)
    at_first = (tokens == mask).sum(1)
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
        left = np.floor(at_first * np.cos(np.pi / 2 * (step + 1) / steps))
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


def main() -> None:
    """Write `seed_N.png` for each seed, or `NAME_edited.png` for each picture, into the current folder."""
    settings, run = opened(Path(__file__))
    parser = option_parser(settings)
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1: likelier tokens (default: 1)")
    if settings["order"] == "confidence":
        parser.add_argument("--steps", type=int, default=8, help="in which tokens are drawn (default: 8)")
        help_ = "of the noise on the confidences (default: 4.5)"
        parser.add_argument("--choice_temperature", type=float, default=4.5, help=help_)
    names, options = asked(parser, settings)
    if options["temperature"] < 0 or options.get("steps", 1) < 1 or options.get("choice_temperature", 0) < 0:
        parser.error("steps are at least 1, the temperatures at least 0")
    if "pictures" in options and settings["has_tokenizer"]:
        options["encode"] = opened_beside(Path(__file__), "encode")
    write_images(names, sample(run("logits"), settings, **options, images=run("images")))


if __name__ == "__main__":
    main()
