"""Recurrent operators with a state of whole numbers: UNIDIRECTIONAL_SEQUENCE_LSTM and SVDF."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import Tensor
from ec2t_tf.export.graph.multipliers import multiplied, quantised_multiplier, shifted_right

from . import fixedpoint
from .fixedpoint import LEAST, MOST
from .node import Node, Step, limits, rule, scale_of, zero_of

Codes = npt.NDArray[Any]
GATES = "ifgo"  # input, forget, cell and output gate, in the order of the operator
GATE_SCALE = np.float32(2.0**-12)
INPUT, KERNEL, RECURRENT, PEEPHOLE, BIAS, PROJECTION = 0, 1, 5, 9, 12, 16
HIDDEN, CELL, NORM = 18, 19, 20


@dataclasses.dataclass(frozen=True)
class _Gate:
    """Weights (inputs, units) and multipliers of one gate, both sums in 2^-12."""

    kernel: Codes
    bias: Codes
    to_gate: tuple[int, int]
    recurrent: Codes
    from_state: tuple[int, int]
    table: npt.NDArray[np.int32]


@rule("UNIDIRECTIONAL_SEQUENCE_LSTM", host=True)
def lstm(node: Node) -> Step:
    """int8 in and out, int16 cell (8x8_16)."""
    micro, state, out = node.rounding == "micro", node.state, node.output
    gates = _gates(node)
    entry, hidden, cell = (node.input(place) for place in (INPUT, HIDDEN, CELL))
    keys = ("tensor", node.operator.inputs[HIDDEN]), ("tensor", node.operator.inputs[CELL])
    power = round(math.log2(float(scale_of(cell))))
    tanh = _tanh(15 + power, micro)
    real = 2.0**-30 / float(scale_of(hidden))
    to_hidden = quantised_multiplier(real if micro else float(np.float32(real)))
    clip = float(node.option("cell_clip", 0.0))
    bound = int(min(float(np.float32(clip) / scale_of(cell)), MOST)) if clip > 0 else None
    zero_in, zero = zero_of(entry), zero_of(hidden)
    time_major = bool(node.option("time_major", False))
    starts = np.full((1, *hidden.shape), zero, np.int32), np.zeros((1, *cell.shape), np.int32)

    def next_cell(c: Codes, i: Codes, f: Codes, g: Codes) -> Codes:
        if micro:
            kept = np.clip(multiplied(f * c, *quantised_multiplier(2.0**-15)), LEAST, MOST)
            new = multiplied(i * g, *quantised_multiplier(2.0 ** -(30 + power)))
            new = np.clip(new, LEAST, MOST)
        else:
            kept, new = shifted_right(f * c, 15), shifted_right(i * g, 30 + power)
        c = np.clip(kept + new, LEAST, MOST)
        return c if bound is None else np.clip(c, -bound, bound)

    def run(*given: Any) -> Any:
        x = given[INPUT].astype(np.int64) - zero_in  # (samples, batch, steps, inputs)
        if time_major:
            x = x.swapaxes(1, 2)
        first = [
            np.clip(multiplied(x @ gate.kernel + gate.bias, *gate.to_gate), LEAST, MOST)
            for gate in gates
        ]
        h = state.read(keys[0], starts[0]).astype(np.int64)
        c = state.read(keys[1], starts[1]).astype(np.int64)
        outputs = []
        for step in range(x.shape[2]):
            values = []
            for gate, part in zip(gates, first, strict=True):
                second = multiplied((h - zero) @ gate.recurrent, *gate.from_state)
                second = np.clip(second, LEAST, MOST) if micro else second
                total = np.clip(part[:, :, step] + second, LEAST, MOST)
                values.append(gate.table[total - LEAST].astype(np.int64))
            i, f, g, o = values
            c = next_cell(c, i, f, g)
            h = multiplied(o * tanh[c - LEAST].astype(np.int64), *to_hidden) + zero
            h = np.clip(h, *limits(hidden.dtype))
            outputs.append(h)
        state.values[keys[0]], state.values[keys[1]] = h.astype(np.int32), c.astype(np.int32)
        found = np.stack(outputs, axis=1 if time_major else 2)
        return found.astype(np.int32).reshape(-1, *out.shape)

    return run


def _tanh(integer_bits: int, micro: bool) -> npt.NDArray[np.int32]:
    make = fixedpoint.coarse_tanh if micro else fixedpoint.tanh_table
    return make(integer_bits)


def _gates(node: Node) -> list[_Gate]:
    micro = node.rounding == "micro"
    inputs: list[Tensor | None] = [*node.inputs, *[None] * (NORM + 4 - len(node.inputs))]
    for name, first, count in (
        ("peephole weights", PEEPHOLE, 3),
        ("a projection", PROJECTION, 2),
        ("layer normalisation", NORM, 4),
    ):
        if any(inputs[first : first + count]):
            raise node.refused(f"it has {name}")
    if node.option("activation", "tanh") != "tanh":
        raise node.refused("its activation is not tanh")
    cell = node.input(CELL)
    mantissa, exponent = math.frexp(float(scale_of(cell)))
    if cell.dtype != "int16" or mantissa != 0.5 or not 0 <= exponent + 14 <= 6:
        raise node.refused("its cell must be int16 with a scale of 2^-15 to 2^-9")
    if node.option("diagonal_recurrent_tensors", False):
        raise node.refused("its recurrent weights are diagonal")
    wide = np.float64 if micro else np.float32  # micro multiplies scales in double precision
    s_in, s_state = scale_of(node.input(INPUT)), scale_of(node.input(HIDDEN))
    sigmoid = fixedpoint.coarse_sigmoid() if micro else fixedpoint.sigmoid_table()
    gates = []
    for place, gate in enumerate(GATES):
        kernel, recurrent = node.input(KERNEL + place), node.input(RECURRENT + place)
        pairs = [
            quantised_multiplier(float(wide(scale_of(t)) * wide(s) / wide(GATE_SCALE)))
            for t, s in ((kernel, s_in), (recurrent, s_state))
        ]
        weights = [node.constant(first + place).T.astype(np.int64) for first in (KERNEL, RECURRENT)]
        bias = node.constant(BIAS + place) if inputs[BIAS + place] is not None else np.int64(0)
        table = _tanh(3, micro) if gate == "g" else sigmoid
        gates.append(_Gate(weights[0], np.asarray(bias), pairs[0], weights[1], pairs[1], table))
    return gates


@rule("SVDF", host=True)
def svdf(node: Node) -> Step:
    """A filter over the features, then one over the last steps of its result; the runtimes want a
    fused ReLU and do not compute it."""
    entry, out = node.input(0), node.output
    features, times = node.constant(1).T.astype(np.int64), node.constant(2).astype(np.int64)
    memory = node.input(4)
    if node.input(2).dtype != "int16" or memory.dtype != "int16":
        raise node.refused("its time weights and its state must be int16")
    bias = node.inputs[3]
    rank, key = node.option("rank", 1), ("tensor", node.operator.inputs[4])
    steps, units = times.shape[1], features.shape[1] // rank
    wide = np.float64 if node.rounding == "micro" else np.float32
    s_in, s_features, s_times, s_state, s_out = (
        wide(scale_of(tensor)) for tensor in (entry, node.input(1), node.input(2), memory, out)
    )
    to_state = quantised_multiplier(float(s_in * s_features / s_state))
    to_out = quantised_multiplier(float(s_state * s_times / s_out))
    zero, zero_out = zero_of(entry), zero_of(out)
    low, high = limits(out.dtype)
    start = np.zeros((1, entry.shape[0], features.shape[1], steps), np.int32)

    def run(x: Any, *_: Any) -> Any:
        newest = multiplied((x.astype(np.int64) - zero) @ features, *to_state)
        newest = np.clip(newest, LEAST, MOST)[..., None]
        kept = node.state.read(key, start)[..., 1:]
        held = np.concatenate([kept, newest], axis=-1)
        node.state.values[key] = held.astype(np.int32)
        sums = (held.astype(np.int64) * times).sum(axis=-1)
        sums = sums.reshape(*sums.shape[:-1], units, rank).sum(axis=-1)
        if bias is not None:
            sums = sums + node.constant(3)
        sums = sums.astype(np.int32)  # it wraps, as the runtimes' does
        codes = np.clip(multiplied(sums, *to_out) + zero_out, low, high)
        return codes.astype(np.int32).reshape(-1, *out.shape)

    return run
