"""UNIDIRECTIONAL_SEQUENCE_LSTM and SVDF: int8 in and out, 16 bits inside, state kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ec2t_tf.export.graph import FileError, Operator

from .. import walks
from ..arithmetic import quantised_multiplier
from ..code import Code, Names, array, clamp
from ..limits import beyond
from ..step import Step
from .state import keep_bytes

if TYPE_CHECKING:
    from ..lowering import Lowering

KERNEL, RECURRENT, BIAS, HIDDEN, CELL = 1, 5, 12, 18, 19  # inputs of the operator
_ABSENT = (*range(9, 12), 16, 17, *range(20, 24))  # peepholes, projection, normalisation
_GATE_SCALE = np.float32(2.0**-12)


def lstm(net: Lowering, op: Operator) -> None:
    source, target = net.plain(net.activation(op, 0)), op.outputs[0]
    tensors = net.graph.tensors
    shape, sizes = tensors[source].shape, tensors[target].shape
    hidden, cell = (tensors[op.inputs[i]] for i in (HIDDEN, CELL))
    mantissa, exponent = math.frexp(float(cell.scale[0])) if len(cell.scale) else (0.0, 0)
    given = [i for i in _ABSENT if i < len(op.inputs) and op.inputs[i] >= 0]
    time_major = bool(op.options.get("time_major", False))
    steps, batch = (shape[:2] if time_major else shape[1::-1]) if len(shape) == 3 else (0, 0)
    if (
        given
        or not batch
        or op.options.get("activation", "tanh") != "tanh"
        or op.options.get("diagonal_recurrent_tensors", False)
        or (hidden.dtype, cell.dtype, mantissa) != ("int8", "int16", 0.5)
        or not 0 <= exponent + 14 <= 6
        or net.quantisation(hidden) != net.quantisation(tensors[target])
    ):
        raise beyond(
            op.kind,
            f"shape {shape}, state {hidden.dtype}, cell {cell.dtype}, optional inputs {given}",
        )
    power = exponent - 1
    scale_in, zero_in = net.quantisation(tensors[source])
    scale_hidden, zero_hidden = net.quantisation(hidden)
    gates = []
    for gate in range(4):
        kernel, recurrent = (net.constant(op, i + gate, "int8") for i in (KERNEL, RECURRENT))
        units, inputs = kernel.shape
        fits = inputs == shape[2] and recurrent.shape == (units, units)
        fits = fits and tuple(sizes) == (*shape[:2], units)
        if not fits or math.prod(hidden.shape) != batch * units:
            raise FileError(f"LSTM of {shape} to {sizes} with weights {kernel.shape}.")
        position, bias = BIAS + gate, np.zeros(units, np.int64)
        if position < len(op.inputs) and op.inputs[position] >= 0:
            bias = net.constant(op, position).astype(np.int64)
        sums = kernel.astype(np.int64).sum(axis=1), recurrent.astype(np.int64).sum(axis=1)
        scales = [tensors[op.inputs[i + gate]].scale[0] for i in (KERNEL, RECURRENT)]
        pairs = [
            quantised_multiplier(float(np.float32(w) * np.float32(x) / _GATE_SCALE))
            for w, x in zip(scales, (scale_in, scale_hidden), strict=True)
        ]
        folded = bias - zero_in * sums[0], -zero_hidden * sums[1]
        gates.append((kernel, recurrent, *folded, pairs))
    units = sizes[2]
    clip = float(op.options.get("cell_clip", 0.0))
    bound = int(min(float(np.float32(clip) / cell.scale[0]), 32767)) if clip > 0 else 0
    real = float(np.float32(2.0**-30 / float(scale_hidden)))
    multiplier, shift = quantised_multiplier(real)
    layout, out = net.layouts[source], net.define(target)
    states = (
        keep_bytes(net, op.inputs[HIDDEN], batch * units, zero_hidden),
        keep_bytes(net, op.inputs[CELL], 2 * batch * units, 0),
    )

    def emit(names: Names) -> Code:
        n = names.index
        code = Code()
        rows = []
        for g, (kernel, recurrent, bias, recurrent_bias, pairs) in enumerate(gates):
            code.declarations += [
                array("int8_t", f"kernel_{n}_{g}", kernel),
                array("int8_t", f"recurrent_{n}_{g}", recurrent),
                array("int32_t", f"bias_{n}_{g}", bias),
                array("int32_t", f"recurrent_bias_{n}_{g}", recurrent_bias),
            ]
            code.flash += kernel.size + recurrent.size + 8 * units + 32
            (m, s), (recurrent_m, recurrent_s) = pairs
            rows.append(
                f"    {{.kernel = kernel_{n}_{g}, .recurrent = recurrent_{n}_{g}, "
                f".bias = bias_{n}_{g}, .recurrent_bias = recurrent_bias_{n}_{g}, "
                f".multiplier = {m}, .shift = {s}, .recurrent_multiplier = {recurrent_m}, "
                f".recurrent_shift = {recurrent_s}}},"
            )
        time = 0 if time_major else 1
        a, b = walks.steps(layout, shape), walks.steps(out, sizes)
        code.declarations += [
            f"static const ec2t_mcu_gate gates_{n}[4] = {{",
            *rows,
            "};",
            f"static const ec2t_mcu_lstm layer_{n} = {{.gates = gates_{n}, "
            f".inputs = {shape[2]}, .units = {units}, .steps = {steps}, .in_time = {a[time]}, "
            f".in_feature = {a[2]}, .out_time = {b[time]}, .out_feature = {b[2]}, "
            f".cell_shift = {30 + power}, .cell_bits = {15 + power}, .cell_clip = {bound}, "
            f".multiplier = {multiplier}, .shift = {shift}, "
            f".clamp = {clamp(zero_hidden)}}};",
        ]
        x, h, c = names.inputs
        places = [x, f"(int8_t *){h}", f"(int16_t *)(void *){c}", names.output]
        if batch > 1:  # each sequence has its own state
            code.statements.append(f"for (uint32_t row = 0; row < {batch}u; ++row)")
            apart = (a[1 - time], units, units, b[1 - time])
            places = [f"{p} + row * {n}u" for p, n in zip(places, apart, strict=True)]
        code.statements.append(
            f"ec2t_mcu_lstm_run(&layer_{n}, {', '.join(places)}, "
            f"(int16_t *)(void *){names.scratch});"
        )
        code.flash += 64
        net.frame(code, out, names)
        return code

    name = f"LSTM {shape[2]} -> {units}"
    sources = ("lstm.c", "layout.c")
    inputs_of = (source, *states)
    net.steps.append(Step(name, sources, inputs_of, target, emit, lambda: 8 * units))


def svdf(net: Lowering, op: Operator) -> None:
    """A fused activation is not computed: the runtimes do not, either."""
    source, target = net.plain(net.activation(op, 0)), op.outputs[0]
    tensors = net.graph.tensors
    weights, memory = tensors[op.inputs[2]], tensors[op.inputs[4]]
    features = net.constant(op, 1, "int8").astype(np.int64)
    shape, sizes = tensors[source].shape, tensors[target].shape
    if (weights.dtype, memory.dtype) != ("int16", "int16") or len(shape) != 2 or shape[0] != 1:
        raise beyond(op.kind, f"shape {shape}, weights {weights.dtype}, state {memory.dtype}")
    times, rank = net.constant(op, 2, "int16"), int(op.options.get("rank", 1))
    (filters, inputs), steps, units = features.shape, times.shape[1], sizes[1]
    if inputs != shape[1] or len(times) != filters or units * rank != filters:
        raise FileError(f"SVDF of {shape} to {sizes} with weights {features.shape}, {times.shape}.")
    bias = np.zeros(units, np.int64)
    if op.inputs[3] >= 0:
        bias = net.constant(op, 3).astype(np.int64)
    scale_in, zero_in = net.quantisation(tensors[source])
    scale_out, zero_out = net.quantisation(tensors[target])
    between = memory.scale[0]
    pairs = [
        quantised_multiplier(float(np.float32(np.float32(a) * np.float32(b)) / np.float32(c)))
        for a, b, c in (
            (scale_in, tensors[op.inputs[1]].scale[0], between),
            (between, weights.scale[0], scale_out),
        )
    ]
    layout, out = net.layouts[source], net.define(target)
    state = keep_bytes(net, op.inputs[4], 2 * filters * steps, 0)

    def emit(names: Names) -> Code:
        n = names.index
        (state_multiplier, state_shift), (multiplier, shift) = pairs
        code = Code(
            [
                array("int8_t", f"features_{n}", features),
                array("int16_t", f"times_{n}", times),
                array("int32_t", f"feature_bias_{n}", -zero_in * features.sum(axis=1)),
                array("int32_t", f"bias_{n}", bias),
                f"static const ec2t_mcu_svdf layer_{n} = {{.features = features_{n}, "
                f".times = times_{n}, .feature_bias = feature_bias_{n}, .bias = bias_{n}, "
                f".inputs = {inputs}, .units = {units}, .rank = {rank}, .steps = {steps}, "
                f".in_step = {walks.steps(layout, shape)[1]}, "
                f".out_step = {walks.steps(out, sizes)[1]}, "
                f".state_multiplier = {state_multiplier}, .state_shift = {state_shift}, "
                f".multiplier = {multiplier}, .shift = {shift}, "
                f".clamp = {clamp(zero_out)}}};",
            ],
            [
                f"ec2t_mcu_svdf_run(&layer_{n}, {names.inputs[0]}, "
                f"(int16_t *)(void *){names.inputs[1]}, {names.output});"
            ],
            features.size + 2 * times.size + 4 * (filters + units) + 60,
        )
        net.frame(code, out, names)
        return code

    name = f"SVDF {inputs} -> {units}"
    net.steps.append(Step(name, ("svdf.c", "layout.c"), (source, state), target, emit))


OPERATORS = {"UNIDIRECTIONAL_SEQUENCE_LSTM": lstm, "SVDF": svdf}
