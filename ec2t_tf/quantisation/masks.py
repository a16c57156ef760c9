"""Scores of which masks that are constants leave some out: causal ones, say.

What is left out gets the lowest code of the scores' range, which reaches 12 below the lowest score,
so that a softmax makes nothing of it whatever the scores are; the numbers that stand there in float
nets (-1e9, say) would take all 256 codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from ec2t_tf.quantisation.graph import Call, Graph, Value
from ec2t_tf.quantisation.kinds import class_name, kind_of
from ec2t_tf.quantisation.registered import registered
from ec2t_tf.treatments import UnsupportedLayerError

Tensor = Any
FAR = 12.0  # exp(-12) of a whole is no code of 256, and little in a sum
LOWEST = -1e9
MASKED = -64.0  # what is added at most to a score that does not count
TOO_FAR = 1e6  # a number that leaves no codes to what it is added to


@registered
class Masked(keras.layers.Layer):
    """Scores, and the lowest value of their range where they do not count.

    Args:
      allowed: bool, of a shape that fits the scores'.

    Attributes:
      observing: as in training, ranges are those of what it is called with.
    """

    observing = False

    def __init__(self, allowed: Any, **options: Any) -> None:
        super().__init__(**options)
        self.allowed = np.asarray(allowed, bool)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        lowest: Any = LOWEST
        if training or self.observing:
            lowest = ops.stop_gradient(ops.min(x)) - FAR
        return self.chosen(x, lowest)

    def chosen(self, x: Tensor, lowest: Any = LOWEST) -> Tensor:
        return ops.where(self.allowed, x, ops.cast(lowest, x.dtype))

    def compute_output_spec(self, x: Any, training: bool | None = None) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, dtype=x.dtype)

    def get_config(self) -> dict:
        return {**super().get_config(), "allowed": self.allowed.tolist()}


def constant(x: Any) -> np.ndarray | None:
    """Numbers that are given; None for what a net computes."""
    if isinstance(x, Value) or type(x).__name__ == "KerasTensor" or x is None:
        return None
    try:
        return np.asarray(ops.convert_to_numpy(x))
    except (TypeError, ValueError, AttributeError, RuntimeError):
        return None


def of_attention(
    options: Mapping[str, Any], asked: int, given: int, name: str = "attention_mask"
) -> np.ndarray | None:
    """Which steps each step attends to: bool (asked, given); None for all."""
    found = np.ones((asked, given), bool)
    if _is_causal(options):
        found &= np.tri(asked, given, dtype=bool)
    if (mask := constant(options.get(name))) is not None:
        found &= np.broadcast_to(mask.reshape(mask.shape[-2:]).astype(bool), found.shape)
    return None if found.all() else found


def lacks(
    options: Mapping[str, Any], asked: int | None, given: int | None, name: str = "attention_mask"
) -> list[str]:
    """What keeps an attention's mask from being a constant of a file."""
    if not _is_causal(options) and options.get(name) is None:
        return []
    if asked is None or given is None:
        return ["a mask of open sizes"]
    mask = constant(options.get(name))
    if mask is None and options.get(name) is not None:
        return [f"{name} that the net computes"]
    if mask is not None and (mask.ndim < 2 or any(size != 1 for size in mask.shape[:-2])):
        return [f"{name} of other axes than (1, steps, steps)"]
    found = of_attention(options, asked, given, name)
    return ["a mask that leaves out all"] if found is not None and is_empty(found) else []


def _is_causal(options: Mapping[str, Any]) -> bool:
    return bool(options.get("use_causal_mask") or options.get("is_causal"))


def is_empty(allowed: np.ndarray) -> bool:
    """Whether there is a row without a place that counts."""
    return bool((~allowed.any(axis=-1)).any())


# -- in operations -----------------------------------------------------------------------------


def in_graph(graph: Graph) -> dict[int, Callable[..., Tensor]]:
    """What computes a call instead, by its number: sums with numbers like -1e9, or a `where` with
    them, which go into softmaxes.
    """
    users, found = graph.consumers(), {}
    for call in graph.calls:
        added = None if call.is_layer else _added(call)
        if added is None or not _are_softmaxes(users.get(call.results[0], [])):
            continue
        value, numbers = added
        if call.results[0].shape != value.shape:
            continue
        allowed = numbers > MASKED
        if not allowed.all() and not is_empty(allowed):
            near = np.where(allowed, numbers, 0.0).astype(np.float32)
            place = next(i for i, x in enumerate(call.args) if x is value)
            found[call.number] = _masked(place, near, Masked(allowed, name=call.name))
    return found


def _masked(place: int, near: np.ndarray, masked: Masked) -> Callable[..., Tensor]:
    return lambda *args: masked(args[place] + near if near.any() else args[place])


def chosen(condition: Any, x1: Tensor, x2: Tensor) -> Tensor:
    """`where` of a condition that is constant, by products and a sum."""
    where = np.asarray(ops.convert_to_numpy(condition)).astype(bool)
    parts = []
    for x, taken in ((x1, where), (x2, ~where)):
        numbers = constant(x)
        if numbers is None:
            parts.append(x * taken.astype(np.float32))
        else:
            parts.append(np.where(taken, numbers, 0.0).astype(np.float32))
    return parts[0] + parts[1]


def _are_softmaxes(calls: list[Call | None]) -> bool:
    """Of the last axis."""
    for call in calls:
        if call is None or kind_of(call.operation) != "softmax" or len(call.inputs) != 1:
            return False
        axis, rank = getattr(call.operation, "axis", -1), len(call.inputs[0].shape)
        if not isinstance(axis, int) or axis % rank != rank - 1:
            return False
    return bool(calls)


def _added(call: Call) -> tuple[Value, np.ndarray] | None:
    """A value and the numbers that are added to it, where they are constants.

    A `where` that takes a value or numbers below all scores adds those.
    """
    kind, args = class_name(call.operation), call.args
    values = [x for x in args if isinstance(x, Value)]
    if len(values) != 1 or kind not in ("Add", "Subtract", "Where"):
        return None
    value, numbers = values[0], [constant(x) for x in args]
    if kind != "Where":
        number = numbers[1 if args[0] is value else 0]
        if number is None or (kind == "Subtract" and args[0] is not value):
            return None
        number = number.astype(np.float64)
        return value, -number if kind == "Subtract" else number
    condition, first, second = numbers
    if condition is None:
        return None
    condition = condition.astype(bool)
    taken, others = (condition, second) if first is None else (~condition, first)
    if others is None or not (others <= MASKED).all():
        return None
    return value, np.where(taken, 0.0, others)


def require_near(graph: Graph) -> None:
    """Sums with numbers that leave no codes to what they are added to are refused."""
    for call in graph.calls:
        if call.is_layer or class_name(call.operation) not in ("Add", "Subtract"):
            continue
        if not all(value.is_float for value in call.inputs):
            continue
        for x in call.args:
            numbers = constant(x)
            if numbers is None or not numbers.size or numbers.dtype.kind not in "fiu":
                continue
            largest = float(np.abs(numbers.astype(np.float64)).max())
            if not largest < TOO_FAR:
                raise UnsupportedLayerError(
                    "apply requires numbers of the size of the values that they are added to, "
                    f"which share 256 codes. Received: {largest:g} in '{call.name}' "
                    f"({class_name(call.operation)}). A mask of constants is taken in Keras 3 "
                    "where its sum goes straight into a softmax of the last axis, in which each "
                    "row keeps a place; elsewhere, multiply by it instead."
                )
