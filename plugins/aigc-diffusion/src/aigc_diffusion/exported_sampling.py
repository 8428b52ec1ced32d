"""Images from the exported network of a diffusion model. Needs NumPy and onnxruntime alone.

    python FILE_sample.py --seeds 0 1 2
    python FILE_sample.py --pictures photo.png

The network is FILE.onnx beside this file, and its metadata say of which process it is. Images are those of
`aigc sample` for the same seeds, and classes or texts, or those of `aigc edit` for the same pictures: by
DPM-Solver++(2M), or Euler's method for MeanFlow.

Papers: Lu et al., DPM-Solver++, 2022, https://arxiv.org/abs/2211.01095 (algorithm 2); Karras et al., EDM, NeurIPS 2022,
https://arxiv.org/abs/2206.00364 (table 1); Geng et al., MeanFlow, NeurIPS 2025, https://arxiv.org/abs/2505.13447;
Meng et al., SDEdit, ICLR 2022, https://arxiv.org/abs/2108.01073 (edits)
Shapes: B batch, C channels, H and W height and width, K noise levels of a sample, L tokens of a text. Times t go from
the largest to 0, and states are alpha(t) image + t noise, where alpha is 1 for EDM, else 1 - t.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import hypot, inf, log
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aigc_lightning.core.exported_files import (
    Array,
    Run,
    Settings,
    asked,
    opened,
    opened_beside,
    option_parser,
    pooled,
    text_tokens,
    write_images,
)

#: The previous estimate of the images, and its lambda.
Last = tuple[Array, float]


class Known(NamedTuple):
    """Pictures or latents that are given, and what of them is to change."""

    states: Array  # (B, C, H, W)
    fill: Array  # bool (B, 1, H, W)
    strength: float  # share of the sampler's time


def sample(
    run: Run,
    settings: Settings,
    seeds: Sequence[int],
    labels: Sequence[int] | None = None,
    prompts: Sequence[str] | None = None,
    steps: int = 18,
    guidance: float = 1.0,
    images: Run | None = None,
    pictures: Array | None = None,
    masks: Array | None = None,
    strength: float = 0.0,
    encode: Run | None = None,
) -> Array:
    """Return one image per seed, float32 (B, C, H, W) in [-1, 1]; with pictures, these as they were edited.

    Args:
        run: the exported network.
        settings: of the process, from the metadata.
        seeds: non-negative.
        labels: the class of each image, for models with classes; by default the seed modulo their number.
        prompts: the text of each image, for models with prompts; by default none.
        steps: of the sampler.
        guidance: strength of the class or text; 1 is none.
        images: for models of latents, the exported network where only the image is wanted, the last output of `run`.
        pictures: float32 (B, C, H, W) in [-1, 1]: what models of pairs translate, and others noise and denoise.
        masks: (B, 1, H, W), 1 where pictures are filled in; all else stays as it is. None for everywhere.
        strength: share of the sampler's time for which pictures are noised; 0 chooses 0.6, and 1 with masks.
        encode: for models of latents, the program that makes them of pictures.
    """
    noise = np.stack([normal(seed, settings["shape"]) for seed in seeds])
    condition = condition_of(settings, seeds, labels, prompts, pictures)
    if pictures is None or settings["edits"] == "pairs":
        states = denoised(run, settings, noise, condition, steps, guidance)
        return _pictured(run if images is None else images, settings, states, condition)
    fill = np.ones_like(pictures[:, :1], bool) if masks is None else masks > 0
    given = pictures if encode is None else encode({"images": pictures})[0]
    known = Known(given, pooled(fill, settings["shape"][1:]), strength or (0.6 if masks is None else 1.0))
    states = np.where(known.fill, denoised(run, settings, noise, condition, steps, guidance, known), given)
    return np.where(fill, _pictured(run if images is None else images, settings, states, condition), pictures)


def _pictured(run: Run, settings: Settings, states: Array, condition: Mapping[str, Array]) -> Array:
    """Return the images of states that are free of noise, float32 (B, C, H, W) in [-1, 1]."""
    if not settings["has_images"]:
        return np.clip(states, -1, 1)
    levels = np.tile(np.asarray(_levels(settings, settings["min_time"], 0.0), np.float32), (len(states), 1))
    return run({"states": states, "levels": levels, **condition})[-1]


def condition_of(
    settings: Settings,
    seeds: Sequence[int],
    labels: Sequence[int] | None,
    prompts: Sequence[str] | None,
    pictures: Array | None = None,
) -> dict[str, Array]:
    """Return the input that says what the images are of, by its name; none for models of images alone."""
    if settings["edits"] == "pairs":
        if pictures is None:
            raise ValueError("The model translates or restores pictures, and none are given.")
        return {"sources": pictures}
    if settings["num_classes"]:
        chosen = [seed % settings["num_classes"] for seed in seeds] if labels is None else labels
        if pictures is not None:  # these are of no class
            chosen = [settings["num_classes"]] * len(pictures)
        return {"labels": np.asarray(chosen, np.int64)}
    if settings["text_length"]:
        return {"texts": text_tokens([""] * len(seeds) if prompts is None else prompts, settings["text_length"])}
    return {}


def denoised(
    run: Run,
    settings: Settings,
    noise: Array,
    condition: Mapping[str, Array],
    steps: int,
    guidance: float = 1.0,
    known: Known | None = None,
) -> Array:
    """Return the states to which standard normal noise, float32 (B, C, H, W), leads, not clipped; see `sample`."""
    x, times = (noise * np.float32(settings["max_time"])).astype(np.float64), grid(settings, steps)
    if known is not None:
        times = times[min(round((1 - known.strength) * steps), steps - 1) :]
        x = _noised(settings, known.states, noise, times[0])
    last: Last | None = None
    for t, s in pairwise(times.tolist()):
        if settings["process"] == "mean_flow":
            x = x + (s - t) * _predicted(run, settings, x, t, s, condition, guidance)
        else:
            output = _predicted(run, settings, x, t, t, condition, guidance)
            x, last = _multistep(settings, x, t, s, _image(settings, x, t, output), last)
        if known is not None:
            x = np.where(known.fill, x, _noised(settings, known.states, noise, s))
    return x.astype(np.float32)


def _multistep(settings: Settings, x: Array, t: float, s: float, x0: Array, last: Last | None) -> tuple[Array, Last]:
    """Return the states at time s for those at time t, in which the network sees the images x0; and what to keep."""
    mixed, now, then = x0, _lambda(settings, t), _lambda(settings, s)
    if last is not None and then < inf and last[1] > -inf:
        mixed = x0 + (then - now) / (2 * (now - last[1])) * (x0 - last[0])
    return s / t * x + (_alpha(settings, s) - s * _alpha(settings, t) / t) * mixed, (x0, now)


def _noised(settings: Settings, clean: Array, noise: Array, t: float) -> Array:
    states: Array = _alpha(settings, t) * clean.astype(np.float64) + t * noise.astype(np.float64)
    return states


# ---- processes


def grid(settings: Settings, steps: int) -> Array:
    """Return the times (steps + 1,) of the sampler, from the largest to 0, float64."""
    if steps < 1:
        raise ValueError(f"The sampler cannot make {steps} steps.")
    count = len(settings["times"]) - 1  # of VP's own steps; -1 for the others
    if settings["process"] == "vp" and steps <= count:
        return _time_of_step(settings, _spaced(count, 0, steps + 1))
    if settings["process"] in ("flow", "mean_flow"):
        times = _shifted(settings, _spaced(1, 0, steps + 1))
        if times[-2] >= settings["min_time"]:
            return times
    share = _spaced(0, 1, steps)
    low, high = settings["min_time"], settings["max_time"]
    if settings["process"] == "edm":
        root = 1 / settings["rho"]
        times = (high**root + share * (low**root - high**root)) ** settings["rho"]
    elif settings["process"] == "vp":
        times = _time_of_step(settings, count + (1 - count) * share)
    else:
        times = _shifted(settings, high + (low - high) * share).clip(low)
    return np.append(times, 0.0)


def _predicted(
    run: Run, settings: Settings, x: Array, t: float, s: float, condition: Mapping[str, Array], guidance: float
) -> Array:
    """Return what the network says about states x at time t, from which a step leads to s."""
    inputs = {"states": (_input_scale(settings, t) * x).astype(np.float32)}
    inputs["levels"] = np.tile(np.asarray(_levels(settings, t, s), np.float32), (len(x), 1))
    output = run({**inputs, **condition})[0]
    if guidance != 1:
        other = run({**inputs, **_of_nothing(settings, condition)})[0]
        output = other + np.float32(guidance) * (output - other)
    return output.astype(np.float64)


def _of_nothing(settings: Settings, condition: Mapping[str, Array]) -> dict[str, Array]:
    """Return the input that says that the images are of no class, or no text."""
    if "texts" in condition:
        return {"texts": text_tokens([""] * len(condition["texts"]), settings["text_length"])}
    return {"labels": np.full(len(condition["labels"]), settings["num_classes"], np.int64)}


def _image(settings: Settings, x: Array, t: float, output: Array) -> Array:
    """Return the image in states x at time t, if the network predicts a image + b noise."""
    scale = _input_scale(settings, t)
    if settings["process"] == "edm":
        a, b = t * scale / settings["sigma_data"], -settings["sigma_data"] * scale
    elif settings["prediction"] == "v":
        a, b = (-t * scale, (1 - t) * scale) if settings["process"] == "vp" else (-1.0, 1.0)
    else:
        a, b = (0.0, 1.0) if settings["prediction"] == "eps" else (1.0, 0.0)
    determinant = _alpha(settings, t) * b - t * a
    image: Array = b / determinant * x - t / determinant * output
    return image


def _alpha(settings: Settings, t: float) -> float:
    return 1.0 if settings["process"] == "edm" else 1.0 - t


def _lambda(settings: Settings, t: float) -> float:
    alpha = _alpha(settings, t)
    if alpha <= 0:
        return -inf
    return log(alpha / t) if t > 0 else inf


def _input_scale(settings: Settings, t: float) -> float:
    if settings["process"] == "edm":
        return 1 / hypot(t, settings["sigma_data"])
    return 1 / hypot(t, 1 - t) if settings["process"] == "vp" else 1.0


def _levels(settings: Settings, t: float, s: float) -> list[float]:
    """Return the noise levels (K,) that the network is told."""
    if settings["process"] == "edm":
        return [log(t) / 4]
    if settings["process"] == "vp":
        times = settings["times"]
        return [max(float(np.interp(t, times, np.arange(len(times)))) - 1, 0.0)]
    return [1000 * t] if settings["process"] == "flow" else [1000 * t, 1000 * (t - s)]


def _shifted(settings: Settings, times: Array) -> Array:
    shift: float = settings["shift"]
    result: Array = shift * times / (1 + (shift - 1) * times)
    return result


def _time_of_step(settings: Settings, indices: Array) -> Array:
    times = np.asarray(settings["times"])
    exact = np.round(indices) if len(indices) <= len(times) else indices
    result: Array = np.interp(exact, np.arange(len(times)), times)
    return result


def _spaced(first: float, last: float, count: int) -> Array:
    """Return numbers at equal distances, rounded as PyTorch does: the second half is counted from the end."""
    places, step = np.arange(count), (last - first) / max(count - 1, 1)
    return np.where(places < max(count // 2, 1), first + step * places, last - step * (count - 1 - places))


# ---- noise


def normal(seed: int, shape: Sequence[int]) -> Array:
    """Return the standard normal numbers, float32 (C, H, W), that PyTorch draws for a seed of `aigc`.

    Both draw 32-bit numbers of the Mersenne twister, and PyTorch makes normal ones of them in blocks of 16 (Box and
    Muller); the last block is drawn again if it is not whole. Fewer than 16 numbers are made in pairs, of 53 bits each.
    """
    state = np.random.RandomState((_mixed(seed) >> 1) & 0xFFFFFFFF)
    count = int(np.prod(shape))
    if count < 16:
        pairs = state.randint(0, 2**32, ((count + 1) // 2, 2, 2), dtype=np.uint32).astype(np.uint64)
        angle, radius = ((pairs[..., 0] << np.uint64(32) | pairs[..., 1]) % np.uint64(2**53) * 2.0**-53).T
        radius, angle = np.sqrt(-2 * np.log1p(-radius)), 2 * np.pi * angle
        few = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]
        return few.astype(np.float32).reshape(tuple(shape))
    numbers = _uniform(state, count)
    whole = count // 16 * 16
    values = np.append(_box_muller(numbers[:whole]), numbers[whole:])
    if whole < count:
        values[-16:] = _box_muller(_uniform(state, 16))
    return values.astype(np.float32).reshape(tuple(shape))


def _uniform(state: np.random.RandomState, count: int) -> Array:
    return (state.randint(0, 2**32, count, dtype=np.uint32) & 0xFFFFFF) * 2.0**-24


def _box_muller(numbers: Array) -> Array:
    first, second = np.split(numbers.reshape(-1, 16), 2, axis=1)
    radius, angle = np.sqrt(-2 * np.log(1 - first)), 2 * np.pi * second
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


def _mixed(seed: int) -> int:
    """Return 64 well-mixed bits: one round of SplitMix64."""
    every = 2**64 - 1
    state = (seed + 0x9E3779B97F4A7C15) & every
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & every
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & every
    return state ^ (state >> 31)


# ---- the program


def main() -> None:
    """Write `seed_N.png` for each seed, or `NAME_edited.png` for each picture, into the current folder."""
    settings, run = opened(Path(__file__))
    parser = option_parser(settings)
    parser.add_argument("--steps", type=int, default=18, help="of the sampler (default: 18)")
    if settings["edits"] == "holes":
        help_ = "share of the noise from which pictures are made anew (default: 0.6, with a mask 1)"
        parser.add_argument("--strength", type=float, default=0.0, help=help_)
    names, options = asked(parser, settings)
    if options["steps"] < 1 or not 0 <= options.get("strength", 0) <= 1:
        parser.error("steps are at least 1, the strength is from 0 to 1")
    if "pictures" in options and settings["edits"] == "holes" and settings["has_images"]:
        options["encode"] = opened_beside(Path(__file__), "encode")
    write_images(names, sample(run("predictions"), settings, **options, images=run("images")))


if __name__ == "__main__":
    main()
