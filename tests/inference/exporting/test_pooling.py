"""Means over windows become part of the convolutions after them, which compute the same."""

import numpy as np
import pytest

from aigc_lightning.inference.exporting.pooling import pad_8_bits, without_pooling

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


def program(size, ceil, kernel=1, shows_means=False, **options):
    """Return an ONNX model of a mean and a convolution of images (2, 3, H, W)."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    random = np.random.default_rng(0)
    weights = {"weight": (5, 3, kernel, kernel), "bias": (5,)}
    constants = [numpy_helper.from_array(random.standard_normal(weights[key], np.float32), key) for key in weights]
    window = {"kernel_shape": [size, size], "strides": [size, size], "ceil_mode": ceil, **options}
    nodes = [
        helper.make_node("AveragePool", ["x"], ["means"], "pool", **window),
        helper.make_node("Conv", ["means", *weights], ["y"], "convolution", kernel_shape=[kernel, kernel]),
    ]
    names = ["y", "means"] if shows_means else ["y"]
    given = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3, "height", "width"])
    found = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, "c", "h", "w"]) for name in names]
    graph = helper.make_graph(nodes, "pooled", [given], found, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(("size", "ceil"), [(2, 1), (2, 0), (3, 0)])
@pytest.mark.parametrize("sides", [(8, 6), (7, 9), (5, 12)])
def test_results_are_the_same_at_even_and_odd_sizes(size, ceil, sides):
    x = np.random.default_rng(1).standard_normal((2, 3, *sides), np.float32)
    model = program(size, ceil)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    without_pooling(model)
    onnx.checker.check_model(model, full_check=True)
    assert not any(node.op_type == "AveragePool" for node in model.graph.node)
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize(
    "options",
    [{"size": 3, "ceil": 1}, {"strides": [1, 1]}, {"pads": [1, 1, 1, 1]}, {"kernel": 3}, {"shows_means": True}],
)
def test_what_would_not_be_the_same_stays(options):
    model = program(**{"size": 2, "ceil": 0, **options})
    without_pooling(model)
    assert [node.op_type for node in model.graph.node] == ["AveragePool", "Conv"]


def quantized_program(mode="edge", scale="scale", shows_values=False):
    """Return an ONNX model that pads images (2, 3, H, W) of 8 bits in float32, and has 8 bits again."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    arrays = {"pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]), "zero": np.uint8(128)}
    arrays |= {"scale": np.float32(0.02), "other_scale": np.float32(0.03)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["values"]),
        helper.make_node("Pad", ["values", "pads"], ["padded"], mode=mode),
        helper.make_node("QuantizeLinear", ["padded", scale, "zero"], ["q_padded"]),
        helper.make_node("DequantizeLinear", ["q_padded", scale, "zero"], ["y"]),
    ]
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    given = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3, "height", "width"])
    names = ["y", "values"] if shows_values else ["y"]
    found = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3, "h", "w"]) for name in names]
    graph = helper.make_graph(nodes, "padded", [given], found, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
@pytest.mark.parametrize("shows_values", [False, True])
def test_padding_in_8_bits_gives_the_same(mode, shows_values):
    x = np.random.default_rng(2).standard_normal((2, 3, 6, 7), np.float32)
    model = onnx.shape_inference.infer_shapes(quantized_program(mode, shows_values=shows_values))
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    pad_8_bits(model)
    onnx.checker.check_model(model, full_check=True)
    operations = [node.op_type for node in model.graph.node]
    shown = ["DequantizeLinear"] if shows_values else []
    assert operations == ["QuantizeLinear", *shown, "Pad", "DequantizeLinear"]
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("options", [{"mode": "constant"}, {"scale": "other_scale"}])
def test_padding_that_brings_other_numbers_stays_in_float32(options):
    model = quantized_program(**options)
    pad_8_bits(model)
    operations = [node.op_type for node in model.graph.node]
    assert operations == ["QuantizeLinear", "DequantizeLinear", "Pad", "QuantizeLinear", "DequantizeLinear"]
