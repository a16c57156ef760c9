"""Random nets of one operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ec2t_tf.export.graph import Graph

Make = Callable[[np.random.Generator], Graph]
CASES: dict[str, Make] = {}
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")


def case(name: str) -> Callable[[Make], Make]:
    def enter(make: Make) -> Make:
        CASES[name] = make
        return make

    return enter


class Net:
    """A graph that grows by one operator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.graph = rng, Graph()

    def scale(self, low: float = -8, high: float = 0) -> float:
        """2^low to 2^high."""
        return float(np.float32(2.0 ** self.rng.uniform(low, high)))

    def zero(self, dtype: str = "int8") -> int:
        info = np.iinfo(dtype)
        return 0 if dtype == "int16" else int(self.rng.integers(info.min, info.max + 1))

    def size(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def entry(self, shape: Any, dtype: str = "int8", **quantisation: Any) -> int:
        """An input of the net; batch 1 is added."""
        index = self.tensor((1, *shape), dtype, **quantisation)
        self.graph.inputs += (index,)
        return index

    def tensor(
        self,
        shape: Any,
        dtype: str = "int8",
        scale: float | None = None,
        zero: int | None = None,
        data: np.ndarray | None = None,
    ) -> int:
        quantised = dtype in ("int8", "uint8", "int16")
        return self.graph.add(
            f"t{len(self.graph.tensors)}",
            shape,
            dtype,
            scale=() if not quantised else self.scale() if scale is None else scale,
            zero_point=() if not quantised else self.zero(dtype) if zero is None else zero,
            data=data,
        )

    def whole(self, values: Any, dtype: str = "int32") -> int:
        """A constant without scale."""
        data = np.asarray(values, dtype)
        return self.graph.add(f"t{len(self.graph.tensors)}", data.shape, dtype, data=data)

    def codes(self, shape: Any, dtype: str = "int8", **quantisation: Any) -> int:
        """A constant with random codes."""
        info = np.iinfo(dtype)
        data = self.rng.integers(info.min, info.max + 1, shape).astype(dtype)
        return self.tensor(shape, dtype, data=data, **quantisation)

    def scale_of(self, index: int) -> float:
        return float(self.graph.tensors[index].scale[0])

    def done(self, kind: str, inputs: Any, output: int | tuple[int, ...], **options: Any) -> Graph:
        outputs = output if isinstance(output, tuple) else (output,)
        self.graph.call(kind, inputs, outputs[0], **options)
        self.graph.operators[-1].outputs = outputs
        self.graph.outputs = outputs
        return self.graph

    def kernel(self, shape: Any, entry: int, axis: int, channels: int) -> tuple[int, int]:
        """A kernel, one scale or one a channel, and its bias."""
        rng = self.rng
        count = channels if rng.integers(2) else 1
        scale = np.float32(2.0) ** rng.uniform(-9, -6, count).astype(np.float32)
        kernel = self.graph.add(
            "kernel",
            shape,
            "int8",
            scale=scale,
            zero_point=np.zeros(count, np.int64),
            axis=axis,
            data=rng.integers(-127, 128, shape).astype(np.int8),
        )
        bias = self.graph.add(
            "bias",
            (channels,),
            "int32",
            scale=np.float32(self.scale_of(entry)) * scale,
            zero_point=np.zeros(count, np.int64),
            data=rng.integers(-2000, 2000, channels).astype(np.int32),
        )
        return kernel, bias

    def sum_scale(self, entry: int, kernel: int, products: int) -> float:
        """A scale that lets sums of so many random products use the codes."""
        mean = float(self.graph.tensors[kernel].scale.mean())
        return self.scale_of(entry) * mean * 40 * products**0.5 * self.scale(-1, 2)


@case("CONV_2D")
def conv_2d(rng: np.random.Generator, *, groups: int = 1) -> Graph:
    net = Net(rng)
    height, width, size = net.size(3, 9), net.size(3, 9), (net.size(1, 3), net.size(1, 3))
    inner, out = net.size(1, 9), net.size(1, 9) * groups
    stride, dilation = (net.size(1, 3), net.size(1, 3)), (1, 1)
    if rng.integers(3) == 0:
        stride, dilation = (1, 1), (net.size(1, 2), net.size(1, 2))
    padding = str(rng.choice(["same", "valid"]))
    entry = net.entry((height, width, inner * groups))
    kernel, bias = net.kernel((out, *size, inner), entry, 0, out)
    seen = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    if seen[0] > height or seen[1] > width:
        padding = "same"
    shape = [
        -(-n // s) if padding == "same" else (n - k) // s + 1
        for n, k, s in zip((height, width), seen, stride, strict=True)
    ]
    output = net.tensor((1, *shape, out), scale=net.sum_scale(entry, kernel, inner * size[0]))
    return net.done(
        "CONV_2D",
        (entry, kernel, bias),
        output,
        padding=padding,
        stride=stride,
        dilation=dilation,
        activation=str(rng.choice(ACTIVATIONS)),
    )


@case("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    height, width, size = net.size(3, 9), net.size(3, 9), (net.size(1, 5), net.size(1, 5))
    inner, multiplier = net.size(1, 20), net.size(1, 3)
    stride, dilation = (net.size(1, 2),) * 2, (1, 1)
    if rng.integers(3) == 0:
        stride, dilation = (1, 1), (net.size(1, 2),) * 2
    padding = str(rng.choice(["same", "valid"]))
    entry = net.entry((height, width, inner))
    kernel, bias = net.kernel((1, *size, inner * multiplier), entry, 3, inner * multiplier)
    seen = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    if seen[0] > height or seen[1] > width:
        padding = "same"
    shape = [
        -(-n // s) if padding == "same" else (n - k) // s + 1
        for n, k, s in zip((height, width), seen, stride, strict=True)
    ]
    output = net.tensor(
        (1, *shape, inner * multiplier), scale=net.sum_scale(entry, kernel, size[0] * size[1])
    )
    return net.done(
        "DEPTHWISE_CONV_2D",
        (entry, kernel, bias),
        output,
        padding=padding,
        stride=stride,
        dilation=dilation,
        depth_multiplier=multiplier,
        activation=str(rng.choice(ACTIVATIONS)),
    )


@case("FULLY_CONNECTED")
def fully_connected(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    inner, out, rows = net.size(1, 70), net.size(1, 40), net.size(1, 4)
    entry = net.entry((rows, inner) if rng.integers(2) else (inner,))
    kernel, bias = net.kernel((out, inner), entry, 0, out)
    keep = bool(rng.integers(2)) and len(net.graph.tensors[entry].shape) > 2
    first = net.graph.tensors[entry].shape[:-1]
    shape = (*first, out) if keep else (int(np.prod(first)), out)
    output = net.tensor(shape, scale=net.sum_scale(entry, kernel, inner))
    given = (entry, kernel, bias) if rng.integers(3) else (entry, kernel, -1)
    return net.done(
        "FULLY_CONNECTED",
        given,
        output,
        keep_num_dims=keep,
        activation=str(rng.choice(ACTIVATIONS)),
    )


def _pair(net: Net, dtype: str = "int8", rank: int = 3) -> tuple[int, int, tuple[int, ...]]:
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
    a, b, shape = _pair(net)
    output = net.tensor(shape, scale=(net.scale_of(a) + net.scale_of(b)) * net.scale(-2, 1))
    return net.done(kind, (a, b), output, activation=str(rng.choice(ACTIVATIONS)))


CASES["SUB"] = lambda rng: add(rng, "SUB")


@case("MUL")
def mul(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    a, b, shape = _pair(net)
    output = net.tensor(shape, scale=net.scale_of(a) * net.scale_of(b) * net.scale(5, 9))
    return net.done("MUL", (a, b), output, activation=str(rng.choice(ACTIVATIONS)))


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


@case("AVERAGE_POOL_2D")
@case("MAX_POOL_2D")
def pool(rng: np.random.Generator, kind: str = "AVERAGE_POOL_2D") -> Graph:
    net = Net(rng)
    height, width, channels = net.size(3, 9), net.size(3, 9), net.size(1, 40)
    size, stride = (net.size(1, 3), net.size(1, 3)), (net.size(1, 3), net.size(1, 3))
    padding = str(rng.choice(["same", "valid"]))
    shape = [
        -(-n // s) if padding == "same" else (n - k) // s + 1
        for n, k, s in zip((height, width), size, stride, strict=True)
    ]
    scale, zero = net.scale(-7, -3), net.zero()
    entry = net.entry((height, width, channels), scale=scale, zero=zero)
    return net.done(
        kind,
        (entry,),
        net.tensor((1, *shape, channels), scale=scale, zero=zero),
        padding=padding,
        stride=stride,
        size=size,
        activation=str(rng.choice(ACTIVATIONS)),
    )


CASES["MAX_POOL_2D"] = lambda rng: pool(rng, "MAX_POOL_2D")


@case("MEAN")
def mean(rng: np.random.Generator, kind: str = "MEAN") -> Graph:
    net = Net(rng)
    shape = (1, net.size(1, 9), net.size(1, 9), net.size(1, 9))
    keep = bool(rng.integers(2))
    axes = sorted(rng.choice([1, 2, 3], net.size(1, 3), replace=False).tolist())
    if rng.integers(2):
        axes = [1, 2]
    given = [axis - 4 if rng.integers(2) else axis for axis in axes]
    kept = [
        1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes
    ]
    entry = net.entry(shape[1:])
    scale = net.scale_of(entry) * net.scale(-1, 0)
    if rng.integers(3) == 0:
        scale, zero = net.scale_of(entry), int(net.graph.tensors[entry].zero_point[0])
        output = net.tensor(kept, scale=scale, zero=zero)
    else:
        output = net.tensor(kept, scale=scale)
    return net.done(kind, (entry, net.whole(given)), output, keep_dims=keep)


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


def inputs_of(graph: Graph, rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Random values of every input, (count, *shape[1:])."""
    found = []
    for index in graph.inputs:
        tensor = graph.tensors[index]
        shape = (count, *(tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape))
        if tensor.dtype == "float32":
            out = graph.tensors[graph.operators[0].outputs[0]]
            steps = out.scale[0] * rng.integers(-300, 301, shape) if out.scale.size else 1.0
            values = steps + rng.choice([0.0, 0.5, 0.25], shape) * (
                out.scale[0] if out.scale.size else 1
            )
            found.append(np.asarray(values, np.float32))
        else:
            info = np.iinfo(tensor.dtype)
            found.append(rng.integers(info.min, info.max + 1, shape).astype(tensor.dtype))
    return found
