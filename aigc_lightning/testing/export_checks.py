"""Checks of what a model exports as programs that run without it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aigc_lightning.core.capabilities import capabilities
from aigc_lightning.core.checkpoint_file import first_line
from aigc_lightning.core.export_graphs import ExportGraph, export_graphs
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.inference.exporting.proof import DifferenceError, exported_and_proved
from aigc_lightning.inference.exporting.traced import ExportError
from aigc_lightning.testing.cases import ModelCase
from aigc_lightning.testing.checks import not_applicable, require
from aigc_lightning.testing.model_checks import first_output

#: The graphs by which a capability is exported, where they do not have its name.
_GRAPHS = {"sample": ("decode",), "edit": ("edit", "edit_AtoB", "edit_BtoA"), "encode": ("encode", "embed")}
#: Capabilities in the order of the table's columns.
_COLUMNS = ("sample", "edit", "embed", "classify", "encode", "log_likelihood")


def missing_rows(page: str, models: Mapping[str, ImageModel]) -> list[str]:
    """Return the lines that a page lacks of a table that says how the capabilities of models are exported.

    Args:
        page: its text.
        models: by the title of the line, such as "`dcgan`".
    """
    lines = page.splitlines()
    return [row for title, model in models.items() if (row := _row(title, model.eval())) not in lines]


def _row(title: str, model: ImageModel) -> str:
    graphs, known = export_graphs(model), capabilities(model)
    cells = [_cell(capability, graphs) if capability in known else "" for capability in _COLUMNS]
    return f"| {title} | {' | '.join(cells)} |"


def _cell(capability: str, graphs: Mapping[str, ExportGraph | str]) -> str:
    loops = [name for name, graph in graphs.items() if isinstance(graph, ExportGraph) and graph.loop is not None]
    if capability in ("sample", "edit") and loops and capability not in graphs:
        return f"`{loops[0]}` in a loop"
    wanted = _GRAPHS.get(capability, (capability,))
    found = {name: graph for name in wanted if isinstance(graph := graphs.get(name), ExportGraph)}
    if not found:
        return "no"
    names = list(found) if capability != "encode" else list(found)[:1]
    size = "any size" if "height" in found[names[0]].dynamic else "one size"
    return f"{', '.join(f'`{name}`' for name in names)}, {size}" if capability != "sample" else f"`{names[0]}`"


def can_be_exported(case: ModelCase) -> None:
    """The networks that generate its images can be exported by `torch.export` and compute the same."""
    model = case.load()
    calls = _network_calls(model, lambda: first_output(model, case.spec))
    if not calls:
        not_applicable("its output is not computed by its own networks")
    for network, arguments in calls:
        network.eval()
        try:
            program = torch.export.export(network, arguments, strict=False)
        except Exception as error:  # any error is the result of the check
            require(False, f"{type(network).__name__}: {type(error).__name__}: {first_line(error)}")
        with torch.no_grad():
            pairs = zip(_tensors(network(*arguments)), _tensors(program.module()(*arguments)), strict=True)
        same = all(torch.allclose(own, exported, atol=1e-4) for own, exported in pairs)
        require(same, f"The exported {type(network).__name__} gives different results.")


def exports_what_it_promises(case: ModelCase) -> None:
    """What `aigc export` writes of it gives the model's results at three batches and sizes."""
    model = case.load()
    refused, done = [], 0
    for name, graph in export_graphs(model).items():
        if not isinstance(graph, ExportGraph):
            refused.append(f"{name}: {graph}")
            continue
        try:
            exported_and_proved(name, graph, "pt2")
            done += 1
        except DifferenceError as error:
            require(False, str(error))
        except ExportError as error:  # refused, and so nothing is frozen in silence
            refused.append(f"{name}: {error.reason}")
    if not done:
        not_applicable("; ".join(refused) or "it has no capability that can be exported")


def _tensors(outputs: Any) -> list[Tensor]:
    """Return the tensors in what a network returns: one, or several in tuples, lists and mappings."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        return _tensors(outputs.values())
    return [tensor for part in outputs for tensor in _tensors(part)] if isinstance(outputs, Iterable) else []


def _network_calls(model: ImageModel, run: Callable[[], Any]) -> list[tuple[nn.Module, tuple[Any, ...]]]:
    """Return the outermost networks called in the meantime, each with its first positional arguments."""
    calls: dict[nn.Module, tuple[Any, ...]] = {}
    depth = 0

    def enter(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        nonlocal depth
        if depth == 0 and module is not model:
            calls.setdefault(module, tuple(a.detach() if isinstance(a, Tensor) else a for a in arguments))
        depth += 1

    def leave(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        nonlocal depth
        depth -= 1

    networks = [module for module in model.modules() if module is not model]
    hooks = [module.register_forward_pre_hook(enter) for module in networks]
    hooks += [module.register_forward_hook(leave, always_call=True) for module in networks]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return list(calls.items())
