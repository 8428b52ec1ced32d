"""Tracing the graphs of a model with `torch.export`, and what was promised about their dimensions."""

import inspect
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from aigc_lightning.compat import for_all_sizes
from aigc_lightning.core.checkpoint_file import first_line
from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.errors import UserError


class ExportError(UserError):
    """A graph cannot be exported.

    Args:
        graph: its name.
        reason: without a full stop.
        hint: what to do.
    """

    def __init__(self, graph: str, reason: str, hint: str = "") -> None:
        self.reason = reason
        super().__init__(f"{graph} cannot be exported: {reason}.", hint or "`aigc export --help` lists the formats.")


@dataclass(frozen=True)
class Traced:
    """A graph as a program.

    Args:
        program: takes the inputs by name.
        limits: least and greatest size of each dynamic dimension; None if there is no greatest.
        symbols: the program's own name of each dynamic dimension.
    """

    program: ExportedProgram
    limits: Mapping[str, tuple[int, int | None]]
    symbols: Mapping[str, str]


def traced(name: str, graph: ExportGraph, all_sizes: bool = True) -> Traced:
    """Return a graph as a program, of which every named dimension is dynamic.

    Args:
        name: of the graph, for messages.
        graph: of a model on the CPU in float32.
        all_sizes: whether to trace without asking which sizes are 1, see `compat.for_all_sizes`.

    Raises:
        ExportError: it cannot be traced, or a dimension that is promised to be dynamic is not.
    """
    module = GraphModule(graph)
    shapes = {
        key: {place: Dim.DYNAMIC for place, size in enumerate(given.shape) if isinstance(size, str)}
        for key, given in graph.inputs.items()
    }
    try:
        with warnings.catch_warnings(), torch.no_grad(), for_all_sizes() if all_sizes else nullcontext():
            warnings.simplefilter("ignore")  # of tensors that are copied, such as labels
            program = torch.export.export(module, (), graph.example(1), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # tracing runs the model's own code, which raises whatever it likes
        raise ExportError(name, _reason(error), "Its code must not depend on sizes or values of its inputs.") from error
    _drop_unused(program)
    symbols = _symbols(name, graph, program)
    ranges = {str(symbol): limits for symbol, limits in program.range_constraints.items()}
    limits = {dimension: _limits(ranges[symbol]) for dimension, symbol in symbols.items()}
    return Traced(program, limits, symbols)


class GraphModule(nn.Module):
    """A graph as a module whose arguments have the names of its inputs.

    Args:
        graph: what it computes.
    """

    def __init__(self, graph: ExportGraph) -> None:
        super().__init__()
        self.owner, self._call, self._names = graph.owner, graph.call, tuple(graph.inputs)

        def forward(*inputs: Tensor, **named: Tensor) -> Any:
            return self._call(**dict(zip(self._names, inputs, strict=False)), **named)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # torch.export reads the names there
            [inspect.Parameter(name, kind) for name in self._names]
        )
        self.forward = forward


def _symbols(name: str, graph: ExportGraph, program: ExportedProgram) -> dict[str, str]:
    """Return the symbol of each named dimension.

    Raises:
        ExportError: one has none, or shares that of another.
    """
    shapes = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder"}
    found: dict[str, str] = {}
    for key, given in graph.inputs.items():
        for place, size in enumerate(given.shape):
            if not isinstance(size, str):
                continue
            symbol = shapes[key][place]
            if isinstance(symbol, int) or str(symbol).isdigit():
                raise ExportError(name, f"its {size} was frozen to {symbol} while it was traced")
            if found.setdefault(size, str(symbol)) != str(symbol):
                raise ExportError(name, f"the {size} of {key} may differ from that of other inputs")
    if len(set(found.values())) < len(found):
        raise ExportError(name, f"its {' and '.join(found)} have to be equal")
    return found


def _limits(found: Any) -> tuple[int, int | None]:
    """Return the least and the greatest size that a range of values of torch has."""
    least = int(found.lower)
    # Tracing assumes at least 2, which a trial with a batch of 1 disproves.
    return (1 if least <= 2 else least), (int(found.upper) if found.upper.is_Integer else None)


def _drop_unused(program: ExportedProgram) -> None:
    """Empty the weights that the program does not use, such as those of a discriminator."""
    unused = {node.name for node in program.graph.nodes if node.op == "placeholder" and not node.users}
    for given in program.graph_signature.input_specs:
        target = given.target
        if target is None or given.arg.name not in unused or target not in program.state_dict:
            continue
        empty = torch.empty(0)
        is_parameter = given.kind is InputKind.PARAMETER
        program.state_dict[target] = nn.Parameter(empty, requires_grad=False) if is_parameter else empty


def _reason(error: Exception) -> str:
    """Return what is wrong, from the long messages of torch."""
    lines = [line.strip(" -") for line in str(error).splitlines()]
    telling = [line for line in lines if line.startswith(("You marked", "Not all values", "Could not guard"))]
    text = telling[0] if telling else first_line(error)
    return f"{text.split('. If you')[0].rstrip('.')} ({type(error).__name__})"
