"""The part of random graphs that moves elements about."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.nets import NetBuilder

LARGEST = 2000  # elements of a tensor, about


class Movements:
    """Draws of operators that only move elements, and of numbers."""

    random: np.random.Generator
    net: NetBuilder
    pool: list[int]  # tensors that there are

    def number(self, least: int, most: int) -> int:
        return int(self.random.integers(least, most + 1))

    def flip(self, chance: float = 0.5) -> bool:
        return bool(self.random.random() < chance)

    def map(self, x: int) -> tuple[int, int, int] | None:
        shape = self.net.shape(x)
        return (shape[1], shape[2], shape[3]) if len(shape) == 4 and shape[0] == 1 else None

    def map_again(self, x: int) -> int | None:
        """Something a convolution takes, of what is not."""
        size = int(np.prod(self.net.shape(x)))
        if self.map(x) is not None:
            return None
        columns = self.divisor(size)
        rows = self.divisor(size // columns)
        return self.net.reshape(x, (1, rows, columns, size // columns // rows))

    def divisor(self, size: int) -> int:
        return int(self.random.choice([n for n in range(1, min(size, 24) + 1) if size % n == 0]))

    def any_shape(self, x: int) -> int:
        size, shape = int(np.prod(self.net.shape(x))), []
        for _ in range(self.number(0, 4)):
            shape.append(self.divisor(size // int(np.prod(shape))))
        shape.append(size // int(np.prod(shape)))
        return self.net.reshape(x, tuple(int(n) for n in self.random.permutation(shape)))

    def transpose(self, x: int) -> int:
        shape = self.net.shape(x)
        order = self.random.permutation(len(shape)).tolist()
        out = self.net.like(x, [shape[i] for i in order])
        options = schema.TransposeOptionsT()
        return self.net.operator("TRANSPOSE", [x, self.net.constant(order)], out, options)

    def strided_slice(self, x: int) -> int | None:
        shape = self.net.shape(x)
        if len(shape) > 5:
            return None
        begin, end, stride, sizes = [], [], [], []
        options = schema.StridedSliceOptionsT()
        for i, n in enumerate(shape):
            step = self.number(1, 2) * (1 if self.flip(0.8) else -1)
            a, b = sorted(self.random.integers(0, n, 2).tolist())
            if self.flip():
                a, b = 0, n - 1
            first, last = (a, b + 1) if step > 0 else (b, a - 1 if a else -n - 1)
            begin.append(first - n if self.flip(0.2) and first else first)
            end.append(last), stride.append(step)
            count = -(-(b - a + 1) // abs(step))
            if self.flip(0.15):
                options.shrinkAxisMask |= 1 << i
                stride[-1] = 1
                end[-1] = first + 1
                continue
            if self.flip(0.2):
                options.beginMask |= 1 << i
                begin[-1] = 0
                count = len(range(n)[slice(None, last if last >= 0 else None, step)])
            sizes.append(count)
        out = self.net.like(x, sizes or [1])
        if not sizes or 0 in sizes:
            return None
        constants = [self.net.constant(v) for v in (begin, end, stride)]
        return self.net.operator("STRIDED_SLICE", [x, *constants], out, options)

    def slice(self, x: int) -> int | None:
        shape = self.net.shape(x)
        if len(shape) > 5:
            return None
        begin = [self.number(0, n - 1) for n in shape]
        size = [self.number(1, n - b) for n, b in zip(shape, begin, strict=True)]
        given = [
            -1 if self.flip(0.2) and b + s == n else s
            for n, b, s in zip(shape, begin, size, strict=True)
        ]
        out = self.net.like(x, size)
        constants = [self.net.constant(begin), self.net.constant(given)]
        return self.net.operator("SLICE", [x, *constants], out, schema.SliceOptionsT())

    def split(self, x: int) -> int | None:
        shape = self.net.shape(x)
        axis = self.number(0, len(shape) - 1)
        if shape[axis] < 2 or len(shape) > 4:
            return None
        first = self.number(1, shape[axis] - 1)
        parts = [first, shape[axis] - first]
        outs = [self.net.like(x, [*shape[:axis], p, *shape[axis + 1 :]]) for p in parts]
        where = self.net.constant([axis - len(shape)])
        if parts[0] == parts[1] and self.flip():
            options = schema.SplitOptionsT()
            inputs, kind = [where, x], "SPLIT"
        else:
            options, kind = schema.SplitVOptionsT(), "SPLIT_V"
            inputs = [x, self.net.constant(parts), where]
        options.numSplits = 2
        self.net.operator(kind, inputs, outs[0], options, more=outs[1:])
        self.pool.append(outs[1])
        return outs[0]

    def unpack(self, x: int) -> int | None:
        shape = self.net.shape(x)
        axis = self.number(0, len(shape) - 1)
        if len(shape) < 2 or shape[axis] > 4:
            return None
        outs = [self.net.like(x, shape[:axis] + shape[axis + 1 :]) for _ in range(shape[axis])]
        options = schema.UnpackOptionsT()
        options.axis, options.num = axis, shape[axis]
        self.net.operator("UNPACK", [x], outs[0], options, more=outs[1:])
        self.pool += outs[1:]
        return outs[0]

    def pack(self, x: int) -> int | None:
        shape = self.net.shape(x)
        parts = [y for y in self.pool if self.net.shape(y) == shape][-2:]
        parts = [self.alike(y, x) for y in parts]
        axis = self.number(0, len(shape))
        if len(shape) > 4 or np.prod(shape) > LARGEST // 2:
            return None
        out = self.net.like(x, [*shape[:axis], len(parts), *shape[axis:]])
        options = schema.PackOptionsT()
        options.axis, options.valuesCount = axis, len(parts)
        return self.net.operator("PACK", parts, out, options)

    def alike(self, y: int, x: int) -> int:
        """`y` with the scale and zero point of `x`."""
        if self.net.quantisation(y) == self.net.quantisation(x):
            return y
        return self.net.elementwise("QUANTIZE", y, *self.net.quantisation(x))

    def gather(self, x: int) -> int | None:
        shape = self.net.shape(x)
        axis = self.number(0, len(shape) - 1)
        places = self.random.integers(0, shape[axis], self.number(1, 5))
        if np.prod(shape) // shape[axis] * len(places) > LARGEST or len(shape) > 4:
            return None
        options = schema.GatherOptionsT()
        options.axis = axis
        scalar = len(shape) > 1 and self.flip(0.2)
        kept = [] if scalar else [len(places)]
        out = self.net.like(x, [*shape[:axis], *kept, *shape[axis + 1 :]])
        where = self.net.constant(places[0] if scalar else places)
        return self.net.operator("GATHER", [x, where], out, options)

    def blocks(self, x: int) -> int | None:
        size = self.map(x)
        if size is None:
            return None
        h, w, c = size
        block = self.number(2, 3)
        if h % block == w % block == 0:
            out = self.net.like(x, (1, h // block, w // block, c * block**2))
            options, kind = schema.SpaceToDepthOptionsT(), "SPACE_TO_DEPTH"
        elif c % block**2 == 0:
            out = self.net.like(x, (1, h * block, w * block, c // block**2))
            options, kind = schema.DepthToSpaceOptionsT(), "DEPTH_TO_SPACE"
        else:
            return None
        options.blockSize = block
        return self.net.operator(kind, [x], out, options)

    def repeat(self, x: int) -> int | None:
        shape = self.net.shape(x)
        times = [self.number(1, 3) if self.flip(0.4) else 1 for _ in shape]
        sizes = np.multiply(times, shape)
        if np.prod(sizes) > LARGEST or len(shape) > 5:
            return None
        if self.flip():
            return self.net.operator(
                "TILE",
                [x, self.net.constant(times)],
                self.net.like(x, sizes),
                schema.TileOptionsT(),
            )
        sizes = [t if n == 1 else n for t, n in zip(times, shape, strict=True)]
        if self.flip(0.3) and len(sizes) < 4 and np.prod(sizes) * 2 <= LARGEST:
            sizes.insert(0, 2)
        out = self.net.like(x, sizes)
        options = schema.BroadcastToOptionsT()
        return self.net.operator("BROADCAST_TO", [x, self.net.constant(sizes)], out, options)

    def reverse(self, x: int) -> int:
        shape = self.net.shape(x)
        where = self.net.constant([self.number(0, len(shape) - 1)])
        out = self.net.like(x, shape)
        return self.net.operator("REVERSE_V2", [x, where], out, schema.ReverseV2OptionsT())

    def mirror(self, x: int) -> int | None:
        size = self.map(x)
        if size is None or size[0] < 2 or size[1] < 2 or np.prod(size) > LARGEST // 4:
            return None
        options = schema.MirrorPadOptionsT()
        options.mode = self.number(0, 1)
        most = [n - 1 + options.mode for n in size[:2]]
        pads = [[0, 0], *([self.number(0, min(m, 2)) for _ in range(2)] for m in most), [0, 0]]
        out = self.net.like(x, [n + sum(p) for n, p in zip((1, *size), pads, strict=True)])
        return self.net.operator("MIRROR_PAD", [x, self.net.constant(pads)], out, options)
