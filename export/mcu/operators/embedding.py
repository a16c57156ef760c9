"""GATHER with places that the net is given: rows of a table in flash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ec2t_tf.export.graph import FileError, Graph, Operator

from .. import walks
from ..code import Code, Names, array
from ..step import Step

if TYPE_CHECKING:
    from ..lowering import Lowering

MOST_WORDS = 0x7FFFFFFF


def without_negative_places(graph: Graph) -> Graph:
    """The net without what Keras puts before an embedding to count negative places from the end: in
    C they are refused."""
    makers = {op.outputs[0]: op for op in graph.operators if len(op.outputs) == 1}
    instead: dict[int, int] = {}
    gone: list[Operator] = []
    for op in graph.operators:
        if op.kind not in ("SELECT", "SELECT_V2") or graph.tensors[op.outputs[0]].dtype != "int32":
            continue
        found = [makers[i] for i in op.inputs[:2] if i in makers]
        place = op.inputs[2]
        if (
            [one.kind for one in found] == ["LESS", "ADD"]
            and all(one.inputs[0] == place for one in found)
            and not np.any(graph.tensors[found[0].inputs[1]].data)
        ):
            instead[op.outputs[0]] = place
            gone += [op, *found]
    if not instead:
        return graph
    operators = [
        replace(op, inputs=tuple(instead.get(i, i) for i in op.inputs))
        for op in graph.operators
        if not any(op is one for one in gone)
    ]
    return replace(graph, operators=operators)


def embedding_rows(graph: Graph, operators: Sequence[Operator], index: int) -> int:
    """What the whole numbers of an input must be below, by the embeddings that read it; 0 of any
    other input. Where nothing reads them they may be all that there are."""
    users = [op for op in operators if index in op.inputs]
    embeddings = [op for op in users if op.kind == "GATHER" and op.inputs[1] == index]
    if graph.tensors[index].dtype != "int32" or len(embeddings) != len(users):
        return 0
    return min((graph.tensors[op.inputs[0]].shape[0] for op in embeddings), default=MOST_WORDS)


def embed(net: Lowering, op: Operator) -> None:
    words, target = net.words[op.inputs[1]], op.outputs[0]
    table = net.constant(op, 0, "int8")
    given, sizes = net.graph.tensors[op.inputs[1]].shape, net.graph.tensors[target].shape
    axis, batch = op.options.get("axis", 0), op.options.get("batch_dims", 0)
    count = int(np.prod(given))
    if table.ndim != 2 or axis or batch or sizes != (*given, table.shape[1]) or count != given[-1]:
        raise FileError(
            "an embedding needs one list of places and a table of rows. Received: places "
            f"{given}, table {table.shape}, output {sizes}."
        )
    out = net.define(target)

    def emit(names: Names) -> Code:
        n = names.index
        steps = walks.steps(out, sizes)
        code = Code(
            [
                array("int8_t", f"table_{n}", table),
                f"static const ec2t_mcu_embed layer_{n} = {{.table = table_{n}, "
                f".rows = {len(table)}, .width = {table.shape[1]}, .count = {count}, "
                f".place_step = {steps[-2]}, .value_step = {steps[-1]}}};",
            ],
            [
                f"status = ec2t_mcu_embed_run(&layer_{n}, {words.parameter}, {names.output});",
                "if (status != EC2T_MCU_OK) {",
                "  return (int)status;",
                "}",
            ],
            table.size + 24,
        )
        net.frame(code, out, names)
        return code

    name = f"embedding {len(table)} x {table.shape[1]}"
    net.steps.append(Step(name, ("embed.c", "layout.c"), (), target, emit))
