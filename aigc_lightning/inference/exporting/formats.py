"""The two formats of exported programs, each with the runtime that proves it: ONNX, and `torch.export`'s .pt2.

ONNX: https://onnx.ai; opset 20. A .pt2 file: https://docs.pytorch.org/docs/stable/export.html
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.errors import UserError
from aigc_lightning.inference.exporting.traced import ExportError, Traced

Format = Literal["onnx", "pt2"]
Array = np.ndarray[Any, Any]
#: Takes arrays by name and returns the outputs in order.
Runtime = Callable[[Mapping[str, Array]], list[Array]]
#: Version of ONNX's operators; 20 is read by onnxruntime 1.17 (2024) and later.
OPSET = 20
_LARGEST = 2**31 - 1  # bytes that one protobuf message, and so an ONNX file, can have
_INSTALL = 'Run: pip install "aigc-lightning[onnx]"'


class Exported(Protocol):
    """A program in one of the formats, not yet written."""

    @property
    def size(self) -> int:
        """Bytes without metadata."""

    @property
    def runtime(self) -> str:
        """What `run` runs it with."""

    def run(self) -> Runtime:
        """Return what runs it, from its bytes alone."""

    def write(self, path: Path, metadata: str) -> None:
        """Write the file with a text as metadata."""


def exported(name: str, graph: ExportGraph, program: Traced, form: Format) -> Exported:
    """Return a traced graph in a format.

    Args:
        name: of the graph, for messages.
        graph: what was traced.
        program: the trace.
        form: "onnx" or "pt2".

    Raises:
        UserError: the packages of ONNX are not installed.
        ExportError: the format has no such operation or shape.
    """
    return OnnxFile(name, graph, program) if form == "onnx" else ProgramFile(program)


class ProgramFile:
    """A .pt2 file, which `torch.export.load` reads. Its metadata are the extra file `aigc.json`.

    Args:
        traced: the graph as a program.
    """

    def __init__(self, traced: Traced) -> None:
        self._program = traced.program
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(self._program, file)
        self._bytes = file.getvalue()
        self.size, self.runtime = len(self._bytes), "torch.export.load"

    def run(self) -> Runtime:
        """Return what runs the program as read from its bytes."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.export.load(io.BytesIO(self._bytes)).module()

        def outputs(inputs: Mapping[str, Array]) -> list[Array]:
            with torch.no_grad():
                found = module(**{name: torch.from_numpy(value) for name, value in inputs.items()})
            return [part.numpy() for part in ((found,) if isinstance(found, torch.Tensor) else found)]

        return outputs

    def write(self, path: Path, metadata: str) -> None:
        """Write the file with a text as metadata."""
        with warnings.catch_warnings(), path.open("wb") as file:
            warnings.simplefilter("ignore")
            torch.export.save(self._program, file, extra_files={f"{RECORD_KEY}.json": metadata})


class OnnxFile:
    """An .onnx file. Its metadata have the key "aigc".

    Args:
        name: of the graph, for messages.
        graph: what was traced.
        traced: the trace.

    Attributes:
        serialized: the file without metadata.

    Raises:
        UserError: the packages of ONNX are not installed.
        ExportError: ONNX has no such operation, a dimension is not dynamic in it, or the file would be too large.
    """

    def __init__(self, name: str, graph: ExportGraph, traced: Traced) -> None:
        try:
            import onnxruntime
            import onnxscript  # noqa: F401  # torch.onnx needs it
        except ImportError as error:
            raise UserError(f"{error.name} is not installed, which the format onnx needs.", _INSTALL) from error
        self._model: Any = _converted(name, graph, traced)
        _name_dimensions(name, graph, traced, self._model)
        if self._model.ByteSize() > _LARGEST:
            raise ExportError(name, "its weights exceed 2 GiB, which one ONNX file cannot hold", "Use --format pt2.")
        self.serialized: bytes = self._model.SerializeToString()
        self.size, self.runtime = len(self.serialized), f"onnxruntime {onnxruntime.__version__}"

    def run(self) -> Runtime:
        """Return what runs the bytes on the CPU, with as many threads as torch."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what it logs is in its errors as well
        session = onnxruntime.InferenceSession(self.serialized, options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, dict(inputs))

    def model(self) -> Any:
        """Return the protobuf message."""
        return self._model

    def write(self, path: Path, metadata: str) -> None:
        """Write the file with a text as metadata."""
        write_onnx(self._model, path, metadata)


def write_onnx(model: Any, path: Path, metadata: str) -> None:
    """Write an ONNX model (a protobuf message) with a text as metadata."""
    entry = model.metadata_props.add()
    entry.key, entry.value = RECORD_KEY, metadata
    path.write_bytes(model.SerializeToString())


def _converted(name: str, graph: ExportGraph, traced: Traced) -> Any:
    """Return the ONNX model (a protobuf message) of a program."""
    silent = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript"), logging.getLogger("onnx_ir")
    levels = [logger.level for logger in silent]
    try:
        for logger in silent:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            converted = torch.onnx.export(
                traced.program,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
            )
        assert converted is not None
        return converted.model_proto
    except Exception as error:  # each operation that is unknown, or inexpressible, raises something else
        found = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", str(error))
        what = f"ONNX has no operation for {found[1]}" if found else str(error.__cause__ or error).splitlines()[0]
        raise ExportError(name, what, "Use --format pt2, or other options of the model.") from error
    finally:
        for logger, level in zip(silent, levels, strict=True):
            logger.setLevel(level)


def _name_dimensions(name: str, graph: ExportGraph, traced: Traced, model: Any) -> None:
    """Give dynamic dimensions their names, and check that each that is promised is dynamic, and no other.

    Raises:
        ExportError: one is not.
    """
    names = {symbol: dimension for dimension, symbol in traced.symbols.items()}
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), size.dim_param)
    inputs = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    for key, given in graph.inputs.items():
        found = [size.dim_param or size.dim_value for size in inputs[key]]
        if found != list(given.shape):
            raise ExportError(name, f"{key} has the shape {found} in the file, not {list(given.shape)}")
