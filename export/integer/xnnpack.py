"""Which operators LiteRT's default delegate gives to XNNPACK (LiteRT 2.3, x86-64, int8).

What it leaves runs in the builtin kernels. The limits are the delegate's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ec2t_tf.export.graph import Tensor
from ec2t_tf.export.graph.multipliers import are_normal

from .node import Node, scale_of

_QUANTISED = ("int8", "uint8")
_MOST_AXES = 6


def takes(node: Node) -> bool:
    """Whether this operator runs in XNNPACK in the rounding of the node."""
    if node.rounding != "xnnpack":
        return False
    check = _CHECKS.get(node.kind)
    return check is not None and check(node) and _normal_scales(node)


def _normal_scales(node: Node) -> bool:
    """Whether no tensor has a scale of 0, or a subnormal one: of a single channel is enough."""
    tensors = [tensor for tensor in node.inputs if tensor is not None]
    return all(are_normal(tensor.scale) for tensor in (*tensors, node.output))


def _one_scale(*tensors: Tensor | None) -> bool:
    return all(t is not None and t.dtype in _QUANTISED and t.scale.size == 1 for t in tensors)


def _activated(node: Node) -> bool:
    return node.option("activation", "none") in ("none", "relu", "relu6", "relu_n1_to_1")


def _ratio(tensor: Tensor, node: Node) -> np.float32:
    return scale_of(tensor) / scale_of(node.output)


def _kernel(axis: int) -> Callable[[Node], bool]:
    """A convolution whose kernel counts its output channels along `axis`."""

    def check(node: Node) -> bool:
        inputs = node.inputs
        if len(inputs) < 2 or inputs[1] is None:
            return False
        # Without a bias LiteRT runs none; a packed layer then is as one with zeros.
        entry, kernel, bias = node.input(0), inputs[1], inputs[2] if len(inputs) > 2 else None
        return (
            _one_scale(entry, node.output)
            and entry.dtype == kernel.dtype == node.output.dtype
            and kernel.data is not None
            and (bias is None or (bias.data is not None and bias.dtype == "int32"))
            and len(entry.shape) == 4
            and (kernel.scale.size == 1 or kernel.axis == axis)
            and not np.any(kernel.zero_point)
            and _activated(node)
        )

    return check


def _fully_connected(node: Node) -> bool:
    inputs = node.inputs
    entry, kernel = node.input(0), node.input(1)
    bias = inputs[2] if len(inputs) > 2 else None
    return (
        _one_scale(entry, node.output)
        and entry.dtype == kernel.dtype == node.output.dtype
        and kernel.data is not None
        and not np.any(kernel.zero_point)
        and (bias is None or (bias.data is not None and bias.dtype == "int32"))
        and node.option("weights_format", 0) == 0
        and _activated(node)
    )


def _sum(node: Node) -> bool:
    pair = (node.input(0), node.input(1))
    return bool(
        _one_scale(*pair, node.output)
        and all(t.dtype == node.output.dtype and len(t.shape) <= _MOST_AXES for t in pair)
        and all(1 / 1024 <= _ratio(t, node) < 256 for t in pair)
        and _activated(node)
    )


def _product(node: Node) -> bool:
    pair = (node.input(0), node.input(1))
    if not _one_scale(*pair, node.output):
        return False
    real = scale_of(pair[0]) * scale_of(pair[1]) / scale_of(node.output)
    return bool(
        all(t.dtype == node.output.dtype and len(t.shape) <= _MOST_AXES for t in pair)
        and 1 / 65536 <= real < 256
        and _activated(node)
    )


def _quantise(node: Node) -> bool:
    entry = node.input(0)
    if not _one_scale(node.output) or len(entry.shape) > _MOST_AXES:
        return False
    if entry.dtype == "float32":
        return True
    same = _one_scale(entry) and entry.dtype == node.output.dtype
    return bool(same and 1 / 256 <= _ratio(entry, node) <= 128)


def _dequantise(node: Node) -> bool:
    return _one_scale(node.input(0)) and len(node.input(0).shape) <= _MOST_AXES


def _unary(node: Node) -> bool:
    entry = node.input(0)
    return _one_scale(entry, node.output) and len(entry.shape) <= _MOST_AXES


def _elu(node: Node) -> bool:
    return _unary(node) and node.input(0).dtype == "int8"


def _leaky_relu(node: Node) -> bool:
    alpha = np.float32(node.option("alpha", 0.0))
    if not _unary(node) or not math.isfinite(alpha) or abs(alpha) < np.finfo(np.float32).tiny:
        return False
    positive = _ratio(node.input(0), node)
    negative = positive * alpha
    return bool(
        1 / 256 <= positive <= 128 and -127.99609375 <= negative <= 128 and abs(negative) >= 1 / 256
    )


def _reduce(node: Node) -> bool:
    entry = node.input(0)
    return _one_scale(entry, node.output) and entry.dtype == node.output.dtype


def _transposed(node: Node) -> bool:
    inputs, out = node.inputs, node.output
    entry, kernel = node.input(2), node.input(1)
    bias = inputs[3] if len(inputs) > 3 else None
    size, stride = kernel.shape[1:3], node.options["stride"]
    if node.options["padding"] == "same":
        fits = all(
            entry.shape[a + 1] == -(-out.shape[a + 1] // stride[a]) and size[a] >= stride[a]
            for a in (0, 1)
        )
    else:
        fits = all(size[a] <= out.shape[a + 1] for a in (0, 1))
    return bool(
        fits
        and _one_scale(entry, out)
        and entry.dtype == kernel.dtype == out.dtype
        and kernel.data is not None
        and (kernel.scale.size == 1 or kernel.axis == 0)
        and not np.any(kernel.zero_point)
        and (bias is None or (bias.data is not None and bias.dtype == "int32"))
        and _activated(node)
    )


def _matmul(node: Node) -> bool:
    pair = (node.input(0), node.input(1))
    return bool(
        _one_scale(*pair, node.output)
        and all(t.dtype == "int8" and 2 <= len(t.shape) <= _MOST_AXES for t in pair)
        and not np.any(pair[1].zero_point)
    )


def _resize(node: Node) -> bool:
    entry = node.input(0)
    return _one_scale(entry, node.output) and len(entry.shape) == 4


_CHECKS: dict[str, Callable[[Node], bool]] = {
    "ADD": _sum,
    "BATCH_MATMUL": _matmul,
    "CONV_2D": _kernel(0),
    "DEPTHWISE_CONV_2D": _kernel(3),
    "DEQUANTIZE": _dequantise,
    "ELU": _elu,
    "FULLY_CONNECTED": _fully_connected,
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": _unary,
    "MEAN": _reduce,
    "MUL": _product,
    "QUANTIZE": _quantise,
    "RESIZE_BILINEAR": _resize,
    "SUB": _sum,
    "SUM": _reduce,
    "TANH": _unary,
    "TRANSPOSE_CONV": _transposed,
}
