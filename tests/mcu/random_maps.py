"""Nets drawn by seed of convolutions, depthwise ones, pools, additions and what else works row by
row, on maps of 6 to 30 rows: whose maps are what takes RAM."""

from __future__ import annotations

import numpy as np

from tests.net_builder import NetBuilder

_ACTIVATIONS = ("NONE", "RELU", "RELU6")


def draw(seed: int) -> bytes:
    """One net, at times with several inputs and outputs."""
    random = np.random.default_rng(seed)

    def number(first: int, last: int) -> int:
        return int(random.integers(first, last + 1))

    def flip(chance: float) -> bool:
        return bool(random.random() < chance)

    shape = (1, number(6, 30), number(1, 20), number(1, 6))
    net = NetBuilder(shape, seed=seed)
    x = net.input
    inputs: list[int] = []
    maps: list[int] = []
    if flip(0.2):
        other = net.like(x, shape)
        inputs.append(other)
        x = net.add(x, other)
    for _ in range(number(2, 7)):
        _, rows, columns, channels = net.shape(x)
        same = flip(0.75)
        kernel = (number(1, min(5, rows)), number(1, min(4, columns)))
        stride = (number(1, 2 if rows > 6 else 1), number(1, 2))
        alike = [y for y in maps if net.shape(y) == net.shape(x) and y != x]
        kind = number(0, 9)
        if kind <= 2:
            dilation = number(1, 2) if stride == (1, 1) and same else 1
            zeros = random.choice([None, 0.3, 0.8])
            y = net.conv(
                x,
                number(1, 12),
                kernel,
                stride,
                zeros=zeros,
                same=same,
                dilation=dilation,
                activation=str(random.choice(_ACTIVATIONS)),
            )
        elif kind <= 5:
            zeros = random.choice([None, None, 0.5])
            y = net.conv(
                x,
                channels * (2 if flip(0.15) else 1),
                kernel,
                stride,
                zeros=zeros,
                same=same,
                depthwise=True,
                activation=str(random.choice(_ACTIVATIONS)),
            )
        elif kind == 6:
            y = net.pool(x, kernel, stride, maximum=flip(0.5), same=same)
        elif kind == 7 and alike:
            y = net.add(x, int(random.choice(alike)), relu=flip(0.5))
        elif kind == 8 and alike:
            other = net.elementwise("QUANTIZE", int(random.choice(alike)), *net.quantisation(x))
            y = net.concatenate([x, other], 3)
        else:
            y = net.elementwise("LOGISTIC", x, 1 / 256, -128)
        maps.append(x)
        x = y
    outputs = [y for y in maps[1:] if flip(0.08)]
    if flip(0.6):
        x = net.mean(x)
    return net.finish(x, *dict.fromkeys(outputs), inputs=inputs)


def chain(seed: int) -> bytes:
    """Convolutions one behind the other whose maps are larger than input and output."""
    random = np.random.default_rng(seed)
    net = NetBuilder((1, int(random.integers(12, 40)), int(random.integers(3, 36)), 2), seed=seed)
    channels = int(random.integers(4, 24))
    x = net.conv(net.input, channels, zeros=None)
    for _ in range(3):
        kernel = (3, 3) if random.random() < 0.5 else (1, 1)
        if random.random() < 0.4:
            x = net.conv(x, channels, zeros=None, depthwise=True)
        else:
            x = net.conv(x, channels, kernel, zeros=0.6)
    return net.finish(net.conv(x, 3, (3, 3), (2, 2)))
