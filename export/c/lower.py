"""From a graph to kernel calls: one `Step` per operator, its constants and its call in C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod

import numpy as np
import numpy.typing as npt

from . import dot_conv, dsp_conv, paired_rows, walks
from .arithmetic import (
    Multiplier,
    activation_range,
    add_multipliers,
    exact_multiplier,
    mean_multiplier,
    quantised_multiplier,
    same_padding,
)
from .code import Code, Names, array, channel_table, int8_channel_table
from .graph import ACTIVATIONS, Graph, ModelError, Operator, Tensor
from .int8_conv import Int8Conv
from .lists import Ternary, as_ternary, best_rice_parameter, distances, rice
from .lookup import lookup_table
from .operators import MANY_OUTPUTS, OPERATORS
from .operators.movement import add_constant, rearrange
from .plan import Layout
from .step import Step

CORES = ("generic", "m0", "m3", "m4", "m7", "m33", "m55")
GROUP = {"m55": 8}  # neighbouring pixels a tile handles at once; 4 elsewhere
OPTIMIZE = ("size", "balanced", "speed")
SWAR_CORES = ("generic", "m0", "m3")
DSP_CORES = ("m4", "m7", "m33")
FLIP = 128  # what SWAR cores add to stored activations
INT8_GROUP = 4  # neighbouring pixels of a Helium tile of an int8 convolution
# Neighbouring pixels a SWAR tile of an int8 convolution may have: as many sums as registers hold.
INT8_PIXELS = {"m0": (4, 5), "m3": (4, 5, 6), "generic": (4, 5, 6)}
FARTHEST = 127  # bytes a Helium load or store reaches
# Below so many output pixels a decoded list is not used often enough to pay for its decoding.
RICE_PIXELS = 16
# Share of zeros from which index lists of a fully connected layer take fewer instructions than its
# dense int8 kernel (make bench-mcu); never on M55.
LISTS_PAY_FROM = {"m0": 0.06, "m3": 0.53, "m4": 0.77, "m7": 0.77, "m33": 0.77, "m55": 2.0}
LISTS_SAVE_FROM = 0.5  # share of zeros from which they take less flash
# A ternary convolution on M55 is dense int8, at its flash, where that takes less than so much of
# the instructions of its lists.
DOT_PAYS_BELOW = {"size": 0.0, "balanced": 0.8, "speed": 1.0}
LARGEST_GAP = 0xFF  # taps from a weight to the next that a byte holds
MOST_GAP_TAPS = 0xF000  # the running sum of gaps has 16 bits
MOST_VECTOR_MEAN = 22  # values whose mean Helium takes by a reciprocal
_IN_PLANES = (
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
)

# C type, values, encoding, Rice parameter, bits of the stream, note.
_Lists = tuple[str, npt.NDArray, str, int, int, str]


def supported() -> list[str]:
    """Names of the operators that can be lowered."""
    return sorted({*OPERATORS, *_IN_PLANES})


class Lowering:
    """Walks a graph once; then `steps` and `layouts` (by tensor) are ready for planning."""

    def __init__(
        self,
        graph: Graph,
        model: bytes,
        *,
        core: str,
        optimize: str,
        numbers: Sequence[int] | None = None,
    ) -> None:
        """`numbers`: of every operator the number it has in `model`; the same where left out."""
        self.graph = graph
        self.model = model
        self.core = core
        self.optimize = optimize
        self.group = GROUP.get(core, 4)
        self.layouts: dict[int, Layout] = {}
        self.steps: list[Step] = []
        self.number = 0  # of the operator that is being lowered
        self._plain_tensors: dict[int, int] = {}
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise ModelError(
                "a net with one input and one output is required. "
                f"Received: {len(graph.inputs)} inputs, {len(graph.outputs)} outputs."
            )
        self.input, self.output = graph.inputs[0], graph.outputs[0]
        operators = list(zip(numbers or range(len(graph.operators)), graph.operators, strict=True))
        if operators and self._is_border(operators[0][1], "QUANTIZE", np.dtype("<f4"), source=True):
            self.input = operators.pop(0)[1].outputs[0]
        if operators and self._is_border(
            operators[-1][1], "DEQUANTIZE", np.dtype("<f4"), source=False
        ):
            self.output = operators.pop()[1].inputs[0]
        self.define(self.input)
        for number, operator in operators:
            self._lower(number, operator)
        if self.output not in self.layouts:
            raise ModelError("the model's output is not computed by any operator.")
        self._settle()

    def _is_border(self, op: Operator, kind: str, dtype: np.dtype, *, source: bool) -> bool:
        outer = op.inputs[0] if source else op.outputs[0]
        end = self.graph.inputs[0] if source else self.graph.outputs[0]
        return op.kind == kind and outer == end and self.graph.tensors[outer].dtype == dtype

    # --- tensors -----------------------------------------------------------------------------

    def quantisation(self, tensor: Tensor) -> tuple[np.float32, int]:
        if tensor.dtype != np.int8 or len(tensor.scale) != 1 or len(tensor.zero_point) != 1:
            raise ModelError(
                f"activation {tensor.name!r} must be int8 with one scale and one zero point. "
                f"Received: {tensor.dtype}, {len(tensor.scale)} scales. Convert the model to full "
                "int8 (representative dataset, int8 operators only)."
            )
        zero_point = int(tensor.zero_point[0])
        if not -128 <= zero_point <= 127 or not tensor.scale[0] > 0:
            raise ModelError(f"activation {tensor.name!r} has a scale or zero point out of range.")
        return tensor.scale[0], zero_point

    def dimensions(self, tensor: Tensor) -> tuple[int, int, int]:
        """Rows, columns, channels."""
        shape = tensor.shape
        if 0 in shape:
            raise ModelError(f"activation {tensor.name!r} is empty: shape {shape}.")
        rows, columns, channels = walks.dimensions(shape)
        if max(rows, columns, channels) > 0xFFFF:
            raise ModelError(f"activation {tensor.name!r} is too large: shape {shape}.")
        return rows, columns, channels

    def define(self, index: int) -> Layout:
        tensor = self.graph.tensors[index]
        rows, columns, channels = self.dimensions(tensor)
        layout = Layout(channels, rows, columns, self.quantisation(tensor)[1])
        self.layouts[index] = layout
        return layout

    def activation(self, op: Operator, position: int) -> int:
        index = op.inputs[position] if position < len(op.inputs) else -1
        if index >= 0 and index not in self.layouts and self.graph.tensors[index].data is not None:
            add_constant(self, index)
        if index not in self.layouts:
            raise ModelError(
                f"input {position} of {op.kind} must be an activation computed before it. "
                f"Received: tensor {index}."
            )
        return index

    def _constant(self, op: Operator, position: int, dtype: str) -> Tensor:
        index = op.inputs[position] if position < len(op.inputs) else -1
        tensor = self.graph.tensors[index] if index >= 0 else None
        if tensor is None or tensor.data is None or tensor.dtype != np.dtype(dtype):
            raise ModelError(f"input {position} of {op.kind} must be a constant of type {dtype}.")
        return tensor

    def constant_of(self, op: Operator, position: int, dtype: str = "<i4") -> npt.NDArray:
        """The values of a constant input; int64 where int32 is asked for and the file has it."""
        index = op.inputs[position] if position < len(op.inputs) else -1
        tensor = self.graph.tensors[index] if index >= 0 else None
        wide = tensor is not None and dtype == "<i4" and tensor.dtype == np.dtype("<i8")
        data = self._constant(op, position, "<i8" if wide else dtype).data
        assert data is not None
        return data

    def output_range(self, op: Operator, out: Tensor) -> tuple[int, int]:
        scale, zero_point = self.quantisation(out)
        name = ACTIVATIONS.get(int(op.options.get("activation", 0)), "unknown")
        try:
            return activation_range(name, scale, zero_point)
        except ValueError as error:
            raise ModelError(str(error)) from error

    def clamp(self, op: Operator, out: Tensor) -> str:
        low, high = self.output_range(op, out)
        return f"{{{self.quantisation(out)[1]}, {low}, {high}}}"

    # --- operators ---------------------------------------------------------------------------

    def _lower(self, number: int, op: Operator) -> None:
        self.number = number
        if len(op.outputs) != 1 and op.kind not in MANY_OUTPUTS:
            raise ModelError(f"operator {op.kind} must have one output. Received: {op.outputs}.")
        if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            self._convolution(op)
        elif op.kind == "FULLY_CONNECTED":
            self._fully_connected(op)
        elif op.kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
            self._pool(op)
        elif op.kind in OPERATORS:
            OPERATORS[op.kind](self, op)
        else:
            raise ModelError(
                f"operator {op.kind} (number {number}) is not supported by the C exporter. "
                f"Supported: {', '.join(supported())}."
            )

    def _channels(
        self,
        op: Operator,
        weights: npt.NDArray[np.int8],
        filters: Tensor,
        source: Tensor,
        out: Tensor,
    ) -> tuple[list[int], list[Multiplier]]:
        """Biases with the zero point folded in, and multipliers; `weights` is [channel, tap]."""
        scale_in, zero_in = self.quantisation(source)
        scale_out, _ = self.quantisation(out)
        count = len(weights)
        if len(filters.scale) not in (1, count) or np.any(filters.zero_point != 0):
            raise ModelError(
                f"weights {filters.name!r} must be symmetric with one scale, or one a channel "
                f"({count}). Received: {len(filters.scale)} scales."
            )
        scales = np.broadcast_to(filters.scale, (count,)).astype(np.float64)
        bias = np.zeros(count, np.int64)
        if len(op.inputs) > 2 and op.inputs[2] >= 0:
            constant = self._constant(op, 2, "<i4").data
            assert constant is not None
            if constant.size != count:
                raise ModelError(f"bias of {op.kind} needs {count} values, got {constant.size}.")
            bias = constant.reshape(-1).astype(np.int64)
        folded = bias - zero_in * weights.astype(np.int64).sum(axis=1)
        if np.abs(folded).max(initial=0) > 0x7FFFFFFF:
            raise ModelError(f"the bias of {op.kind} {out.name!r} does not fit 32 bits.")
        real = np.float64(scale_in) * scales / np.float64(scale_out)
        biases = [int(v) for v in folded]
        if op.kind == "FULLY_CONNECTED":
            return biases, self._exact_multipliers(op, biases, weights, real, out)
        return biases, [Multiplier(*quantised_multiplier(float(v))) for v in real]

    def _exact_multipliers(
        self,
        op: Operator,
        biases: list[int],
        weights: npt.NDArray[np.int8],
        real: npt.NDArray[np.float64],
        out: Tensor,
    ) -> list[Multiplier]:
        """TensorFlow Lite's reference rounds a fully connected layer's products in double
        precision: multipliers that give the same outputs, one a row, equal where `real` is."""
        zero_point = self.quantisation(out)[1]
        least, most = (limit - zero_point for limit in self.output_range(op, out))
        largest = np.abs(np.array(biases)) + 128 * np.abs(weights.astype(np.int64)).sum(axis=1)
        bounds: dict[float, int] = {}
        for value, bound in zip(real.tolist(), largest.tolist(), strict=True):
            bounds[value] = min(max(bounds.get(value, 0), bound), 1 << 31)
        found = {}
        for value, bound in bounds.items():
            multiplier = exact_multiplier(value, least, most, bound)
            if multiplier is None:
                raise ModelError(
                    f"{op.kind} {out.name!r}: no 39-bit multiplier rounds sums up to {bound} "
                    f"times {value} as TensorFlow Lite does in double precision. Change the scale "
                    "of its output a little (another representative dataset does that)."
                )
            found[value] = multiplier
        return [found[value] for value in real.tolist()]

    def _convolution(self, op: Operator) -> None:
        graph = self.graph
        depthwise = op.kind == "DEPTHWISE_CONV_2D"
        source, target = self.activation(op, 0), op.outputs[0]
        filters = self._constant(op, 1, "i1")
        assert filters.data is not None
        layout = self.layouts[source]
        if len(filters.shape) != 4 or len(graph.tensors[source].shape) != 4:
            raise ModelError(f"{op.kind} needs four-dimensional input and weights.")
        count, kernel_h, kernel_w, depth = filters.shape
        o = op.options
        multiplier = 0
        if depthwise:
            count, depth = depth, 1
            multiplier = count // max(layout.channels, 1)
            if filters.shape[0] != 1 or multiplier * layout.channels != count:
                raise ModelError(f"{op.kind}: weights {filters.shape} do not fit the input.")
            weights = filters.data[0].transpose(2, 0, 1).reshape(count, -1)
        else:
            if depth != layout.channels:
                raise ModelError(
                    f"CONV_2D needs weights of depth {layout.channels} (grouped convolution is "
                    f"not supported). Received: {filters.shape}."
                )
            weights = filters.data.transpose(0, 3, 1, 2).reshape(count, -1)
        strides = int(o["stride_h"]), int(o["stride_w"])
        dilation = int(o["dilation_h"]), int(o["dilation_w"])
        if min(*strides, *dilation) < 1 or max(*strides, *dilation) > 255 or not weights.size:
            raise ModelError(f"{op.kind}: strides {strides}, dilation {dilation} out of range.")
        out = self.define(target)
        pads = [(0, 0), (0, 0)]
        sizes = (layout.height, layout.width)
        kernels = (kernel_h, kernel_w)
        outs = (out.height, out.width)
        for axis in range(2):
            span = (kernels[axis] - 1) * dilation[axis] + 1
            if o["padding"] == 0:
                expected = -(-sizes[axis] // strides[axis])
                pads[axis] = same_padding(
                    sizes[axis], outs[axis], kernels[axis], strides[axis], dilation[axis]
                )
            else:
                expected = (sizes[axis] - span) // strides[axis] + 1
            if outs[axis] != expected or out.channels != count or expected < 1:
                raise ModelError(
                    f"{op.kind}: output shape {graph.tensors[target].shape} does not follow from "
                    f"input {graph.tensors[source].shape} and weights {filters.shape}."
                )
        (top, bottom), (left, right) = pads
        # What one row or column steps on by plays no part; 1 is what every kernel takes.
        strides = (
            strides[0] if out.height > 1 else 1,
            strides[1] if out.width > 1 else 1,
        )
        tensors = graph.tensors
        biases, multipliers = self._channels(op, weights, filters, tensors[source], tensors[target])
        clamp = self.clamp(op, tensors[target])
        name = f"{'depthwise' if depthwise else 'convolution'} {kernel_h}x{kernel_w}"
        name += f" {layout.channels} -> {count}"
        if kernels == sizes and outs == (1, 1) and not depthwise and max(map(max, pads)) == 0:
            self._whole_input(
                name, source, target, weights, (biases, multipliers), clamp, once=False
            )
            return
        layout.require(top, bottom, left, right)
        taps = [
            (y * dilation[0], x * dilation[1]) for y in range(kernel_h) for x in range(kernel_w)
        ]
        ternary = as_ternary(weights)
        use_lists = ternary is not None and strides[1] <= 2
        if use_lists and ternary is not None:
            counts = [int((ternary.symbols == s).sum(axis=1).max(initial=0)) for s in (-1, 1)]
            use_lists = max(counts) < 1 << 16
        conv = Int8Conv(
            weights.reshape(count, depth, kernel_h, kernel_w),
            biases,
            multipliers,
            strides,
            dilation,
            multiplier,
            layout,
            out,
            self.quantisation(tensors[target])[1],
            self.output_range(op, tensors[target]),
        ).simplified()
        unit = conv.unit
        dot = self._dot(conv, ternary if use_lists else None)
        use_lists = use_lists and dot is None

        @cache
        def parts() -> _Lists | None:
            """The lists of a ternary layer, once layouts are settled."""
            if not use_lists or ternary is None:
                return None
            offsets = [y * layout.pitch + x for y, x in taps]
            return self._lists(ternary, offsets, layout, depth, out)

        def emit(names: Names) -> Code:
            n = names.index
            offsets = [y * layout.pitch + x for y, x in taps]
            shift = top * layout.pitch + left
            entry = f"{names.inputs[0]} - {shift}" if shift else names.inputs[0]
            lists = parts()
            if lists is None or ternary is None:
                return self._int8(conv, dot, name, names, entry)
            minus, plus = ternary.minus, ternary.plus
            minus_count = (ternary.symbols == -1).sum(axis=1)
            plus_count = (ternary.symbols == 1).sum(axis=1)
            type_name, values, encoding, k, bits, note = lists
            tiling = self._tiling(layout, out, strides, unit)
            numbers = [*tiling.in_group[1:], strides[1], *tiling.out_group[1:]]
            tile = "tile_" + "_".join(map(str, numbers))
            groups = ", ".join(map(str, tiling.out_group))
            zeros = float((ternary.symbols == 0).mean())
            decoder = ", ec2t_mcu_gap_list" if encoding == "EC2T_MCU_ENCODING_GAPS" else ""
            if self.core == "m55" and not decoder:
                decoder = ", 0"
            return Code(
                [
                    array("uint16_t", f"taps_{n}", offsets),
                    channel_table(n, biases, multipliers, minus_count, plus_count, minus, plus),
                    array(type_name, f"weights_{n}", values),
                    f"static const ec2t_mcu_list_conv layer_{n} = {{{layout.c()}, {out.c()}, "
                    f"channels_{n}, weights_{n}, taps_{n}, {len(offsets)}, "
                    f"{int((minus_count + plus_count).max(initial=0))}, "
                    f"{encoding}, {k}, {multiplier if depthwise else 0}, {bits}, {tiling.count}, "
                    f"{tiling.across}, {tiling.in_row_step}, {tiling.in_tile_step}, "
                    f"{tiling.out_row_step}, {tiling.out_tile_step}, {clamp}, "
                    f"{{{groups}}}, {tile}_sums, EC2T_MCU_TILE_FAST({tile}){decoder}}};",
                ],
                [
                    f"status = ec2t_mcu_list_conv_run(&layer_{n}, {entry}, {names.output}, "
                    f"{names.scratch});",
                    "if (status != EC2T_MCU_OK) return status;",
                ],
                2 * len(offsets) + 16 * count + values.nbytes,
                f"ternary, {100 * zeros:.0f} % zeros, {note}",
                f"EC2T_MCU_TILE({tile}, {', '.join(map(str, numbers))})",
            )

        def scratch() -> int:
            lists = parts()
            if lists is None or ternary is None:
                if dot is not None:
                    return dot.scratch
                return dsp_conv.scratch(conv) if self.core in DSP_CORES else 0
            if lists[2] == "EC2T_MCU_ENCODING_DISTANCES":
                return 0
            most = int(np.count_nonzero(ternary.symbols, axis=1).max(initial=0))
            if lists[2] == "EC2T_MCU_ENCODING_GAPS":  # both lists are written eight at a time
                return 2 * (most + 14) + 2 * weights.shape[1]
            return 4 * most + 2 * weights.shape[1]

        def reads(_: int) -> int:
            """Tiles at the end of a row, or below the last, read on; what they get is not used."""
            planes = (layout.channels - 1) * layout.plane
            last_tap = taps[-1][0] * layout.pitch + taps[-1][1] - top * layout.pitch - left
            of_lists = 0
            for group in {self.group, INT8_GROUP}:
                tiling = self._tiling(layout, out, strides, unit, group)
                last = (tiling.count - 1) * tiling.in_row_step
                last += (tiling.across - 1) * tiling.in_tile_step
                last += tiling.in_group[-1] + group * strides[1]
                of_lists = max(of_lists, last)
            of_dense = (out.height - 1) * strides[0] * layout.pitch + (out.width + 15) * strides[1]
            return planes + last_tap + max(of_lists, of_dense) + 16

        def extent() -> int:
            of_int8 = dsp_conv.extent(conv) if self.core in DSP_CORES else 0
            if not use_lists and self.core in DSP_CORES:
                return of_int8
            groups = {self.group, INT8_GROUP}
            tilings = [(self._tiling(layout, out, strides, unit, g), g) for g in groups]
            return max(of_int8, *(tiling.extent(g) for tiling, g in tilings))

        planes = self.core in DSP_CORES and dsp_conv.by_planes(conv)
        self.steps.append(
            Step(
                name,
                (
                    "list_conv.c",
                    "gap_list.c",
                    "tiled_conv.c",
                    "dot_conv.c",
                    *dsp_conv.SOURCES,
                    "layout.c",
                ),
                (source,),
                target,
                emit,
                scratch,
                reads=reads,
                flat=unit and (use_lists or planes or (self.core == "m55" and dot is None)),
                extent=extent,
            )
        )

    def _dot(self, conv: Int8Conv, ternary: Ternary | None) -> dot_conv.Plan | None:
        """The plan of a convolution by dot products, where that is what it should be."""
        if self.core != "m55":
            return None
        plan = dot_conv.plan(conv)
        if plan is None or ternary is None:
            return plan
        out = conv.out
        tiling = self._tiling(conv.source, out, conv.strides, conv.unit)
        tiles = tiling.count * tiling.across
        if conv.unit:  # perhaps as one row, with a border of one column
            length = (out.height - 1) * (out.width + 1) + out.width
            tiles = min(tiles, -(-length // (4 * self.group)))
        gaps = self.optimize == "balanced"
        lists = dot_conv.list_cost(ternary.symbols, tiles, gaps=gaps)
        return plan if plan.cost < DOT_PAYS_BELOW[self.optimize] * lists else None

    def _int8(
        self, conv: Int8Conv, dot: dot_conv.Plan | None, name: str, names: Names, entry: str
    ) -> Code:
        """The kernel call of an int8 convolution; `entry` is the address of the first tap under the
        first output pixel."""
        code = dot_conv.dot_code(conv, dot, names, entry) if dot is not None else None
        if code is not None:
            return code
        if self.core in DSP_CORES:
            code = dsp_conv.code(conv, names, entry)
        else:
            code = self._tiled(conv, names, entry) if conv.strides[1] <= 2 else None
        if code is None:
            raise ModelError(
                f"{name}: an int8 convolution this large, or with a horizontal stride of "
                f"{conv.strides[1]}, is not supported. Make its input smaller, use a stride of 1 "
                "or 2, or make its weights ternary."
            )
        return code

    def _tiled(self, conv: Int8Conv, names: Names, entry: str) -> Code | None:
        n = names.index
        count = len(conv.weights)
        where, rows, tile, after = self._tiles(
            conv.weights, conv.dilation, conv.source, conv.out, conv.strides, conv.unit
        )
        if max(where) > 0xFFFF:
            return None
        stored = self._stored_biases(conv.biases, conv.weights.reshape(count, -1))
        return Code(
            [
                array("uint16_t", f"taps_{n}", where),
                int8_channel_table(n, stored, conv.multipliers),
                array("int8_t", f"weights_{n}", rows),
                f"static const ec2t_mcu_tiled_conv layer_{n} = {{{conv.source.c()}, "
                f"{conv.out.c()}, channels_{n}, weights_{n}, taps_{n}, {rows.shape[1]}, "
                f"{conv.strides[1]}, {conv.depth_multiplier}, {conv.clamp}, {after}}};",
            ],
            [f"ec2t_mcu_tiled_conv_run(&layer_{n}, {entry}, {names.output});"],
            2 * len(where) + rows.size + 16 * count,
            "int8",
            tile,
        )

    def _stored_biases(self, biases: list[int], weights: npt.NDArray[np.int8]) -> list[int]:
        """Biases of an int8 kernel [channel, tap] that reads activations as they are stored."""
        if self.core not in SWAR_CORES:
            return biases
        stored = np.array(biases) - FLIP * weights.astype(np.int64).sum(axis=1)
        if np.abs(stored).max(initial=0) > 0x7FFFFFFF:
            raise ModelError("a bias does not fit 32 bits.")
        return [int(v) for v in stored]

    def _tiles(
        self,
        grid: npt.NDArray[np.int8],
        dilation: tuple[int, int],
        layout: Layout,
        out: Layout,
        strides: tuple[int, int],
        unit: bool,
    ) -> tuple[list[int], npt.NDArray[np.int8], str, str]:
        """Taps, weights, tile and the end of an ec2t_mcu_tiled_conv."""
        count, _, _, kernel_w = grid.shape
        if self.core == "m55":
            offsets = np.array(_offsets(grid.shape, dilation, layout))
            order = np.argsort(offsets, kind="stable")  # distances are not negative
            where = np.diff(offsets[order], prepend=0).tolist()
            rows = np.ascontiguousarray(grid.reshape(count, -1)[:, order])
            t = self._tiling(layout, out, strides, unit, INT8_GROUP)
            numbers = [*t.in_group[1:3], strides[1], *t.out_group[1:]]
            tile = "dense_tile_" + "_".join(map(str, numbers))
            groups = [f"{{{', '.join(map(str, g))}}}" for g in (t.in_group, t.out_group)]
            after = (
                f"{t.in_row_step}, {t.in_tile_step}, {t.out_row_step}, {t.out_tile_step}, "
                f"{t.count}, {t.across}, {', '.join(groups)}, {tile}"
            )
        else:
            # Runs of up to five taps; longer rows in the pieces that waste least.
            run = kernel_w
            if dilation[1] > 1:
                run = 1
            elif kernel_w > 5:
                run = min((5, 4, 3), key=lambda r: kernel_w + -kernel_w % r)
            if run == 1:
                where = _offsets(grid.shape, dilation, layout)
                rows = np.ascontiguousarray(grid.reshape(count, -1))
            else:
                where, rows = _runs(grid, dilation[0], layout, run)
            pixels = min(
                INT8_PIXELS[self.core], key=lambda n: (-(-out.width // n) * (2 * n + 2), n)
            )
            numbers = [pixels, run, strides[1]]
            tile = "dense_tile_" + "_".join(map(str, numbers))
            after = f"{strides[0] * layout.pitch}, {len(where)}, {pixels}, {tile}"
        return where, rows, f"EC2T_MCU_DENSE_TILE({tile}, {', '.join(map(str, numbers))})", after

    def _plain(self, out: Layout) -> bool:
        """Whether a ternary convolution keeps distances rather than a Rice stream."""
        few = out.height * out.width < RICE_PIXELS
        return self.optimize == "speed" or (self.optimize == "balanced" and few)

    def _lists(
        self,
        ternary: object,
        offsets: Sequence[int],
        layout: Layout,
        depth: int,
        out: Layout,
    ) -> _Lists | None:
        symbols = ternary.symbols  # type: ignore[attr-defined]
        planes = np.arange(depth)[:, None] * layout.plane
        where = (planes + np.array(offsets)[None]).reshape(-1)
        # Offsets must grow along the list: with a border narrower than the kernel they would not.
        if np.any(np.diff(where) < 0):
            return None
        plain = distances(symbols, where)
        if plain is None:
            return None
        if self._plain(out):
            return "uint16_t", plain, "EC2T_MCU_ENCODING_DISTANCES", 0, 0, "distances"
        if self.core == "m55" and self.optimize == "balanced" and symbols[0].size < MOST_GAP_TAPS:
            gaps = [np.diff(np.flatnonzero(r == v), prepend=0) for r in symbols for v in (-1, 1)]
            flat = np.concatenate(gaps)
            if flat.max(initial=0) <= LARGEST_GAP:
                encoding = "EC2T_MCU_ENCODING_GAPS"
                return "uint8_t", flat.astype(np.uint8), encoding, 0, 8 * flat.size, "gaps"
        k = best_rice_parameter(symbols)
        stream, bits = rice(symbols, k)
        return "uint8_t", stream, "EC2T_MCU_ENCODING_RICE", k, bits, f"Rice k={k}"

    def _tiling(
        self, layout: Layout, out: Layout, strides: tuple[int, int], unit: bool, group: int = 0
    ) -> Tiling:
        g = group or self.group
        sy, sx = strides
        pi, po = layout.pitch, out.pitch
        groups = -(-out.width // g)
        per_row, rows, across = groups, 4 // groups if groups <= 2 else 1, 1
        too_far = self.core == "m55" and (rows - 1) * max(sy * pi, po) + g * sx > FARTHEST
        if groups > 2 or too_far:
            rows, per_row, across = 1, 4, -(-groups // 4)
        in_group = [(i // per_row) * sy * pi + (i % per_row) * g * sx for i in range(4)]
        out_group = [(i // per_row) * po + (i % per_row) * g for i in range(4)]
        tiling = Tiling(
            rows,
            across,
            in_group,
            out_group,
            rows * sy * pi,
            4 * g * sx,
            rows * po,
            4 * g,
            out.height,
        )
        if unit and pi == po:
            length = (out.height - 1) * pi + out.width
            tiles = -(-length // (4 * g))
            if tiles < -(-out.height // rows) * across:
                straight = [0, g, 2 * g, 3 * g]
                return Tiling(1, tiles, straight, straight, 0, 4 * g, 0, 4 * g, 1)
        return tiling

    def _fully_connected(self, op: Operator) -> None:
        source, target = self.activation(op, 0), op.outputs[0]
        filters = self._constant(op, 1, "i1")
        assert filters.data is not None
        layout = self.layouts[source]
        size = layout.channels * layout.height * layout.width
        if len(filters.shape) != 2 or filters.shape[1] != size or op.options["weights_format"]:
            raise ModelError(
                f"FULLY_CONNECTED needs plain weights [outputs, {size}] and batch size 1. "
                f"Received: {filters.shape}."
            )
        if size > 0xFFFF or filters.shape[0] > 0xFFFF:
            raise ModelError(f"FULLY_CONNECTED {filters.shape} is too large: at most 65535.")
        out = self.define(target)
        if (out.height, out.width, out.channels) != (1, 1, filters.shape[0]):
            raise ModelError(f"FULLY_CONNECTED: output shape does not fit {filters.shape}.")
        # Columns from rows-columns-channels order to plane order.
        order = np.arange(size).reshape(layout.height, layout.width, layout.channels)
        weights = filters.data[:, order.transpose(2, 0, 1).reshape(-1)]
        tensors = self.graph.tensors
        biases, multipliers = self._channels(op, weights, filters, tensors[source], tensors[target])
        clamp = self.clamp(op, tensors[target])
        name = f"fully connected {size} -> {len(weights)}"
        self._whole_input(name, source, target, weights, (biases, multipliers), clamp, once=True)

    def _whole_input(
        self,
        name: str,
        source: int,
        target: int,
        weights: npt.NDArray[np.int8],
        channels: tuple[list[int], list[Multiplier]],
        clamp: str,
        *,
        once: bool,
    ) -> None:
        """A layer whose outputs each see all inputs; `weights` are [outputs, inputs] in plane
        order, `channels` their biases and multipliers, `once` says how often it rounds."""
        layout, out = self.layouts[source], self.layouts[target]
        size = weights.shape[1]
        biases, multipliers = channels
        ternary = as_ternary(weights)
        if ternary is not None and not self._lists_pay(ternary.symbols):
            ternary = None
        paired = ternary is None and self.core in DSP_CORES and paired_rows.fits(weights)
        read = size + -size % paired_rows.INPUTS if paired else size

        def emit(names: Names) -> Code:
            n = names.index
            code = Code()
            entry = names.inputs[0]
            if not layout.contiguous:
                flat = Layout(layout.channels, layout.height, layout.width, layout.zero_point)
                code.declarations += [
                    f"static const ec2t_mcu_planar from_{n} = {layout.c()};",
                    f"static const ec2t_mcu_planar flat_{n} = {flat.c()};",
                ]
                code.statements.append(
                    f"ec2t_mcu_place(&from_{n}, {entry}, &flat_{n}, (uint8_t *){names.scratch}, "
                    "0, 0, 0);"
                )
                entry = f"(const uint8_t *){names.scratch}"
            if paired:
                code += paired_rows.rows_code(
                    weights, biases, multipliers, names, entry, once=once, clamp=clamp
                )
            else:
                code += self._rows(weights, ternary, channels, names, entry, once=once, clamp=clamp)
            _spread(code, out, names)
            return code

        self.steps.append(
            Step(
                name,
                ("fully_connected.c", "paired_rows.c", "layout.c"),
                (source,),
                target,
                emit,
                lambda: 0 if layout.contiguous else read,
                reads=lambda _: read if layout.contiguous else 0,
            )
        )

    def _rows(
        self,
        weights: npt.NDArray[np.int8],
        ternary: Ternary | None,
        channels: tuple[list[int], list[Multiplier]],
        names: Names,
        entry: str,
        *,
        once: bool,
        clamp: str,
    ) -> Code:
        """The kernel call of a layer as index lists, or (`ternary` None) dense."""
        n = names.index
        biases, multipliers = channels
        count, size = weights.shape
        if ternary is not None:
            minus_count, plus_count = ((ternary.symbols == s).sum(axis=1) for s in (-1, 1))
            rows = [np.flatnonzero(r == s) for r in ternary.symbols for s in (-1, 1)]
            values: npt.NDArray = np.concatenate(rows).astype(np.uint16)
            constants = array("uint16_t", f"weights_{n}", values)
            table = channel_table(
                *(n, biases, multipliers, minus_count, plus_count, ternary.minus, ternary.plus)
            )
        else:
            values = np.ascontiguousarray(weights.reshape(-1))
            constants = array("int8_t", f"weights_{n}", values)
            table = int8_channel_table(n, self._stored_biases(biases, weights), multipliers)
        return Code(
            [
                constants,
                table,
                f"static const ec2t_mcu_fully_connected layer_{n} = {{channels_{n}, weights_{n}, "
                f"{size}, {count}, {int(ternary is not None)}, {int(once)}, {clamp}}};",
            ],
            [f"ec2t_mcu_fully_connected_run(&layer_{n}, {entry}, {names.output});"],
            values.nbytes + 16 * count,
            "int8" if ternary is None else "ternary, index lists",
        )

    def _lists_pay(self, symbols: npt.NDArray[np.int8]) -> bool:
        """Whether index lists of a fully connected layer beat its dense int8 kernel."""
        least = LISTS_SAVE_FROM if self.optimize == "size" else LISTS_PAY_FROM.get(self.core, 0.55)
        return float((symbols == 0).mean()) >= min(least, LISTS_PAY_FROM.get(self.core, 0.55))

    def _pool(self, op: Operator) -> None:
        source, target = self.activation(op, 0), op.outputs[0]
        layout = self.layouts[source]
        o = op.options
        out = self.define(target)
        sizes, outs = (layout.height, layout.width), (out.height, out.width)
        strides = int(o["stride_h"]), int(o["stride_w"])
        kernels = int(o["filter_h"]), int(o["filter_w"])
        if min(*strides, *kernels) < 1 or max(*strides, *kernels) > 255:
            raise ModelError(
                f"{op.kind}: window {kernels}, stride {strides} out of range 1 to 255."
            )
        pads = []
        for axis in range(2):
            if o["padding"] == 0:
                expected = -(-sizes[axis] // strides[axis])
                pads.append(same_padding(sizes[axis], outs[axis], kernels[axis], strides[axis], 1))
            else:
                expected = (sizes[axis] - kernels[axis]) // strides[axis] + 1
                pads.append((0, 0))
            if expected != outs[axis] or expected < 1 or out.channels != layout.channels:
                raise ModelError(f"{op.kind}: output shape does not follow from the input's.")
        clamp = self.clamp(op, self.graph.tensors[target])
        kind = int(op.kind == "MAX_POOL_2D")
        inside = all(
            pad == (0, 0) and (o - 1) * stride + k <= size
            for pad, o, stride, k, size in zip(pads, outs, strides, kernels, sizes, strict=True)
        )
        vectors = inside and (kind or kernels == sizes or 2 <= prod(kernels) <= MOST_VECTOR_MEAN)
        helium = self.core == "m55" and vectors

        def reads(_: int) -> int:
            """Eight windows are read at once, whatever is left of a row."""
            last = (layout.channels - 1) * layout.plane + (sizes[0] - 1) * layout.pitch
            return last + (outs[1] + 7) * strides[1] + kernels[1] if helium else 0

        def emit(names: Names) -> Code:
            n = names.index
            return Code(
                [
                    f"static const ec2t_mcu_pool layer_{n} = {{{layout.c()}, {out.c()}, "
                    f"{kernels[0]}, "
                    f"{kernels[1]}, {strides[0]}, {strides[1]}, {pads[0][0]}, {pads[1][0]}, "
                    f"{kind}, {clamp}}};"
                ],
                [
                    f"ec2t_mcu_pool_{'helium_' if helium else ''}run(&layer_{n}, "
                    f"{names.inputs[0]}, {names.output});"
                ],
                60,
            )

        name = f"{'max' if kind else 'average'} pool {kernels[0]}x{kernels[1]}"
        sources = ("pool.c", "pool_helium.c", "layout.c")
        self.steps.append(Step(name, sources, (source,), target, emit, reads=reads))

    def add_maps(self, op: Operator) -> None:
        """ADD of two maps of one layout."""
        a, b, target = self.activation(op, 0), self.activation(op, 1), op.outputs[0]
        la, lb = self.layouts[a], self.layouts[b]
        lo = self.define(target)
        tensors = self.graph.tensors
        (scale_a, zero_a), (scale_b, zero_b) = (self.quantisation(tensors[i]) for i in (a, b))
        scale_out, _ = self.quantisation(tensors[target])
        (ma, mb), mo = add_multipliers(float(scale_a), float(scale_b), float(scale_out))
        clamp = self.clamp(op, tensors[target])
        if min(ma.shift, mb.shift) < -29:
            raise ModelError(f"ADD {tensors[target].name!r}: scales too far apart to add.")
        helium = self.core == "m55" and max(ma.shift, mb.shift) <= 0 and mo.shift < 0
        function = f"ec2t_mcu_add_{'helium_' if helium else ''}run"

        def reads(position: int) -> int:
            """Eight are read at once, whatever is left of a row."""
            x = (la, lb)[position]
            last = (x.channels - 1) * x.plane + (x.height - 1) * x.pitch + x.width
            return last + 7 if helium else 0

        def emit(names: Names) -> Code:
            n = names.index
            return Code(
                [
                    f"static const ec2t_mcu_add layer_{n} = {{{la.c()}, {lb.c()}, {lo.c()}, "
                    f"{zero_a}, "
                    f"{zero_b}, {ma.multiplier}, {mb.multiplier}, {mo.multiplier}, "
                    f"{ma.shift}, {mb.shift}, {mo.shift}, {clamp}}};"
                ],
                [
                    f"{function}(&layer_{n}, {names.inputs[0]}, {names.inputs[1]}, "
                    f"{names.output}, (int32_t *)(void *){names.scratch});"
                ],
                84,
            )

        self.steps.append(
            Step(
                "add",
                ("elementwise.c", "add_helium.c", "layout.c"),
                (a, b),
                target,
                emit,
                lambda: 2048,
                in_place=True,
                reads=reads,
            )
        )

    def mean_of_maps(self, op: Operator, source: int) -> None:
        """MEAN over rows and columns."""
        target, tensors = op.outputs[0], self.graph.tensors
        layout, out = self.layouts[source], self.define(target)
        scale_in, zero_in = self.quantisation(tensors[source])
        scale_out, zero_out = self.quantisation(tensors[target])
        elements = layout.height * layout.width
        real = float(scale_in) / float(scale_out)
        multiplier, shift = mean_multiplier(real, elements)
        function = f"ec2t_mcu_mean_{'helium_' if self.core == 'm55' else ''}run"

        def emit(names: Names) -> Code:
            n = names.index
            code = Code(
                [
                    f"static const ec2t_mcu_mean layer_{n} = {{{layout.c()}, "
                    f"{-zero_in * elements}, "
                    f"{multiplier}, {shift}, {{{zero_out}, -128, 127}}}};"
                ],
                [f"{function}(&layer_{n}, {names.inputs[0]}, {names.output});"],
                40,
            )
            _spread(code, out, names)
            return code

        sources = ("pool.c", "pool_helium.c", "layout.c")
        self.steps.append(Step("mean", sources, (source,), target, emit))

    def add_table(self, op: Operator, position: int, table: npt.NDArray[np.int8]) -> None:
        """Appends a step that looks up every element of an input."""
        source, target = self.activation(op, position), op.outputs[0]
        layout = self.layouts[source]
        out = self.define(target)
        if (out.height, out.width) != (layout.height, layout.width):  # flattened
            out = Layout(layout.channels, layout.height, layout.width, out.zero_point)
            self.layouts[target] = out
        if out.channels != layout.channels:
            raise ModelError(f"{op.kind}: output shape differs from the input's.")

        def emit(names: Names) -> Code:
            n = names.index
            return Code(
                [
                    array("int8_t", f"table_{n}", table),
                    f"static const ec2t_mcu_planar in_{n} = {layout.c()};",
                    f"static const ec2t_mcu_planar out_{n} = {out.c()};",
                ],
                [
                    f"ec2t_mcu_lookup_run(table_{n}, &in_{n}, {names.inputs[0]}, &out_{n}, "
                    f"{names.output});"
                ],
                288,
            )

        name, sources = op.kind.lower(), ("elementwise.c", "layout.c")
        self.steps.append(Step(name, sources, (source,), target, emit, in_place=True))

    def lookup(self, position: int = 0) -> npt.NDArray[np.int8]:
        """The table of the operator that is being lowered, all its other inputs constant."""
        return lookup_table(self.model, self.number, position)

    def add_tensor(self, name: str, shape: tuple[int, ...], *, like: int) -> int:
        """A tensor that is not in the file, with the quantisation of another. Returns its index."""
        self.graph.tensors.append(replace(self.graph.tensors[like], name=name, shape=shape))
        return len(self.graph.tensors) - 1

    def plain(self, index: int) -> int:
        """A tensor whose elements lie as its shape says: itself, or what a step makes of it where
        it lies as it did before it was flattened."""
        layout, shape = self.layouts[index], self.graph.tensors[index].shape
        own = (layout.height, layout.width, layout.channels)
        if own == walks.dimensions(shape):
            return index
        if index not in self._plain_tensors:
            target = self.add_tensor("flattened", shape, like=index)
            rearrange(self, "flatten", index, target, own)
            self._plain_tensors[index] = target
        return self._plain_tensors[index]

    def stored(self, values: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
        """Constant activations as the core stores them."""
        flip = FLIP if self.core in SWAR_CORES else 0
        return np.ascontiguousarray(values).view(np.uint8) ^ np.uint8(flip)

    @staticmethod
    def frame(code: Code, out: Layout, names: Names) -> None:
        """After a kernel that leaves the border alone."""
        if not out.contiguous:
            code.declarations.append(f"static const ec2t_mcu_planar out_{names.index} = {out.c()};")
            code.statements.append(f"ec2t_mcu_frame(&out_{names.index}, {names.output});")
            code.flash += 16

    # --- layouts -----------------------------------------------------------------------------

    def last_use(self, layout: Layout) -> int:
        """Number of the last step that reads a layout; the step count for the model's output."""
        if self.layouts[self.output] is layout:
            return len(self.steps)
        uses = [
            i
            for i, step in enumerate(self.steps)
            if any(self.layouts[t] is layout for t in step.inputs)
        ]
        return max(uses, default=-1)

    def _settle(self) -> None:
        """Makes layouts that share memory or a row length agree; then adds the tiles' slack."""
        self.shares: list[tuple[Layout, Layout]] = []
        taken: set[int] = set()
        for number, step in enumerate(self.steps):
            out = self.layouts[step.output]
            if not step.in_place:
                continue
            for tensor in step.inputs:
                layout = self.layouts[tensor]
                if self.last_use(layout) == number and id(layout) not in taken:
                    self.shares.append((layout, out))
                    taken.add(id(layout))
                    break
        for _ in range(len(self.steps) + 1):
            for a, b in self.shares:
                for name in ("pitch", "top", "left", "around"):
                    value = max(getattr(a, name), getattr(b, name))
                    setattr(a, name, value)
                    setattr(b, name, value)
            for step in self.steps:
                if not step.flat:
                    continue
                a, b = self.layouts[step.inputs[0]], self.layouts[step.output]
                if self._flat_pays(a, b):
                    a.pitch = b.pitch = max(a.pitch, b.pitch)
        for step in self.steps:
            out = self.layouts[step.output]
            out.slack = max(out.slack, self._slack(step))
        for a, b in reversed(self.shares):
            a.slack = b.slack = max(a.slack, b.slack)

    def _flat_pays(self, a: Layout, b: Layout) -> bool:
        g = self.group
        pitch = max(a.pitch, b.pitch)
        groups = -(-b.width // g)
        plain = b.height * -(-groups // 4) if groups > 2 else -(-b.height // (4 // groups))
        return -(-((b.height - 1) * pitch + b.width) // (4 * g)) < plain

    def _slack(self, step: Step) -> int:
        """Bytes a convolution's last tiles may write behind the last plane."""
        return max(step.extent() - self.layouts[step.output].plane, 0)


@dataclass(frozen=True)
class Tiling:
    """How tiles of four groups cover an output plane; see ec2t_mcu_list_conv."""

    rows: int
    across: int
    in_group: list[int]
    out_group: list[int]
    in_row_step: int
    in_tile_step: int
    out_row_step: int
    out_tile_step: int
    cover: int

    @property
    def count(self) -> int:
        """Tiles down a plane."""
        return -(-self.cover // self.rows)

    def extent(self, group: int) -> int:
        """Bytes from a plane's first that tiles of `group` pixels a group write."""
        down, across = (self.count - 1) * self.out_row_step, (self.across - 1) * self.out_tile_step
        return down + across + self.out_group[-1] + group


def _offsets(shape: tuple[int, ...], dilation: tuple[int, int], layout: Layout) -> list[int]:
    """Byte offsets of the taps of weights [out, depth, rows, columns], in their order."""
    _, depth, kernel_h, kernel_w = shape
    return [
        c * layout.plane + y * dilation[0] * layout.pitch + x * dilation[1]
        for c in range(depth)
        for y in range(kernel_h)
        for x in range(kernel_w)
    ]


def _runs(
    grid: npt.NDArray[np.int8], dilation: int, layout: Layout, run: int
) -> tuple[list[int], npt.NDArray[np.int8]]:
    """Weights [out, depth, rows, columns] in runs of `run` neighbouring taps, some perhaps 0, and
    the runs' byte offsets."""
    count, depth, kernel_h, kernel_w = grid.shape
    wide = kernel_w + -kernel_w % run
    rows = np.zeros((count, depth, kernel_h, wide), np.int8)
    rows[..., :kernel_w] = grid
    offsets = [
        c * layout.plane + y * dilation * layout.pitch + x
        for c in range(depth)
        for y in range(kernel_h)
        for x in range(0, wide, run)
    ]
    return offsets, rows.reshape(count, -1)


def _spread(code: Code, out: Layout, names: Names) -> None:
    """After a kernel that writes one row and column back to back: to where `out` has it."""
    if not out.contiguous:
        code.declarations.append(f"static const ec2t_mcu_planar out_{names.index} = {out.c()};")
        code.statements.append(f"ec2t_mcu_spread(&out_{names.index}, {names.output});")
        code.flash += 16
