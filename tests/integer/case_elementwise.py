"""Random nets of one operator: element by element."""

from __future__ import annotations

import numpy as np

from ec2t_tf.export.graph import Graph

from .nets import ACTIVATIONS, Make, Net, case


def pair(net: Net, dtype: str = "int8", rank: int = 3) -> tuple[int, int, tuple[int, ...]]:
    """Two tensors whose shapes broadcast, perhaps one a constant, and the shape of the result."""
    rng = net.rng
    shape = (*(net.size(1, 9) for _ in range(rank - 1)), net.size(1, 40))
    way = int(rng.integers(6))
    other = shape if way < 3 else shape[-1:] if way == 3 else (1,) * (rank - 1) + shape[-1:]
    if way == 5:  # any axes
        other = tuple(int(rng.choice([1, size])) for size in shape)
    scale = net.scale()
    second = {"scale": scale * net.scale(*((-2, 2) if rng.integers(2) else (-9, 2)))}
    first = net.entry(shape, dtype, scale=scale)
    if way in (2, 3):
        index = net.codes(other, dtype, **second)
    else:
        index = net.entry(other, dtype, **second)
    pair = (first, index)
    if rng.integers(2):
        pair = (index, first)
    return (*pair, (1, *shape))


@case("ADD")
@case("SUB")
def add(rng: np.random.Generator, kind: str = "ADD") -> Graph:
    net = Net(rng)
    a, b, shape = pair(net)
    output = net.tensor(shape, scale=(net.scale_of(a) + net.scale_of(b)) * net.scale(-2, 1))
    return net.done(kind, (a, b), output, activation=str(rng.choice(ACTIVATIONS)))


case("SUB")(lambda rng: add(rng, "SUB"))


