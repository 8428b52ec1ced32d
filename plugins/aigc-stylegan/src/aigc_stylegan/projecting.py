"""Projecting image files: results and progress.

Shapes: C channels, H and W height and width in pixels, S style size, L number of styles, N number of noise inputs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from aigc_lightning.core.checkpoint import file_hash
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.film import write_film
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.pictures import film_frame, image_grid, save_png, to_uint8
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.data.decode import decode
from aigc_lightning.evaluation.feature_network import PUBLISHED, FeatureNetwork
from aigc_lightning.metrics.pairs import psnr
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from aigc_stylegan.projection import LATENT_KIND, Step, distance_from, search
from aigc_stylegan.style_model import StyleModel

_STYLES = 10_000  # number of styles for their mean and spread, as in the paper
_FRAMES = 100  # maximum number per film


@dataclass(frozen=True)
class Search:
    """Settings of a projection.

    Args:
        space: "w", or "w+" for one style per layer.
        steps: number of optimizer steps.
        seed: seed of the initial noise.
        features: a run of `cnn`, "vgg16", "efficientnet_lite0", or None for pixels alone.
    """

    space: str
    steps: int
    seed: int
    features: str | None = None


def write_projections(model: StyleModel, files: Sequence[Path], how: Search, out: Path, film: str | None) -> None:
    """Project images and write, for each, the latent, a picture of target and projection, and a film of the search.

    Args:
        model: the model.
        files: the images; they are cropped to the model's size and converted to its channels.
        how: settings of the projection.
        out: folder for the results.
        film: extension of the film, "gif" or "mp4"; None for no film.

    Raises:
        UserError: a file is not an image, or the feature network is not available.
    """
    targets = [decode(path, model.model.spec.channels, size=model.model.spec.shape[1:]) for path in files]
    features = None if how.features is None else FeatureNetwork(how.features)
    styles, _ = model.sampled(_STYLES)
    mean = styles.mean(dim=0, keepdim=True)
    spread = (styles - mean).square().sum(dim=1).mean().sqrt().item()
    start = mean if how.space == "w" else mean[:, None].expand(-1, model.num_styles, -1)
    with _progress() as bar:
        for (path, target), stem in zip(zip(files, targets, strict=True), _stems(files), strict=True):
            task = bar.add_task(shown(path.name), total=how.steps, distance="")
            signed = target[None].float().div(127.5).sub(1).to(start)
            distance = distance_from(signed, features)
            steps = search(model.network.synthesis, distance, start, spread, steps=how.steps, seed=how.seed)
            watched = _watched(steps, bar, task)
            record = _record(model, path, how)
            result = _written(watched, target, out / stem, film, model, record, how.steps)
            score = psnr(to_uint8(result.image).cpu() / 255, target[None] / 255).item()
            results = [f"{out / stem}.{suffix}" for suffix in ("safetensors", "png", film) if suffix]
            line = f"{path.name}: distance {result.distance:.4f}, PSNR {score:.1f} dB: {', '.join(results)}"
            echo(line)


def _written(
    steps: Iterator[Step],
    target: Tensor,
    stem: Path,
    film: str | None,
    model: StyleModel,
    record: dict[str, Any],
    total: int,
) -> Step:
    """Run a search to its end, write its results and return the last step."""
    last: list[Step] = []
    every = -(-total // _FRAMES)

    def frames() -> Iterator[Image.Image]:
        for number, step in enumerate(steps):
            last[:] = [step]
            if number % every == 0 or number == total:
                yield film_frame(torch.cat([target, to_uint8(step.image)[0].cpu()], dim=2))

    text = model.text([], **record)
    if film is None:
        for _ in frames():
            pass
    else:
        write_film(frames(), stem.with_name(f"{stem.name}.{film}"), "\n".join(text.values()))
    result = last[0]
    pair = torch.stack([target, to_uint8(result.image)[0].cpu()])
    save_png(image_grid(pair, 2), stem.with_name(f"{stem.name}.png"), text)
    tensors = {"styles": result.styles[0], "noise": result.noise}
    model.save(stem.with_name(f"{stem.name}.safetensors"), LATENT_KIND, tensors, **record)
    return result


def _record(model: StyleModel, path: Path, how: Search) -> dict[str, Any]:
    """Return the options needed to reproduce a projection."""
    record: dict[str, Any] = {"command": "project", "image": shown(path.name), "image_sha256": file_hash(path)}
    record |= {"space": how.space, "steps": how.steps, "seed": how.seed}
    if how.features is not None:
        is_file = how.features not in PUBLISHED
        record["features"] = {how.features: file_hash(find_checkpoint(how.features))} if is_file else how.features
    return record


def _watched(steps: Iterator[Step], bar: Progress, task: TaskID) -> Iterator[Step]:
    for number, step in enumerate(steps):
        bar.update(task, completed=number, distance=f"{step.distance:.4f}")
        yield step


def _stems(files: Sequence[Path]) -> list[str]:
    """Return names for the results of files; repeated names get a number."""
    stems: list[str] = []
    for path in files:
        stem, number = path.stem, 2
        while stem in stems:
            stem, number = f"{path.stem}-{number}", number + 1
        stems.append(stem)
    return stems


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("distance {task.fields[distance]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)
