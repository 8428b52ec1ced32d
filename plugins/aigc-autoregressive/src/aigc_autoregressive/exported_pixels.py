"""Images from the exported network of a `pixelcnn` or `pixelrnn`. Needs NumPy and onnxruntime alone.

    python FILE_sample.py --seeds 0 1 2
    python FILE_sample.py --pictures photo.png --mask hole.png

The network is FILE.onnx beside this file; of images it gives the distribution of each pixel by those before it. Images
are those of `aigc sample` for the same seeds and classes, or those of `aigc edit` for the same pictures, as far as two
levels are not as good as equal. Each pixel costs a pass over the whole image, in `pixelrnn` each channel of it. With
classes, FILE_log_prob.onnx tells of which class a picture is.

Papers: Salimans et al., PixelCNN++, ICLR 2017, https://arxiv.org/abs/1701.05517 (mixtures of logistic distributions);
van den Oord et al., Pixel Recurrent Neural Networks, ICML 2016, https://arxiv.org/abs/1601.06759 (levels)
Shapes: B batch, C channels, H and W height and width, K components of a mixture, L levels, D parameters of a pixel.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from aigc_lightning.core.exported_files import (
    Array,
    Run,
    Settings,
    asked,
    holes_of,
    opened,
    opened_beside,
    option_parser,
    write_images,
)

from aigc_autoregressive.exported_noise import to_gumbel, uniform

#: Returns what the network says of the pixels of images (B, C, H, W).
Predict = Callable[[Array], Array]


def sample(
    run: Run,
    settings: Settings,
    seeds: Sequence[int],
    labels: Sequence[int] | None = None,
    temperature: float = 1.0,
    pictures: Array | None = None,
    masks: Array | None = None,
    log_prob: Run | None = None,
) -> Array:
    """Return one image per seed, float32 (B, C, H, W) in [-1, 1]; with pictures, these with their holes filled.

    Args:
        run: the exported network.
        settings: shape, levels, classes and distribution of the pixels, from the metadata.
        seeds: non-negative.
        labels: the class of each image, for models with classes; by default the seed modulo their number.
        temperature: below 1 draws likelier pixels, 0 the likeliest.
        pictures: float32 (B, C, H, W) in [-1, 1].
        masks: (B, 1, H, W), 1 where pictures are filled and 0 where they stay as they are; the lower half by default.
        log_prob: for pictures and models with classes, the program that gives log-probabilities of pixels.
    """
    chosen = [seed % max(1, settings["num_classes"]) for seed in seeds] if labels is None else labels
    images = np.zeros((len(seeds), *settings["image_shape"]), np.float32)
    holes = np.ones_like(images[:, :1], bool)
    if pictures is not None:
        holes = holes_of(pictures, masks)
        chosen = chosen if log_prob is None else _likely_classes(log_prob, settings, pictures, holes, seeds)
        images = np.where(holes, np.float32(0), pictures)
    condition = {"labels": np.asarray(chosen, np.int64)} if settings["num_classes"] else {}

    def predict(images: Array) -> Array:
        return run({"images": images, **condition})[0]

    draw = _from_mixture if settings["num_components"] else _from_levels
    height, width = images.shape[2:]
    for place in range(height * width):
        at = (slice(None), slice(None), *divmod(place, width))
        if holes[at].any():
            numbers = uniform(seeds, [place], settings["num_draws"])[:, 0]
            pixel = draw(predict, settings, images.copy(), place, numbers, temperature)
            images[at] = np.where(holes[at], pixel, images[at])
    return images


def _likely_classes(
    log_prob: Run, settings: Settings, pictures: Array, holes: Array, seeds: Sequence[int]
) -> list[int]:
    """Draw a class for each picture from its probability given the pixels before the first hole."""
    count, before = len(pictures), holes.reshape(len(pictures), -1).cumsum(1) == 0
    evidence = np.empty((settings["num_classes"], count))
    for label in range(len(evidence)):
        found = log_prob({"images": pictures, "labels": np.full(count, label, np.int64)})[0].reshape(count, -1)
        evidence[label] = np.where(before, found, 0).sum(1)
    shares = np.exp(evidence - evidence.max(0))
    shares = (shares / shares.sum(0)).cumsum(0)
    draws = uniform(seeds, [before.shape[1]], 1)[:, 0, 0]
    classes: list[int] = (shares[:-1] <= draws).sum(0).tolist()
    return classes


def _from_levels(
    predict: Predict, settings: Settings, images: Array, place: int, numbers: Array, temperature: float
) -> Array:
    """Draw a pixel of each image, (B, C), from logits (B, C, L, H, W); it is written into the images.

    `numbers` (B, C L) are from 0 to below 1.
    """
    row, column = divmod(place, images.shape[3])
    noise = np.float32(temperature) * to_gumbel(numbers).reshape(*images.shape[:2], -1)
    for channel in range(images.shape[1]):
        logits = predict(images)[:, channel, :, row, column]
        images[:, channel, row, column] = _value(settings, (logits + noise[:, channel]).argmax(-1))
    return images[:, :, row, column]


def _from_mixture(
    predict: Predict, settings: Settings, images: Array, place: int, numbers: Array, temperature: float
) -> Array:
    """Draw a pixel of each image, (B, C), from the parameters (B, D, H, W) of mixtures of logistic distributions.

    `numbers` (B, K + C) are from 0 to below 1.
    """
    (count, channels), parts = images.shape[:2], settings["num_components"]
    output = predict(images)[(slice(None), slice(None), *divmod(place, images.shape[3]))]
    logits, means, log_scales, below = np.split(output, np.cumsum([parts, parts * channels, parts * channels]), axis=1)
    choice, position = numbers[:, :parts], np.maximum(numbers[:, parts:], 2.0**-54)
    chosen = np.arange(count), (logits + np.float32(temperature) * to_gumbel(choice)).argmax(-1)
    mean, log_scale = (part.reshape(count, parts, channels)[chosen] for part in (means, log_scales))
    coefficients = np.zeros((count, channels, channels), np.float32)
    coefficients[:, *np.tril_indices(channels, -1)] = np.tanh(below.reshape(count, parts, -1)[chosen])
    logistic = np.log(position / (1 - position)).astype(np.float32)
    offset = np.float32(temperature) * np.exp(np.maximum(log_scale, settings["least_log_scale"])) * logistic
    last = settings["num_levels"] - 1
    pixel: Array = np.zeros_like(mean)
    for channel in range(channels):
        middle = mean[:, channel] + (coefficients[:, channel] * pixel).sum(-1)
        level = np.round((middle + offset[:, channel] + 1) * np.float32(last / 2)).clip(0, last)
        pixel[:, channel] = _value(settings, level)
    return pixel


def _value(settings: Settings, levels: Array) -> Array:
    """Return the values in [-1, 1] of levels, float32."""
    values: Array = levels.astype(np.float32) * np.float32(2 / (settings["num_levels"] - 1)) - 1
    return values


def main() -> None:
    """Write `seed_N.png` for each seed, or `NAME_edited.png` for each picture, into the current folder."""
    settings, run = opened(Path(__file__))
    parser = option_parser(settings)
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1: likelier pixels (default: 1)")
    names, options = asked(parser, settings)
    if options["temperature"] < 0:
        parser.error("the temperature is at least 0")
    if "pictures" in options and settings["num_classes"]:
        options["log_prob"] = opened_beside(Path(__file__), "log_prob")
    write_images(names, sample(run("parameters"), settings, **options))


if __name__ == "__main__":
    main()
