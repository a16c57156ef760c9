"""Symbolic values that can be asked what tensors can, for calls that are written for those."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras


class _Sizes(tuple):
    """A shape with what TensorFlow's have."""

    rank = ndims = property(len)

    def as_list(self) -> list[int | None]:
        return list(self)


@contextlib.contextmanager
def as_tensors() -> Iterator[None]:
    """Inside, symbolic values can be asked what tensors can, which a call is written for: x[:8] and
    x[None], where Keras wants x[:8, ...]; an array of NumPy times x; on TensorFlow x.shape.rank,
    x.shape.as_list() and x.get_shape().
    """
    kind = keras.KerasTensor
    item, shape = kind.__getitem__, kind.shape
    changes: dict[str, Any] = {
        "__getitem__": lambda self, key: item(
            self, (key,) if key is None or isinstance(key, slice) else key
        ),
        "__array_ufunc__": None,
    }
    if keras.backend.backend() == "tensorflow":
        changes["shape"] = property(lambda self: _Sizes(shape.fget(self)), shape.fset)
        changes["get_shape"] = lambda self: self.shape
    before = {name: vars(kind)[name] for name in changes if name in vars(kind)}
    try:
        for name, value in changes.items():
            setattr(kind, name, value)
        yield
    finally:
        for name in changes:
            if name in before:
                setattr(kind, name, before[name])
            else:
                delattr(kind, name)
