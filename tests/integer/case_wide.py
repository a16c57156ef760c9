"""Random nets of one operator on int16 codes (16x8) and on uint8."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ec2t_tf.export.graph import Graph

from . import case_elementwise, case_movement, case_products  # noqa: F401
from .nets import CASES, Net, case

Make = Callable[[np.random.Generator], Graph]


def _widened(make: Make) -> Make:
    """The int8 net with int16 inputs and outputs and biases of int64."""

    def wide(rng: np.random.Generator) -> Graph:
        graph = make(rng)
        for index in (*graph.inputs, *graph.outputs):
            tensor = graph.tensors[index]
            tensor.dtype, tensor.zero_point = "int16", np.zeros(1, np.int64)
            tensor.scale = tensor.scale / np.float32(256)
        for tensor in graph.tensors:
            if tensor.name == "bias":
                assert tensor.data is not None
                tensor.dtype, tensor.data = "int64", tensor.data.astype(np.int64) * 256
                tensor.scale = tensor.scale / np.float32(256)
        return graph

    return wide


for _name, _make in (
    ("CONV_2D", case_products.conv_2d),
    ("DEPTHWISE_CONV_2D", case_products.depthwise_conv_2d),
    ("FULLY_CONNECTED", case_products.fully_connected),
    ("TRANSPOSE_CONV", case_products.transpose_conv),
    ("AVERAGE_POOL_2D", case_products.pool),
    ("MAX_POOL_2D", lambda rng: case_products.pool(rng, "MAX_POOL_2D")),
    ("MEAN", case_products.mean),
    ("BATCH_MATMUL", case_products.batch_matmul),
    ("LEAKY_RELU", case_elementwise.leaky_relu),
    ("RELU", case_elementwise.relu),
    ("RELU6", case_elementwise.relu6),
    ("ABS", case_elementwise.absolute),
):
    case(f"{_name} int16")(_widened(_make))


def _unsigned(make: Make) -> Make:
    """The int8 net with codes of uint8."""

    def whole(rng: np.random.Generator) -> Graph:
        graph = make(rng)
        for tensor in graph.tensors:
            if tensor.dtype == "int8":
                tensor.dtype, tensor.zero_point = "uint8", tensor.zero_point + 128
                if tensor.data is not None:
                    tensor.data = (tensor.data.astype(np.int16) + 128).astype(np.uint8)
        return graph

    return whole


for _name in (
    *("LOGISTIC", "TANH", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU"),
    *("HARD_SWISH", "GELU", "PRELU", "MAXIMUM", "MINIMUM", "PAD", "CONCATENATION", "TRANSPOSE"),
):
    case(f"{_name} uint8")(_unsigned(CASES[_name]))


@case("ADD int16")
def add(rng: np.random.Generator, kind: str = "ADD") -> Graph:
    net = Net(rng)
    a, b, shape = case_elementwise.pair(net, "int16")
    scale = (net.scale_of(a) + net.scale_of(b)) * net.scale(-2, 1)
    output = net.tensor(shape, "int16", scale=scale)
    return net.done(kind, (a, b), output, activation="none", pot_scale_int16=False)


@case("MAXIMUM int16")
def extreme(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    a, b, shape = case_elementwise.pair(net, "int16")
    net.graph.tensors[b].scale = net.graph.tensors[a].scale
    return net.done("MAXIMUM", (a, b), net.tensor(shape, "int16", scale=net.scale_of(a)))


case("SUB int16")(lambda rng: add(rng, "SUB"))


@case("MUL int16")
def mul(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    a, b, shape = case_elementwise.pair(net, "int16")
    scale = net.scale_of(a) * net.scale_of(b) * 2.0 ** rng.uniform(13, 17)
    output = net.tensor(shape, "int16", scale=scale)
    return net.done("MUL", (a, b), output, activation="none")


@case("LOGISTIC int16")
def logistic(rng: np.random.Generator, kind: str = "LOGISTIC") -> Graph:
    net = Net(rng)
    scale = 2.0 ** int(rng.integers(-13, -10)) if rng.integers(2) else net.scale(-16, -9)
    entry = net.entry((3000,), "int16", scale=scale)
    return net.done(kind, (entry,), net.tensor((1, 3000), "int16", scale=2.0**-15))


case("TANH int16")(lambda rng: logistic(rng, "TANH"))


@case("SOFTMAX int16")
def softmax(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape = (net.size(1, 5), net.size(1, 60))
    entry = net.entry(shape, "int16", scale=net.scale(-15, -9))
    beta = float(rng.choice([1.0, 0.5]))
    output = net.tensor((1, *shape), "int16", scale=2.0**-15)
    return net.done("SOFTMAX", (entry,), output, beta=beta)


@case("QUANTIZE 16")
def quantize(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    wide = bool(rng.integers(2))
    kinds = ("int8", "int16") if wide else ("int16", "int8")
    entry = net.entry((300,), kinds[0])
    ratio = net.scale(-9, -7) if wide else net.scale(7, 9)
    output = net.tensor((1, 300), kinds[1], scale=net.scale_of(entry) * ratio)
    return net.done("QUANTIZE", (entry,), output)


@case("PRELU int16")
def prelu(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape = (net.size(1, 5), net.size(1, 5), net.size(1, 20))
    entry = net.entry(shape, "int16", scale=net.scale(-14, -9))
    slope = net.codes((1, 1, shape[2]), scale=net.scale(-9, -6))
    scale = net.scale_of(entry) * net.scale(-1, 1)
    return net.done("PRELU", (entry, slope), net.tensor((1, *shape), "int16", scale=scale))