@case("MUL")
def mul(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    a, b, shape = pair(net)
    output = net.tensor(shape, scale=net.scale_of(a) * net.scale_of(b) * net.scale(5, 9))
    return net.done("MUL", (a, b), output, activation=str(rng.choice(ACTIVATIONS)))


@case("MUL of itself")
@case("ADD of itself")
def itself(rng: np.random.Generator, kind: str = "MUL") -> Graph:
    net = Net(rng)
    entry = net.entry((300,), scale=net.scale(-8, -2))
    coarse = net.scale_of(entry) * net.scale(5, 9) if kind == "MUL" else net.scale(0, 2)
    output = net.tensor((1, 300), scale=net.scale_of(entry) * coarse)
    return net.done(kind, (entry, entry), output, activation=str(rng.choice(ACTIVATIONS)))


case("ADD of itself")(lambda rng: itself(rng, "ADD"))
case("SUB of itself")(lambda rng: itself(rng, "SUB"))


@case("MUL by a constant")
def constant(rng: np.random.Generator, kind: str = "MUL") -> Graph:
    """Constants that are all 0 or all 1, or their codes are."""
    net = Net(rng)
    entry = net.entry((40,), scale=net.scale(-8, -2))
    way = int(rng.integers(4))
    scale, zero = (1.0, -5) if way == 1 else (net.scale(-8, -2), net.zero())
    code = [zero, zero + 1, 0, 1][way]
    data = np.full((1, 40), np.clip(code, -128, 127), np.int8)
    other = net.tensor((1, 40), scale=scale, zero=zero, data=data)
    output = net.tensor((1, 40), scale=net.scale_of(entry) * net.scale(-1, 1) * scale * 2)
    if kind != "MUL":
        net.graph.tensors[output].scale = np.float32([net.scale_of(entry) * 1.5])
    pair = (entry, other) if rng.integers(2) else (other, entry)
    return net.done(kind, pair, output, activation="none")


case("ADD of a constant")(lambda rng: constant(rng, "ADD"))
case("SUB of a constant")(lambda rng: constant(rng, "SUB"))


@case("LOGISTIC")
def logistic(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    entry = net.entry((300,), scale=net.scale(-9, 0))
    return net.done("LOGISTIC", (entry,), net.tensor((1, 300), scale=1 / 256, zero=-128))


@case("TANH")
def tanh(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    entry = net.entry((300,), scale=net.scale(-9, 0))
    return net.done("TANH", (entry,), net.tensor((1, 300), scale=1 / 128, zero=0))


@case("SOFTMAX")
def softmax(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape = (net.size(1, 5), net.size(1, 60)) if rng.integers(2) else (net.size(1, 60),)
    entry = net.entry(shape, scale=net.scale(-9, 0))
    beta = float(rng.choice([1.0, 0.5, 2.0]))
    output = net.tensor((1, *shape), scale=1 / 256, zero=-128)
    return net.done("SOFTMAX", (entry,), output, beta=beta)


@case("QUANTIZE float32")
def quantize(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    entry = net.entry((400,), "float32")
    return net.done("QUANTIZE", (entry,), net.tensor((1, 400), str(rng.choice(["int8", "uint8"]))))


@case("QUANTIZE 8")
def requantize(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    kinds = ["int8", "uint8"]
    entry = net.entry((300,), str(rng.choice(kinds)))
    scale = net.scale_of(entry) * net.scale(-4, 4)
    return net.done("QUANTIZE", (entry,), net.tensor((1, 300), str(rng.choice(kinds)), scale=scale))


@case("DEQUANTIZE")
def dequantize(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    entry = net.entry((300,), str(rng.choice(["int8", "uint8"])))
    return net.done("DEQUANTIZE", (entry,), net.tensor((1, 300), "float32"))


@case("MAXIMUM")
@case("MINIMUM")
def extreme(rng: np.random.Generator, kind: str = "MAXIMUM") -> Graph:
    net = Net(rng)
    a, b, shape = pair(net)
    first, second = (net.graph.tensors[i] for i in (a, b))
    second.scale, second.zero_point = first.scale, first.zero_point
    output = net.tensor(shape, scale=net.scale_of(a), zero=int(first.zero_point[0]))
    return net.done(kind, (a, b), output)


case("MINIMUM")(lambda rng: extreme(rng, "MINIMUM"))


@case("SQUARED_DIFFERENCE")
def squared_difference(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    a, b, shape = pair(net)
    both = net.scale_of(a) + net.scale_of(b)
    output = net.tensor(shape, scale=both**2 * net.scale(5, 8))
    return net.done("SQUARED_DIFFERENCE", (a, b), output)


@case("PRELU")
def prelu(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape = (net.size(1, 5), net.size(1, 5), net.size(1, 20))
    entry = net.entry(shape)
    slope = net.codes((1, 1, shape[2]) if rng.integers(2) else shape, scale=net.scale(-9, -6))
    output = net.tensor((1, *shape), scale=net.scale_of(entry) * net.scale(-2, 1))
    return net.done("PRELU", (entry, slope), output)


def _unary(kind: str, low: float, high: float, **options: object) -> Make:
    """One input of all codes and an output 2^low to 2^high times as coarse."""

    @case(kind)
    def make(rng: np.random.Generator) -> Graph:
        net = Net(rng)
        entry = net.entry((300,), scale=net.scale(-8, -2))
        scale = net.scale_of(entry) * net.scale(low, high)
        given = {name: value(net) for name, value in options.items()}  # type: ignore[operator]
        return net.done(kind, (entry,), net.tensor((1, 300), scale=scale), **given)

    return make


relu = _unary("RELU", -3, 3)
relu6 = _unary("RELU6", -3, 3)
_unary("RELU_N1_TO_1", -3, 3)
_unary("RELU_0_TO_1", -3, 3)
leaky_relu = _unary("LEAKY_RELU", -3, 3, alpha=lambda net: net.scale(-6, 1))
_unary("ELU", -2, 2)
_unary("GELU", -2, 2, approximate=lambda net: bool(net.rng.integers(2)))
_unary("HARD_SWISH", -4, 2)
_unary("EXP", -2, 4)
_unary("LOG", -2, 2)


absolute = _unary("ABS", -2, 2)


@case("NEG")
def neg(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    entry = net.entry((300,))
    return net.done("NEG", (entry,), net.tensor((1, 300), scale=net.scale_of(entry)))


@case("SQRT")
def sqrt(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    entry = net.entry((300,), zero=-128)
    scale = net.scale_of(entry) ** 0.5 * net.scale(-6, -2)
    return net.done("SQRT", (entry,), net.tensor((1, 300), scale=scale))


@case("RSQRT")
def rsqrt(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    entry = net.entry((300,), zero=-128)
    scale = net.scale_of(entry) ** -0.5 * net.scale(-9, -4)
    return net.done("RSQRT", (entry,), net.tensor((1, 300), scale=scale))


@case("LOG_SOFTMAX")
def log_softmax(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape = (net.size(1, 5), net.size(1, 60))
    entry = net.entry(shape, scale=net.scale(-7, 0))
    return net.done("LOG_SOFTMAX", (entry,), net.tensor((1, *shape), scale=1 / 16, zero=127))


def _float(kind: str) -> None:
    """Codes, as real numbers through one operator, and codes again."""

    @case(f"{kind} float32")
    def make(rng: np.random.Generator) -> Graph:
        net = Net(rng)
        graph, shape = net.graph, (1, net.size(1, 5), net.size(1, 40))
        codes = [net.entry(shape[1:]) for _ in range(2)]
        floats = [net.tensor(shape, "float32") for _ in range(3)]
        output = net.tensor(shape, scale=net.scale(-6, 2))
        for code, real in zip(codes, floats[:2], strict=True):
            graph.call("DEQUANTIZE", (code,), real)
        fused = {} if kind.endswith("IMUM") else {"activation": str(rng.choice(ACTIVATIONS))}
        graph.call(kind, floats[:2], floats[2], **fused)
        graph.call("QUANTIZE", (floats[2],), output)
        graph.outputs = (output, floats[2])
        return graph


for _kind in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"):
    _float(_kind)


@case("ADD int32")
def whole(rng: np.random.Generator, kind: str = "ADD") -> Graph:
    net = Net(rng)
    pair = [net.entry((20,), "int32"), net.entry((20,), "int32")]
    return net.done(kind, pair, net.tensor((1, 20), "int32"), activation="none")


case("SUB int32")(lambda rng: whole(rng, "SUB"))


@case("CAST")
def cast(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    entry = net.entry((20,), str(rng.choice(["int8", "int32", "int16"])))
    return net.done("CAST", (entry,), net.tensor((1, 20), "int32"))
