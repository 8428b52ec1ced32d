"""ONNX programs with 8-bit layers or 4-bit weights, and a card that says what they gain and lose.

`int8`: static quantization of weights and activations; their ranges are those of training images. `int4-weights`: the
weights of matrix products in blocks of 32, activations stay float32.
Both by onnxruntime: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.inference.exporting.formats import Array, OnnxFile
from aigc_lightning.inference.exporting.measured import Measured, Score, measured, score_of, session_of
from aigc_lightning.inference.exporting.pooling import pad_8_bits, without_pooling
from aigc_lightning.inference.exporting.traced import ExportError
from aigc_lightning.inference.exporting.transposed import without_transposed

Quantization = Literal["int8", "int4-weights"]
#: How a model became smaller: with fewer channels, or in any way beside another model.
Narrowing = Literal["pruned", "smaller"]
#: Inputs by name, in batches.
Examples = Sequence[Mapping[str, Array]]
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_BLOCK = 32  # weights that share a 4-bit scale
_LEAST_SAVED = 0.02  # of the file
_LEAST_CHANNELS = 3  # of a convolution's input: with fewer, an 8-bit one takes longer than a float32 one


@dataclass(frozen=True)
class Card:
    """What a change of a program, such as quantization, gains and loses.

    Args:
        quantization: its kind; "pruned" or "smaller" for a smaller model.
        float_layers: names of the layers that stay float32, of those that could have been quantized.
        before: the program before the change.
        after: the changed one.
        score: how well the changed program does, and how well it has to.
        calibration: number of batches from which ranges were taken; 0 for weights alone.
    """

    quantization: Quantization | Narrowing
    float_layers: list[str]
    before: Measured
    after: Measured
    score: Score
    calibration: int

    @property
    def problems(self) -> list[str]:
        """Why the file is not worth having, in a few words each; empty if it is."""
        before, after, score = self.before, self.after, self.score
        problems = []
        if after.bytes > (1 - _LEAST_SAVED) * before.bytes:
            sizes = f"{after.bytes / 2**20:.2f} instead of {before.bytes / 2**20:.2f} MiB"
            problems.append(f"it is not {_LEAST_SAVED:.0%} smaller ({sizes})")
        if after.seconds >= before.seconds:
            times = f"{1000 * after.seconds:.2f} instead of {1000 * before.seconds:.2f} ms"
            problems.append(f"it is not faster ({times} a batch)")
        if not score.suffices:
            bound = "above the most" if score.lower else "below the floor"
            digits = 4 if score.lower else 2
            problems.append(f"its {score.name} of {score.after:.{digits}f} is {bound} of {score.floor:.{digits}f}")
        return problems

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**asdict(self), "problems": self.problems}

    def lines(self) -> Iterator[str]:
        """Yield it as a table."""
        yield f"  {'':<24}{'before':>12}{self.quantization:>14}"
        rows = {
            "MiB of the file": (self.before.bytes / 2**20, self.after.bytes / 2**20),
            f"ms a batch of {self.before.batch}": (1000 * self.before.seconds, 1000 * self.after.seconds),
            "MiB at most in memory": (self.before.peak_bytes / 2**20, self.after.peak_bytes / 2**20),
        }
        for title, (before, after) in rows.items():
            yield f"  {title:<24}{before:>12.2f}{after:>14.2f}  x{before / max(after, 1e-9):.2f}"
        score, digits = self.score, 4 if self.score.lower else 2
        before_score = "" if score.before is None else f"{score.before:.{digits}f}"
        bound = f"{'at most' if score.lower else 'floor'} {score.floor:.{digits}f}"
        yield f"  {score.name:<24}{before_score:>12}{score.after:>14.{digits}f}  {bound}"


def quantized(
    name: str,
    graph: ExportGraph,
    file: OnnxFile,
    kind: Quantization,
    calibration: Examples,
    judged: Examples,
    labels: Array | None = None,
    floor: float | None = None,
) -> tuple[Any, Card]:
    """Return a quantized ONNX model (a protobuf message) and its card.

    Convolutions of one or two channels stay float32, and the first and the last layer if the score is below the
    floor otherwise.

    Args:
        name: of the graph, for messages.
        graph: that was exported.
        file: the program in float32.
        kind: of quantization.
        calibration: inputs by name, in batches, whose activations set the ranges of int8.
        judged: inputs of held-out data, in batches of one size; the times are those of the first.
        labels: int64 (N,), the classes of the judged images, if the graph classifies.
        floor: least score; by default 40 dB, or half a point of accuracy less than in float32.

    Raises:
        ExportError: it has no layer of that kind, or the quantized program does not run.
    """
    source = _prepared(name, file.serialized)
    layers = [node.name for node in source.graph.node if node.op_type in _LAYERS]
    expected = [file.run()(inputs)[0] for inputs in judged]
    narrow = _narrow(source)
    choices = [[]] if kind == "int4-weights" else [narrow, list(dict.fromkeys(layers[:1] + narrow + layers[-1:]))]
    results = []
    for kept in choices:
        model = _int4(name, source) if kind == "int4-weights" else _int8(name, source, calibration, kept)
        found = _outputs(name, graph, model, judged)
        results.append((score_of(graph, expected, found, labels, floor), kept, model))
        if results[-1][0].after >= results[-1][0].floor:
            break
    score, kept, model = max(results, key=lambda result: result[0].after)
    before, after = measured([file.serialized, model.SerializeToString()], judged[0])
    batches = len(calibration) if kind == "int8" else 0
    return model, Card(kind, kept, before, after, score, batches)


def _prepared(name: str, serialized: bytes) -> Any:
    """Return the model with normalisations and means folded into convolutions, no transposed ones, and with shapes.

    Raises:
        ExportError: nothing in it can be quantized.
    """
    import onnx
    import onnxruntime
    from onnxruntime.quantization.onnx_model import ONNXModel

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath, options.log_severity_level = str(path), 4
        onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
        loaded = onnx.load(path)
    for number, node in enumerate(loaded.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    without_transposed(loaded)  # onnxruntime computes these in float32 alone
    without_pooling(loaded)  # and means in 8 bits no faster than in float32
    del loaded.graph.value_info[:]
    model = ONNXModel(onnx.shape_inference.infer_shapes(loaded))
    model.replace_gemm_with_matmul()
    model.clean_initializers()
    if not any(node.op_type in _LAYERS for node in model.model.graph.node):
        raise ExportError(name, "it has no layer that can be quantized", "Leave --quantize out.")
    return model.model


def _narrow(model: Any) -> list[str]:
    """Return the names of the convolutions of few channels."""
    shapes = {found.name: found.dims for found in model.graph.initializer}
    found = []
    for node in model.graph.node:
        groups = next((option.i for option in node.attribute if option.name == "group"), 1)
        if node.op_type == "Conv" and groups == 1 and shapes.get(node.input[1], [0, 9])[1] < _LEAST_CHANNELS:
            found.append(node.name)
    return found


class _Reader:
    """Gives onnxruntime the inputs one by one.

    Args:
        examples: inputs by name.
    """

    def __init__(self, examples: Examples) -> None:
        self._rest = iter(examples)

    def get_next(self) -> dict[str, Array] | None:
        """Return the next inputs, or None."""
        return next((dict(inputs) for inputs in self._rest), None)


def _int8(name: str, source: Any, calibration: Examples, kept: list[str]) -> Any:
    """Return the program with all layers but those `kept` in 8 bits.

    Weights use 7 of them: the sums of processors without 8-bit dot products (VNNI) have 16 bits and would overflow.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    reader = type("Reader", (_Reader, CalibrationDataReader), {})(calibration)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        root, level = logging.getLogger(), logging.getLogger().level
        root.setLevel(logging.ERROR)  # it recommends what has been done
        try:
            quantize_static(
                _copied(source), path, reader, per_channel=True, activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8, nodes_to_exclude=kept, reduce_range=True,
            )  # fmt: skip
        except Exception as error:  # onnxruntime raises errors of its own
            reason = f"onnxruntime cannot quantize it: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"
            raise ExportError(name, reason, "Leave --quantize out.") from error
        finally:
            root.setLevel(level)
        model = onnx.load(path)
    pad_8_bits(model)
    return model


def _int4(name: str, source: Any) -> Any:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(_copied(source), block_size=_BLOCK, is_symmetric=True, accuracy_level=4)
    level = logging.getLogger(MatMulNBitsQuantizer.__module__).level
    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.ERROR)
    try:
        quantizer.process()
    finally:
        logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(level)
    model = quantizer.model.model
    if not any(node.op_type == "MatMulNBits" for node in model.graph.node):
        raise ExportError(name, "it has no matrix product with fixed weights", "Use --quantize int8.")
    return model


def _copied(model: Any) -> Any:
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


def _outputs(name: str, graph: ExportGraph, model: Any, judged: Examples) -> list[Array]:
    """Return the first output for each batch, of a program that also runs at all sizes of the graph's trials.

    Raises:
        ExportError: it does not run.
    """
    session = session_of(model.SerializeToString())
    try:
        for number in range(len(graph.trials)):
            session.run(None, {key: value.numpy() for key, value in graph.example(number).items()})
        return [session.run(None, dict(inputs))[0] for inputs in judged]
    except Exception as error:  # onnxruntime raises errors of its own
        raise ExportError(name, f"the quantized file does not run: {str(error).splitlines()[0][:200]}") from error
