"""Transposed convolutions become convolutions that compute the same."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import conv_transpose2d

from aigc_lightning.inference.exporting.transposed import without_transposed

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


def program(weight, bias, **options):
    """Return an ONNX model of one transposed convolution of images (2, 3, H, W)."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    constants = {"weight": weight, **({} if bias is None else {"bias": bias})}
    node = helper.make_node("ConvTranspose", ["x", *constants], ["y"], "spread", **options)
    sizes = {"x": [2, 3, "height", "width"], "y": [2, "channels", "h", "w"]}
    given, found = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes[name]) for name in "xy")
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([node], "transposed", [given], [found], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "more", "operations"),
    [
        (2, 2, 0, 0, "Conv"),
        (4, 2, 1, 0, "Conv Slice"),
        (3, 2, 1, 1, "Conv Slice"),
        ((5, 2), 2, (2, 0), (1, 0), "Conv Slice"),
        (6, 3, 1, 0, "Conv Slice"),
        (4, 1, 0, 0, "ConvTranspose"),  # nothing to spread
        (5, 3, 0, 2, "ConvTranspose"),  # more than the kernel reaches
    ],
)
@pytest.mark.parametrize("with_bias", [True, False])
def test_results_are_the_same_at_any_size(kernel, stride, padding, more, operations, with_bias):
    pairs: list[Any] = [(each, each) if isinstance(each, int) else each for each in (kernel, stride, padding, more)]
    random = np.random.default_rng(0)
    weight = random.standard_normal((3, 5, *pairs[0]), np.float32)
    bias = random.standard_normal(5, np.float32) if with_bias else None
    model = program(weight, bias, strides=pairs[1], pads=[*pairs[2], *pairs[2]], output_padding=pairs[3])
    without_transposed(model)
    kinds = [node.op_type for node in model.graph.node]
    assert [kind for kind in kinds if kind in ("Conv", "ConvTranspose", "Slice")] == operations.split()
    assert "DepthToSpace" not in kinds  # slow in 8 bits
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for size in ((6, 7), (9, 4)):
        x = random.standard_normal((2, 3, *size), np.float32)
        offset = None if bias is None else torch.from_numpy(bias)
        expected = conv_transpose2d(torch.from_numpy(x), torch.from_numpy(weight), offset, *pairs[1:])
        (found,) = session.run(None, {"x": x})
        assert found.shape == expected.shape and np.abs(found - expected.numpy()).max() < 1e-5


def test_what_has_groups_or_no_fixed_weights_stays():
    weight = np.ones((3, 1, 2, 2), np.float32)
    grouped = program(weight, None, strides=[2, 2], group=3)
    computed = program(weight, None, strides=[2, 2])
    del computed.graph.initializer[:]
    for model in (grouped, computed):
        without_transposed(model)
        assert [node.op_type for node in model.graph.node] == ["ConvTranspose"]
