"""Means over windows become part of the convolutions after them, which compute the same."""

import numpy as np
import pytest

from aigc_lightning.inference.exporting.pooling import without_pooling

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
