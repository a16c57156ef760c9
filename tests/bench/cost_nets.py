"""Nets of kernels that few nets have, for the table of costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.nets import NetBuilder


def _activation(random: np.random.Generator) -> dict[str, Any]:
    """Limits of a layer: none, above, or below as well, where about half the outputs are."""
    drawn = int(random.integers(4))
    if drawn == 3:
        return {"activation": "RELU", "zero_point": int(random.integers(-110, -30))}
    return {"activation": ["RELU", "RELU6", "NONE"][drawn]}


def vectors(seed: int) -> bytes:
    """A net of fully connected layers."""
    random = np.random.default_rng(seed)
    net = NetBuilder((1, int(random.integers(20, 700))), seed=seed)
    x = net.input
    for _ in range(int(random.integers(2, 5))):
        zeros = [None, 0.6, 0.9][int(random.integers(3))]
        x = net.dense(x, int(random.integers(4, 140)), zeros=zeros, relu=True)
    return net.finish(net.softmax(x) if seed % 2 else x)


def strided(seed: int) -> bytes:
    """Ternary convolutions and depthwise ones of horizontal stride 2."""
    random = np.random.default_rng(seed)
    side = int(random.integers(9, 33))
    net = NetBuilder((1, side, side, int(random.integers(3, 24))), seed=seed)
    x = net.input
    for depthwise in (False, True):
        zeros = float(random.choice([0.6, 0.8, 0.9]))
        channels = net.shape(x)[3] if depthwise else int(random.integers(8, 48))
        x = net.conv(x, channels, stride=(2, 2), zeros=zeros, depthwise=depthwise)
    return net.finish(x)


def covered(seed: int) -> bytes:
    """A depthwise convolution whose kernel covers the map, as in a step of a stream."""
    random = np.random.default_rng(seed)
    size = (1, int(random.integers(2, 20)))
    net = NetBuilder((1, *size, int(random.integers(4, 140))), seed=seed)
    channels = net.shape(net.input)[3] * int(random.choice([1, 1, 2]))
    return net.finish(net.conv(net.input, channels, size, zeros=None, same=False, depthwise=True))


def multiplied(seed: int) -> bytes:
    """Products of a tensor and itself."""
    random = np.random.default_rng(seed)
    shape = (1, *(int(n) for n in random.integers(2, 20, 3)))
    net = NetBuilder(shape, seed=seed)
    options = schema.BatchMatMulOptionsT()
    options.adjX = bool(seed % 2)
    options.adjY = not options.adjX
    size = shape[3] if options.adjX else shape[2]
    scale = net.quantisation(net.input)[0] ** 2 * 100
    made = net.tensor((*shape[:2], size, size), scale, 0)
    return net.finish(net.operator("BATCH_MATMUL", [net.input, net.input], made, options))


def wide(seed: int) -> bytes:
    """Depthwise convolutions with rows of several taps."""
    random = np.random.default_rng(seed)
    size = tuple(int(n) for n in random.integers(5, 26, 2))
    net = NetBuilder((1, *size, int(random.integers(4, 40))), seed=seed)
    x = net.input
    for columns in (int(random.integers(4, 6)), int(random.integers(6, 8)), 3):
        kernel = (int(random.choice([columns, columns, 1, 3])), columns)
        stride = (int(random.choice([1, 1, 2])), 1)
        relu = bool(random.choice([True, False]))
        x = net.conv(x, net.shape(x)[3], kernel, stride, zeros=None, depthwise=True, relu=relu)
    return net.finish(x)


def separable(seed: int) -> bytes:
    """Depthwise convolutions 3x3 of whole weights, each with an ordinary one of one pixel."""
    random = np.random.default_rng(seed)
    size = (int(random.integers(4, 14)), int(random.integers(5, 36)))
    net = NetBuilder((1, *size, int(random.integers(4, 33))), seed=seed)
    x = net.input
    for zeros in (0.8, None):
        stride = (1, 1) if random.random() < 0.7 else (2, 2)
        channels, limits = net.shape(x)[3], _activation(random)
        x = net.conv(x, channels, stride=stride, zeros=None, depthwise=True, **limits)
        channels, limits = int(random.integers(4, 33)), _activation(random)
        x = net.conv(x, channels, (1, 1), zeros=zeros, **limits)
    return net.finish(x)


def shallow(seed: int) -> bytes:
    """An int8 convolution of an image of few channels into few."""
    random = np.random.default_rng(seed)
    size = tuple(int(n) for n in random.integers(10, 30, 2))
    net = NetBuilder((1, *size, int(random.choice([1, 1, 2, 3]))), seed=seed)
    kernel = [(3, 3), (5, 5), (7, 7), (10, 4), (3, 5)][int(random.integers(5))]
    stride = (1, 1) if random.random() < 0.6 else (2, 2)
    same, limits, channels = bool(random.random() < 0.6), _activation(random), 2 + seed % 18
    x = net.conv(net.input, channels, kernel, stride, zeros=None, same=same, **limits)
    return net.finish(x)


def long(seed: int) -> bytes:
    """Ternary convolutions along one axis and poolings, as in nets of sensors."""
    random = np.random.default_rng(seed)
    net = NetBuilder((1, int(random.integers(12, 100)), 1, int(random.integers(1, 20))), seed=seed)
    x = net.input
    for _ in range(3):
        zeros = float(random.choice([0.6, 0.8, 0.9]))
        stride = (1, 1) if random.random() < 0.7 else (2, 1)
        kernel = (int(random.integers(3, 8)), 1)
        channels, limits = int(random.integers(8, 64)), _activation(random)
        x = net.conv(x, channels, kernel, stride, zeros=zeros, **limits)
        if net.shape(x)[1] > 9:
            x = net.pool(x, (2, 1), (2, 1), maximum=bool(random.random() < 0.7))
    return net.finish(x)


def pooled(seed: int) -> bytes:
    """Poolings of all kinds, of maps that are not small."""
    random = np.random.default_rng(seed)
    size = tuple(int(n) for n in random.integers(6, 34, 2))
    net = NetBuilder((1, *size, int(random.integers(2, 40))), seed=seed)
    windows = [
        (2, 2, 2),
        (3, 3, 2),
        (2, 3, 2),
        (3, 3, 1),
        (2, 1, 2),
        (3, 3, 3),
        (5, 5, 1),
        (5, 5, 2),
    ]
    high, wide, apart = windows[seed % len(windows)]
    maximum = bool(seed // len(windows) % 2)
    stride, same = (apart, min(apart, wide)), bool(random.random() < 0.2)
    x = net.pool(net.input, (high, wide), stride, maximum=maximum, same=same)
    whole = (net.shape(x)[1], net.shape(x)[2])
    return net.finish(net.pool(x, whole, whole, maximum=not maximum))


def half(seed: int) -> bytes:
    """Ternary convolutions of which about half the weights are zero."""
    random = np.random.default_rng(seed)
    size = tuple(int(n) for n in random.integers(10, 20, 2))
    net = NetBuilder((1, *size, 16 * int(random.integers(1, 3))), seed=seed)
    x = net.input
    for kernel in ((3, 3), (3, 3), (2, 3)):
        zeros, channels = float(random.uniform(0.3, 0.55)), 16 * int(random.integers(1, 3))
        activation = str(random.choice(["RELU", "RELU6", "NONE"]))
        x = net.conv(x, channels, kernel, zeros=zeros, activation=activation)
    return net.finish(x)


def by_place(seed: int) -> bytes:
    """Ternary convolutions whose lists are long (by place on "rv32"), or short at a stride
    of 2; rows of eight pixels and less, which are loaded by halves, and longer ones."""
    random = np.random.default_rng(seed)
    width = int(random.choice([5, 6, 7, 8, 13, 16, 19, 24]))
    size = (int(random.integers(9, 20)), width * int(random.integers(1, 3)))
    net = NetBuilder((1, *size, int(random.integers(8, 33))), seed=seed)
    x = net.input
    for _ in range(2):
        kernel = [(3, 3), (3, 3), (1, 1), (3, 2)][int(random.integers(4))]
        stride = (1, 1) if random.random() < 0.5 else (2, 2)
        zeros, channels = float(random.choice([0.3, 0.6, 0.8])), int(random.integers(8, 40))
        same = bool(random.random() < 0.6) or min(net.shape(x)[1:3]) < 4
        x = net.conv(x, channels, kernel, stride, zeros=zeros, same=same, **_activation(random))
    return net.finish(x)


def short(seed: int) -> bytes:
    """Ternary convolutions of stride 2 whose lists are not by place: few taps, narrow maps."""
    random = np.random.default_rng(seed)
    size = (int(random.integers(8, 24)), int(random.choice([6, 8, 16, 20, 32])))
    net = NetBuilder((1, *size, int(random.integers(3, 13))), seed=seed)
    x = net.input
    for _ in range(2):
        kernel = (3, 3) if net.shape(x)[2] <= 8 else (1, 1)
        zeros, channels = float(random.choice([0.5, 0.8])), int(random.integers(4, 24))
        x = net.conv(x, channels, kernel, (2, 2), zeros=zeros, **_activation(random))
    return net.finish(x)


def pairs(seed: int) -> bytes:
    """Element-wise operators of two maps, or of a map and a value a channel."""
    random = np.random.default_rng(seed)
    net = NetBuilder((1, *(int(n) for n in random.integers(3, 18, 3))), seed=seed)
    options = {
        "SUB": schema.SubOptionsT,
        "MUL": schema.MulOptionsT,
        "SQUARED_DIFFERENCE": schema.SquaredDifferenceOptionsT,
        "MAXIMUM": schema.MaximumMinimumOptionsT,
        "MINIMUM": schema.MaximumMinimumOptionsT,
    }
    x, y = net.input, net.elementwise("RELU", net.input, net.quantisation(net.input)[0], -128)
    for kind, made in options.items():
        shape, (scale, zero) = net.shape(x), net.quantisation(x)
        other = y
        if kind in ("MUL", "SUB") and random.random() < 0.5:
            other = net.reshape(net.mean(y), (1, 1, 1, shape[3]))
        if kind in ("MAXIMUM", "MINIMUM"):
            other = net.elementwise("QUANTIZE", other, scale, zero)
        to = net.tensor(tuple(shape), scale, zero)
        x = net.operator(kind, [x, other], to, made())
    return net.finish(x)
