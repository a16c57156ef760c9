"""Chains of element-wise operators on one tensor as one table of 256 values.

SELU is a comparison, two branches and a choice in the file; softplus an exponential, an addition
and a logarithm; a function of Keras without int8 operator is a table that GATHER reads. Each output
depends on one input code alone.
"""

from __future__ import annotations

from dataclasses import replace

from ec2t_tf.export.graph import FileError, Graph, Operator, Tensor

from .lookup import chain_table

TABLE = "TABLE"  # no operator of a file
_KINDS = frozenset(
    (
        *(
            "ABS",
            "ADD",
            "CAST",
            "CEIL",
            "COS",
            "DEQUANTIZE",
            "DIV",
            "ELU",
            "EQUAL",
            "EXP",
            "GATHER",
        ),
        *("FLOOR", "FLOOR_DIV", "FLOOR_MOD", "GELU", "GREATER", "GREATER_EQUAL", "HARD_SWISH"),
        *("LEAKY_RELU", "LESS", "LESS_EQUAL", "LOG", "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR"),
        *("LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "NEG", "NOT_EQUAL", "POW", "PRELU", "QUANTIZE"),
        *("RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT", "SELECT", "SELECT_V2"),
        *("SIGN", "SIN", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SUB", "TANH"),
    )
)


def with_tables(graph: Graph) -> Graph:
    """The net with a TABLE for every chain of two operators or more that ends in 8 bits."""
    chains: dict[int, tuple[int, list[int]]] = {}  # output: first input, operators in their order
    for number, op in enumerate(graph.operators):
        found = _chain(graph, op, chains)
        if found is not None:
            chains[op.outputs[0]] = found[0], [*found[1], number]
    inside = {i for _, numbers in chains.values() for i in numbers}
    read = {
        index
        for number, op in enumerate(graph.operators)
        if number not in inside
        for index in op.inputs
    } | set(graph.outputs)
    # The floats that a file gives at its end are codes in C.
    read |= {
        op.inputs[0]
        for op in graph.operators
        if op.kind == "DEQUANTIZE" and op.outputs[0] in graph.outputs
    }
    tables: dict[int, Operator] = {}
    for out, (root, numbers) in chains.items():
        if out in read and len(numbers) > 1 and _is_code(graph.tensors[out]):
            try:
                operators = [graph.operators[i] for i in numbers]
                values = chain_table(graph, operators, root, out)
            except FileError:
                continue
            tables[numbers[-1]] = Operator(TABLE, (root,), (out,), {"values": values})
    operators = [tables.get(i, op) for i, op in enumerate(graph.operators)]
    return replace(graph, operators=_used(operators, graph.outputs))


def _is_table(graph: Graph, op: Operator) -> bool:
    """Whether a GATHER reads single values out of a constant list."""
    values = graph.tensors[op.inputs[0]].data
    return values is not None and values.ndim == 1 and not op.options.get("batch_dims", 0)


def _is_code(tensor: Tensor) -> bool:
    return tensor.dtype in ("int8", "uint8") and len(tensor.scale) == 1


def _chain(
    graph: Graph, op: Operator, chains: dict[int, tuple[int, list[int]]]
) -> tuple[int, list[int]] | None:
    """The 8-bit tensor that alone decides an operator's output, and the operators in between."""
    if op.kind not in _KINDS or len(op.outputs) != 1:
        return None
    reads_table = op.kind == "GATHER" and _is_table(graph, op)
    if op.kind == "GATHER" and not reads_table:
        return None
    shape = graph.tensors[op.outputs[0]].shape
    roots: set[int] = set()
    numbers: set[int] = set()
    for index in op.inputs[1:] if reads_table else op.inputs:
        if index < 0:
            return None
        tensor = graph.tensors[index]
        if tensor.data is not None:
            if tensor.data.size != 1:
                return None
            continue
        root, before = chains.get(index, (index, []))
        if graph.tensors[root].shape != shape or not _is_code(graph.tensors[root]):
            return None
        roots.add(root)
        numbers.update(before)
    return (roots.pop(), sorted(numbers)) if len(roots) == 1 else None


def _used(operators: list[Operator], outputs: tuple[int, ...]) -> list[Operator]:
    """Without element-wise operators whose output nothing reads any more."""
    kept, wanted = [], set(outputs)
    for op in reversed(operators):
        if op.kind not in _KINDS or any(out in wanted for out in op.outputs):
            kept.append(op)
            wanted.update(op.inputs)
    return kept[::-1]
