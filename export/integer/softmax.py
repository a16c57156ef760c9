"""SOFTMAX and LOG_SOFTMAX."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import fixedpoint, tables16
from .node import Node, Step, rule, scale_of, zero_of
from .tables import single


@rule("SOFTMAX", types=("int8", "int16"), host=True)
def softmax(node: Node) -> Step:
    entry, out = node.input(0), node.output
    if out.dtype == "int16":
        return tables16.softmax(node)
    if zero_of(out) != -128 or scale_of(out) != np.float32(1 / 256):
        raise node.refused("its output must have the scale 1/256 and the zero point -128")
    scale, beta = scale_of(entry), float(node.option("beta", 1.0))
    if node.rounding in ("reference", "micro"):
        return lambda x: fixedpoint.softmax(x, scale, beta).astype(np.int32)
    # The builtin kernel, also where XNNPACK is on: a float32 table and a sum from left to right.
    table = _exponentials(scale * np.float32(beta))

    def run(x: Any) -> Any:
        exps = table[x - x.max(axis=-1, keepdims=True) + 255]
        total = np.add.accumulate(exps, axis=-1)[..., -1:]
        share = exps * (np.float32(1) / (total * np.float32(1 / 256)))
        return np.clip(np.rint(share) - 128, -128, 127).astype(np.int32)

    return run


def _exponentials(factor: np.float32) -> npt.NDArray[np.float32]:
    """exp of the differences -255 to 0."""
    with np.errstate(under="ignore"):
        return single(np.exp, factor * np.arange(-255, 1).astype(np.float32))


@rule("LOG_SOFTMAX", host=True)
def log_softmax(node: Node) -> Step:
    scale, out = scale_of(node.input(0)), node.output
    if zero_of(out) != 127 or scale_of(out) != np.float32(1 / 16):
        raise node.refused("its output must have the scale 1/16 and the zero point 127")
    if not node.optimised:
        tables = fixedpoint.log_softmax_tables(float(scale))
        if tables is None:
            raise node.refused("its input scale must be above 2^-26")
        return lambda x: fixedpoint.log_softmax(x, tables).astype(np.int32)
    table, step = _exponentials(scale), np.float32(1 / 16)

    def run(x: Any) -> Any:
        most = x.max(axis=-1, keepdims=True)
        total = np.add.accumulate(table[x - most + 255], axis=-1)[..., -1:]
        offset = (scale * most.astype(np.float32) + single(np.log, total)) / step
        codes = np.rint(scale / step * x.astype(np.float32) - offset) + 127
        return np.clip(codes, -128, 127).astype(np.int32)

    return run
