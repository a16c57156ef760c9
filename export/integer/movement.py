"""Operators that move codes and compute nothing."""

from __future__ import annotations

from .node import INTEGERS, Node, Step, rule

ANY = (*INTEGERS, "float32")


@rule("RESHAPE", "SQUEEZE", "EXPAND_DIMS", types=ANY)
def reshape(node: Node) -> Step:
    xp, shape = node.xp, node.output.shape
    return lambda x, *_: xp.reshape(x, (-1, *shape))


@rule("CONCATENATION")
def concatenation(node: Node) -> Step:
    xp, out = node.xp, node.output
    axis = node.options["axis"] % len(out.shape) + 1
    for tensor in node.inputs:
        if tensor is None or (tensor.scale != out.scale).any():
            raise node.refused("its inputs must have the scale of the output")
    return lambda *given: xp.concatenate(node.filled(given), axis=axis)


@rule("PAD", "PADV2")
def pad(node: Node) -> Step:
    xp, out = node.xp, node.output
    border = [(0, 0), *((int(a), int(b)) for a, b in node.constant(1))]
    fill = int(node.constant(2).reshape(-1)[0]) if node.kind == "PADV2" else None
    if fill is None:
        fill = int(out.zero_point[0]) if out.zero_point.size else 0
    return lambda x, *_: xp.pad(x, border, constant_values=fill)
