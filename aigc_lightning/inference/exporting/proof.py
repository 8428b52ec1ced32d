"""An exported program beside the model that it comes from: differences and times at three sizes.

Shapes: B batch, H and W height and width in pixels.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch

from aigc_lightning.core.checkpoint_file import first_line
from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.core.export_loops import Example, ExportLoop
from aigc_lightning.inference.exporting.formats import Array, Exported, Format, Runtime, exported
from aigc_lightning.inference.exporting.traced import ExportError, Traced, traced

#: Largest difference from the model, relative to its largest output where that exceeds 1. Rounding alone gives about
#: 1e-6; a part of the graph that is frozen gives far more.
TOLERANCE = 1e-4
_REPEATS = 3


class DifferenceError(ExportError):
    """An exported program gives something else than the model."""


@dataclass(frozen=True)
class Trial:
    """One comparison.

    Args:
        sizes: of the dynamic dimensions.
        difference: the largest, of all outputs.
        scale: the largest absolute value of the model's outputs.
        seconds: of the program, the fastest of three calls.
        model_seconds: of the model, likewise.
    """

    sizes: dict[str, int]
    difference: float
    scale: float
    seconds: float
    model_seconds: float


@dataclass(frozen=True)
class Proof:
    """An exported program that gives what the model gives.

    Args:
        program: the graph as a program.
        file: in its format.
        trials: the comparisons.
        loop_difference: the largest between the results of the loop around it and the model's; None without a loop.
        programs: those that the loop needs besides this one.
    """

    program: Traced
    file: Exported
    trials: list[Trial]
    loop_difference: float | None = None
    programs: Mapping[str, "Proof"] = field(default_factory=dict)


def exported_and_proved(name: str, graph: ExportGraph, form: Format) -> Proof:
    """Return a graph in a format, which another runtime has run with the model's results.

    Args:
        name: of the graph, for messages.
        graph: to export.
        form: "onnx" or "pt2".

    Raises:
        UserError: the packages of ONNX are not installed.
        ExportError: it cannot be exported; or what was exported fails or differs.
    """
    problems = []
    # Either way of tracing keeps conditions on sizes that the other does without. A .pt2 file checks its conditions, of
    # which tracing for all sizes nearly always leaves one that refuses a batch of 1; an ONNX file has none.
    for all_sizes in (False, True) if form == "pt2" else (True, False):
        try:
            program = traced(name, graph, all_sizes)
            file = exported(name, graph, program, form)
            run = file.run()
            proof = Proof(program, file, proved(name, graph, run))
            return proof if graph.loop is None else _with_loop(proof, name, graph.loop, run, form)
        except ExportError as error:
            problems.append(error)
    raise problems[0]


def proved(name: str, graph: ExportGraph, runtime: Runtime) -> list[Trial]:
    """Return how an exported program compares with the model in each trial.

    Args:
        name: of the graph, for messages.
        graph: that was exported.
        runtime: runs the program.

    Raises:
        ExportError: it fails or differs.
    """
    return [_trial(name, graph, runtime, number) for number in range(len(graph.trials))]


def _with_loop(proof: Proof, name: str, loop: ExportLoop, runtime: Runtime, form: Format) -> Proof:
    programs = {key: exported_and_proved(key, graph, form) for key, graph in loop.programs.items()}
    difference = loop_proved(name, loop, runtime, {key: other.file.run() for key, other in programs.items()})
    return replace(proof, loop_difference=difference, programs=programs)


def loop_proved(name: str, loop: ExportLoop, runtime: Runtime, others: Mapping[str, Runtime] | None = None) -> float:
    """Return the largest difference between what a loop makes with an exported program and what the model makes.

    What runs is the text of the file that is written.

    Args:
        name: of the graph, for messages.
        loop: around the program.
        runtime: runs the program.
        others: run the loop's further programs, by name.

    Raises:
        ExportError: it fails or differs.
    """
    module = ModuleType("loop")
    exec(compile(loop.source(), f"the loop around {name}", "exec"), vars(module))
    sample = partial(module.sample, runtime, loop.settings, **(others or {}))
    return max(_loop_difference(name, sample, example) for example in loop.examples)


def _loop_difference(name: str, sample: Callable[..., Array], example: Example) -> float:
    given, model = example
    with torch.no_grad():
        (expected,) = _as_arrays(model())
    try:
        found = sample(**given)
    except Exception as error:  # the model's own code and the runtime raise whatever they like
        raise ExportError(name, f"the loop around it fails: {first_line(error)}") from error
    if found.shape != expected.shape:
        raise DifferenceError(name, f"the loop around it gives the shape {found.shape}, the model {expected.shape}")
    difference = float(np.abs(found - expected).max(initial=0))
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0))):
        raise DifferenceError(name, f"the results of the loop around it differ from the model's by {difference:.1e}")
    return difference


def _trial(name: str, graph: ExportGraph, runtime: Runtime, number: int) -> Trial:
    sizes = {dimension: graph.trials[number][dimension] for dimension in graph.dynamic}
    where = sizes_text(sizes)
    example = graph.example(number)
    arrays = {key: value.numpy() for key, value in example.items()}
    with torch.no_grad():
        expected, model_seconds = _timed(lambda: _as_arrays(graph.call(**example)))
    try:
        found, seconds = _timed(lambda: runtime(arrays))
    except Exception as error:  # each runtime raises errors of its own
        raise ExportError(name, f"the file does not run with {where}: {str(error).splitlines()[0][:200]}") from error
    shapes = [[part.shape for part in parts] for parts in (found, expected)]
    if shapes[0] != shapes[1]:
        raise DifferenceError(name, f"with {where} the file gives the shapes {shapes[0]}, the model {shapes[1]}")
    difference = max(float(np.abs(a - b).max(initial=0)) for a, b in zip(found, expected, strict=True))
    scale = max(float(np.abs(part).max(initial=0)) for part in expected)
    if not difference <= TOLERANCE * max(1.0, scale):
        raise DifferenceError(name, f"with {where} the file differs from the model by {difference:.1e}")
    return Trial(sizes, difference, scale, seconds, model_seconds)


def sizes_text(sizes: dict[str, int]) -> str:
    """Return sizes of dynamic dimensions in words, such as "batch 2, height 37, width 46"."""
    return ", ".join(f"{name} {size}" for name, size in sizes.items()) or "fixed sizes"


def _as_arrays(outputs: Any) -> list[Array]:
    parts: Sequence[Any] = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
    return [part.numpy() for part in parts]


def _timed(run: Callable[[], list[Array]]) -> tuple[list[Array], float]:
    """Return a result, and the seconds that it took at the fastest of some calls after the first."""
    result, fastest = run(), float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        run()
        fastest = min(fastest, time.perf_counter() - start)
    return result, fastest
