"""Biases and multipliers of a layer with weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import FileError, Operator, Tensor

from .arithmetic import Multiplier, exact_multiplier, quantised_multiplier
from .cores import FLIP, Core

if TYPE_CHECKING:
    from .lowering import Lowering


def channels(
    net: Lowering,
    op: Operator,
    weights: npt.NDArray[np.int8],
    filters: Tensor,
    source: Tensor,
    out: Tensor,
    *,
    bias_at: int = 2,
) -> tuple[list[int], list[Multiplier]]:
    """Biases with the zero point folded in, and multipliers; `weights` is [channel, tap]."""
    scale_in, zero_in = net.quantisation(source)
    scale_out, _ = net.quantisation(out)
    count = len(weights)
    symmetric = not np.any(filters.zero_point != 0) and not np.any(filters.scale < 0)
    if len(filters.scale) not in (1, count) or not symmetric:
        raise FileError(
            f"weights {filters.name!r} must be symmetric with one positive scale, or one a channel "
            f"({count}). Received: {len(filters.scale)} scales."
        )
    scales = np.broadcast_to(filters.scale, (count,)).astype(np.float64)
    bias = np.zeros(count, np.int64)
    if len(op.inputs) > bias_at and op.inputs[bias_at] >= 0:
        constant = net.constant(op, bias_at)
        if constant.size != count:
            raise FileError(f"bias of {op.kind} needs {count} values, got {constant.size}.")
        bias = constant.reshape(-1).astype(np.int64)
    folded = bias - zero_in * weights.astype(np.int64).sum(axis=1)
    if not _fit(folded):
        raise FileError(f"the bias of {op.kind} {out.name!r} does not fit 32 bits.")
    real = np.float64(scale_in) * scales / np.float64(scale_out)
    biases = [int(v) for v in folded]
    if op.kind == "FULLY_CONNECTED":
        return biases, _exact_multipliers(net, op, biases, weights, real, out)
    return biases, [Multiplier(*quantised_multiplier(float(v))) for v in real]


def _exact_multipliers(
    net: Lowering,
    op: Operator,
    biases: list[int],
    weights: npt.NDArray[np.int8],
    real: npt.NDArray[np.float64],
    out: Tensor,
) -> list[Multiplier]:
    """TensorFlow Lite's reference rounds a fully connected layer's products in double
    precision: multipliers that give the same outputs, one a row, equal where `real` is."""
    zero_point = net.quantisation(out)[1]
    least, most = (limit - zero_point for limit in net.output_range(op, out))
    largest = np.abs(np.array(biases)) + 128 * np.abs(weights.astype(np.int64)).sum(axis=1)
    bounds: dict[float, int] = {}
    for value, bound in zip(real.tolist(), largest.tolist(), strict=True):
        bounds[value] = min(max(bounds.get(value, 0), bound), 1 << 31)
    found = {}
    for value, bound in bounds.items():
        multiplier = exact_multiplier(value, least, most, bound)
        if multiplier is None:
            raise FileError(
                f"{op.kind} {out.name!r}: no 39-bit multiplier rounds sums up to {bound} "
                f"times {value} as TensorFlow Lite does in double precision. Change the scale "
                "of its output a little (another representative dataset does that)."
            )
        found[value] = multiplier
    return [found[value] for value in real.tolist()]


def stored_biases(core: Core, biases: list[int], weights: npt.NDArray[np.int8]) -> list[int]:
    """Biases of an int8 kernel [channel, tap] that reads activations as they are stored."""
    if core.family != "swar":
        return biases
    stored = np.array(biases) - FLIP * weights.astype(np.int64).sum(axis=1)
    if not _fit(stored):
        raise FileError("a bias does not fit 32 bits.")
    return [int(v) for v in stored]


def _fit(biases: npt.NDArray[np.int64]) -> bool:
    """Whether all have 32 bits. Converters give dead channels the least there is."""
    limits = np.iinfo(np.int32)
    return bool((biases >= limits.min).all() and (biases <= limits.max).all())
