"""The array library of the rules: NumPy.

Sums of products are exact although BLAS computes them in floats: codes and weights are whole
numbers, and whole numbers below 2^24 (float32) or 2^53 (float64) are exact in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .node import NotTraceableError

Array = npt.NDArray[Any]
_WINDOW_BYTES = 4 << 20  # of one batch of windows
_BLOCK = 1 << 14  # sums made codes at a time


class NumPyArrays:
    """NumPy's names, and what it lacks."""

    traceable = False

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def constant(values: npt.ArrayLike) -> Array:
        values = np.asarray(values)
        return values.astype(np.float32 if values.dtype.kind == "f" else np.int32)

    @staticmethod
    def integers(x: Array) -> Array:
        return x.astype(np.int32)

    @staticmethod
    def floats(x: Array) -> Array:
        return x.astype(np.float32)

    @staticmethod
    def look_up(table: Array, place: Array) -> Array:
        """table[place] of a vector."""
        return np.take(table, place)

    @staticmethod
    def bounded(largest: int, code: int) -> int:
        """The bound of sums of products with codes up to `code`.

        Raises:
          NotTraceableError: they cannot be exact.
        """
        if largest >= 1 << 53:
            raise NotTraceableError(f"sums must stay below 2^53. Received: up to {largest}.")
        return largest

    def matmul(self, x: Array, weights: Array, largest: int) -> Array:
        """Whole x @ weights, (..., k) @ (..., k, n); no partial sum is above `largest`. int64 where
        sums do not fit int32."""
        wide, whole = _wide(largest)
        return (x.astype(wide) @ weights.astype(wide)).astype(whole)

    def convolve(
        self,
        x: Array,
        weights: Array,
        stride: tuple[int, int],
        dilation: tuple[int, int],
        largest: int,
    ) -> Array:
        """Whole (n, h', w', out) from (n, h, w, in) and (kh, kw, in, out); no padding."""
        wide, whole = _wide(largest)
        kernel: Array = weights.astype(wide).reshape(-1, weights.shape[-1])
        if weights.shape[:2] == (1, 1):
            return (x[:, :: stride[0], :: stride[1]].astype(wide) @ kernel).astype(whole)
        high, across = ((k - 1) * d + 1 for k, d in zip(weights.shape[:2], dilation, strict=True))
        windows = np.lib.stride_tricks.sliding_window_view(x, (high, across), axis=(1, 2))
        windows = windows[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
        windows = windows.transpose(0, 1, 2, 4, 5, 3)
        n, rows, columns = windows.shape[:3]
        out: Array = np.empty((n, rows, columns, kernel.shape[1]), whole)
        size = max(1, rows * columns * kernel.shape[0] * np.dtype(wide).itemsize)
        chunk = max(1, _WINDOW_BYTES // size)
        for start in range(0, n, chunk):
            part: Array = windows[start : start + chunk].astype(wide)
            sums = part.reshape(-1, kernel.shape[0]) @ kernel
            out[start : start + chunk] = sums.reshape(-1, *out.shape[1:])
        return out

    @staticmethod
    def by_sum(function: Callable[[Array], Array], low: int, high: int) -> Callable[[Array], Array]:
        """`function` itself: int32 sums to int32 codes from low to high, growing."""
        return function

    @staticmethod
    def nearest(
        scale: np.float32, zero: int, low: int, high: int
    ) -> Callable[[Array], npt.NDArray[np.int32]]:
        """float32 to the int32 code of x / scale (in float32), halves away from zero."""

        def finish(x: Array) -> npt.NDArray[np.int32]:
            ratio = np.clip(x / scale, low - zero - 1, high - zero + 1)
            away = np.sign(ratio) * np.floor(np.abs(ratio) + np.float32(0.5))
            return np.clip(away.astype(np.int32) + zero, low, high)

        return finish

    @staticmethod
    def codes(
        function: Callable[[Array], Array],
        factor: Array,
        zero: int,
        low: int,
        high: int,
        bound: Any,
    ) -> Callable[[Array], npt.NDArray[np.int32]]:
        """Whole sums to int32 codes: `function` of them, limited to low to high.

        Args:
          function: grows; sums (..., channels) to whole numbers.
          factor: float64 (channels,) or (1,), its slope.
          zero: what it gives for 0, about.
          bound: |sums| for which it holds.
        """

        def finish(sums: Array) -> npt.NDArray[np.int32]:
            rows = sums.reshape(-1, sums.shape[-1])
            out = np.empty(rows.shape, np.int32)
            step = max(1, _BLOCK // max(1, rows.shape[1]))  # 64-bit values stay in the cache
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                np.clip(function(rows[part]), low, high, out=out[part], casting="unsafe")
            return out.reshape(sums.shape)

        return finish


def _wide(largest: int) -> tuple[type, type]:
    """The float type that is exact for such sums, and the whole type that holds them."""
    floats = np.float32 if largest < 1 << 24 else np.float64
    return floats, np.int32 if largest < 1 << 31 else np.int64
