"""Transposed convolutions of ONNX programs as convolutions, which can be quantized.

Shapes: C input channels, M output channels, k size of the kernel, s stride.
"""

from typing import Any

import numpy as np

from aigc_lightning.inference.exporting.formats import Array

_END = 2**31 - 1


def without_transposed(model: Any) -> None:
    """Replace transposed convolutions of an ONNX model by convolutions, in place.

    A pixel of the output depends on every s-th weight. So the s x s pixels of a place are channels of a convolution
    with kernels of k / s, rounded up, which are then put beside each other; what padding cuts off is cut off
    afterwards. Those with groups, dilations, a stride of 1 or weights that are computed stay.

    Source: Shi et al., Is the deconvolution layer the same as a convolutional layer?, 2016,
    https://arxiv.org/abs/1609.07009

    Args:
        model: a protobuf message.
    """
    from onnx import numpy_helper

    weights = {found.name: found for found in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type != "ConvTranspose" or not all(name in weights for name in node.input[1:]):
            model.graph.node.append(node)
            continue
        given = [numpy_helper.to_array(weights[name]) for name in node.input[1:]]
        model.graph.node.extend(_replaced(model, node, given) or [node])


def _replaced(model: Any, node: Any, weights: list[Array]) -> list[Any] | None:
    """Return the nodes that do what a transposed convolution does, or None if they cannot."""
    from onnx import helper, numpy_helper

    options = {found.name: helper.get_attribute_value(found) for found in node.attribute}
    strides, pads = options.get("strides", [1, 1]), options.get("pads", [0, 0, 0, 0])
    more = options.get("output_padding", [0, 0])
    kernel = weights[0].shape[2:]
    taps = [-(-size // stride) for size, stride in zip(kernel, strides, strict=True)]
    ends = [taps[i] * strides[i] - kernel[i] + pads[2 + i] - more[i] for i in range(2)]
    plain = options.get("group", 1) == 1 and set(options.get("dilations", [1])) == {1} and "output_shape" not in options
    automatic = options.get("auto_pad", b"NOTSET") != b"NOTSET"
    if len(kernel) != 2 or not strides[0] == strides[1] > 1 or not plain or automatic or min(ends) < 0:
        return None
    arrays = {"weight": _weights(weights[0], strides[0], taps)}
    if len(weights) > 1:
        arrays["bias"] = np.tile(weights[1], strides[0] ** 2)
    arrays["starts"], arrays["ends"] = np.array(pads[:2]), np.array([-end if end else _END for end in ends])
    arrays["axes"] = np.array([2, 3])
    names = {key: f"{node.name}_{key}" for key in (*arrays, "convolved", "spread")}
    model.graph.initializer.extend(numpy_helper.from_array(array, names[key]) for key, array in arrays.items())
    inputs = [node.input[0], *(names[key] for key in ("weight", "bias") if key in arrays)]
    is_cut = bool(any(pads[:2]) or any(ends))
    around = [taps[0] - 1, taps[1] - 1] * 2
    nodes = [helper.make_node("Conv", inputs, [names["convolved"]], node.name, kernel_shape=taps, pads=around)]
    spread = names["spread"] if is_cut else node.output[0]
    nodes += _spread(model, node.input[0], nodes[0], spread, strides[0])
    if is_cut:
        cut = [spread, names["starts"], names["ends"], names["axes"]]
        nodes.append(helper.make_node("Slice", cut, node.output, f"{node.name}_cut"))
    return nodes


def _spread(model: Any, source: str, convolution: Any, output: str, stride: int) -> list[Any]:
    """Return the nodes that make images (B, M, s H, s W) of the result (B, s s M, H, W) of a convolution of a source.

    As DepthToSpace, which onnxruntime computes number by number. With the channels last, as its 8-bit convolutions have
    them, rows of s M numbers stay together.
    """
    from onnx import helper, numpy_helper

    (weight,) = (found for found in model.graph.initializer if found.name == convolution.input[1])
    outputs, _, *taps = weight.dims
    channels = outputs // stride**2
    arrays = {
        "sides": np.array([0, 2, 3]),
        "more": np.array([0, *(count - 1 for count in taps)]),
        "factors": np.array([1, stride, stride]),
        "rest": np.array([channels]),
        "form": np.array([0, 0, 0, stride, stride * channels]),
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, f"{output}_{key}") for key, array in arrays.items())

    def node(operation: str, inputs: list[str], key: str, **options: Any) -> Any:
        return helper.make_node(operation, inputs, [key], key, **options)

    def named(*keys: str) -> list[str]:
        return [f"{output}_{key}" for key in keys]

    return [
        node("Shape", [source], f"{output}_shape"),
        node("Gather", named("shape", "sides"), f"{output}_given"),
        node("Add", named("given", "more"), f"{output}_small"),
        node("Mul", named("small", "factors"), f"{output}_large"),
        node("Concat", named("large", "rest"), f"{output}_shape_of_all", axis=0),
        node("Transpose", list(convolution.output), f"{output}_last", perm=[0, 2, 3, 1]),
        node("Reshape", named("last", "form"), f"{output}_rows"),
        node("Transpose", named("rows"), f"{output}_between", perm=[0, 1, 3, 2, 4]),
        node("Reshape", named("between", "shape_of_all"), f"{output}_whole"),
        node("Transpose", named("whole"), output, perm=[0, 3, 1, 2]),
    ]


def _weights(weight: Array, stride: int, taps: list[int]) -> Array:
    """Return the weights (s s M, C, taps) of the convolution for those (C, M, k, k) of a transposed one."""
    short = [count * stride - size for count, size in zip(taps, weight.shape[2:], strict=True)]
    weight = np.pad(weight, [(0, 0), (0, 0), (0, short[0]), (0, short[1])])
    inputs, outputs = weight.shape[:2]
    parts = weight.reshape(inputs, outputs, taps[0], stride, taps[1], stride)[:, :, ::-1, :, ::-1]
    found: Array = np.ascontiguousarray(parts.transpose(3, 5, 1, 0, 2, 4))
    return found.reshape(outputs * stride**2, inputs, *taps)
