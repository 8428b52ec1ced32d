"""Sampling pictures from seeds and prompts into files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from aigc_lightning.core.chunks import ON_PROCESSORS, chunk_size, sampled_chunks
from aigc_lightning.core.io.pictures import (
    image_grid,
    is_written,
    near_square,
    read_pixels,
    save_png,
    to_picture,
    to_uint8,
)
from aigc_lightning.core.method_options import described_options, option_hashes
from aigc_lightning.data.console import watched
from aigc_lightning.errors import UserError
from aigc_lightning.inference.loaded_model import LoadedModel
from aigc_lightning.inference.model_options import check_condition, model_options
from aigc_lightning.inference.trust.signer import PictureSigner
from aigc_lightning.inference.trust.watermark import PictureMarker

_MOST_IN_GRID = 1024
_MOST_PICTURES = 1_000_000
_KNOWN = ("--seeds", "--out", "--grid", "--device", "--class", "--prompt", "--prompts", "--sign", "--watermark")


def write_samples(
    target: str | LoadedModel,
    seeds: list[int],
    out: Path,
    *,
    with_grid: bool,
    device: str,
    class_name: str | None = None,
    prompts: Sequence[str] = (),
    given: Mapping[str, str] | None = None,
    signer: PictureSigner | None = None,
    marker: PictureMarker | None = None,
) -> list[Path]:
    """Write `<seed>.png` for each seed and, if requested, `grid.png`; return the paths.

    With several prompts, each is drawn with each seed, as `<number of the prompt>_<seed>.png`, and the grid has one row
    per prompt. Pictures that are there already and say that they were made in the same way are kept, so that a call
    that was interrupted goes on where it stopped.

    Args:
        target: a run folder, a checkpoint or an exported file, or its model, if that is loaded already.
        seeds: at least one.
        out: the folder.
        with_grid: also write the grid.
        device: such as "cpu".
        class_name: class of the images; None for the model's default.
        prompts: texts of the images; none for the model's default.
        given: values of the model's own options, as texts.
        signer: signs the pictures, including those that were kept unsigned.
        marker: writes watermarks into the pictures, and into the grid as a whole.

    Raises:
        UserError: the checkpoint cannot be used, its model cannot generate these images, or the folder cannot be
            written to.
    """
    if len(seeds) * len(prompts) > _MOST_PICTURES:
        what = f"{len(prompts)} prompts with {len(seeds)} seeds are {len(seeds) * len(prompts)} pictures."
        raise UserError(what, f"Make up to {_MOST_PICTURES} in one call.")
    loaded = LoadedModel.of(target, device)
    chosen = model_options(loaded.generator(), "sample", given or {}, _KNOWN)
    if class_name is not None:
        loaded.class_number(class_name)  # which knows it, before anything is written
    if prompts:
        check_condition(loaded.model, "sample", "prompts")
    record = {"class": class_name, **_described(loaded.model, chosen)}
    _make_folder(out)
    pictures = _pictures(seeds, prompts, out)
    texts = [loaded.text([picture.seed], {**record, "prompt": picture.prompt}) for picture in pictures]
    full = [marker.text(text) for text in texts] if marker else texts
    places = [place for place, picture in enumerate(pictures) if not is_written(picture.path, full[place])]
    missing = [pictures[place] for place in places]
    chunks = sampled_chunks(
        loaded.generator(),
        [picture.seed for picture in missing],
        None if class_name is None else [loaded.class_number(class_name)] * len(missing),
        prompts=[str(picture.prompt) for picture in missing] if prompts else None,
        **chosen,
    )
    images = (image for chunk in chunks for image in to_uint8(chunk).cpu())
    for place, image in zip(places, watched(images, "Sampling", len(missing)), strict=True):
        shown, path = to_picture(image), pictures[place].path
        if marker:
            shown, full[place] = marker.marked(shown, texts[place], path)
        save_png(shown, path, full[place])
    if signer:
        for picture, text in zip(pictures, full, strict=True):
            if not signer.has_signed(picture.path):
                signer.sign(picture.path, text)
    if with_grid:
        _write_grid(pictures, len(seeds), out / "grid.png", loaded, record, signer, marker)
    return [picture.path for picture in pictures]


def _described(model: Any, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what pictures say of the options of `sample`: all values, and what they amount to."""
    chunk = chunk_size(model)
    evaluations = described_options(model, "sample", chosen).get("network_evaluations")
    own = {"chunk": None if chunk == ON_PROCESSORS else chunk, **chosen, "evaluations": evaluations}
    return own | option_hashes(model, chosen)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {out} cannot be written: {error.strerror}.", "Choose another --out.") from error


class _Picture(NamedTuple):
    """One picture to make."""

    seed: int
    prompt: str | None
    path: Path


def _pictures(seeds: Sequence[int], prompts: Sequence[str], out: Path) -> list[_Picture]:
    """Return every prompt with every seed, one prompt after the other."""
    digits, width = len(str(max(seeds))), len(str(len(prompts)))
    found = []
    for number, prompt in enumerate(prompts or (None,), 1):
        prefix = f"{number:0{width}d}_" if len(prompts) > 1 else ""
        found += [_Picture(seed, prompt, out / f"{prefix}{seed:0{max(6, digits)}d}.png") for seed in seeds]
    return found


def _write_grid(
    pictures: Sequence[_Picture],
    num_seeds: int,
    path: Path,
    loaded: LoadedModel,
    record: Mapping[str, Any],
    signer: PictureSigner | None,
    marker: PictureMarker | None,
) -> None:
    """Write the first pictures as a grid, with one row per prompt if there are several of both."""
    shown = pictures[:_MOST_IN_GRID]
    prompts = list(dict.fromkeys(picture.prompt for picture in shown if picture.prompt is not None))
    rows = len(pictures) > num_seeds > 1
    grid = image_grid(
        torch.stack([read_pixels(picture.path) for picture in shown]), num_seeds if rows else near_square(len(shown))
    )
    seeds = list(dict.fromkeys(picture.seed for picture in shown))
    asked = {"prompts": prompts} if len(prompts) > 1 else {"prompt": prompts[0] if prompts else None}
    text = loaded.text(seeds, {**record, **asked})
    if marker:
        grid, text = marker.marked(grid, text, path)
    save_png(grid, path, text)
    if signer:
        signer.sign(path, text)
