"""Mean pooling before 1x1 convolutions of ONNX programs as part of these, and padding that takes less time in 8 bits.

Shapes: C input channels, M output channels, k size of the window.
"""

from collections import Counter
from typing import Any

import numpy as np

_OWN_PIXELS = (b"edge", b"reflect", b"wrap")  # modes of Pad that bring no new numbers


def without_pooling(model: Any) -> None:
    """Let 1x1 convolutions of an ONNX model that follow a mean over windows take these means themselves, in place.

    Each weight becomes k x k weights of a k-th of a k-th. Where windows of 2 x 2 reach over the border by a pixel
    ("ceil_mode"), the border is repeated, whose mean with itself is the mean of what is there. Other windows that
    overlap or reach over the border stay, and so do means that something else needs as well.

    Args:
        model: a protobuf message.
    """
    from onnx import numpy_helper

    graph = model.graph
    weights = {found.name: found for found in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(given.name for given in graph.output)
    pools = {node.output[0]: node for node in graph.node if node.op_type == "AveragePool" and uses[node.output[0]] == 1}
    nodes = []
    for node in graph.node:
        pool = pools.get(node.input[0]) if node.op_type == "Conv" and _is_pointwise(node) else None
        size = None if pool is None else _window(pool)
        if pool is None or size is None or node.input[1] not in weights or uses[node.input[1]] > 1:
            nodes.append(node)
            continue
        nodes.remove(pool)
        weight = numpy_helper.to_array(weights[node.input[1]])
        spread = (weight / size**2).repeat(size, axis=2).repeat(size, axis=3)
        weights[node.input[1]].CopyFrom(numpy_helper.from_array(spread.astype(weight.dtype), node.input[1]))
        images = pool.input[0]
        if _options(pool).get("ceil_mode", 0):
            nodes += _padded(model, images, node.name)
            images = nodes[-1].output[0]
        nodes.append(_strided(node, images, size))
    del graph.node[:]
    graph.node.extend(nodes)


def pad_8_bits(model: Any) -> None:
    """Let a quantized ONNX model pad 8-bit numbers where it turns them into float32 for nothing else, in place.

    What is padded with its own pixels has their scale, so the numbers stay the same.

    Args:
        model: a protobuf message, in which QuantizeLinear and DequantizeLinear surround what is quantized.
    """
    graph = model.graph
    made = {node.output[0]: node for node in graph.node}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(given.name for given in graph.output)
    users = {name: node for node in graph.node for name in node.input if uses[name] == 1}
    for pad in [node for node in graph.node if node.op_type == "Pad" and _options(node).get("mode") in _OWN_PIXELS]:
        source, padded = made.get(pad.input[0]), users.get(pad.output[0])
        if source is None or padded is None:
            continue
        around = (source.op_type, padded.op_type)
        if around == ("DequantizeLinear", "QuantizeLinear") and source.input[1:] == padded.input[1:]:
            pad.input[0], pad.output[0] = source.input[0], padded.output[0]
            graph.node.remove(padded)
            if uses[source.output[0]] == 1:
                graph.node.remove(source)
    del graph.value_info[:]  # the types have changed


def _options(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {found.name: helper.get_attribute_value(found) for found in node.attribute}


def _window(pool: Any) -> int | None:
    """Return the side of the windows of a mean, or None if they cannot be part of a convolution."""
    options = _options(pool)
    size = options["kernel_shape"][0]
    is_plain = (
        options["kernel_shape"] == [size, size] == options.get("strides")
        and not any(options.get("pads", []))
        and set(options.get("dilations", [1])) == {1}
        and options.get("auto_pad", b"NOTSET") == b"NOTSET"
    )
    return size if is_plain and (size == 2 or not options.get("ceil_mode", 0)) else None


def _is_pointwise(convolution: Any) -> bool:
    options = _options(convolution)
    return (
        options.get("kernel_shape") == [1, 1]
        and set(options.get("strides", [1])) == {1}
        and not any(options.get("pads", []))
        and options.get("group", 1) == 1
        and options.get("auto_pad", b"NOTSET") == b"NOTSET"
    )


def _padded(model: Any, images: str, name: str) -> list[Any]:
    """Return the nodes that repeat the last row and column of images where heights and widths are odd."""
    from onnx import helper, numpy_helper

    arrays = {"two": np.array([2]), "none": np.zeros(6, np.int64), "axes": np.array([2, 3])}
    steps = ("shape", "sides", "negative", "odd", "pads", "padded")
    names = {key: f"{name}_{key}" for key in (*arrays, *steps)}
    model.graph.initializer.extend(numpy_helper.from_array(array, names[key]) for key, array in arrays.items())

    def node(operation: str, inputs: list[str], output: str, **options: Any) -> Any:
        return helper.make_node(operation, inputs, [names[output]], names[output], **options)

    return [
        node("Shape", [images], "shape"),
        node("Gather", [names["shape"], names["axes"]], "sides"),
        node("Neg", [names["sides"]], "negative"),
        node("Mod", [names["negative"], names["two"]], "odd"),
        node("Concat", [names["none"], names["odd"]], "pads", axis=0),
        node("Pad", [images, names["pads"]], "padded", mode="edge"),  # with axes, onnxruntime mixes them up in 8 bits
    ]


def _strided(convolution: Any, images: str, size: int) -> Any:
    """Return a convolution of windows of images, with the names of another one."""
    from onnx import helper

    inputs = [images, *convolution.input[1:]]
    return helper.make_node(
        "Conv", inputs, convolution.output, convolution.name, kernel_shape=[size, size], strides=[size, size]
    )
