"""Sampling pictures from seeds and prompts into files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aigc_lightning.core.chunks import ON_PROCESSORS, chunk_size, sampled_chunks
from aigc_lightning.core.io.background import background_writer
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


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn.

    Args:
        seeds: at least one.
        class_name: class of the images; None for the model's default.
        prompts: texts of the images, each to be drawn with each seed; none for the model's default.
        given: values of the model's own options, as texts.
    """

    seeds: Sequence[int]
    class_name: str | None = None
    prompts: Sequence[str] = ()
    given: Mapping[str, str] = field(default_factory=dict)


class Drawing:
    """A model and what it is to draw, checked before anything is written.

    Args:
        target: a run folder, a checkpoint or an exported file, or its model, if that is loaded already.
        wanted: what is to be drawn.
        device: such as "cpu".

    Attributes:
        record: what all pictures say of how they were made.

    Raises:
        UserError: the checkpoint cannot be used, or its model cannot generate these images.
    """

    def __init__(self, target: str | LoadedModel, wanted: Wanted, device: str) -> None:
        count = len(wanted.seeds) * len(wanted.prompts)
        if count > _MOST_PICTURES:
            what = f"{len(wanted.prompts)} prompts with {len(wanted.seeds)} seeds are {count} pictures."
            raise UserError(what, f"Make up to {_MOST_PICTURES} in one call.")
        self.loaded, self.wanted = LoadedModel.of(target, device), wanted
        self._options = model_options(self.loaded.generator(), "sample", wanted.given, _KNOWN)
        name = wanted.class_name
        self._label = None if name is None else self.loaded.class_number(name)
        if wanted.prompts:
            check_condition(self.loaded.model, "sample", "prompts")
        self.record = {"class": name, **_described(self.loaded.model, self._options)}

    def pairs(self) -> list[tuple[int, str | None]]:
        """Return the seed and the prompt of each picture, one prompt after the other."""
        return [(seed, prompt) for prompt in self.wanted.prompts or (None,) for seed in self.wanted.seeds]

    def images(self, pairs: Sequence[tuple[int, str | None]]) -> Iterator[Tensor]:
        """Draw a picture for each seed and prompt: uint8 (C, H, W), with a progress bar if it takes long."""
        chunks = sampled_chunks(
            self.loaded.generator(),
            [seed for seed, _ in pairs],
            None if self._label is None else [self._label] * len(pairs),
            prompts=[str(prompt) for _, prompt in pairs] if self.wanted.prompts else None,
            **self._options,
        )
        return watched((image for chunk in chunks for image in to_uint8(chunk).cpu()), "Sampling", len(pairs))

    def text(self, seed: int, prompt: str | None) -> dict[str, str]:
        """Return the metadata of a picture."""
        return self.loaded.text([seed], {**self.record, "prompt": prompt})


def write_samples(
    target: str | LoadedModel,
    wanted: Wanted,
    out: Path,
    *,
    with_grid: bool,
    device: str,
    signer: PictureSigner | None = None,
    marker: PictureMarker | None = None,
) -> list[Path]:
    """Write `<seed>.png` for each seed and, if requested, `grid.png`; return the paths.

    With several prompts, each is drawn with each seed, as `<number of the prompt>_<seed>.png`, and the grid has one row
    per prompt. Pictures that are there already and say that they were made in the same way are kept, so that a call
    that was interrupted goes on where it stopped.

    Args:
        target: a run folder, a checkpoint or an exported file, or its model, if that is loaded already.
        wanted: what is to be drawn.
        out: the folder.
        with_grid: also write the grid.
        device: such as "cpu".
        signer: signs the pictures, including those that were kept unsigned.
        marker: writes watermarks into the pictures, and into the grid as a whole.

    Raises:
        UserError: as `Drawing`, or the folder cannot be written to.
    """
    drawing = Drawing(target, wanted, device)
    _make_folder(out)
    pictures = _pictures(drawing, out)
    texts = [drawing.text(picture.seed, picture.prompt) for picture in pictures]
    full = [marker.text(text) for text in texts] if marker else texts
    missing = [place for place, picture in enumerate(pictures) if not is_written(picture.path, full[place])]
    images = drawing.images([(pictures[place].seed, pictures[place].prompt) for place in missing])
    with background_writer() as write:  # while the networks draw the next ones
        for place, image in zip(missing, images, strict=True):
            shown, path = to_picture(image), pictures[place].path
            if marker:
                shown, full[place] = marker.marked(shown, texts[place], path)
            write(save_png, shown, path, full[place])
    if signer:
        for picture, text in zip(pictures, full, strict=True):
            if not signer.has_signed(picture.path):
                signer.sign(picture.path, text)
    if with_grid:
        _write_grid(drawing, pictures, out / "grid.png", signer, marker)
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


def _pictures(drawing: Drawing, out: Path) -> list[_Picture]:
    """Return every prompt with every seed, one prompt after the other."""
    seeds, prompts = drawing.wanted.seeds, drawing.wanted.prompts
    digits, width = max(6, len(str(max(seeds)))), len(str(len(prompts)))
    found = []
    for place, (seed, prompt) in enumerate(drawing.pairs()):
        prefix = f"{place // len(seeds) + 1:0{width}d}_" if len(prompts) > 1 else ""
        found.append(_Picture(seed, prompt, out / f"{prefix}{seed:0{digits}d}.png"))
    return found


def _write_grid(
    drawing: Drawing,
    pictures: Sequence[_Picture],
    path: Path,
    signer: PictureSigner | None,
    marker: PictureMarker | None,
) -> None:
    """Write the first pictures as a grid, with one row per prompt if there are several of both."""
    shown = pictures[:_MOST_IN_GRID]
    prompts = list(dict.fromkeys(picture.prompt for picture in shown if picture.prompt is not None))
    num_seeds = len(drawing.wanted.seeds)
    columns = num_seeds if len(pictures) > num_seeds > 1 else near_square(len(shown))
    grid = image_grid(torch.stack([read_pixels(picture.path) for picture in shown]), columns)
    seeds = list(dict.fromkeys(picture.seed for picture in shown))
    asked = {"prompts": prompts} if len(prompts) > 1 else {"prompt": prompts[0] if prompts else None}
    text = drawing.loaded.text(seeds, {**drawing.record, **asked})
    if marker:
        grid, text = marker.marked(grid, text, path)
    save_png(grid, path, text)
    if signer:
        signer.sign(path, text)
