"""What a model exports as programs that run without it: named graphs of tensors, derived from its capabilities.

Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, signature
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from aigc_lightning.core.capabilities import (
    Classifier,
    Editor,
    Embedder,
    FirstStage,
    Generator,
    LatentGenerator,
    num_sampled_classes,
    size_multiple,
    takes,
)
from aigc_lightning.core.checkpoint_file import first_line
from aigc_lightning.core.export_loops import ExportLoop
from aigc_lightning.errors import UserError

#: A number, or the name of a dimension that may differ from call to call: "batch", "height" or "width".
Dimension = int | str
#: Sizes of the named dimensions in one trial.
Sizes = Mapping[str, int]


@dataclass(frozen=True)
class GraphInput:
    """One tensor that a graph takes.

    Args:
        shape: numbers and names, such as ("batch", 3, "height", "width"). A name stands for one size in all inputs.
        low: the least value; None for standard normal numbers.
        high: the greatest value, which is included; None for standard normal numbers.
        integers: whether they are int64 instead of float32.
        meaning: what it is, in a few words.
    """

    shape: tuple[Dimension, ...]
    low: float | None = None
    high: float | None = None
    integers: bool = False
    meaning: str = ""

    def example(self, sizes: Sizes, generator: torch.Generator) -> Tensor:
        """Return random values of this kind, with some sizes of the named dimensions."""
        shape = [size if isinstance(size, int) else sizes[size] for size in self.shape]
        if self.low is None or self.high is None:
            return torch.randn(shape, generator=generator)
        if self.integers:
            return torch.randint(int(self.low), int(self.high) + 1, shape, generator=generator)
        return torch.rand(shape, generator=generator) * (self.high - self.low) + self.low


@dataclass(frozen=True)
class ExportGraph:
    """A function of tensors that can be exported.

    Args:
        owner: the module whose weights it uses.
        call: takes the inputs by name and returns a tensor, or a tuple of as many as there are outputs.
        inputs: by name, in order.
        outputs: names.
        trials: three sizes of the named dimensions at which an exported file is compared with the model; the second
            is also that with which it is traced, so all its sizes differ and are above 1.
        multiple: number that heights and widths must be multiples of.
        meaning: what comes out, in a few words.
        loop: what makes a result of many calls; None where one call is all.
    """

    owner: nn.Module
    call: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: Mapping[str, GraphInput]
    outputs: tuple[str, ...]
    trials: Sequence[Sizes] = ({"batch": 1}, {"batch": 2}, {"batch": 3})
    multiple: int = 1
    meaning: str = ""
    loop: ExportLoop | None = None

    @property
    def dynamic(self) -> list[str]:
        """The names of the dimensions that may differ from call to call."""
        named = [size for given in self.inputs.values() for size in given.shape if isinstance(size, str)]
        return list(dict.fromkeys(named))

    def example(self, trial: int) -> dict[str, Tensor]:
        """Return inputs of the sizes of a trial, the same at each call."""
        generator = torch.Generator().manual_seed(trial)
        return {name: given.example(self.trials[trial], generator) for name, given in self.inputs.items()}


def export_graphs(model: Any) -> dict[str, ExportGraph | str]:
    """Return what a model exports by name; a text is the reason why something cannot be exported.

    A model that says it itself has a method `export_graphs()`, which returns such a mapping.
    """
    own = getattr(model, "export_graphs", None)
    return dict(own()) if own is not None else derived_graphs(model)


def derived_graphs(model: Any, multiple: int | None = None) -> dict[str, ExportGraph | str]:
    """Return the graphs that follow from a model's capabilities: `decode`, `edit`, `embed`, `classify` and `encode`.

    Args:
        model: an `ImageModel` in evaluation mode.
        multiple: number that heights and widths of images must be multiples of, where it is not the model's
            `size_multiple`.
    """
    graphs: dict[str, ExportGraph | str] = {}
    multiple = size_multiple(model) if multiple is None else multiple
    if isinstance(model, LatentGenerator):
        graphs["decode"] = _decoding(model)
    elif isinstance(model, Generator):
        graphs["sample"] = "it draws random numbers while it makes an image, and has no `decode` from latents"
    if isinstance(model, Editor):
        graphs.update(_editing(model, multiple))
    if isinstance(model, Embedder):
        graphs["embed"] = _of_images(model, "embed", "embeddings", multiple)
    if isinstance(model, Classifier):
        graphs["classify"] = _of_images(model, "classify", "logits", multiple)
    if isinstance(model, FirstStage) and not isinstance(model, Generator):
        graphs.update(_first_stage(model, multiple))
    return graphs


def image_input(model: Any, dynamic: bool, scale: int = 1, meaning: str = "images in [-1, 1]") -> GraphInput:
    """Return the images (B, C, H, W) that a model takes.

    Args:
        model: with a spec.
        dynamic: whether height and width may differ from call to call, or are fixed.
        scale: number by which the images are smaller than those of the spec.
        meaning: what they are.
    """
    spec = model.spec
    size: tuple[Dimension, Dimension] = ("height", "width") if dynamic else (spec.height // scale, spec.width // scale)
    return GraphInput(("batch", spec.channels, *size), -1.0, 1.0, meaning=meaning)


def label_input(num_classes: int) -> GraphInput:
    """Return the labels (B,) of a model with classes."""
    return GraphInput(("batch",), 0, num_classes - 1, integers=True, meaning="numbers of classes")


def image_trials(model: Any, multiple: int = 1, scale: int = 1) -> list[Sizes]:
    """Return three batches of images of different sizes, the first being that of the spec.

    Args:
        model: with a spec.
        multiple: number that heights and widths must be multiples of.
        scale: number by which the images are smaller than those of the spec.
    """
    height, width = model.spec.height // scale, model.spec.width // scale
    sides = ((height, width), (height + 5, width + 14), (width + 11, height + 1))
    return [
        {
            "batch": number + 1,
            **{name: _up(side, multiple) for name, side in zip(("height", "width"), pair, strict=True)},
        }
        for number, pair in enumerate(sides)
    ]


def _up(side: int, multiple: int) -> int:
    return ceil(side / multiple) * multiple


def _decoding(model: Any) -> ExportGraph:
    """Return the graph that makes images of latents."""
    inputs = {"latents": GraphInput(("batch", *model.latents([0, 1]).shape[1:]), meaning="standard normal numbers")}
    num_classes = num_sampled_classes(model)
    if num_classes and takes(model.decode, "labels"):
        inputs["labels"] = label_input(num_classes)
    return ExportGraph(model, model.decode, inputs, ("images",), meaning="images in [-1, 1]")


def _editing(model: Any, multiple: int | None) -> dict[str, ExportGraph | str]:
    """Return the graphs that edit images: one, or one for each direction."""
    scale = model.spec.scale
    inputs = {"images": image_input(model, multiple is not None, scale)}
    size = inputs["images"].shape[2:]
    if takes(model.edit, "masks"):
        inputs["masks"] = GraphInput(("batch", 1, *size), 0, 1, meaning="1 where the image is to be filled, else 0")
    if takes(model.edit, "references"):
        spec = model.spec
        shape = ("batch", spec.channels, spec.height, spec.width)
        inputs["references"] = GraphInput(shape, -1.0, 1.0, meaning="images to take something from")
    required = [
        name
        for name, argument in signature(model.edit).parameters.items()
        if argument.default is Parameter.empty and argument.kind is not Parameter.VAR_KEYWORD and name not in inputs
    ]
    if [name for name in required if name != "direction"]:
        return {"edit": f"it needs {' and '.join(required)}, which are no tensors"}
    trials = image_trials(model, multiple or 1, scale)
    make = partial(
        ExportGraph, model, inputs=inputs, outputs=("edited",), trials=trials, multiple=multiple or 1,
        meaning="images in [-1, 1]",
    )  # fmt: skip
    if not takes(model.edit, "direction"):
        return {"edit": make(call=model.edit)}
    return {f"edit_{way}": make(call=partial(model.edit, direction=way)) for way in ("AtoB", "BtoA")}


def _of_images(model: Any, method: str, output: str, multiple: int | None) -> ExportGraph:
    """Return the graph of a method of images; their size may differ where the model takes images of another size."""
    make = partial(
        ExportGraph, model, getattr(model, method), outputs=(output,), trials=image_trials(model, multiple or 1),
        multiple=multiple or 1,
    )  # fmt: skip
    graph = make(inputs={"images": image_input(model, dynamic=True)})
    try:
        graph.call(**graph.example(1))
        return graph
    except Exception:  # whatever it says about images of another size
        return make(inputs={"images": image_input(model, dynamic=False)})


def _first_stage(model: Any, multiple: int | None) -> dict[str, ExportGraph | str]:
    """Return the graphs that compress images to latents, and make images of the spec's size of them."""
    try:
        latents = model.encode(torch.zeros(1, *model.spec.shape, device=model.device))
    except UserError as error:  # such as an autoencoder with skip connections
        return {name: first_line(error) for name in ("encode", "decode")}
    given = GraphInput(("batch", *latents.shape[1:]), meaning="latents of `encode`")
    decode = ExportGraph(model, model.decode, {"latents": given}, ("images",), meaning="images in [-1, 1]")
    return {"encode": _of_images(model, "encode", "latents", multiple), "decode": decode}
