"""int8 activations in training: the range is learnt, the values are rounded to 256 codes."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from ec2t_tf.methods.base import straight_through
from ec2t_tf.moving_range import moved
from ec2t_tf.quantisation.registered import registered

Tensor = Any
# State that a forward pass writes: never trained (JAX would lose it), never in half precision.
STATE: dict[str, Any] = {"trainable": False, "dtype": "float32", "autocast": False}
# Average poolings have fewer positions; float32 is closer than this to a whole or half code.
TIE = 1e-3
# End of the range that a file needs where all values have been 0; no real one is just that.
OF_ZEROS = 1 + 2**-10
Kind = Literal["moving", "widest", "fixed"]


@registered
class FakeQuant(keras.layers.Layer):
    """Values as int8 codes stand for them, with the gradient of the identity inside the range.

    The range always contains 0, which is a code of its own. It starts as that of the first batch of
    training; before any, values pass as they are, after zeros alone it is [0, `OF_ZEROS`].
    Infinity, which is the end of the range, does not count, and a batch with NaN changes nothing.

    Args:
      kind: "moving": the range moves by 1 % of the way to that of each batch; "widest": it covers
        all batches (for a network's inputs); "fixed": `limits`, which the operator prescribes.
      limits: (smallest, largest) of a fixed range.
      growth: of a moving range, as `moving_range.moved` has it.
      nan_is_zero: NaN is 0, as in the table of a file, behind roots and logarithms.

    Attributes:
      smallest, largest: the range, float32 variables of shape ().
      observing: the range covers all that it is called with, also outside of training.
    """

    observing = False

    def __init__(
        self,
        kind: Kind = "moving",
        limits: tuple[float, float] | None = None,
        growth: float = 0.0,
        nan_is_zero: bool = False,
        **options: Any,
    ) -> None:
        # Ranges and roundings are decided in float32; values come and go in their own dtype.
        super().__init__(**{**options, "dtype": "float32", "autocast": False})
        self.kind: Kind = kind
        self.growth, self.nan_is_zero = float(growth), bool(nan_is_zero)
        self.fixed = None if limits is None else (float(limits[0]), float(limits[1]))
        self.supports_masking = True

    def build(self, _: Any) -> None:
        low, high = self.fixed or (0.0, 0.0)
        constant = keras.initializers.Constant
        self.smallest = self.add_weight((), constant(low), name="smallest", **STATE)
        self.largest = self.add_weight((), constant(high), name="largest", **STATE)

    def call(
        self,
        inputs: Tensor,
        ties: Literal["away", "up"] | None = None,
        training: bool | None = None,
    ) -> Tensor:
        """`ties` rounds with the range that another call of this layer learns.

        So do operators of TensorFlow Lite that have one scale for input and output: averages, with
        ties "away" from code 0, and interpolations, with ties "up". Both are frequent there.
        """
        low, high = self.smallest.value, self.largest.value
        if self.nan_is_zero:
            inputs = ops.where(ops.isnan(inputs), ops.zeros_like(inputs), inputs)
        if ties is not None:
            rounded = _nearest_code(inputs, low, ops.maximum(high, low + 1e-8), ties)
            return ops.where(high > low, rounded, inputs)
        learning = (bool(training) or self.observing) and self.kind != "fixed"
        if learning:
            low, high = self._updated(low, high, ops.cast(ops.stop_gradient(inputs), "float32"))
            self.smallest.assign(low)
            self.largest.assign(high)
        # An empty range has no scale.
        rounded = keras.quantizers.fake_quant_with_min_max_vars(
            inputs, low, ops.maximum(high, low + 1e-8)
        )
        return rounded if learning else ops.where(high > low, rounded, inputs)

    def _updated(self, low: Tensor, high: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        least, most = ops.minimum(ops.min(batch), 0.0), ops.maximum(ops.max(batch), 0.0)
        high = ops.where(ops.equal(high, OF_ZEROS), 0.0, high)
        finite = ops.logical_and(ops.isfinite(least), ops.isfinite(most))
        least, most = ops.cond(finite, lambda: (least, most), lambda: _without_infinity(batch))
        if self.kind == "widest" or self.observing:
            new_low, new_high = ops.minimum(low, least), ops.maximum(high, most)
        else:
            unknown = ops.equal(low, high)
            new_low, new_high = moved(low, high, least, most, growth=self.growth)
            new_low = ops.where(unknown, least, new_low)
            new_high = ops.where(unknown, most, new_high)
        new_high = ops.where(ops.equal(new_low, new_high), OF_ZEROS, new_high)
        known = ops.logical_not(ops.logical_or(ops.isnan(least), ops.isnan(most)))
        return ops.where(known, new_low, low), ops.where(known, new_high, high)

    @property
    def limits(self) -> tuple[float, float]:
        """(smallest, largest) as they are now, on the grid of the codes: 0 is a code exactly.

        Raises:
          ValueError: no batch of training has been seen.
        """
        low = np.float32(ops.convert_to_numpy(self.smallest.value))
        high = np.float32(ops.convert_to_numpy(self.largest.value))
        if not low < high:
            raise ValueError(
                f"The range of '{self.name}' must be known. Received: a model that has seen no "
                "batch of training. Train it first, or call model(batch, training=True)."
            )
        scale = (high - low) / np.float32(255)
        zero_point = np.round(np.float32(0) - low / scale)
        return float(-zero_point * scale), float((np.float32(255) - zero_point) * scale)

    def compute_output_spec(self, inputs: Any, *args: Any, **options: Any) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict:
        own = {"kind": self.kind, "limits": self.fixed, "growth": self.growth}
        more = {"nan_is_zero": True} if self.nan_is_zero else {}
        return {**super().get_config(), **own, **more}


def _without_infinity(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Least and most of the values and 0; NaN where there is one."""
    others = ops.where(ops.isinf(batch), 0.0, batch)
    return ops.minimum(ops.min(others), 0.0), ops.maximum(ops.max(others), 0.0)


def _nearest_code(values: Tensor, low: Tensor, high: Tensor, ties: str) -> Tensor:
    """Values within a range, as int8 codes stand for them; gradients pass unchanged."""
    scale = (high - low) / 255.0
    zero_point = ops.round(-low / scale) - 128.0
    codes = ops.cast(values, "float32") / scale + zero_point
    if ties == "away":
        rounded = ops.sign(codes) * ops.floor(ops.abs(codes) + 0.5 + TIE)
    else:
        rounded = ops.floor(codes + 0.5 + TIE)
    rounded = (ops.clip(rounded, -128.0, 127.0) - zero_point) * scale
    return straight_through(ops.cast(rounded, values.dtype), values)
