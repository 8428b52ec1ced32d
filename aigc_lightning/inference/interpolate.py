"""Films and pictures of interpolations in a latent space."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from aigc_lightning.core.capabilities import InvertibleGenerator, LatentGenerator, latent_spaces, num_sampled_classes
from aigc_lightning.core.chunks import chunk_size, padded, padded_rows, parts
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.film import write_film
from aigc_lightning.core.io.pictures import film_frame, image_grid, save_png, to_uint8
from aigc_lightning.core.method_options import option_hashes
from aigc_lightning.data.decode import CorruptImageError, decode
from aigc_lightning.data.sources import to_signed
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.inference.latent_walk import closed_walk, slerp, traversal
from aigc_lightning.inference.loaded_model import LoadedModel
from aigc_lightning.inference.model_options import check_condition, model_options
from aigc_lightning.inference.trust.signer import PictureSigner
from aigc_lightning.inference.trust.watermark import PictureMarker

_MOST_COLUMNS = 16  # maximum number of columns in the strip
_STEPS = 9  # columns in a row from one seed to the next, and in a traversal
_REACH = 3.0  # standard deviations
_OPTIONS = (
    *("--seeds", "--pictures", "--frames", "--out", "--grid", "--traverse"),
    *("--class", "--prompt", "--space", "--device", "--sign", "--watermark"),
)


class LatentModel:
    """A model with a latent space to interpolate in, from a run or checkpoint.

    Args:
        target: a run folder or a checkpoint, or its model, if that is loaded already.
        device: such as "cpu".
        class_name: class of the images; None for the first class of a class-conditional model.
        space: name of the latent space; None for the standard normal one.
        given: values of the model's own options, as texts.
        prompt: text of the images; None for a model's default.

    Attributes:
        class_name: class of the images; None for an unconditional model.

    Raises:
        UserError: the checkpoint cannot be used, its model has no latents or no such class, space or option, or there
            is no such device.
    """

    def __init__(
        self,
        target: str | LoadedModel,
        device: str,
        class_name: str | None,
        space: str | None = None,
        given: Mapping[str, str] | None = None,
        prompt: str | None = None,
    ) -> None:
        self._loaded = LoadedModel.of(target, device)
        model = self._loaded.model
        if not isinstance(model, LatentGenerator):
            raise UserError(
                f"The {type(model).__name__} in {self._loaded.path} has no latent space to interpolate in.",
                "Use a model that makes images from latents, such as dcgan.",
            )
        self._options = model_options(model, "decode", given or {}, _OPTIONS)
        if class_name is None and num_sampled_classes(model):
            class_name = model.spec.class_names[0]
        self.class_name = class_name
        if prompt is not None:
            check_condition(model, "decode", "prompts")
        self._prompt = prompt
        self._label = None if class_name is None else self._loaded.class_number(class_name)
        self._space = _checked_space(model, space)

    def inverted(self, pictures: Sequence[Path]) -> Tensor:
        """Return the latents (B, ...) of picture files, which are cropped and resized to the model's images.

        Raises:
            UserError: the model finds no latents of images, or only in another space, or a file cannot be read.
        """
        model = self._loaded.model
        if not isinstance(model, InvertibleGenerator) or self._space:
            where = f" in the space {self._space}" if self._space else ""
            what = f"{type(model).__name__} finds no latents of pictures{where}."
            raise UserError(what, "Give --seeds, or use a model such as vae or diffusion.")
        shape, read = model.spec.shape, []
        for path in pictures:
            try:
                read.append(to_signed(decode(path, shape[0], size=shape[1:])))
            except CorruptImageError as error:
                raise UserError(f"{shown(path)} cannot be read: {error.reason}.", "Give another one.") from error
        images, size, found = torch.stack(read), chunk_size(model), []
        invert: Any = model.invert
        for part in torch.split(images, size):
            asked = self._conditions_of(size)
            found.append(invert(padded_rows(part, size).to(model.device), **asked)[: len(part)])
        return torch.cat(found)

    def latents(self, seeds: list[int]) -> Tensor:
        """Return the latents (B, ...) of seeds, in chunks like samples."""
        model: Any = self._loaded.model
        size, found = chunk_size(model), []
        for part in parts(len(seeds), size):
            chosen = padded([seeds[place] for place in part], size)
            asked = {**self._conditions_of(size), "space": self._space} if self._space else {}
            found.append(model.latents(chosen, **asked)[: len(part)])
        return torch.cat(found)

    def images(self, latents: Tensor) -> Tensor:
        """Return images, uint8 (B, C, H, W), in chunks, so that a seed's image is the one that `sample` makes."""
        model: Any = self._loaded.model
        asked = {**self._options, **({"space": self._space} if self._space else {})}
        size, found = chunk_size(model), []
        for part in torch.split(latents, size):
            images = model.decode(padded_rows(part, size), **self._conditions_of(size), **asked)[: len(part)]
            found.append(to_uint8(images).cpu())
        return torch.cat(found)

    def frames(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the images, uint8 (C, H, W), of latents that come in pieces (B, ...), many at a time."""
        size, waiting = chunk_size(self._loaded.model), []
        for latent in (row[None] for piece in latents for row in piece):
            waiting.append(latent)
            if len(waiting) == size:
                yield from self.images(torch.cat(waiting))
                waiting = []
        if waiting:
            yield from self.images(torch.cat(waiting))

    def _conditions_of(self, count: int) -> dict[str, list[Any]]:
        """Return class and prompt for so many images, where they are given."""
        given = {"labels": self._label, "prompts": self._prompt}
        return {name: [value] * count for name, value in given.items() if value is not None}

    def walk(self, latents: Tensor, frames: int) -> Iterator[Tensor]:
        """Yield the latents of a closed walk: along arcs if they are standard normal, else straight lines."""
        return closed_walk(latents, frames, torch.lerp if self._space else slerp)

    def text(self, seeds: list[int], **options: Any) -> dict[str, str]:
        """Return the metadata for a picture of these seeds made with these options of the command."""
        conditions = {"class": self.class_name, "prompt": self._prompt, "space": self._space}
        own = {**self._options, **option_hashes(self._loaded.model, self._options)}
        return self._loaded.text(seeds, {**options, **conditions, **own})


def write_walk(
    model: LatentModel,
    seeds: list[int],
    frames: int,
    out: Path,
    *,
    with_grid: bool,
    pictures: Sequence[Path] = (),
    signer: PictureSigner | None = None,
    marker: PictureMarker | None = None,
) -> list[Path]:
    """Write a film that interpolates from seed to seed and back to the first, a strip of its steps, and perhaps a grid.

    Args:
        model: the model.
        seeds: at least two, or none.
        frames: number of frames from one seed to the next.
        out: a .gif or .mp4 file; `<stem>_strip.png` and `<stem>_grid.png` are written beside it.
        with_grid: also write the grid, with one row from each seed to the next.
        pictures: files to walk between, in place of seeds.
        signer: signs the film and the pictures.
        marker: writes watermarks into the frames and into the pictures.

    Returns:
        The files.
    """
    latents = model.inverted(pictures) if pictures else model.latents(seeds)
    text = model.text(seeds, frames=frames, pictures=[path.name for path in pictures] or None)
    total = len(latents) * frames
    count = min(total, _MOST_COLUMNS)
    columns = {number * total // count for number in range(count)}
    strip: list[Tensor] = []

    def drawn() -> Iterator[Image.Image]:
        for number, image in enumerate(model.frames(model.walk(latents, frames))):
            if number in columns:
                strip.append(image)
            yield marker.frame(film_frame(image), text) if marker else film_frame(image)

    told = {out: marker.text(text) if marker else text}
    write_film(drawn(), out, "\n".join(told[out].values()))
    pictures_of = {"strip": (torch.stack(strip), count)}
    if with_grid:
        pictures_of["grid"] = (_rows(model, latents), _STEPS)
    for name, (images, across) in pictures_of.items():
        path = out.with_name(f"{out.stem}_{name}.png")
        told[path] = _save(image_grid(images, across), path, text, marker)
    if signer:
        for path, said in told.items():
            signer.sign(path, said)
    return [*told]


def _save(picture: Image.Image, path: Path, text: dict[str, str], marker: PictureMarker | None) -> dict[str, str]:
    """Write a picture, marked if there is a marker, and return the metadata that it has."""
    if marker:
        picture, text = marker.marked(picture, text, path)
    save_png(picture, path, text)
    return text


def write_traversal(
    model: LatentModel,
    seed: int,
    count: int,
    out: Path,
    signer: PictureSigner | None = None,
    marker: PictureMarker | None = None,
) -> list[int]:
    """Write a picture with one row for each of the latent dimensions that change a seed's picture most.

    In a row one coordinate of the seed's latent varies from -3 to 3 while the others are fixed. A dimension's effect is
    the mean pixel difference between both ends.

    Args:
        model: the model.
        seed: gives the fixed coordinates.
        count: number of rows, at most the number of dimensions.
        out: the PNG file.
        signer: signs it.
        marker: writes its watermark.

    Returns:
        The dimensions, the one with the largest effect first.
    """
    latent = model.latents([seed])
    ends = torch.tensor([-_REACH, _REACH])
    frames = model.frames(traversal(latent, dimension, ends) for dimension in range(latent[0].numel()))
    changes = [(next(frames).float() - low.float()).abs().mean() for low in frames]
    dimensions: list[int] = torch.stack(changes).argsort(descending=True, stable=True)[:count].tolist()
    values = torch.linspace(-_REACH, _REACH, _STEPS)
    rows = torch.stack([*model.frames(traversal(latent, dimension, values) for dimension in dimensions)])
    text = {**model.text([seed], traverse=count), "Comment": f"Rows: latent dimensions {dimensions}"}
    text = _save(image_grid(rows, _STEPS), out, text, marker)
    if signer:
        signer.sign(out, text)
    return dimensions


def _rows(model: LatentModel, latents: Tensor) -> Tensor:
    """Return the pictures of a row from each latent to the next, both included."""
    steps = torch.stack([*model.frames(model.walk(latents, _STEPS - 1))])
    legs = steps.view(len(latents), _STEPS - 1, *steps.shape[1:])
    return torch.cat([legs, legs[:, :1].roll(-1, dims=0)], dim=1).flatten(0, 1)


def _checked_space(model: LatentGenerator, name: str | None) -> str | None:
    """Return the name of a space, or None for the model's first one.

    Raises:
        UserError: the model has no such space.
    """
    spaces = latent_spaces(model)
    if name is None or name in spaces[:1]:
        return None
    if name not in spaces:
        kind = type(model).__name__
        raise UserError(
            f"{kind} has no latent space {name!r}.",
            did_you_mean(name, spaces) if spaces else f"{kind} has only one space: leave --space out.",
        )
    return name
