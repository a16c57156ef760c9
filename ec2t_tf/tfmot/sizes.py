"""Sizes of symbolic values as numbers, while it is looked at what a layer of the user's computes.

Many layers ask for their batch, `tf.reshape(x, (tf.shape(x)[0], -1, heads, size))`, and tf_keras
makes operators of that. In a file all sizes are fixed, and the batch is one example.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tensorflow.python.util import tf_export
from tf_keras.src.engine.keras_tensor import KerasTensor
from tf_keras.src.layers.core.tf_op_layer import KerasOpDispatcher

OPEN = -1  # as a reshape has it: what is left over


@contextlib.contextmanager
def as_numbers() -> Iterator[None]:
    """Inside, `tf.shape` of a symbolic value is a list of numbers, with -1 for the batch, which
    `tf.reshape` takes beside another -1.
    """
    before = KerasOpDispatcher.handle

    def handle(self: Any, op: Any, args: tuple, kwargs: dict) -> Any:
        name = tf_export.get_canonical_name_for_symbol(op, add_prefix_to_v1_names=True) or ""
        kind = name.split(".")[-1]
        x = next(iter((*args, *kwargs.values())), None)
        if kind == "shape" and isinstance(x, KerasTensor):
            return sizes(x)
        if kind == "reshape":
            given = dict(zip(("tensor", "shape", "name"), args, strict=False)) | kwargs
            if isinstance(given["tensor"], KerasTensor):
                shape = one_open(sizes(given["tensor"]), given["shape"])
                args, kwargs = (given["tensor"], shape), {}
        return before(self, op, args, kwargs)

    KerasOpDispatcher.handle = handle
    try:
        yield
    finally:
        KerasOpDispatcher.handle = before


def sizes(x: Any) -> list[int]:
    return [OPEN if size is None else int(size) for size in x.shape]


def one_open(before: Sequence[int], wanted: Any) -> Any:
    """A shape that is asked for, with the batch alone open where a second size is, too.

    Args:
      before: of what is reshaped.
      wanted: numbers, or what they cannot be had of.
    """
    try:
        shape = [int(size) for size in np.asarray(wanted).reshape(-1)]
    except (TypeError, ValueError, NotImplementedError):  # symbolic
        return wanted
    known = math.prod(size for size in shape if size != OPEN)
    total = math.prod(before[1:])
    batches = before[:1] == [OPEN] == shape[:1] and shape.count(OPEN) == 2
    if not batches or OPEN in before[1:] or known <= 0 or total % known:
        return shape
    return [OPEN, *(total // known if size == OPEN else size for size in shape[1:])]
