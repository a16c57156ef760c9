"""The array library of the rules: NumPy.

Sums of products are exact although BLAS computes them in floats: codes and weights are whole
numbers, and whole numbers below 2^24 (float32) or 2^53 (float64) are exact in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph.multipliers import Halves, multiplied

Array = npt.NDArray[Any]
_WINDOW_BYTES = 32 << 20  # of one batch of windows: they stay in the cache of a server


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
        """int32; wraps as the runtimes' accumulators do."""
        return x.astype(np.int64).astype(np.int32) if x.dtype == np.float64 else x.astype(np.int32)

    @staticmethod
    def floats(x: Array) -> Array:
        return x.astype(np.float32)

    @staticmethod
    def look_up(table: Array, place: Array) -> Array:
        """table[place] of a vector."""
        return np.take(table, place)

    def matmul(self, x: Array, weights: Array, largest: int) -> Array:
        """int32 x @ weights, (..., k) @ (..., k, n); no partial sum is above `largest`."""
        wide = _wide(largest)
        return self.integers(x.astype(wide) @ weights.astype(wide))

    def convolve(
        self,
        x: Array,
        weights: Array,
        stride: tuple[int, int],
        dilation: tuple[int, int],
        largest: int,
    ) -> Array:
        """int32 (n, h', w', out) from (n, h, w, in) and (kh, kw, in, out); no padding."""
        wide = _wide(largest)
        kernel: Array = weights.astype(wide).reshape(-1, weights.shape[-1])
        if weights.shape[:2] == (1, 1):
            return self.integers(x[:, :: stride[0], :: stride[1]].astype(wide) @ kernel)
        high, across = ((k - 1) * d + 1 for k, d in zip(weights.shape[:2], dilation, strict=True))
        windows = np.lib.stride_tricks.sliding_window_view(x, (high, across), axis=(1, 2))
        windows = windows[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
        windows = windows.transpose(0, 1, 2, 4, 5, 3)
        n, rows, columns = windows.shape[:3]
        out = np.empty((n, rows, columns, kernel.shape[1]), np.int32)
        size = max(1, rows * columns * kernel.shape[0] * np.dtype(wide).itemsize)
        chunk = max(1, _WINDOW_BYTES // size)
        for start in range(0, n, chunk):
            part: Array = windows[start : start + chunk].astype(wide)
            sums = part.reshape(-1, kernel.shape[0]) @ kernel
            out[start : start + chunk] = self.integers(sums).reshape(-1, *out.shape[1:])
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
    def fixed_point(
        multiplier: Array, shift: Array, halves: Halves, zero: int, low: int, high: int
    ) -> Callable[[Array], Array]:
        """int32 sums to int32 codes: `multiplied`, plus `zero`, limited to low to high."""

        def finish(sums: Array) -> Array:
            codes = multiplied(sums, multiplier, shift, halves=halves)
            return np.clip(codes + zero, low, high).astype(np.int32)

        return finish


def _wide(largest: int) -> type:
    if largest >= 1 << 53:
        raise ValueError(f"sums must stay below 2^53. Received: sums up to {largest}.")
    return np.float32 if largest < 1 << 24 else np.float64
