"""SOFTMAX."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import fixedpoint
from .node import Node, Step, rule, scale_of, zero_of


@rule("SOFTMAX")
def softmax(node: Node) -> Step:
    entry, out = node.input(0), node.output
    if zero_of(out) != -128 or scale_of(out) != np.float32(1 / 256):
        raise node.refused("its output must have the scale 1/256 and the zero point -128")
    if node.xp.traceable:
        raise node.refused("it is computed in NumPy only")
    scale, beta = scale_of(entry), float(node.option("beta", 1.0))
    if node.rounding in ("reference", "micro"):
        return lambda x: fixedpoint.softmax(x, scale, beta).astype(np.int32)
    # The builtin kernel, also where XNNPACK is on: a float32 table and a sum from left to right.
    factor = scale * np.float32(beta)
    table = np.exp(factor * np.arange(-255, 1).astype(np.float32)).astype(np.float32)

    def run(x: Any) -> Any:
        exps = table[x - x.max(axis=-1, keepdims=True) + 255]
        total = np.add.accumulate(exps, axis=-1)[..., -1:]
        share = exps * (np.float32(1) / (total * np.float32(1 / 256)))
        return np.clip(np.rint(share) - 128, -128, 127).astype(np.int32)

    return run
