"""Small changes of graphs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from .graph import Graph, Signature


def prune(graph: Graph) -> Graph:
    """`graph` without the tensors that nothing uses; the others keep their order."""
    used = {*graph.inputs, *graph.outputs}
    for operator in graph.operators:
        used.update(operator.inputs, operator.outputs, operator.intermediates)
    for signature in graph.signatures:
        used.update(signature.inputs.values(), signature.outputs.values())
    kept = sorted(used - {-1})
    new = {old: index for index, old in enumerate(kept)} | {-1: -1}

    def moved(indices: Sequence[int]) -> tuple[int, ...]:
        return tuple(new[index] for index in indices)

    return dataclasses.replace(
        graph,
        tensors=[graph.tensors[index] for index in kept],
        operators=[
            dataclasses.replace(
                operator,
                inputs=moved(operator.inputs),
                outputs=moved(operator.outputs),
                intermediates=moved(operator.intermediates),
            )
            for operator in graph.operators
        ],
        inputs=moved(graph.inputs),
        outputs=moved(graph.outputs),
        signatures=[
            Signature(
                signature.key,
                {name: new[index] for name, index in signature.inputs.items()},
                {name: new[index] for name, index in signature.outputs.items()},
            )
            for signature in graph.signatures
        ],
    )


def single_operator(graph: Graph, number: int) -> Graph:
    """Operator `number` of `graph` as a net of its own, with its constants."""
    operator = graph.operators[number]
    used = sorted({*operator.inputs, *operator.outputs} - {-1})
    place = {old: new for new, old in enumerate(used)} | {-1: -1}

    inputs = tuple(place[index] for index in operator.inputs)
    outputs = tuple(place[index] for index in operator.outputs)
    tensors = [graph.tensors[index] for index in used]
    return Graph(
        tensors=tensors,
        operators=[dataclasses.replace(operator, inputs=inputs, outputs=outputs, intermediates=())],
        inputs=tuple(index for index in inputs if index >= 0 and tensors[index].data is None),
        outputs=outputs,
    )
