"""Layer, group, root-mean-square and unit normalisation: rows divided by their own spread.

Rows of unequal size have no good int8 range inside, so that the operators between are int16. The
one value that a row is divided by comes from a table: LiteRT's RSQRT is not exact in int16 and not
the same on all processors in float32. An index into the table that is fine for small variances and
coarse for large ones is the sum of saturating int8 codes on four scales.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ec2t_tf.export.graph.inverse_roots import CODES, LARGEST, RATIO, TIERS, middles

from ..calls import Call
from ..net import Net
from ..pending import NoRuleError, Pending, Value, rule
from .ranges import array

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Rows:
    """What is normalised.

    Attributes:
      view: shape in which it is done.
      axes: of a row in it.
      centred: whether the row's mean is taken off.
      summed: whether squares are added up, not averaged.
      epsilon: added to the average of the squares.
      gamma, beta: factor and offset, in shapes that broadcast to the view; None for none.
    """

    view: Shape
    axes: list[int]
    centred: bool
    epsilon: float
    gamma: np.ndarray | None
    beta: np.ndarray | None
    summed: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.view[axis] for axis in self.axes)

    @property
    def one_a_row(self) -> Shape:
        return tuple(1 if i in self.axes else n for i, n in enumerate(self.view))


def _written(net: Net, call: Call, given: Value, rows: Rows) -> Value:
    index = net.settled(given)
    if not net.is_int8(index):
        return _InFloat(net, call, rows).made(index)

    def in_int8(scale: float, zero: int) -> int:
        return _InInt16(net, call, rows, scale, zero).made(index)

    def in_float() -> int:
        return _InFloat(net, call, rows).made(net.real(index))

    return Pending(call.key, "", (), call.shape, in_int8=in_int8, in_float=in_float)


def _along(variable: Any, shape: Sequence[int]) -> np.ndarray | None:
    return None if variable is None else array(variable).astype(np.float32).reshape(shape)


def _rows_along(call: Call, axis: Any, *, centred: bool, **options: Any) -> Rows:
    """Over axes of the value as it is."""
    rank = len(call.shape)
    axes = sorted(a % rank for a in (axis if isinstance(axis, tuple | list) else (axis,)))
    if 0 in axes:
        raise NoRuleError(f"'{call.name}' must not normalise along the batch.")
    shape = [n if i in axes else 1 for i, n in enumerate(call.shape)]
    gamma, beta = (_along(options.pop(key, None), shape) for key in ("gamma", "beta"))
    return Rows(call.shape, axes, centred, gamma=gamma, beta=beta, **options)


@rule("LayerNormalization")
def _layer_normalisation(net: Net, call: Call, given: Value, *_: Any) -> Value:
    layer = call.operation
    if getattr(layer, "rms_scaling", False):
        raise NoRuleError(f"'{call.name}': rms_scaling has no rule; take RMSNormalization.")
    parts = {"gamma": layer.gamma, "beta": layer.beta, "epsilon": layer.epsilon}
    return _written(net, call, given, _rows_along(call, layer.axis, centred=True, **parts))


@rule("RMSNormalization")
def _rms_normalisation(net: Net, call: Call, given: Value, *_: Any) -> Value:
    layer = call.operation
    parts = {"gamma": layer.scale, "epsilon": layer.epsilon}
    return _written(net, call, given, _rows_along(call, layer.axis, centred=False, **parts))


@rule("UnitNormalization")
def _unit_normalisation(net: Net, call: Call, given: Value, *_: Any) -> Value:
    rows = _rows_along(call, call.operation.axis, centred=False, epsilon=1e-24, summed=True)
    return _written(net, call, given, rows)


@rule("GroupNormalization")
def _group_normalisation(net: Net, call: Call, given: Value, *_: Any) -> Value:
    """The groups are an axis of their own."""
    layer, shape = call.operation, call.shape
    if layer.axis % len(shape) != len(shape) - 1:
        raise NoRuleError(f"'{call.name}' must have its groups along the last axis.")
    groups = shape[-1] if layer.groups == -1 else layer.groups
    view = (shape[0], math.prod(shape[1:-1]), groups, shape[-1] // groups)
    gamma, beta = (_along(v, (1, 1, *view[2:])) for v in (layer.gamma, layer.beta))
    return _written(net, call, given, Rows(view, [1, 3], True, layer.epsilon, gamma, beta))


class _InInt16:
    """From int8 to int8 of a given scale and zero point."""

    def __init__(self, net: Net, call: Call, rows: Rows, scale: float, zero: int) -> None:
        self.net, self.name, self.rows = net, call.key, rows
        self.shape, self.scale, self.zero = call.shape, scale, zero
        self.axes = net.constant("axes", rows.axes)

    def made(self, index: int) -> int:
        net, rows = self.net, self.rows
        index = net.reshaped(index, rows.view)
        step = float(net.tensor(index).scale[0])
        zero = int(net.tensor(index).zero_point[0])
        # int8 codes are whole multiples of this, so nothing is rounded.
        x = self._call("QUANTIZE", "wide", (index,), rows.view, step / 128)
        reach = (127 - zero if zero < 0 else 128 + zero) * step
        if rows.centred:
            average = self._averaged("mean", x, step / 128)
            x = self._call("SUB", "difference", (x, average), rows.view, step / 128)
            reach = CODES * step
        squares = self._call("MUL", "square", (x, x), rows.view, reach**2 / LARGEST)
        # No values lie further from their mean, on average, than those at both ends.
        most = reach**2 / (4 if rows.centred else 1)
        variance = self._averaged("variance", squares, most / LARGEST)
        inverse = self._inverse_root(variance)
        low, high = ((code - self.zero) * self.scale for code in (-128, 127))
        gamma, beta = rows.gamma, rows.beta
        # What lies outside of these ends is cut off at the output anyhow.
        end = max(abs(low), abs(high))
        before_offset = end
        if beta is not None:
            before_offset = max(abs(low - float(beta.max())), abs(high - float(beta.min())), 1e-6)
        whole = 1.02 * (1.0 if rows.summed else math.sqrt(rows.size))
        bound = whole if gamma is not None else min(whole, before_offset)
        x = self._call("MUL", "standard", (x, inverse), rows.view, bound / LARGEST)
        if gamma is not None:
            factor = self._constant("gamma", gamma)
            most = min(bound * float(np.abs(gamma).max()), before_offset)
            scale = max(most, 1e-6) / LARGEST
            x = self._call("MUL", "times_gamma", (x, factor), rows.view, scale)
        if beta is not None:  # SUB of int16 is exact in all kernels of LiteRT, ADD is not
            offset = self._constant("minus_beta", -beta)
            x = self._call("SUB", "plus_beta", (x, offset), rows.view, end / LARGEST)
        made = net.int8(self.name, rows.view, self.scale, self.zero)
        return net.reshaped(net.graph.call("QUANTIZE", (x,), made), self.shape)

    def _inverse_root(self, variance: int) -> int:
        """1 / sqrt(variance + epsilon), int16, one value a row."""
        net, rows = self.net, self.rows
        step, shape = float(net.tensor(variance).scale[0]), rows.one_a_row
        parts = []
        for tier in range(TIERS):
            name = f"{self.name}/tier_{tier}"
            narrow = net.int8(name, shape, step * RATIO**tier, -128)
            net.graph.call("QUANTIZE", (variance,), narrow)
            parts.append(
                net.graph.call("CAST", (narrow,), net.graph.add(f"{name}/code", shape, "int32"))
            )
        total = parts[0]
        for number, part in enumerate([*parts[1:], net.constant("offset", [128 * TIERS])]):
            made = net.graph.add(f"{self.name}/place_{number}", shape, "int32")
            total = net.graph.call("ADD", (total, part), made, activation="none")
        values = inverse_roots(step * (rows.size if rows.summed else 1), rows.epsilon)
        scale = float(values.max()) / LARGEST
        table = net.graph.add(
            f"{self.name}/table",
            values.shape,
            "int16",
            scale=scale,
            zero_point=0,
            data=np.rint(values / scale).astype(np.int16),
        )
        made = self._int16("inverse", shape, scale)
        return net.graph.call("GATHER", (table, total), made, axis=0, batch_dims=0)

    def _averaged(self, part: str, index: int, scale: float) -> int:
        inputs = (index, self.axes)
        return self._call("MEAN", part, inputs, self.rows.one_a_row, scale, keep_dims=True)

    def _call(
        self,
        kind: str,
        part: str,
        inputs: Sequence[int],
        shape: Shape,
        scale: float,
        **options: Any,
    ) -> int:
        if kind in ("MUL", "SUB"):
            options["activation"] = "none"
        if kind == "SUB":
            options["pot_scale_int16"] = False
        return self.net.graph.call(kind, tuple(inputs), self._int16(part, shape, scale), **options)

    def _int16(self, part: str, shape: Shape, scale: float) -> int:
        return self.net.graph.add(f"{self.name}/{part}", shape, "int16", scale=scale, zero_point=0)

    def _constant(self, part: str, values: np.ndarray) -> int:
        scale = max(float(np.abs(values).max()), 1e-6) / LARGEST
        codes = np.rint(values.astype(np.float64) / scale).astype(np.int16)
        return self.net.graph.add(
            f"{self.name}/{part}", values.shape, "int16", scale=scale, zero_point=0, data=codes
        )


def inverse_roots(step: float, epsilon: float) -> np.ndarray:
    """1 / sqrt(v + epsilon) by the sum of the codes of v on all tiers; v has codes of int16."""
    # A variance below one code is that of rounding.
    return 1 / np.sqrt(np.maximum(middles(), 1.0) * step + epsilon)


class _InFloat:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, of float32."""

    def __init__(self, net: Net, call: Call, rows: Rows) -> None:
        self.net, self.name, self.rows, self.shape = net, call.key, rows, call.shape
        self.axes = net.constant("axes", rows.axes)

    def made(self, x: int) -> int:
        net, rows = self.net, self.rows
        x = net.reshaped(x, rows.view)
        if rows.centred:
            x = self._two("SUB", "difference", x, self._reduced("MEAN", "mean", x))
        kind = "SUM" if rows.summed else "MEAN"
        variance = self._reduced(kind, "variance", self._two("MUL", "square", x, x))
        epsilon = net.constant("epsilon", np.array([rows.epsilon], np.float32), "float32")
        variance = self._two("ADD", "above_zero", variance, epsilon)
        root = net.graph.add(f"{self.name}/root", net.shape(variance), "float32")
        made = self._two("MUL", "standard", x, net.graph.call("RSQRT", (variance,), root))
        for kind, part, values in (("MUL", "gamma", rows.gamma), ("ADD", "beta", rows.beta)):
            if values is not None:
                other = net.constant(part, values, "float32")
                made = self._two(kind, f"times_{part}", made, other)
        return net.reshaped(made, self.shape)

    def _two(self, kind: str, part: str, a: int, b: int) -> int:
        size = np.broadcast_shapes(self.net.shape(a), self.net.shape(b))
        made = self.net.graph.add(f"{self.name}/{part}", size, "float32")
        return self.net.graph.call(kind, (a, b), made, activation="none")

    def _reduced(self, kind: str, part: str, a: int) -> int:
        made = self.net.graph.add(f"{self.name}/{part}", self.rows.one_a_row, "float32")
        return self.net.graph.call(kind, (a, self.axes), made, keep_dims=True)
