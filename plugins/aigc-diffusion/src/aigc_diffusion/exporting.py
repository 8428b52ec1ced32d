"""The network of a diffusion model as an exported program, with the sampler that calls it.

Shapes: B batch, C channels, H and W height and width in pixels, K noise levels of a sample.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from aigc_lightning.core import exported_files
from aigc_lightning.core.export_graphs import ExportGraph, GraphInput, image_input, label_input
from aigc_lightning.core.export_loops import ExportLoop
from aigc_lightning.networks.byte_encoder import FIRST_BYTE, NUM_TOKENS, PADDING, START
from torch import Tensor

from aigc_diffusion import exported_sampling
from aigc_diffusion.processes import EDM, VP, MeanFlow, Process

if TYPE_CHECKING:
    from aigc_diffusion.inference import DiffusionInference

_SEEDS = [0, 1, 2]  # whose images are compared
_STEPS = 4


def export_graphs(model: "DiffusionInference") -> dict[str, ExportGraph | str]:
    """Return `denoise`, the network with the sampler's loop beside it, and the reasons why nothing else is exported.

    A model of latents also gives the images of its states.
    """
    network: Any = model.averaged("network")
    time = torch.tensor([model.process.max_time, model.process.min_time], dtype=torch.float64)
    levels = model.process.level(time, torch.zeros_like(time) if model.process.level_size > 1 else time)
    inputs = {
        "states": GraphInput(("batch", *model.state_shape), meaning="noisy images, scaled as the network takes them"),
        "levels": GraphInput(
            ("batch", model.process.level_size), float(levels.min()), float(levels.max()), meaning="their noise"
        ),
        **_condition_input(model),
    }

    def call(
        states: Tensor,
        levels: Tensor,
        labels: Tensor | None = None,
        texts: Tensor | None = None,
        sources: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        text = (None, None, None) if texts is None else network.texts(texts)
        source = None if sources is None else model.states(sources)
        prediction: Tensor = network(states, levels, labels, *text, source)
        return prediction if model.first_stage is None else (prediction, model.images(states))

    with torch.no_grad():  # DiT keeps what it computes of positions; the first to ask must not be a trace
        zeros = torch.zeros(1, *model.state_shape, device=model.device)
        source = None if model.spec.task == "generation" else zeros
        network(zeros, zeros.new_zeros(1, model.process.level_size), image=source)

    has_images = model.first_stage is not None
    graph = ExportGraph(
        model,
        call,
        inputs,
        ("predictions", "images") if has_images else ("predictions",),
        meaning="what the process's network predicts" + ("; images of the states, in [-1, 1]" if has_images else ""),
        loop=_loop(model),
    )
    return {"denoise": graph, **_refused(model)}


def _refused(model: "DiffusionInference") -> dict[str, ExportGraph | str]:
    """Return why some of what the model can do is not exported, neither as a program nor by the loop."""
    if model.spec.task != "generation":
        return {}
    if model.first_stage is not None:
        return {"log_likelihood": "latents have no likelihood of images"}
    return {"log_likelihood": "it needs gradients of the network"}


def _condition_input(model: "DiffusionInference") -> dict[str, GraphInput]:
    """Return the input that says of which class the images are, what texts they are of, or what they are made from."""
    network: Any = model.network
    if model.spec.task != "generation":
        return {"sources": image_input(model, dynamic=False, meaning="what is translated or restored, in [-1, 1]")}
    if model.condition_name == "prompts":
        shape = ("batch", network.texts.max_length)
        meaning = f"bytes of texts plus {FIRST_BYTE}, after a {START} and before as many {PADDING} as are left"
        return {"texts": GraphInput(shape, PADDING, NUM_TOKENS - 1, integers=True, meaning=meaning)}
    if network.num_classes:  # the number after the last is that of no class
        return {"labels": label_input(network.num_classes + (model.condition_dropout > 0))}
    return {}


def _loop(model: "DiffusionInference") -> ExportLoop:
    make = partial(ExportLoop, exported_sampling, _settings(model), parts=(exported_files,))
    pictures = 2 * torch.rand(len(_SEEDS), *model.spec.shape, generator=torch.Generator().manual_seed(0)) - 1
    example: dict[str, Any] = {"seeds": _SEEDS, "steps": _STEPS}
    if model.spec.task != "generation":
        return make({**example, "pictures": pictures.numpy()}, lambda: model.edit(pictures, **example))
    masks = torch.zeros_like(pictures[:, :1])
    masks[..., masks.shape[-1] // 2 :] = 1
    if model.condition_name == "prompts":
        example["prompts"] = ["a b", "", "\u00e9"]
    edit = {**example, "pictures": pictures.numpy(), "masks": masks.numpy()}
    edited = (edit, lambda: model.edit(pictures, masks=masks, **example))
    sampled = dict(example)
    if model.condition_name != "none" and model.condition_dropout > 0:
        sampled["guidance"] = 2.0
    return make(sampled, lambda: model.sample(**sampled), others=[edited], programs=_programs(model))


def _programs(model: "DiffusionInference") -> dict[str, ExportGraph]:
    """Return `encode`, which makes latents of pictures, for models of latents."""
    if model.first_stage is None:
        return {}
    inputs = {"images": image_input(model, dynamic=False)}
    return {"encode": ExportGraph(model, model.states, inputs, ("states",), meaning="normalised latents of images")}


def _settings(model: "DiffusionInference") -> dict[str, Any]:
    """Return what the sampler has to know, as plain values."""
    process: Process = model.process
    is_pair = model.spec.task != "generation"
    names: dict[type[Process], str] = {EDM: "edm", VP: "vp", MeanFlow: "mean_flow"}
    return {
        "process": names.get(type(process), "flow"),
        "prediction": getattr(process, "prediction", ""),
        "min_time": process.min_time,
        "max_time": process.max_time,
        "shift": getattr(process, "shift", 1.0),
        "sigma_data": getattr(process, "sigma_data", 0.0),
        "rho": getattr(process, "rho", 0.0),
        "times": process.times.tolist() if isinstance(process, VP) else [],
        "shape": list(model.state_shape),
        "image_shape": list(model.spec.shape),
        "edits": "pairs" if is_pair else "holes",
        "num_classes": 0 if is_pair else model.network.num_classes,
        "text_length": 0 if is_pair or model.network.texts is None else model.network.texts.max_length,
        "has_guidance": not is_pair and model.condition_name != "none" and model.condition_dropout > 0,
        "has_images": model.first_stage is not None,
    }
