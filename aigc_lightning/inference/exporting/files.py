"""Writing what a trained model exports, with its record and the proof in the metadata of each file."""

import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aigc_lightning import __version__
from aigc_lightning.core.export_graphs import ExportGraph, export_graphs
from aigc_lightning.core.export_loops import ExportLoop
from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.inference.exporting.formats import OPSET, Format, OnnxFile
from aigc_lightning.inference.exporting.proof import Proof, exported_and_proved, sizes_text
from aigc_lightning.inference.exporting.quantizing import CardWriter
from aigc_lightning.inference.exporting.traced import ExportError
from aigc_lightning.inference.loaded_model import LoadedModel

_PREPROCESSING = {
    "images": "float32 (batch, channels, height, width) in [-1, 1]: 8-bit values / 127.5 - 1",
    "results": "images back to 8 bits: round((image + 1) * 127.5)",
}


def written(
    loaded: LoadedModel, form: Format, out: Path, graph: str | None = None, changing: CardWriter | None = None
) -> Iterator[str]:
    """Write a model's graphs, one file each, and yield lines that say what was written or why not.

    Args:
        loaded: the model.
        form: "onnx" or "pt2".
        out: the file; where there are several graphs, the name of each is appended to the file's name.
        graph: the only one to export; None for all that can be.
        changing: writes changed ONNX programs, such as quantized ones; None to write them as they are.

    Raises:
        UserError: there is no such graph, a chosen graph cannot be exported, or none can.
    """
    loaded.model.float()
    graphs = _chosen(export_graphs(loaded.model), graph, loaded)
    done = 0
    for name, found in graphs.items():
        path = out if len(graphs) == 1 else out.with_name(f"{out.stem}_{name}{out.suffix}")
        try:
            if isinstance(found, str):
                raise ExportError(name, found)
            yield from _written(loaded, name, found, form, path, changing)
            done += 1
        except ExportError as error:
            if len(graphs) == 1:
                raise
            yield f"{name}: not exported, since {error.reason.rstrip('.')}."
    if not done:
        raise UserError(f"Nothing of this {loaded.name} can be exported as {form}.", "Use --format safetensors.")


def _chosen(
    graphs: dict[str, ExportGraph | str], graph: str | None, loaded: LoadedModel
) -> dict[str, ExportGraph | str]:
    if graph is None:
        return graphs
    if graph not in graphs:
        what = f"A {loaded.name} has no graph {graph!r}; it has {', '.join(graphs)}."
        raise UserError(what, did_you_mean(graph, list(graphs)) or "Choose one of these.")
    return {graph: graphs[graph]}


def _written(
    loaded: LoadedModel, name: str, graph: ExportGraph, form: Format, path: Path, changing: CardWriter | None
) -> Iterator[str]:
    if graph.loop is not None and changing is not None:
        reason = "the Python file around it is proved with the program in float32"
        raise ExportError(name, reason, "Leave --quantize out.")
    if name == "log_likelihood" and changing is not None:
        raise ExportError(name, "it would not be exact any more", "Leave --quantize out.")
    script = _script(name, graph.loop, path) if form == "onnx" and graph.loop is not None else None
    proof = exported_and_proved(name, graph, form)
    if changing is not None:
        assert isinstance(proof.file, OnnxFile)
        card = changing.write(name, graph, proof.file, path, _metadata(loaded, name, graph, proof))
        yield _heading(path, name, graph)
        yield from card.lines()
        return
    yield from _program(loaded, name, graph, proof, path)
    if graph.loop is None:
        return
    for key, other in graph.loop.programs.items():
        beside = path.with_name(f"{path.stem}_{key}{path.suffix}")
        yield from _program(loaded, key, other, proof.programs[key], beside)
    if script is not None:
        with replacing(script) as temporary:
            temporary.write_text(graph.loop.source(), encoding="utf-8")
        yield f"{script}: the loop around it, largest difference {proof.loop_difference:.1e}"


def _program(loaded: LoadedModel, name: str, graph: ExportGraph, proof: Proof, path: Path) -> Iterator[str]:
    """Write a program as it is, and yield what was written and how it compares with the model."""
    with replacing(path) as temporary:
        proof.file.write(temporary, json.dumps(_metadata(loaded, name, graph, proof)))
    yield _heading(path, name, graph)
    for trial in proof.trials:
        yield (
            f"  {sizes_text(trial.sizes)}: largest difference {trial.difference:.1e}, "
            f"{1000 * trial.seconds:.1f} ms with {proof.file.runtime}, {1000 * trial.model_seconds:.1f} ms with PyTorch"
        )


def _heading(path: Path, name: str, graph: ExportGraph) -> str:
    inputs = ", ".join(f"{key} {_shape(given.shape)}" for key, given in graph.inputs.items())
    return f"{path} ({path.stat().st_size / 2**20:.1f} MiB): {name} of {inputs}"


def _script(name: str, loop: ExportLoop, path: Path) -> Path:
    """Return where the Python file of a loop is written.

    Raises:
        ExportError: another file is there.
    """
    script = path.with_name(f"{path.stem}_sample.py")
    first = inspect.getsource(loop.module).split("\n", 1)[0]
    is_ours = script.is_file() and script.read_text(encoding="utf-8", errors="replace").startswith(first)
    if script.exists() and not is_ours:
        raise ExportError(name, f"{script} would be replaced, which is another program", "Choose another --out.")
    return script


def _shape(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"


def _metadata(loaded: LoadedModel, name: str, graph: ExportGraph, proof: Proof) -> dict[str, Any]:
    """Return what a file says of itself: plain values."""
    spec = loaded.model.spec
    return {
        **loaded.model.provenance(),
        **loaded.origin,
        "software": f"aigc_lightning {__version__}",
        "graph": name,
        "inputs": {
            key: {
                "shape": list(given.shape),
                "dtype": "int64" if given.integers else "float32",
                "range": None if given.low is None else [given.low, given.high],
                "meaning": given.meaning,
            }
            for key, given in graph.inputs.items()
        },
        "outputs": dict.fromkeys(graph.outputs, graph.meaning),
        "dimensions": {
            dimension: {
                "least": proof.program.limits[dimension][0],
                "most": proof.program.limits[dimension][1],
                "multiple": 1 if dimension == "batch" else graph.multiple,
            }
            for dimension in graph.dynamic
        },
        "class_names": list(spec.class_names),
        "preprocessing": _PREPROCESSING,
        "proof": {
            "runtime": proof.file.runtime,
            "torch": torch.__version__,
            "opset": OPSET,
            "threads": torch.get_num_threads(),
            "bytes": proof.file.size,
            "largest_difference": max(trial.difference for trial in proof.trials),
            "trials": [vars(trial) for trial in proof.trials],
        },
        **({} if graph.loop is None else {"loop": _about_loop(graph.loop, proof)}),
    }


def _about_loop(loop: ExportLoop, proof: Proof) -> dict[str, Any]:
    return {
        "settings": dict(loop.settings),
        "proof": {
            "examples": [{name: _plain(value) for name, value in given.items()} for given, _ in loop.examples],
            "largest_difference": proof.loop_difference,
        },
    }


def _plain(value: Any) -> Any:
    """Return a value as it is, and of an array its shape."""
    return list(value.shape) if isinstance(value, np.ndarray) else value
