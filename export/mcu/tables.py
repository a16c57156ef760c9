"""Tables of 256 codes: what a file spells as CAST, ADD and GATHER is one look-up here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from ec2t_tf.export.graph import Graph, Operator

# Of a code and a table with an entry for each of -128 to 127; not an operator of TensorFlow Lite.
LOOKUP = "LOOKUP"
_OFFSET = 128


def with_lookups(
    graph: Graph, operators: Sequence[Operator], kept: Collection[int]
) -> list[Operator]:
    """`operators`, each GATHER from a table by code + 128 as one LOOKUP.

    Args:
        kept: Tensors that are needed besides by operators.
    """
    makers = {op.outputs[0]: op for op in operators if len(op.outputs) == 1}
    uses = Counter(index for op in operators for index in op.inputs) + Counter(kept)
    made: dict[int, Operator] = {}
    gone: set[int] = set()
    for gather in operators:
        add = makers.get(gather.inputs[1]) if gather.kind == "GATHER" else None
        cast = makers.get(add.inputs[0]) if add is not None and add.kind == "ADD" else None
        if cast is None or add is None or cast.kind != "CAST":
            continue
        if uses[cast.outputs[0]] != 1 or uses[add.outputs[0]] != 1:
            continue
        if _is_table(graph, gather) and _adds_offset(graph, add, cast):
            inputs = (cast.inputs[0], gather.inputs[0])
            made[id(gather)] = Operator(LOOKUP, inputs, gather.outputs)
            gone |= {id(cast), id(add)}
    return [made.get(id(op), op) for op in operators if id(op) not in gone]


def _is_table(graph: Graph, gather: Operator) -> bool:
    table = graph.tensors[gather.inputs[0]]
    plain = not gather.options.get("axis") and not gather.options.get("batch_dims")
    return table.data is not None and table.dtype == "int8" and table.shape == (256,) and plain


def _adds_offset(graph: Graph, add: Operator, cast: Operator) -> bool:
    offset = graph.tensors[add.inputs[1]]
    return (
        graph.tensors[cast.inputs[0]].dtype == "int8"
        and graph.tensors[cast.outputs[0]].dtype == "int32"
        and offset.data is not None
        and offset.data.size == 1
        and int(offset.data.reshape(-1)[0]) == _OFFSET
        and add.options.get("activation", "none") == "none"
    )
