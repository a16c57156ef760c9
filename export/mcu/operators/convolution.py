"""Convolutions: ordinary, depthwise, grouped and transposed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import FileError, Operator

from .. import (
    bands,
    depthwise_helium,
    dot_conv,
    dsp_conv,
    list_conv,
    masked_conv,
    tiled_conv,
    whole_depthwise,
)
from ..arithmetic import Multiplier, same_padding
from ..code import Code, Names
from ..code import clamp as clamp_of
from ..cores import Core
from ..int8_conv import Int8Conv
from ..limits import MOST_STEP, beyond
from ..list_conv import Lists
from ..lists import Ternary, as_ternary
from ..plan import Layout
from ..step import Step
from ..tiling import tiling
from ..walks import Axis
from ..weights import channels
from ..whole_depthwise import WholeDepthwise
from .fully_connected import spread, whole_input
from .movement import Move, add_moves
from .pooling import paddings

if TYPE_CHECKING:
    from ..lowering import Lowering

# A ternary convolution on M55 is dense int8, at its flash, where that takes less than so much of
# the instructions of its lists.
DOT_PAYS_BELOW = {"size": 0.0, "balanced": 0.8, "speed": 1.0}


@dataclass(frozen=True)
class Convolution:
    """A convolution without its tensors.

    Attributes:
        name: For the report.
        grid: Weights [channel, depth, rows, columns]; depth 1 if depthwise.
        biases, multipliers: One a channel, the input's zero point folded in.
        strides, dilation: Vertical, horizontal.
        pads: Border (before, after), vertical and horizontal.
        depth_multiplier: Output channels an input channel has; 0: an ordinary convolution.
        limits: Least and greatest output.
    """

    name: str
    grid: npt.NDArray[np.int8]
    biases: list[int]
    multipliers: list[Multiplier]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    depth_multiplier: int
    limits: tuple[int, int]

    def int8(self, source: Layout, out: Layout) -> Int8Conv:
        """The same between two layouts."""
        return Int8Conv(
            self.grid,
            self.biases,
            self.multipliers,
            self.strides,
            self.dilation,
            self.depth_multiplier,
            source,
            out,
            out.zero_point,
            self.limits,
        )


def convolution(net: Lowering, op: Operator) -> None:
    tensors, depthwise = net.graph.tensors, op.kind == "DEPTHWISE_CONV_2D"
    source, target = net.plain(net.activation(op, 0)), op.outputs[0]
    filters, data = net.weights(op, 1), net.constant(op, 1, "int8")
    layout = net.layouts[source]
    shape, sizes = tensors[source].shape, tensors[target].shape
    if len(data.shape) != 4 or len(shape) != 4 or shape[0] != 1:
        raise beyond(op.kind, f"input {shape}, weights {data.shape}")
    if depthwise:
        count, multiplier = data.shape[3], data.shape[3] // layout.channels
        if data.shape[0] != 1 or multiplier * layout.channels != count:
            raise FileError(f"{op.kind}: weights {data.shape} do not fit the input.")
        grid = data[0].transpose(2, 0, 1)[:, None]
    else:
        multiplier = 0
        grid = _ungrouped(op, data, layout.channels)
    count, _, *kernel = grid.shape
    strides, dilation = op.options["stride"], op.options["dilation"]
    if min(*strides, *dilation) < 1 or max(*strides, *dilation) > MOST_STEP or not grid.size:
        raise beyond(op.kind, f"strides {strides}, dilation {dilation}, weights {data.shape}")
    pads = []
    for size, out, k, stride, d, padding in zip(
        shape[1:3], sizes[1:3], kernel, strides, dilation, paddings(op), strict=True
    ):
        if padding == "same":
            expected = -(-size // stride)
            pads.append(same_padding(size, out, k, stride, d))
        else:
            expected = (size - (k - 1) * d - 1) // stride + 1
            pads.append((0, 0))
        if out != expected or expected < 1 or sizes[3] != count:
            raise FileError(
                f"{op.kind}: output shape {sizes} does not follow from input {shape} and weights "
                f"{filters.shape}."
            )
    biases, multipliers = channels(
        net, op, grid.reshape(count, -1), filters, tensors[source], tensors[target]
    )
    name = f"{'depthwise' if depthwise else 'convolution'} {kernel[0]}x{kernel[1]}"
    convolve(
        net,
        Convolution(
            f"{name} {layout.channels} -> {count}",
            grid,
            biases,
            multipliers,
            # What one row or column steps on by plays no part; 1 is what every kernel takes.
            (strides[0] if sizes[1] > 1 else 1, strides[1] if sizes[2] > 1 else 1),
            dilation,
            (pads[0], pads[1]),
            multiplier,
            net.output_range(op, tensors[target]),
        ),
        source,
        target,
    )


def _ungrouped(op: Operator, data: npt.NDArray[np.int8], depth: int) -> npt.NDArray[np.int8]:
    """Weights [channel, depth, rows, columns]; those of other groups' channels are 0."""
    count, rows, columns, each = data.shape
    groups = depth // max(each, 1)
    if each * groups != depth or count % max(groups, 1):
        raise FileError(
            f"CONV_2D needs weights of depth {depth}, or of a part of it. Received: {data.shape}."
        )
    grid = np.zeros((count, depth, rows, columns), np.int8)
    for group in range(groups):
        out = slice(group * count // groups, (group + 1) * count // groups)
        grid[out, group * each : (group + 1) * each] = data[out].transpose(0, 3, 1, 2)
    return grid


def transpose_convolution(net: Lowering, op: Operator) -> None:
    """An ordinary convolution of the input with zero points between its elements."""
    tensors, target = net.graph.tensors, op.outputs[0]
    source = net.plain(net.activation(op, 2))
    filters, data = net.weights(op, 1), net.constant(op, 1, "int8")
    shape, sizes = tensors[source].shape, tensors[target].shape
    strides = op.options["stride"]
    if len(data.shape) != 4 or len(shape) != 4 or shape[0] != 1 or data.shape[3] != shape[3]:
        raise FileError(f"TRANSPOSE_CONV of {shape} with weights {data.shape}.")
    count, *kernel, depth = data.shape
    grid = data.transpose(0, 3, 1, 2)[:, :, ::-1, ::-1]
    befores, wide = [], []
    for size, to, k, stride in zip(shape[1:3], sizes[1:3], kernel, strides, strict=True):
        before, _ = (
            same_padding(to, size, k, stride, 1) if op.options["padding"] == "same" else (0, 0)
        )
        # The kernel sees `to` + k - 1 elements, the first input element after k - 1 - before.
        befores.append(k - 1 - before)
        wide.append(to + k - 1)
        if befores[-1] < 0 or k - 1 - before + (size - 1) * stride >= wide[-1] or to < 1:
            raise FileError(f"TRANSPOSE_CONV: {shape} to {sizes} with weights {data.shape}.")
    stuffed = net.add_tensor("with gaps", (1, *wide, depth), like=source)
    out = net.define(stuffed)

    def moves() -> list[Move]:
        a = net.layouts[source]
        axes = [
            Axis(a.height, (a.pitch, strides[0] * out.pitch)),
            Axis(a.width, (1, strides[1])),
            Axis(a.channels, (a.plane, out.plane)),
        ]
        return [Move(0, axes, target=befores[0] * out.pitch + befores[1])]

    add_moves(net, "gaps between elements", [source], stuffed, moves, fill=out.zero_point)
    biases, multipliers = channels(
        net,
        op,
        np.ascontiguousarray(grid).reshape(count, -1),
        filters,
        tensors[source],
        tensors[target],
        bias_at=3,
    )
    convolve(
        net,
        Convolution(
            f"transposed convolution {kernel[0]}x{kernel[1]} {depth} -> {count}",
            np.ascontiguousarray(grid),
            biases,
            multipliers,
            (1, 1),
            (1, 1),
            ((0, 0), (0, 0)),
            0,
            net.output_range(op, tensors[target]),
        ),
        stuffed,
        target,
    )


def convolve(net: Lowering, layer: Convolution, source: int, target: int) -> None:
    """Appends the steps of a convolution."""
    layout, out = net.layouts[source], net.define(target)
    sizes, rows = (layout.height, layout.width), layer.grid.reshape(len(layer.grid), -1)
    ordinary = not layer.depth_multiplier
    if (
        layer.grid.shape[2:] == sizes
        and (out.height, out.width) == (1, 1)
        and ordinary
        and max(map(max, layer.pads)) == 0
    ):
        numbers = layer.biases, layer.multipliers
        clamp = clamp_of(out.zero_point, *layer.limits)
        whole_input(net, layer.name, source, target, rows, numbers, clamp, once=False)
        return
    if not ordinary and _whole_depthwise(net, layer, source, target):
        return
    if layer.strides[1] > 2 and not (net.core.family == "dsp" and ordinary):
        _wide_stride(net, layer, source, target)
        return
    _one_step(net, layer, source, target)


def _whole_depthwise(net: Lowering, layer: Convolution, source: int, target: int) -> bool:
    """Appends the step of a depthwise convolution whose kernel covers the map, where it can be dot
    products; returns whether it is."""
    layout, out = net.layouts[source], net.layouts[target]
    covers = layer.grid.shape[2:] == (layout.height, layout.width)
    if not covers or max(map(max, layer.pads)):
        return False
    small = net.optimize == "size" and as_ternary(layer.grid.reshape(len(layer.grid), -1))
    whole = WholeDepthwise(net.core, layer.int8(layout, out).simplified())
    if small or (out.height, out.width) != (1, 1) or not whole.fits:
        return False

    def emit(names: Names) -> Code:
        code = whole.code(names)
        spread(code, out, names)
        return code

    sources = whole_depthwise.SOURCES
    net.steps.append(
        Step(
            layer.name,
            sources,
            (source,),
            target,
            emit,
            reads=lambda _: whole.reads,
            facts=whole.conv,
        )
    )
    return True


def _wide_stride(net: Lowering, layer: Convolution, source: int, target: int) -> None:
    """Horizontal strides over 2, by way of a map of stride 1."""
    layout, out = net.layouts[source], net.layouts[target]
    stride = layer.strides[1]
    if layer.depth_multiplier:
        # All columns, of which some are kept.
        columns = (out.width - 1) * stride + 1
        span = (layer.grid.shape[3] - 1) * layer.dilation[1] + 1
        after = columns + span - 1 - layout.width - layer.pads[1][0]
        every = net.add_tensor("every column", (1, out.height, columns, out.channels), like=target)
        narrow = replace(
            layer,
            strides=(layer.strides[0], 1),
            pads=(layer.pads[0], (layer.pads[1][0], max(after, 0))),
        )
        net.define(every)
        _one_step(net, narrow, source, every)

        def kept() -> list[Move]:
            a = net.layouts[every]
            axes = [
                Axis(out.height, (a.pitch, out.pitch)),
                Axis(out.width, (stride, 1)),
                Axis(out.channels, (a.plane, out.plane)),
            ]
            return [Move(0, axes)]

        add_moves(net, f"every {stride}th column", [every], target, kept)
        return
    # A channel for each place in a stride.
    count, depth, height, width = layer.grid.shape
    places = [x * layer.dilation[1] for x in range(width)]
    grid = np.zeros((count, stride * depth, height, places[-1] // stride + 1), np.int8)
    for x, place in enumerate(places):
        channel = place % stride * depth
        grid[:, channel : channel + depth, :, place // stride] = layer.grid[..., x]
    columns = out.width + grid.shape[3] - 1
    shape = (1, layout.height, columns, stride * depth)
    apart = net.add_tensor("columns apart", shape, like=source)
    b = net.define(apart)

    def moves() -> list[Move]:
        found = []
        for place in range(stride):
            first = max(-(-(layer.pads[1][0] - place) // stride), 0)  # column of the new map
            start = first * stride + place - layer.pads[1][0]
            size = min(len(range(start, layout.width, stride)), columns - first)
            if size < 1:
                continue
            axes = [
                Axis(layout.height, (layout.pitch, b.pitch)),
                Axis(size, (stride, 1)),
                Axis(depth, (layout.plane, b.plane)),
            ]
            to = place * depth * b.plane + first
            found.append(Move(0, axes, start, to))
        return found

    add_moves(net, "columns apart", [source], apart, moves, fill=b.zero_point)
    narrow = replace(
        layer,
        grid=grid,
        strides=(layer.strides[0], 1),
        dilation=(layer.dilation[0], 1),
        pads=(layer.pads[0], (0, 0)),
    )
    _one_step(net, narrow, apart, target)


def _one_step(net: Lowering, layer: Convolution, source: int, target: int) -> None:
    core, layout, out = net.core, net.layouts[source], net.layouts[target]
    (top, bottom), (left, right) = layer.pads
    layout.require(top, bottom, left, right)
    conv = layer.int8(layout, out).simplified()
    ternary = as_ternary(conv.weights.reshape(len(conv.weights), -1))
    if ternary is not None:
        counts = [int((ternary.symbols == s).sum(axis=1).max(initial=0)) for s in (-1, 1)]
        if layer.strides[1] > 2 or max(counts) > 0xFFFF:
            ternary = None
    dot = _dot(net, conv, ternary)
    masked = masked_conv.masks(core, net.optimize, conv, ternary)
    if dot is not None:
        ternary = None

    @cache
    def lists() -> Lists | None:
        """The lists of a ternary layer, once layouts are settled."""
        if ternary is None:
            return None
        return list_conv.make_lists(core, net.optimize, conv, ternary)

    @cache
    def in_bands() -> bands.Bands | None:
        """Where offsets do not fit 16 bits, a few rows at a time."""
        if lists() is not None or dot is not None or _int8(net, conv, _NOWHERE, "0") is not None:
            return None
        return bands.plan(conv, layer.pads, lambda c: _int8(net, c, _NOWHERE, "0") is not None)

    def emit(names: Names) -> Code:
        shift = top * layout.pitch + left
        entry = f"{names.inputs[0]} - {shift}" if shift else names.inputs[0]
        code = masked.code(names, entry) if masked is not None else None
        if code is not None:
            return code
        found = lists()
        if found is not None and ternary is not None:
            return list_conv.list_code(core, conv, ternary, found, names, entry)
        code = dot_conv.dot_code(conv, dot, names, entry) if dot is not None else None
        code = code or _int8(net, conv, names, entry)
        cut = in_bands()
        if code is None and cut is not None:
            code = cut.code(names, lambda c, n, e: _int8(net, c, n, e))
        if code is None:
            raise FileError(
                f"{layer.name}: an int8 convolution this large is not supported. Make its input "
                "smaller, or its weights ternary."
            )
        return code

    def scratch() -> int:
        found = lists()
        if masked is not None:
            of_lists = list_conv.scratch(core, found, ternary) if found and ternary else 0
            return max(masked.scratch, of_lists)
        if found is not None and ternary is not None:
            return list_conv.scratch(core, found, ternary)
        if dot is not None:
            return dot.scratch
        cut = in_bands()
        if cut is not None:
            return cut.scratch(lambda c: _int8_scratch(core, c))
        return _int8_scratch(core, conv)

    groups = {core.group, tiled_conv.GROUP}

    def reads(_: int) -> int:
        """Tiles at the end of a row, or below the last, read on; what they get is not used."""
        planes = (layout.channels - 1) * layout.plane
        y, x = (conv.kernel[0] - 1) * conv.dilation[0], (conv.kernel[1] - 1) * conv.dilation[1]
        last_tap = (y - top) * layout.pitch + x - left
        of_lists = 0
        for group in groups:
            t = tiling(core, conv, group)
            last = (t.count - 1) * t.in_row_step + (t.across - 1) * t.in_tile_step
            of_lists = max(of_lists, last + t.in_group[-1] + group * conv.strides[1])
        of_dense = (out.height - 1) * conv.strides[0] * layout.pitch
        of_dense += (out.width + 15) * conv.strides[1]
        return planes + last_tap + max(of_lists, of_dense) + 16

    def extent() -> int:
        of_int8 = dsp_conv.extent(conv) if core.family == "dsp" else 0
        if core.family == "helium" and depthwise_helium.fits(core, conv):
            of_int8 = depthwise_helium.extent(conv)
        if ternary is None and core.family == "dsp":
            return of_int8
        return max(of_int8, *(tiling(core, conv, group).extent(group) for group in groups))

    planes = core.family == "dsp" and dsp_conv.by_planes(conv)
    tiles = core.family == "helium" and dot is None
    sources: tuple[str, ...] = (*list_conv.SOURCES, *tiled_conv.SOURCES, "dot_conv.c")
    sources += masked_conv.SOURCES
    sources += (*dsp_conv.SOURCES, *depthwise_helium.SOURCES, "band.c")
    net.steps.append(
        Step(
            layer.name,
            (*sources, "layout.c"),
            (source,),
            target,
            emit,
            scratch,
            reads=reads,
            flat=conv.unit and (ternary is not None or planes or tiles),
            extent=extent,
            by_planes=layer.depth_multiplier == 1 and layout.channels > 1,
            facts=conv,
        )
    )


_NOWHERE = Names(0, ("0",), "0", "0")


def _int8(net: Lowering, conv: Int8Conv, names: Names, entry: str) -> Code | None:
    """The kernel call of an int8 convolution; None where its offsets do not fit."""
    if net.core.family == "dsp":
        return dsp_conv.code(conv, names, entry)
    if net.core.family == "helium" and depthwise_helium.fits(net.core, conv):
        return depthwise_helium.code(conv, names, entry)
    return tiled_conv.tiled_code(net.core, conv, names, entry)


def _int8_scratch(core: Core, conv: Int8Conv) -> int:
    """Bytes of scratch of that call."""
    if core.family == "dsp":
        return dsp_conv.scratch(conv)
    return depthwise_helium.scratch(core, conv) if core.family == "helium" else 0


def _dot(net: Lowering, conv: Int8Conv, ternary: Ternary | None) -> dot_conv.Plan | None:
    """The plan of a convolution by dot products, where that is what it should be."""
    if net.core.family != "helium":
        return None
    plan = dot_conv.plan(conv)
    if plan is None or ternary is None:
        return plan
    tiles = list_conv.tiles_of(net.core, conv)
    gaps = net.optimize == "balanced"
    lists = dot_conv.list_cost(ternary.symbols, tiles, gaps=gaps)
    return plan if plan.cost < DOT_PAYS_BELOW[net.optimize] * lists else None


OPERATORS = {
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": convolution,
    "TRANSPOSE_CONV": transpose_convolution,
}
