"""The network of a diffusion model as an exported program, with the sampler that calls it.

Shapes: B batch, C channels, H and W height and width in pixels, K noise levels of a sample.
"""

from typing import TYPE_CHECKING, Any

import torch
from aigc_lightning.core.export_graphs import ExportGraph, ExportLoop, GraphInput, label_input

from aigc_diffusion import exported_sampling
from aigc_diffusion.processes import EDM, VP, MeanFlow, Process

if TYPE_CHECKING:
    from aigc_diffusion.inference import DiffusionInference

_MANY = "its network is evaluated many times for an image"
_SEEDS = [0, 1, 2]  # whose images are compared
_STEPS = 4


def export_graphs(model: "DiffusionInference") -> dict[str, ExportGraph | str]:
    """Return `denoise`, the network with the sampler's loop beside it, and the reasons why nothing else is exported.

    Models of latents, prompts and pairs have no such loop.
    """
    if model.spec.task != "generation" or model.first_stage is not None or model.condition_name == "prompts":
        return dict.fromkeys(("sample", "edit"), _MANY)
    network: Any = model.averaged("network")
    num_classes = network.num_classes
    time = torch.tensor([model.process.max_time, model.process.min_time], dtype=torch.float64)
    levels = model.process.level(time, torch.zeros_like(time) if model.process.level_size > 1 else time)
    inputs = {
        "states": GraphInput(("batch", *model.state_shape), meaning="noisy images, scaled as the network takes them"),
        "levels": GraphInput(
            ("batch", model.process.level_size), float(levels.min()), float(levels.max()), meaning="their noise"
        ),
    }
    if num_classes:
        # The number after the last is that of no class.
        inputs["labels"] = label_input(num_classes + (model.condition_dropout > 0))

    def call(states: torch.Tensor, levels: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        prediction: torch.Tensor = network(states, levels, labels)
        return prediction

    with torch.no_grad():  # DiT keeps what it computes of positions; the first to ask must not be a trace
        zeros = torch.zeros(1, *model.state_shape, device=model.device)
        call(zeros, zeros.new_zeros(1, model.process.level_size))

    guided = {"guidance": 2.0} if num_classes and model.condition_dropout > 0 else {}
    options: dict[str, Any] = {"steps": _STEPS, **guided}
    loop = ExportLoop(
        exported_sampling,
        _settings(model),
        {"seeds": _SEEDS, **options},
        lambda: model.sample(_SEEDS, **options),
    )
    graph = ExportGraph(
        network, call, inputs, ("predictions",), meaning="what the process's network predicts", loop=loop
    )
    return {"denoise": graph, "edit": _MANY}


def _settings(model: "DiffusionInference") -> dict[str, Any]:
    """Return what the sampler has to know, as plain values."""
    process: Process = model.process
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
        "num_classes": model.network.num_classes,
        "has_guidance": bool(model.network.num_classes and model.condition_dropout > 0),
    }
