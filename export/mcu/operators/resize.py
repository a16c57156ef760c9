"""Maps of another size: nearest neighbour, bilinear, mirrored borders."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ec2t_tf.export.graph import FileError, Operator

from ..code import Code, Names, array
from ..limits import beyond
from ..step import Step

if TYPE_CHECKING:
    from ..lowering import Lowering


def _ends(net: Lowering, op: Operator) -> tuple[int, int]:
    source, target = net.plain(net.activation(op, 0)), op.outputs[0]
    tensors = net.graph.tensors
    shape, sizes = tensors[source].shape, tensors[target].shape
    if len(shape) != 4 or len(sizes) != 4 or shape[3] != sizes[3] or shape[0] != 1:
        raise beyond(op.kind, f"{shape} to {sizes}")
    if (given := net.quantisation(tensors[source])) != net.quantisation(tensors[target]):
        raise beyond(op.kind, f"{given} to {net.quantisation(tensors[target])}")
    return source, target


def _sample(
    net: Lowering, op: Operator, source: int, target: int, rows: list[int], columns: list[int]
) -> None:
    layout, out = net.layouts[source], net.define(target)

    def emit(names: Names) -> Code:
        n = names.index
        return Code(
            [
                array("uint16_t", f"rows_{n}", rows),
                array("uint16_t", f"columns_{n}", columns),
                f"static const ec2t_mcu_sample layer_{n} = {{.in = {layout.c()}, "
                f".out = {out.c()}, .rows = rows_{n}, .columns = columns_{n}}};",
            ],
            [f"ec2t_mcu_sample_run(&layer_{n}, {names.inputs[0]}, {names.output});"],
            40 + 2 * (len(rows) + len(columns)),
        )

    name = op.kind.lower().replace("_", " ")
    net.steps.append(Step(name, ("move.c", "layout.c"), (source,), target, emit))


def nearest(net: Lowering, op: Operator) -> None:
    source, target = _ends(net, op)
    corners, half = bool(op.options["align_corners"]), bool(op.options["half_pixel_centers"])

    def places(size: int, out: int) -> list[int]:
        """TensorFlow Lite's GetNearestNeighbor, single precision."""
        scale = np.float32(size) / np.float32(out)
        if corners and out > 1:
            scale = np.float32(size - 1) / np.float32(out - 1)
        found = []
        for i in range(out):
            value = (np.float32(i) + np.float32(0.5 if half else 0)) * scale
            near = math.floor(float(value) + 0.5) if corners else math.floor(float(value))
            found.append(max(min(near, size - 1), 0))
        return found

    layout = net.layouts[source]
    _, height, width, _ = net.graph.tensors[target].shape
    rows, columns = places(layout.height, height), places(layout.width, width)
    _sample(net, op, source, target, rows, columns)


def mirror_pad(net: Lowering, op: Operator) -> None:
    source, target = _ends(net, op)
    pads = net.constant(op, 1).reshape(-1, 2).tolist()
    layout = net.layouts[source]
    _, height, width, _ = net.graph.tensors[target].shape
    sizes = (layout.height, layout.width)
    without_edge = 1 if int(op.options["mode"]) == 0 else 0  # REFLECT

    def places(size: int, before: int, after: int) -> list[int]:
        if max(before, after) > size - without_edge:
            raise FileError(f"MIRROR_PAD: {before} and {after} around {size}.")
        inside = list(range(size))
        first = inside[without_edge : without_edge + before][::-1]
        last = inside[::-1][without_edge : without_edge + after]
        return first + inside + last

    if len(pads) != 4 or pads[0] != [0, 0] or pads[3] != [0, 0]:
        raise beyond(op.kind, f"padding {pads}")
    rows, columns = (places(n, *p) for n, p in zip(sizes, pads[1:3], strict=True))
    if (len(rows), len(columns)) != (height, width):
        raise FileError("MIRROR_PAD: output shape does not follow from the input's.")
    _sample(net, op, source, target, rows, columns)


def bilinear(net: Lowering, op: Operator) -> None:
    source, target = _ends(net, op)
    corners, half = bool(op.options["align_corners"]), bool(op.options["half_pixel_centers"])

    def between(size: int, out: int) -> list[tuple[int, int, int]]:
        """TensorFlow Lite's ComputeInterpolationValuesInteger, in 1024ths."""
        scale = (1024 * size + out // 2) // out
        if corners and out > 1:
            scale = (1024 * (size - 1) + (out - 1) // 2) // (out - 1)
        found = []
        for i in range(out):
            value = i * scale + (int(scale / 2) - 512 if half else 0)
            first = max(int(value / 1024), 0)
            second = min(int((value + 1023) / 1024), size - 1)
            found.append((first, second, value - 1024 * first))
        return found

    layout = net.layouts[source]
    _, height, width, _ = net.graph.tensors[target].shape
    tables = between(layout.height, height), between(layout.width, width)
    out = net.define(target)

    def emit(names: Names) -> Code:
        n = names.index
        rows, columns = (
            ", ".join(f"{{.first = {a}, .second = {b}, .part = {c}}}" for a, b, c in t)
            for t in tables
        )
        return Code(
            [
                f"static const ec2t_mcu_between rows_{n}[] = {{{rows}}};",
                f"static const ec2t_mcu_between columns_{n}[] = {{{columns}}};",
                f"static const ec2t_mcu_bilinear layer_{n} = {{.in = {layout.c()}, "
                f".out = {out.c()}, .rows = rows_{n}, .columns = columns_{n}}};",
            ],
            [f"ec2t_mcu_bilinear_run(&layer_{n}, {names.inputs[0]}, {names.output});"],
            40 + 6 * (height + width),
        )

    net.steps.append(Step("resize bilinear", ("resize.c", "layout.c"), (source,), target, emit))


OPERATORS = {
    "RESIZE_NEAREST_NEIGHBOR": nearest,
    "RESIZE_BILINEAR": bilinear,
    "MIRROR_PAD": mirror_pad,
}
