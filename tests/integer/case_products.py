"""Random nets of one operator: sums of products and pools."""

from __future__ import annotations

import numpy as np

from ec2t_tf.export.graph import Graph

from .nets import ACTIVATIONS, Net, case


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


case("MAX_POOL_2D")(lambda rng: pool(rng, "MAX_POOL_2D"))


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


case("MAX_POOL_2D")(lambda rng: pool(rng, "MAX_POOL_2D"))
case("CONV_2D grouped")(lambda rng: conv_2d(rng, groups=int(rng.integers(2, 5))))


@case("SUM")
def total(rng: np.random.Generator) -> Graph:
    graph = mean(rng, "SUM")
    entry, out = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    out.scale = np.float32(entry.scale * 2.0 ** rng.uniform(0, 4))
    return graph


@case("REDUCE_MAX")
@case("REDUCE_MIN")
def extreme(rng: np.random.Generator, kind: str = "REDUCE_MAX") -> Graph:
    graph = mean(rng, kind)
    entry, out = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    out.scale, out.zero_point = entry.scale, entry.zero_point
    return graph


case("REDUCE_MIN")(lambda rng: extreme(rng, "REDUCE_MIN"))


@case("TRANSPOSE_CONV")
def transpose_conv(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    rows, columns, inner, out = net.size(1, 5), net.size(1, 5), net.size(1, 9), net.size(1, 20)
    size, stride = (net.size(1, 4), net.size(1, 4)), (net.size(1, 3), net.size(1, 3))
    padding = str(rng.choice(["same", "valid"]))
    shape = [
        n * s if padding == "same" else (n - 1) * s + max(k, s)
        for n, k, s in zip((rows, columns), size, stride, strict=True)
    ]
    entry = net.entry((rows, columns, inner))
    kernel, bias = net.kernel((out, *size, inner), entry, 0, out)
    output = net.tensor((1, *shape, out), scale=net.sum_scale(entry, kernel, inner * size[0]))
    given = [net.whole((1, *shape, out)), kernel, entry]
    if rng.integers(3):
        given.append(bias)
    return net.done(
        "TRANSPOSE_CONV",
        given,
        output,
        padding=padding,
        stride=stride,
        activation=str(rng.choice(["none", "relu"])),
    )


@case("BATCH_MATMUL")
def batch_matmul(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    batch, m, k, n = net.size(1, 3), net.size(1, 7), net.size(1, 30), net.size(1, 7)
    adjoint = (bool(rng.integers(2)), bool(rng.integers(2)))
    shapes = [(batch, k, m) if adjoint[0] else (batch, m, k)]
    shapes.append((batch, n, k) if adjoint[1] else (batch, k, n))
    zero = None if rng.integers(2) else 0
    a = net.entry(shapes[0])
    b = net.entry(shapes[1], zero=zero)
    scale = net.scale_of(a) * net.scale_of(b) * 60 * k**0.5 * net.scale(-1, 2)
    output = net.tensor((1, batch, m, n), scale=scale)
    return net.done("BATCH_MATMUL", (a, b), output, adjoint=adjoint)
