"""A window that slides: what a variable holds, the new columns behind it, and the last of both kept
for the next call, as one piece of memory that moves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ec2t_tf.export.graph import FileError, Graph, Operator

from .. import walks
from ..code import Code, Names
from ..step import Step
from .state import first_value, name_of, reset_to

if TYPE_CHECKING:
    from ..lowering import Lowering

SLIDE = "slide"  # no operator of files: inputs (variable, new), output the whole window


def with_windows(graph: Graph) -> Graph:
    """The net with SLIDE for every READ_VARIABLE -> CONCATENATION -> STRIDED_SLICE ->
    ASSIGN_VARIABLE that keeps the last of what it reads and adds to."""
    gone: set[int] = set()
    slides: dict[int, Operator] = {}
    for number, join in enumerate(graph.operators):
        found = _window(graph, number, join)
        if found is not None:
            read, *others = found
            handle = graph.operators[read].inputs[0]
            slides[number] = Operator(
                SLIDE, (handle, join.inputs[1]), join.outputs, {"axis": join.options["axis"]}
            )
            gone.update((read, *others))
    if not slides:
        return graph
    operators = [
        slides.get(number, op) for number, op in enumerate(graph.operators) if number not in gone
    ]
    return replace(graph, operators=operators)


def _window(graph: Graph, number: int, join: Operator) -> tuple[int, int, int] | None:
    """Numbers of the operators around a CONCATENATION that reads and keeps a window."""
    if join.kind != "CONCATENATION" or len(join.inputs) != 2:
        return None
    operators, (before, _), whole = graph.operators, join.inputs, join.outputs[0]
    shape = graph.tensors[whole].shape
    if not walks.is_map(shape) or len(shape) < 3 or graph.tensors[whole].dtype != "int8":
        return None
    axis = int(join.options["axis"]) % len(shape)
    if axis not in (len(shape) - 3, len(shape) - 2) or shape[0] != 1 or not axis:
        return None
    reads = [i for i, op in enumerate(operators) if before in op.outputs]
    if len(reads) != 1 or operators[reads[0]].kind != "READ_VARIABLE":
        return None
    handle = operators[reads[0]].inputs[0]
    name = name_of(graph, handle)
    touched = [
        i
        for i, op in enumerate(operators)
        if op.kind in ("READ_VARIABLE", "ASSIGN_VARIABLE") and name_of(graph, op.inputs[0]) == name
    ]
    keeps = [i for i in touched if operators[i].kind == "ASSIGN_VARIABLE"]
    if len(touched) != 2 or len(keeps) != 1 or not reads[0] < number < keeps[0]:
        return None
    kept = operators[keeps[0]].inputs[1]
    cuts = [i for i, op in enumerate(operators) if kept in op.outputs]
    once = all(
        sum(t in op.inputs for op in operators) == 1 and t not in graph.outputs
        for t in (before, kept)
    )
    if len(cuts) != 1 or not once or not _keeps_the_last(graph, operators[cuts[0]], whole, axis):
        return None
    same = {
        (t.dtype, tuple(t.scale.tolist()), tuple(t.zero_point.tolist()))
        for t in (graph.tensors[i] for i in (*join.inputs, whole, kept))
    }
    like = graph.tensors[before].shape == graph.tensors[kept].shape
    return (reads[0], cuts[0], keeps[0]) if like and len(same) == 1 else None


def _keeps_the_last(graph: Graph, op: Operator, whole: int, axis: int) -> bool:
    """Whether a STRIDED_SLICE takes everything from some place of the axis on."""
    if op.kind != "STRIDED_SLICE" or op.inputs[0] != whole:
        return False
    constants = [graph.tensors[i].data for i in op.inputs[1:4]]
    shape, out = graph.tensors[whole].shape, graph.tensors[op.outputs[0]].shape
    masks = op.options["masks"]
    if any(c is None or c.size != len(shape) for c in constants) or any(masks[2:]):
        return False
    begin, end, stride = (np.asarray(c).reshape(-1).tolist() for c in constants)
    ranges = [
        range(n)[None if masks[0] >> i & 1 else b : None if masks[1] >> i & 1 else e : s or 1]
        for i, (n, b, e, s) in enumerate(zip(shape, begin, end, stride, strict=True))
    ]
    wanted = [range(n) for n in shape]
    wanted[axis] = wanted[axis][shape[axis] - out[axis] :]
    return ranges == wanted and len(out) == len(shape)


def slide(net: Lowering, op: Operator) -> None:
    from ..lowering import State

    new, whole = net.plain(net.activation(op, 1)), op.outputs[0]
    shape = net.graph.tensors[whole].shape
    axis = int(op.options["axis"]) % len(shape)
    layout, entry = net.define(whole), net.layouts[new]
    name = name_of(net.graph, op.inputs[0])
    if name in net.states:
        raise FileError(f"variable {name!r} is used twice.")
    count = net.graph.tensors[new].shape[axis]
    rows = axis == len(shape) - 3
    # What was kept stands at the window's end, from where the first call moves it.
    kept = (*shape[:axis], shape[axis] - count, *shape[axis + 1 :])
    first = first_value(net, name, net.add_tensor(name, kept, like=whole))
    start = [range(count, n) if i == axis else range(n) for i, n in enumerate(shape)]
    net.states[name] = State(layout, reset_to(net, layout, first, start), ("move.c",))

    def emit(names: Names) -> Code:
        n = names.index
        return Code(
            [
                f"static const ec2t_mcu_slide layer_{n} = {{.in = {entry.c()}, "
                f".window = {layout.c()}, .rows = {count if rows else 0}, "
                f".columns = {0 if rows else count}}};"
            ],
            [f"ec2t_mcu_slide_run(&layer_{n}, {names.inputs[0]}, {names.output});"],
            36,
        )

    net.steps.append(Step("keep window", ("slide.c", "layout.c"), (new,), whole, emit))
