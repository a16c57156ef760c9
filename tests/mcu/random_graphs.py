"""Graphs drawn by seed out of every operator the C exporter takes, in any order, on maps of 1 to 9
rows and columns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from tests.mcu import random_normalisations
from tests.mcu.random_memory import Memory
from tests.mcu.random_movements import LARGEST
from tests.nets import NetBuilder

Real = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
# Functions that are a table in C: what they are, and from where to where they are drawn.
FUNCTIONS: dict[str, tuple[Real, float, float]] = {
    "ABS": (np.abs, -3, 2),
    "NEG": (np.negative, -3, 2),
    "EXP": (np.exp, -4, 1),
    "LOG": (lambda x: np.log(np.maximum(x, 0.01)), 0, 4),
    "SQRT": (lambda x: np.sqrt(np.maximum(x, 0)), 0, 4),
    "RSQRT": (lambda x: 1 / np.sqrt(np.maximum(x, 0.05)), 0, 4),
    "ELU": (lambda x: np.where(x > 0, x, np.expm1(x)), -3, 3),
    "GELU": (lambda x: x / (1 + np.exp(-1.702 * x)), -3, 3),
    "RELU_0_TO_1": (lambda x: np.clip(x, 0, 1), -1, 2),
}


class Draw(Memory):
    """One graph; every method appends an operator to `x` or returns None where it does not fit."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        size = self.random.integers(1, 10, 2)
        self.net = NetBuilder((1, int(size[0]), int(size[1]), self.number(1, 8)), seed=seed)
        self.pool, self.more_inputs, self.first_values = [self.net.input], [], []
        kinds: list[Callable[[int], int | None]] = [
            *(self.convolution, self.convolution, self.depthwise, self.whole, self.dense),
            *(self.grouped, self.transposed, self.to_uint8, self.dense_rows, self.matmul),
            *(self.pooling, self.add, self.mean, self.concatenation, self.pad, self.reshape),
            *(self.softmax, self.elementwise, self.elementwise, self.pair, self.pair),
            self.log_softmax,
            *(self.transpose, self.strided_slice, self.slice, self.split, self.unpack, self.pack),
            *(self.gather, self.blocks, self.repeat, self.reverse, self.mirror, self.resize),
            *(self.reduction, self.any_shape, self.map_again, self.map_again, self.map_again),
            *(self.function, self.ones, self.constant, self.embedding, self.variable),
            *(self.svdf, self.lstm),
        ]
        steps = self.number(2, 7)
        for _ in range(50):
            recent = self.random.random() < 0.7
            x = self.pool[-1] if recent else int(self.random.choice(self.pool))
            out = kinds[self.number(0, len(kinds) - 1)](x)
            if out is not None:
                self.pool.append(out)
                steps -= 1
            if not steps:
                break
        self.begin()
        more = [x for x in self.pool[1:-1] if self.flip(0.3)]  # several outputs
        outputs = dict.fromkeys([self.pool[-1], *more])
        self.model = self.net.finish(*outputs, inputs=self.more_inputs)
        if self.flip(0.25):
            self.model = random_normalisations.behind(self.model, seed)

    def zeros(self) -> float | None:
        return [None, 0.05, 0.4, 0.8, 0.97][self.number(0, 4)]

    def activation(self) -> str:
        return ["NONE", "RELU", "RELU6", "RELU_N1_TO_1"][self.number(0, 3)]

    def resize(self, x: int) -> int | None:
        size = self.map(x)
        if size is None:
            return None
        h, w, c = size
        to = (self.number(1, 3) * h, self.number(1, 3) * w)
        if self.flip(0.4):
            to = (self.number(1, 9), self.number(1, 9))
        if to[0] * to[1] * c > LARGEST:
            return None
        nearest = self.flip()
        options = (
            schema.ResizeNearestNeighborOptionsT() if nearest else schema.ResizeBilinearOptionsT()
        )
        options.alignCorners = self.flip(0.3)
        options.halfPixelCenters = not options.alignCorners and self.flip(0.6)
        kind = "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR"
        out = self.net.like(x, (1, *to, c))
        return self.net.operator(kind, [x, self.net.constant(to)], out, options)

    def reduction(self, x: int) -> int | None:
        shape = self.net.shape(x)
        if len(shape) > 4:
            return None
        axes = self.random.choice(len(shape), self.number(1, len(shape)), replace=False).tolist()
        kind = ["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"][self.number(0, 3)]
        options = schema.ReducerOptionsT()
        options.keepDims = self.flip()
        sizes = [
            1 if i in axes else n for i, n in enumerate(shape) if options.keepDims or i not in axes
        ]
        out = self.net.like(x, sizes or [1])
        if not sizes:
            return None
        if kind in ("MEAN", "SUM"):
            scale = self.net.quantisation(x)[0] * float(self.random.uniform(0.4, 1.5))
            scale *= (np.prod(shape) / np.prod(sizes)) ** 0.5 if kind == "SUM" else 1
            out = self.net.tensor(tuple(sizes), scale, self.number(-128, 127))
        return self.net.operator(kind, [x, self.net.constant(axes)], out, options)

    def pair(self, x: int) -> int | None:
        shape = self.net.shape(x)
        if len(shape) > 4:
            return None
        kinds = ["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "PRELU"]
        kind = kinds[self.number(0, len(kinds) - 1)]
        same = kind in ("MAXIMUM", "MINIMUM")
        fits = [
            y
            for y in self.pool
            if len(self.net.shape(y)) <= len(shape)
            and all(a in (1, b) for a, b in zip(self.net.shape(y)[::-1], shape[::-1], strict=False))
        ]
        other = int(self.random.choice(fits))
        if same:
            other = self.alike(other, x)
        if self.flip(0.4) or kind == "PRELU":
            rank = self.number(1, len(shape))
            sizes = tuple(1 if self.flip(0.4) else n for n in shape[-rank:])
            if kind == "PRELU":
                sizes = tuple(1 if self.flip(0.4) else n for n in shape)[1:] or (1,)
            scale, zero_point = self.net.quantisation(x)
            if not same:
                scale, zero_point = float(self.random.uniform(0.005, 0.05)), self.number(-128, 127)
            data = self.random.integers(-128, 128, sizes).astype(np.int8)
            other = self.net.tensor(sizes, scale, zero_point, data)
        a, b = (self.net.quantisation(i)[0] for i in (x, other))
        scale, zero_point = (
            {
                "ADD": 0.7 * (a + b),
                "SUB": 0.7 * (a + b),
                "MUL": a * b * 90,
                "SQUARED_DIFFERENCE": max(a, b) ** 2 * 120,
                "PRELU": a,
            }.get(kind, a),
            self.number(-128, 127),
        )
        if same:
            zero_point = self.net.quantisation(x)[1]
        out = self.net.tensor(tuple(shape), scale, zero_point)
        table = {
            "ADD": schema.AddOptionsT,
            "SUB": schema.SubOptionsT,
            "MUL": schema.MulOptionsT,
            "SQUARED_DIFFERENCE": schema.SquaredDifferenceOptionsT,
        }.get(kind, schema.MaximumMinimumOptionsT)
        options = None if kind == "PRELU" else table()
        if kind in ("ADD", "SUB", "MUL"):
            options.fusedActivationFunction = self.number(0, 3)
        inputs = [x, other]
        if kind in ("ADD", "MUL") and self.flip(0.3):
            inputs.reverse()
        return self.net.operator(kind, inputs, out, options)

    def convolution(self, x: int) -> int | None:
        return self._convolution(x, depthwise=False)

    def depthwise(self, x: int) -> int | None:
        return self._convolution(x, depthwise=True)

    def _convolution(self, x: int, *, depthwise: bool) -> int | None:
        size = self.map(x)
        if size is None or size[2] > 64:
            return None
        zeros, same = self.zeros(), self.flip(0.7)
        dilation = self.number(1, 3) if self.flip(0.3) else 1
        kernel = self.number(1, 4), self.number(1, 5)
        stride = (1, 1)
        if dilation == 1 and self.flip(0.4):
            stride = self.number(1, 4), self.number(1, 4)
        spans = [(k - 1) * dilation + 1 for k in kernel]
        if not same and any(s > n for s, n in zip(spans, size[:2], strict=True)):
            return None
        channels = size[2] * self.number(1, 3) if depthwise else self.number(1, 12)
        if channels * size[0] * size[1] > LARGEST:
            return None
        return self.net.conv(
            *(x, channels, kernel, stride),
            zeros=zeros,
            same=same,
            depthwise=depthwise,
            dilation=dilation,
            activation=self.activation(),
        )

    def grouped(self, x: int) -> int | None:
        size = self.map(x)
        if size is None or size[2] > 64 or size[0] * size[1] > 200:
            return None
        groups = self.divisor(size[2])
        kernel = self.number(1, 3), self.number(1, 3)
        stride = self.number(1, 2), self.number(1, 3)
        return self.net.conv(
            *(x, groups * self.number(1, 3), kernel, stride),
            zeros=self.zeros(),
            groups=groups,
            activation=self.activation(),
        )

    def transposed(self, x: int) -> int | None:
        size = self.map(x)
        if size is None or size[2] > 32 or size[0] * size[1] > 100:
            return None
        kernel = self.number(1, 4), self.number(1, 4)
        stride = self.number(1, 3), self.number(1, 3)
        return self.net.transpose_conv(
            *(x, self.number(1, 6), kernel, stride), zeros=self.zeros(), same=self.flip()
        )

    def to_uint8(self, x: int) -> int:
        """To uint8 and back."""
        scale, zero_point = self.net.quantisation(x)
        middle = self.net.elementwise("QUANTIZE", x, scale, zero_point + 128)
        self.net.graph.tensors[middle].type = schema.TensorType.UINT8
        if self.flip():
            scale, zero_point = scale * 1.3, self.number(-128, 127)
        return self.net.elementwise("QUANTIZE", middle, scale, zero_point)

    def whole(self, x: int) -> int | None:
        size = self.map(x)
        if size is None:
            return None
        return self.net.conv(x, self.number(1, 9), size[:2], zeros=self.zeros(), same=False)

    def dense(self, x: int) -> int:
        size = int(np.prod(self.net.shape(x)))
        if len(self.net.shape(x)) != 2 or self.net.shape(x)[0] != 1:
            x = self.net.reshape(x, (1, size))
        x = self.net.dense(x, self.number(1, 12), zeros=self.zeros(), relu=self.flip())
        return self.net.reshape(x, (1, 1, 1, self.net.shape(x)[1])) if self.flip() else x

    def dense_rows(self, x: int) -> int | None:
        shape = self.net.shape(x)
        outputs = self.number(1, 12)
        if np.prod(shape[:-1]) * outputs > LARGEST:
            return None
        return self.net.dense(x, outputs, zeros=self.zeros(), relu=self.flip(), rows_apart=True)

    def matmul(self, x: int) -> int | None:
        """With itself, perhaps turned, or a tensor that fits."""
        shape = self.net.shape(x)
        if not 2 <= len(shape) <= 4 or np.prod(shape) * max(shape) > 20 * LARGEST:
            return None
        adjoint = [self.flip(), self.flip()]
        rows, depth = shape[-2:] if not adjoint[0] else shape[:-3:-1]
        fits = [
            y
            for y in self.pool
            if len(self.net.shape(y)) == len(shape)
            and self.net.shape(y)[:-2] == shape[:-2]
            and self.net.shape(y)[-1 if adjoint[1] else -2] == depth
        ]
        if not fits:
            return None
        other = int(self.random.choice(fits))
        columns = self.net.shape(other)[-2 if adjoint[1] else -1]
        if np.prod(shape[:-2]) * rows * columns > LARGEST:
            return None
        a, b = (self.net.quantisation(i)[0] for i in (x, other))
        sizes = (*shape[:-2], rows, columns)
        out = self.net.tensor(sizes, a * b * 60 * depth**0.5, self.number(-128, 127))
        options = schema.BatchMatMulOptionsT()
        options.adjX, options.adjY = adjoint
        return self.net.operator("BATCH_MATMUL", [x, other], out, options)

    def pooling(self, x: int) -> int | None:
        size = self.map(x)
        if size is None:
            return None
        window, stride = (self.number(1, 4), self.number(1, 4)), (self.number(1, 3),) * 2
        same = self.flip()
        if not same and (window[0] > size[0] or window[1] > size[1]):
            window = size[:2]
        return self.net.pool(x, window, stride, maximum=self.flip(), same=same)

    def add(self, x: int) -> int | None:
        if len(self.net.shape(x)) > 4:
            return None
        alike = [y for y in self.pool if self.net.shape(y) == self.net.shape(x)]
        return self.net.add(x, int(self.random.choice(alike)), relu=self.flip())

    def mean(self, x: int) -> int | None:
        return None if self.map(x) is None else self.net.mean(x, keep=self.flip(0.7))

    def concatenation(self, x: int) -> int | None:
        shape = self.net.shape(x)
        axis = self.number(0, len(shape) - 1)
        if len(shape) > 4:
            return None
        parts = [x]
        for y in self.random.permutation(self.pool).tolist():
            other = self.net.shape(y)
            if len(other) == len(shape) and all(
                a == b for i, (a, b) in enumerate(zip(shape, other, strict=True)) if i != axis
            ):
                parts.append(self.alike(y, x))
        parts = parts[: self.number(2, 3)]
        if len(parts) < 2 or sum(np.prod(self.net.shape(p)) for p in parts) > LARGEST:
            return None
        return self.net.concatenate([parts[i] for i in self.random.permutation(len(parts))], axis)

    def pad(self, x: int) -> int | None:
        shape = self.net.shape(x)
        if len(shape) > 4 or np.prod(shape) > LARGEST // 6:
            return None
        amounts = [[self.number(0, 2), self.number(0, 2)] if n > 1 else [0, 0] for n in shape]
        if self.map(x) is not None:
            amounts = [[0, 0], *([self.number(0, 2), self.number(0, 2)] for _ in range(2)), [0, 0]]
            if self.flip(0.2):
                amounts[3] = [self.number(0, 2), self.number(0, 2)]
        if self.flip():
            return self.net.pad(x, amounts)
        return self.net.pad_with(x, amounts, self.number(-128, 127))

    def reshape(self, x: int) -> int | None:
        size = self.map(x)
        if size is None:
            return None
        h, w, c = size
        shapes = [(1, w, h, c), (1, h * w, 1, c), (1, c, h, w), (1, 1, w, h * c), (1, h, c, w)]
        shapes += [(1, h * w, c), (1, h * w * c), (h, w, c)]
        return self.net.reshape(x, shapes[self.number(0, len(shapes) - 1)])

    def softmax(self, x: int) -> int | None:
        shape = self.net.shape(x)  # the reference's shifts run over beyond 512 channels
        return self.net.softmax(x) if len(shape) <= 4 and shape[-1] <= 500 else None

    def log_softmax(self, x: int) -> int | None:
        shape = self.net.shape(x)
        return self.net.log_softmax(x) if len(shape) <= 4 and shape[-1] <= 500 else None

    def elementwise(self, x: int) -> int:
        kinds = ["RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "HARD_SWISH", "QUANTIZE"]
        kind = [*kinds, "LOGISTIC", "TANH"][self.number(0, 7)]
        scale = self.net.quantisation(x)[0] * float(self.random.uniform(0.3, 2))
        zero_point = self.number(-128, 127)
        fixed = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
        scale, zero_point = fixed.get(kind, (scale, zero_point))
        return self.net.elementwise(kind, x, scale, zero_point)

    def function(self, x: int) -> int:
        """A function of real numbers where it has values, to the range of its values."""
        kind, (of, low, high) = list(FUNCTIONS.items())[self.number(0, len(FUNCTIONS) - 1)]
        scale = (high - low) / 255
        zero_point = int(np.clip(np.rint(-128 - low / scale), -128, 127))
        x = self.net.elementwise("QUANTIZE", x, scale, zero_point)
        if kind == "RSQRT":  # not of 0
            one = self.net.tensor((1,), scale, zero_point, np.array([zero_point + 1], np.int8))
            x = self.net.operator(
                "MAXIMUM",
                [x, one],
                self.net.like(x, self.net.shape(x)),
                schema.MaximumMinimumOptionsT(),
            )
        values = of(np.arange(-127 - zero_point, 128 - zero_point) * scale)
        least, most = float(values.min()), float(values.max())
        scale_out = (most - least) / 255
        zero_out = int(np.clip(np.rint(-128 - least / scale_out), -128, 127))
        if kind in ("NEG", "RELU_0_TO_1"):
            scale_out, zero_out = scale, zero_point
        return self.net.elementwise(kind, x, scale_out, zero_out)

    def ones(self, x: int) -> int | None:
        """A dimension of 1, more or less."""
        shape = self.net.shape(x)
        if 1 in shape and len(shape) > 1 and self.flip():
            axis = int(self.random.choice([i for i, n in enumerate(shape) if n == 1]))
            less = schema.SqueezeOptionsT()
            less.squeezeDims = [axis]
            out = self.net.like(x, shape[:axis] + shape[axis + 1 :])
            return self.net.operator("SQUEEZE", [x], out, less)
        if len(shape) > 4:
            return None
        axis = self.number(0, len(shape))
        out = self.net.like(x, [*shape[:axis], 1, *shape[axis:]])
        given = [x, self.net.constant([axis])]
        return self.net.operator("EXPAND_DIMS", given, out, schema.ExpandDimsOptionsT())

    def constant(self, x: int) -> int:
        """One code everywhere."""
        shape = self.net.shape(x)
        code = np.array(self.number(-128, 127), np.int8)
        value = self.net.tensor((), *self.net.quantisation(x), code)
        given = [self.net.constant(shape), value]
        return self.net.operator("FILL", given, self.net.like(x, shape), schema.FillOptionsT())
