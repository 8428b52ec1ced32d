"""A trained StyleGAN2 loaded for the commands, and the files with their results.

Shapes: B batch, C channels, H and W height and width in pixels, S style size, L number of styles, N number of noise
inputs.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from aigc_lightning.core import keyed
from aigc_lightning.core.chunks import chunk_size, padded, padded_rows, parts
from aigc_lightning.core.io.checksums import read_tensors, write_tensors
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.errors import UserError
from aigc_lightning.inference.loaded_model import LoadedModel
from torch import Tensor

from aigc_stylegan.generator import Generator
from aigc_stylegan.stylegan2 import StyleGAN2

#: First style of each named group, by the StyleGAN paper (section 3.1): up to 8x8, up to 32x32, and above.
_GROUPS = {"coarse": 0, "middle": 4, "fine": 8}
_SAMPLE_KEY = 20201
_AT_ONCE = 4096


class StyleModel:
    """A trained StyleGAN2, with averaged weights if they are kept.

    Args:
        target: a run folder, a checkpoint or an exported file.
        device: such as "cpu".
        class_name: class of all images; None for the default class of each seed.

    Attributes:
        network: the generator, for inference; only its inputs get gradients.
        loaded: the model, with what identifies it.

    Raises:
        UserError: the checkpoint cannot be used or is not a StyleGAN2, or there is no such class or device.
    """

    def __init__(self, target: str, device: str, class_name: str | None = None) -> None:
        self.loaded = LoadedModel(target, device)
        model = self.loaded.model
        if not isinstance(model, StyleGAN2):
            raise UserError(
                f"The {type(model).__name__} in {self.loaded.path} has no styles.", "Give a run of stylegan2."
            )
        self.model, self.class_name = model, class_name
        self._label = None if class_name is None else self.loaded.class_number(class_name)
        self.network = cast(Generator, model.averaged("generator")).eval().requires_grad_(False)
        self.num_styles = self.network.synthesis.num_styles

    @torch.no_grad()
    def styles(self, seeds: Sequence[int], trunc: float = 1.0) -> Tensor:
        """Return the styles of seeds, (B, L, S), computed in the same chunks as in `aigc sample`."""
        size, found = chunk_size(self.model), []
        for part in parts(len(seeds), size):
            chosen = padded([seeds[place] for place in part], size)
            labels = self.model.seed_labels(chosen) if self._label is None else [self._label] * size
            style = self.model.latents(chosen, labels, "w")
            if trunc != 1:
                style = torch.lerp(self.model.mean_styles(labels), style, trunc)
            found.append(style[: len(part)])
        return torch.cat(found)[:, None].expand(-1, self.num_styles, -1)

    @torch.no_grad()
    def images(self, styles: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return images, uint8 (B, C, H, W), in the chunks of `aigc sample`.

        Args:
            styles: (B, L, S).
            noise: (1, N), shared by all images; by default the fixed noise of `aigc sample`.
        """
        size, found = chunk_size(self.model), []
        for part in torch.split(styles, size):
            rows = None if noise is None else noise.expand(size, -1)
            images = self.network.synthesis(padded_rows(part, size), rows)[: len(part)]
            found.append(to_uint8(images).cpu())
        return torch.cat(found)

    @torch.no_grad()
    def sampled(self, count: int) -> tuple[Tensor, Tensor]:
        """Return random but fixed styles (count, S), and the mean styles (count, S) of their classes.

        For a model with classes they cover all classes equally, or the chosen one.
        """
        latents = keyed.normal((count, self.model.latent_size), _SAMPLE_KEY).to(self.network.synthesis.constant)
        num_classes = self.model.num_classes if self._label is None else 0
        classes = torch.arange(count, device=self.model.device) % max(num_classes, 1) + (self._label or 0)
        parts = zip(torch.split(latents, _AT_ONCE), torch.split(classes, _AT_ONCE), strict=True)
        labelled = bool(self.model.num_classes)
        styles = torch.cat([self.network.mapping(part, labels if labelled else None) for part, labels in parts])
        means = torch.empty_like(styles)
        for label in torch.unique(classes):
            means[classes == label] = styles[classes == label].mean(dim=0)
        return styles, means

    def style_numbers(self, levels: str) -> list[int]:
        """Return the numbers of the styles named by a text, in order.

        Args:
            levels: "coarse", "middle", "fine", "all", or numbers and ranges, separated by commas.

        Raises:
            UserError: the model has no such styles.
        """
        groups = {name: start for name, start in _GROUPS.items() if start < self.num_styles}
        stops = [*list(groups.values())[1:], self.num_styles]
        ranges = {name: range(start, stop) for (name, start), stop in zip(groups.items(), stops, strict=True)}
        ranges["all"] = range(self.num_styles)
        numbers: set[int] = set()
        for part in levels.split(","):
            word = part.strip()
            span = re.fullmatch(r"(\d+)(?:-(\d+))?", word, re.ASCII)
            found = range(int(span[1]), int(span[2] or span[1]) + 1) if span else ranges.get(word, range(0))
            if not found or found[-1] >= self.num_styles:
                known = ", ".join(f"{name} ({group[0]}-{group[-1]})" for name, group in ranges.items())
                shape = f"{self.model.spec.height}x{self.model.spec.width}"
                raise UserError(f"A model of {shape} images has no levels {word!r}.", f"It has {known}.")
            numbers |= set(found)
        return sorted(numbers)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that identify this generator's weights, in whatever file they are stored."""
        digest = hashlib.sha256()
        for name, weight in self.network.named_parameters():
            digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def text(self, seeds: Sequence[int], command: str, **options: Any) -> dict[str, str]:
        """Return the metadata of a picture, with which it can be reproduced."""
        return self.loaded.text(seeds, {"command": f"stylegan {command}", **options, "class": self.class_name})

    def save(self, path: Path, kind: str, tensors: Mapping[str, Tensor], **options: Any) -> None:
        """Write tensors that belong to this model.

        Args:
            path: a .safetensors file.
            kind: what they are, such as "directions".
            tensors: the tensors by name.
            options: how they were computed, as plain values.
        """
        text = self.text([], options.pop("command", kind), **options)
        record = {**json.loads(text["aigc"]), "kind": kind, "generator": self.fingerprint()}
        write_tensors(path, tensors, {RECORD_KEY: json.dumps(record)})

    def load(self, path: Path, kind: str, names: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors that `save` wrote, on the model's device, and how they were found.

        Args:
            path: the file.
            kind: what it should hold.
            names: of the tensors.

        Raises:
            UserError: the file is missing, holds something else, or belongs to another model.
        """
        hint = f"Give a file of `aigc stylegan` with {kind}."
        try:
            held, metadata = read_tensors(path, hint)
            record = json.loads(metadata.get(RECORD_KEY, "{}"))
        except UserError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read: {error}.", hint) from error
        record = record if isinstance(record, dict) else {}
        tensors = {name: tensor.to(self.model.device) for name, tensor in held.items()}
        if record.get("kind") != kind or not tensors.keys() >= set(names):
            found = record.get("kind", "something else")
            raise UserError(f"{path} holds {found}, not {kind}.", hint)
        if record.get("generator") != self.fingerprint():
            made = record.get("checkpoint", "another checkpoint")
            raise UserError(
                f"{path} was made with a different model than {self.loaded.path} ({made}, {record.get('sha256')}).",
                "Make it again with this one, or give that one.",
            )
        return tensors, record.get("options", {})
