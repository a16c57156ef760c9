"""Nets on a window of frames, drawn by seed, that can be computed a step at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.nets import NetBuilder

LEAST = 4  # columns that are left for what ends the net


class Draw:
    """`model`: one graph; `map` is the last map, of which every step makes the new columns."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        width = 1 if self.flip(0.5) else self.number(2, 6)
        shape = (1, self.number(16, 40), width, self.number(1, 8))
        self.turned = width == 1 and self.flip(0.3)  # time along a row
        if self.turned:
            shape = (1, 1, shape[1], shape[3])
        self.net = NetBuilder(shape, seed=seed)
        self.padded = 0  # first columns that see padding
        x = self.net.input
        kinds: list[Callable[[int], int | None]] = [
            *(self.convolution, self.convolution, self.depthwise, self.pointwise, self.pooling),
            *(self.residual, self.branches, self.elementwise, self.crop, self.features),
            *(self.causal, self.softmax),
        ]
        for _ in range(self.number(1, 6)):
            x = kinds[self.number(0, len(kinds) - 1)](x) or x
        self.model = self.net.finish(self.end(x))

    def number(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def flip(self, chance: float = 0.5) -> bool:
        return bool(self.random.random() < chance)

    def zeros(self) -> float | None:
        return [None, 0.4, 0.8][self.number(0, 2)]

    def columns(self, x: int) -> int:
        return self.net.shape(x)[2 if self.turned else 1]

    def place(self, time: int, other: int) -> tuple[int, int]:
        """Along time and along the other axis, as rows and columns."""
        return (other, time) if self.turned else (time, other)

    def other(self, x: int) -> int:
        return self.net.shape(x)[1 if self.turned else 2]

    def _convolution(self, x: int, *, depthwise: bool) -> int | None:
        kernel, stride = self.number(1, 5), self.number(1, 3) if self.flip(0.3) else 1
        dilation = self.number(1, 3) if stride == 1 and self.flip(0.3) else 1
        if (self.columns(x) - (kernel - 1) * dilation - 1) // stride + 1 < LEAST + self.padded:
            return None
        across = self.number(1, min(3, (self.other(x) - 1) // dilation + 1))
        channels = self.net.shape(x)[3] * self.number(1, 2) if depthwise else self.number(1, 12)
        self.padded = -(-self.padded // stride)
        return self.net.conv(
            *(x, channels, self.place(kernel, across), self.place(stride, self.number(1, 2))),
            zeros=self.zeros(),
            same=False,
            depthwise=depthwise,
            dilation=dilation,
            activation=["NONE", "RELU", "RELU6"][self.number(0, 2)],
        )

    def convolution(self, x: int) -> int | None:
        return self._convolution(x, depthwise=False)

    def depthwise(self, x: int) -> int | None:
        return self._convolution(x, depthwise=True)

    def pointwise(self, x: int) -> int:
        return self.net.conv(x, self.number(1, 12), (1, 1), zeros=self.zeros(), same=self.flip())

    def pooling(self, x: int) -> int | None:
        size, stride = self.number(1, 3), self.number(1, 3)
        if (self.columns(x) - size) // stride + 1 < LEAST + self.padded:
            return None
        self.padded = -(-self.padded // stride)
        across = self.number(1, min(2, self.other(x)))
        return self.net.pool(
            x, self.place(size, across), self.place(stride, 1), maximum=self.flip()
        )

    def residual(self, x: int) -> int | None:
        """A convolution, and beside it what it saw, cut to its size."""
        kernel = self.number(1, 3)
        if self.columns(x) - kernel + 1 < LEAST + self.padded:
            return None
        channels = self.net.shape(x)[3]
        y = self.net.conv(x, channels, self.place(kernel, 1), zeros=self.zeros(), same=False)
        first = self.number(0, kernel - 1)
        return self.net.add(y, self.cut(x, first, self.columns(y), 1), relu=self.flip())

    def branches(self, x: int) -> int | None:
        """Two convolutions of different reach, joined along channels."""
        if self.columns(x) - 3 < LEAST + self.padded:
            return None
        a = self.net.conv(x, self.number(1, 6), self.place(4, 1), zeros=self.zeros(), same=False)
        b = self.net.pool(x, self.place(2, 1), (1, 1), maximum=True)
        b = self.cut(b, self.number(0, 2), self.columns(a), 1)
        scale, zero_point = self.net.quantisation(a)
        return self.net.concatenate([a, self.net.elementwise("QUANTIZE", b, scale, zero_point)], 3)

    def cut(self, x: int, first: int, count: int, step: int) -> int:
        shape = self.net.shape(x)
        axis = 2 if self.turned else 1
        begin, end, steps = [0] * 4, list(shape), [1] * 4
        begin[axis], steps[axis] = first, step
        end[axis] = first + (count - 1) * step + 1
        shape[axis] = count
        constants = [self.net.constant(one) for one in (begin, end, steps)]
        options = schema.StridedSliceOptionsT()
        out = self.net.like(x, shape)
        return self.net.operator("STRIDED_SLICE", [x, *constants], out, options)

    def crop(self, x: int) -> int | None:
        count = self.columns(x) - self.number(1, 3)
        if count < LEAST + self.padded:
            return None
        first = self.number(0, self.columns(x) - count)
        self.padded = max(self.padded - first, 0)
        return self.cut(x, first, count, 1)

    def causal(self, x: int) -> int:
        """Zeros in front: what follows must not read the first columns any more."""
        before = self.number(1, 3)
        self.padded += before
        amounts = [[0, 0], [0, 0], [0, 0], [0, 0]]
        amounts[2 if self.turned else 1] = [before, 0]
        return self.net.pad(x, amounts)

    def features(self, x: int) -> int:
        """Padding of the other axis only."""
        amounts = [[0, 0], [0, 0], [0, 0], [0, 0]]
        amounts[1 if self.turned else 2] = [1, 1]
        return self.net.pad(x, amounts)

    def elementwise(self, x: int) -> int:
        kind = ["LOGISTIC", "TANH", "HARD_SWISH", "RELU"][self.number(0, 3)]
        fixed = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
        return self.net.elementwise(kind, x, *fixed.get(kind, self.net.quantisation(x)))

    def softmax(self, x: int) -> int:
        return self.net.softmax(x)

    def end(self, x: int) -> int:
        """What takes the whole window."""
        shape = self.net.shape(x)
        if self.padded:  # all but the first columns, perhaps the last one alone
            first = self.number(self.padded, shape[2 if self.turned else 1] - 1)
            x = self.cut(x, first, self.columns(x) - first, 1)
            shape = self.net.shape(x)
        kind = self.number(0, 4)
        if kind == 0:
            x = self.net.mean(x)
        elif kind == 1:
            x = self.net.conv(x, self.number(1, 8), (shape[1], shape[2]), same=False)
        elif kind == 2:
            x = self.net.conv(
                x, shape[3], (shape[1], shape[2]), same=False, depthwise=True, zeros=self.zeros()
            )
        elif kind == 3:
            x = self.net.pool(x, (shape[1], shape[2]), (shape[1], shape[2]), maximum=False)
        size = int(np.prod(self.net.shape(x)))
        x = self.net.reshape(x, (1, size))
        return self.net.dense(x, self.number(1, 6), zeros=self.zeros())
