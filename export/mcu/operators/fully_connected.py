"""Layers whose outputs each see all inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import FileError, Operator

from .. import fours, paired_rows
from ..arithmetic import Multiplier
from ..channels import whole_table
from ..code import Code, Names, array, struct
from ..limits import MOST_SIZE, beyond
from ..lists import Ternary, as_ternary
from ..plan import Layout
from ..step import Step
from ..weights import channels, stored_biases
from ..work import Dense
from .movement import rearrange

if TYPE_CHECKING:
    from ..lowering import Lowering

LISTS_SAVE_FROM = 0.5  # share of zeros from which index lists take less flash


def fully_connected(net: Lowering, op: Operator) -> None:
    source, target = net.activation(op, 0), op.outputs[0]
    filters, data = net.weights(op, 1), net.constant(op, 1, "int8")
    tensors, layout = net.graph.tensors, net.layouts[source]
    elements = layout.channels * layout.height * layout.width
    if data.ndim != 2 or not data.size or elements % data.shape[1]:
        raise beyond(op.kind, f"input {tensors[source].shape}, weights {data.shape}")
    outputs, size = data.shape
    rows = elements // size
    shuffled = op.options.get("weights_format", 0)
    if max(size, outputs) > MOST_SIZE or shuffled:
        raise beyond(op.kind, f"weights {data.shape}, weights_format {shuffled}")
    if math.prod(tensors[target].shape) != rows * outputs:
        raise FileError(f"FULLY_CONNECTED: output shape does not fit {data.shape}.")
    numbers = channels(net, op, data, filters, tensors[source], tensors[target])
    clamp = net.clamp(op, tensors[target])
    name = f"fully connected {size} -> {outputs}"
    if rows == 1:
        net.define(target)
        # Columns from rows-columns-channels order to plane order.
        order = np.arange(size).reshape(layout.height, layout.width, layout.channels)
        data = data[:, order.transpose(2, 0, 1).reshape(-1)]
        whole_input(net, name, source, target, data, numbers, clamp, once=True)
        return
    own = layout.height, layout.width, layout.channels
    before = net.add_tensor("rows in", (rows, size), like=source)
    after = net.add_tensor("rows out", (rows, outputs), like=target)
    rearrange(net, "rows", source, before, own)
    net.define(after)
    whole_input(net, name, before, after, data, numbers, clamp, once=True, rows=rows)
    rearrange(net, "rows back", after, target, (rows, outputs, 1))


def whole_input(
    net: Lowering,
    name: str,
    source: int,
    target: int,
    weights: npt.NDArray[np.int8],
    numbers: tuple[list[int], list[Multiplier]],
    clamp: str,
    *,
    once: bool,
    rows: int = 1,
) -> None:
    """A layer whose outputs each see all inputs; `weights` are [outputs, inputs] in plane
    order, `numbers` their biases and multipliers, `once` says how often it rounds. `rows` of inputs
    and of outputs lie one behind the other."""
    layout, out = net.layouts[source], net.layouts[target]
    size = weights.shape[1]
    biases, multipliers = numbers
    ternary = as_ternary(weights)
    if ternary is not None and not _lists_pay(net, ternary):
        ternary = None
    paired = ternary is None and net.core.family == "dsp" and paired_rows.fits(weights)
    vectors = ternary is None and net.core.family == "helium"
    vectors = vectors and fours.fits(weights, biases, multipliers, once=once)
    read = size + -size % paired_rows.INPUTS if paired else size

    def emit(names: Names) -> Code:
        n = names.index
        code = Code()
        if rows > 1:
            entry = f"{names.inputs[0]} + row * {size}"
            to = f"{names.output} + row * {len(weights)}"
            names = replace(names, inputs=(entry,), output=to)
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
        elif vectors:
            code += fours.dense_code(
                weights, biases, multipliers, names, entry, once=once, clamp=clamp
            )
        else:
            code += _rows(net, weights, ternary, numbers, names, entry, once=once, clamp=clamp)
        if rows > 1:
            loop = f"for (uint32_t row = 0; row < {rows}u; ++row)"
            code.statements = [loop, *(f"  {line}" for line in code.statements)]
            assert len(code.statements) == 2
            return code
        spread(code, out, names)
        return code

    net.steps.append(
        Step(
            name,
            ("fully_connected.c", "paired_rows.c", "rows_helium.c", "fours_helium.c", "layout.c"),
            (source,),
            target,
            emit,
            lambda: 0 if layout.contiguous else read,
            reads=lambda _: (rows - 1) * size + read if layout.contiguous else 0,
            facts=Dense(
                size,
                len(weights),
                0 if ternary is None else int(np.count_nonzero(ternary.symbols)),
                rows,
                once,
            ),
        )
    )


def _rows(
    net: Lowering,
    weights: npt.NDArray[np.int8],
    ternary: Ternary | None,
    numbers: tuple[list[int], list[Multiplier]],
    names: Names,
    entry: str,
    *,
    once: bool,
    clamp: str,
) -> Code:
    """The kernel call of a layer as index lists, or (`ternary` None) dense."""
    n = names.index
    biases, multipliers = numbers
    count, size = weights.shape
    if ternary is not None:
        rows = [np.flatnonzero(r == s) for r in ternary.symbols for s in (-1, 1)]
        values: npt.NDArray = np.concatenate(rows).astype(np.uint16)
        constants = array("uint16_t", f"weights_{n}", values)
        table = whole_table(n, biases, multipliers, ternary=ternary)
    else:
        values = np.ascontiguousarray(weights.reshape(-1))
        constants = array("int8_t", f"weights_{n}", values)
        table = whole_table(n, stored_biases(net.core, biases, weights), multipliers)
    vectors = ternary is None and net.core.family == "helium"
    function = f"ec2t_mcu_{'rows_helium' if vectors else 'fully_connected'}_run"
    return Code(
        [
            constants,
            table,
            struct(
                "fully_connected",
                f"layer_{n}",
                {
                    "channel": f"channels_{n}",
                    "weights": f"weights_{n}",
                    "inputs": size,
                    "outputs": count,
                    "lists": int(ternary is not None),
                    "rounds_once": int(once),
                    "clamp": clamp,
                },
            ),
        ],
        [f"{function}(&layer_{n}, {entry}, {names.output});"],
        values.nbytes + 16 * count,
        "int8" if ternary is None else "ternary, index lists",
    )


def _lists_pay(net: Lowering, ternary: Ternary) -> bool:
    """Whether index lists of a fully connected layer beat its dense int8 kernel."""
    least = LISTS_SAVE_FROM if net.optimize == "size" else net.core.lists_pay_from
    return float((ternary.symbols == 0).mean()) >= min(least, net.core.lists_pay_from)


def spread(code: Code, out: Layout, names: Names) -> None:
    """After a kernel that writes one row and column back to back: to where `out` has it."""
    if not out.contiguous:
        code.declarations.append(f"static const ec2t_mcu_planar out_{names.index} = {out.c()};")
        code.statements.append(f"ec2t_mcu_spread(&out_{names.index}, {names.output});")
        code.flash += 16


OPERATORS = {"FULLY_CONNECTED": fully_connected}
