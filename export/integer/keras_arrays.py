"""The array library of the rules: `keras.ops`, traceable on TensorFlow, JAX and PyTorch.

Everything fits 32 bits. Sums of products are float32 products of whole numbers, exact below 2^24
whatever the order and also in TensorFloat-32; where they could be larger, one factor is split in
two. The runtimes' fixed point, which multiplies in 64 bits, is a guess in float32 that a table of
the least sum of each code corrects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from ec2t_tf.export.graph import Tensor

from .node import NotTraceableError
from .numpy_arrays import NumPyArrays

_EXACT = 1 << 24
_SPLIT = 16
_MOST_CODES = 1 << 10  # of an output whose thresholds are tabled


class KerasArrays:
    """The names of `keras.ops`, and what the rules want besides."""

    traceable = True

    def __getattr__(self, name: str) -> Any:
        return getattr(ops, name)

    @staticmethod
    def constant(values: npt.ArrayLike) -> Any:
        values = np.asarray(values)
        return ops.convert_to_tensor(
            values.astype(np.float32 if values.dtype.kind == "f" else np.int32)
        )

    @staticmethod
    def integers(x: Any) -> Any:
        return ops.cast(x, "int32")

    @staticmethod
    def floats(x: Any) -> Any:
        return ops.cast(x, "float32")

    @staticmethod
    def look_up(table: Any, place: Any) -> Any:
        # While a model is built, backends feed arbitrary numbers.
        return ops.take(table, ops.clip(place, 0, table.shape[0] - 1), axis=0)

    @staticmethod
    def bounded(largest: int, code: int) -> int:
        """The bound of sums of products with codes up to `code`.

        Raises:
          NotTraceableError: they are not exact even in two parts.
        """
        if code > 255 or largest * (_SPLIT + 1) // 255 >= _EXACT:
            raise NotTraceableError(f"sums up to {largest} need more than two parts")
        return largest

    def _exact(self, product: Callable[[Any], Any], x: Any, largest: int) -> Any:
        """int32 of a product that is linear in x, |x| <= 255."""
        if largest < _EXACT:
            return self.integers(ops.round(product(self.floats(x))))
        high = ops.floor_divide(x, _SPLIT)
        low = x - high * _SPLIT
        parts = [self.integers(ops.round(product(self.floats(part)))) for part in (high, low)]
        return parts[0] * _SPLIT + parts[1]

    def matmul(self, x: Any, weights: Any, largest: int) -> Any:
        factor = self.floats(weights)
        return self._exact(lambda part: ops.matmul(part, factor), x, largest)

    def convolve(
        self,
        x: Any,
        weights: Any,
        stride: tuple[int, int],
        dilation: tuple[int, int],
        largest: int,
    ) -> Any:
        kernel = self.floats(weights)
        both = max(stride) > 1 and max(dilation) > 1  # the backends do one of the two
        moved = (1, 1) if both else tuple(stride)

        def product(part: Any) -> Any:
            return ops.conv(part, kernel, moved, "valid", "channels_last", tuple(dilation))

        sums = self._exact(product, x, largest)
        return sums[:, :: stride[0], :: stride[1]] if both else sums

    def by_sum(
        self, function: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], low: int, high: int
    ) -> Callable[[Any], Any]:
        """A growing function of int32 sums to int32 codes from low to high, as the least sum of
        each code: compilers would join its products and sums."""
        codes = np.arange(low + 1, high + 1)
        bottom, top = np.full(codes.shape, -(1 << 31)), np.full(codes.shape, (1 << 31) - 1)
        for _ in range(32):
            middle = (bottom + top) >> 1
            reached = function(middle.astype(np.int32)) >= codes
            bottom, top = np.where(reached, bottom, middle + 1), np.where(reached, middle, top)
        least = self.constant(bottom.astype(np.int32))

        def finish(sums: Any) -> Any:
            place = ops.searchsorted(least, ops.reshape(sums, (-1,)), side="right")
            return ops.reshape(self.integers(place), ops.shape(sums)) + low

        return finish

    def nearest(self, scale: np.float32, zero: int, low: int, high: int) -> Callable[[Any], Any]:
        """float32 to the int32 code of x / scale, halves away from zero.

        Compilers turn the division into a product with the inverse, which is not the same: the
        least float32 of each code corrects it.
        """
        exact = NumPyArrays.nearest(scale, zero, low, high)
        codes = np.arange(low + 1, high + 1)
        middle = ((codes - zero - 0.5) * np.float64(scale)).astype(np.float32)
        tries = [middle]
        for _ in range(4):
            tries.insert(0, np.nextafter(tries[0], np.float32(-np.inf)))
            tries.append(np.nextafter(tries[-1], np.float32(np.inf)))
        reached = np.stack([exact(x) for x in tries]) >= codes
        least = np.take_along_axis(np.stack(tries), reached.argmax(axis=0)[None], axis=0)[0]
        table = self.constant(np.pad(least, 1, constant_values=(-np.inf, np.inf)))
        inverse = self.constant(np.float32(1) / scale)

        def finish(x: Any) -> Any:
            near = ops.clip(ops.round(x * inverse) + zero, low, high)
            near = self.integers(near) - low
            below = self.integers(x < self.look_up(table, near))
            above = self.integers(x >= self.look_up(table, near + 1))
            return near + low - below + above

        return finish

    def codes(
        self,
        function: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
        factor: npt.NDArray[np.float64],
        zero: int,
        low: int,
        high: int,
        bound: npt.NDArray[np.int64],
    ) -> Callable[[Any], Any]:
        """int32 sums to int32 codes, in 32 bits.

        float32 is at most one code off; the least sum of each code, found here in 64 bits, corrects
        it.
        """
        if high - low > _MOST_CODES:
            raise NotTraceableError(f"an output of {high - low + 1} codes is not tabled")
        least = _least(function, np.arange(low + 1, high + 1), factor.size, bound)
        channels, width = least.shape
        table = self.constant(least.reshape(-1))
        rows = self.constant(width * np.arange(channels))
        slope = self.constant(factor.astype(np.float32))

        def finish(sums: Any) -> Any:
            near = ops.clip(ops.round(self.floats(sums) * slope) + zero, low, high)
            near = self.integers(near) - low
            place = near + rows
            below = self.integers(sums < self.look_up(table, place))
            above = self.integers(sums >= self.look_up(table, place + 1))
            return near + low - below + above

        return finish

    @staticmethod
    def host(function: Callable[..., Any], given: Sequence[Any], tensors: Sequence[Tensor]) -> Any:
        """Values of `tensors`, (samples, *shape) each, that NumPy computes from values."""
        types = ["float32" if tensor.dtype == "float32" else "int32" for tensor in tensors]
        backend = keras.backend.backend()
        place = [i for i, value in enumerate(given) if value is not None]
        values = [given[i] for i in place]

        def call(*arrays: Any) -> list[npt.NDArray[Any]]:
            full: list[Any] = [None] * len(given)
            for i, array in zip(place, arrays, strict=True):
                full[i] = np.asarray(array)
            found = function(*full)
            parts = found if isinstance(found, tuple) else (found,)
            return [np.ascontiguousarray(p, t) for p, t in zip(parts, types, strict=True)]

        if backend == "tensorflow":
            import tensorflow as tf

            results = tf.numpy_function(call, values, [tf.as_dtype(t) for t in types])
            results = results if isinstance(results, list) else [results]
            for result, tensor in zip(results, tensors, strict=True):
                result.set_shape((values[0].shape[0], *tensor.shape))
        elif backend == "jax":
            import jax

            count = values[0].shape[0]
            wanted = [
                jax.ShapeDtypeStruct((count, *tensor.shape), np.dtype(name))
                for tensor, name in zip(tensors, types, strict=True)
            ]
            results = jax.pure_callback(call, wanted, *values)
        else:
            arrays = [ops.convert_to_numpy(value) for value in values]
            results = [ops.convert_to_tensor(part) for part in call(*arrays)]
        return tuple(results) if len(tensors) > 1 else results[0]


def _least(
    function: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    codes: npt.NDArray[np.int64],
    channels: int,
    bound: npt.NDArray[np.int64],
) -> npt.NDArray[np.int32]:
    """The least int32 sum that becomes each code or more, between one below and one above all; one
    row a channel."""
    shape = (codes.size, channels)
    bottom, top = np.broadcast_to(-bound, shape), np.broadcast_to(bound - 1, shape)
    for _ in range(32):
        middle = (bottom + top) >> 1
        reached = function(middle) >= codes[:, None]
        bottom, top = np.where(reached, bottom, middle + 1), np.where(reached, middle, top)
    ends = ((0, 0), (1, 1))
    whole = np.pad(bottom.T, ends, constant_values=((0, 0), (-(1 << 31), (1 << 31) - 1)))
    return whole.astype(np.int32)
