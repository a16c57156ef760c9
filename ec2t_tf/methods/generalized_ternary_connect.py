"""Generalized Ternary Connect (Parajuli, Raghavan, Chai 2018, arXiv 1811.04985).

OUR RECONSTRUCTION. The paper's abstract and introduction tell that weights are integer powers of
two and that the number of levels and their values are learned per layer together with the weights.
Its equations could not be found. What stands here follows, as we remember its form, the group's
BitNet (arXiv 1708.04788), moved to the logarithm:

    W_q = sign(W) 2^(a + k),  k = round(log2|W| - a) clipped to 0 ... 2^B - 1,
    W_q = 0 where log2|W| < a - 1/2,
    loss + distortion ||W - W_q||^2 / ||W||^2 + level_penalty 2^B   for each layer.

a (used rounded) is trained, B is an integer that moves by at most one at a time to lower that sum.
With B = 0 this is a ternary layer whose scale is a power of two.

A patent of the authors' employer exists: US 11,429,862 B2 (SRI International, granted 2022). Have
it reviewed before you ship what this method trained.
"""

from __future__ import annotations

import math

import tensorflow as tf

from ec2t_tf.methods.base import (
    AddWeight,
    Assignment,
    Quantised,
    State,
    TernaryMethod,
    hold_within,
    straight_through,
)
from ec2t_tf.methods.checks import (
    optimiser_step,
    require_moment,
    require_one_of,
    require_range,
    require_total_steps,
)
from ec2t_tf.methods.own_rate import OwnRate
from ec2t_tf.schedule import StepCounter

# Four magnitudes span a factor of 8 (int8 codes 8, 16, 32, 64); eight would span 128, which int8
# cannot hold.
LARGEST_BITS = 2
LARGEST_CODE = 64
SMALLEST_EXPONENT, LARGEST_EXPONENT = -30, 30
# Exponents below the largest weight's that are tried for the best fit.
TRIED_EXPONENTS = 8


class GeneralizedTernaryConnect(TernaryMethod):
    """Powers of two, with a learned number of levels.

    Args:
      largest_bits: B to begin with and its maximum, 0 to 2. 0 is ternary from the start.
      zero: whether zero is a level; without, B = 0 is a binary layer.
      rounding: "geometric" in the logarithm (boundaries at sqrt(2) 2^k), "arithmetic" to the nearer
        level (1.5 2^k), which has less L2 error.
      distortion: lambda_1, strength of the pull of the weights to their levels.
      level_penalty: lambda_2 of 2^B. Above about 0.15 distortion a Gaussian layer becomes ternary,
        below about 0.03 distortion it keeps all levels.
      bits_every: optimiser steps between two looks at B.
      warm_up: optimiser step, or share of `total_steps`, before which B stays; None for none.
      frozen_from: optimiser step, or share of `total_steps`, from which on a and B stay; or None.
      total_steps: optimiser steps of the whole training; needed where a moment is a share.
      exponent_learning_rate: of a, relative to the optimiser's (see `OwnRate`).
    """

    name = "generalized_ternary_connect"

    def __init__(
        self,
        *,
        largest_bits: int = LARGEST_BITS,
        zero: bool = True,
        rounding: str = "geometric",
        distortion: float = 1e-2,
        level_penalty: float = 2e-3,
        bits_every: int = 100,
        warm_up: float | None = None,
        frozen_from: float | None = None,
        total_steps: int | None = None,
        exponent_learning_rate: float = 1.0,
    ) -> None:
        if largest_bits not in range(LARGEST_BITS + 1):
            raise ValueError(
                "largest_bits must be 0, 1 or 2: with 3 the levels span a factor of 128, which an "
                f"int8 weight cannot hold exactly. Received: largest_bits={largest_bits}."
            )
        self.largest_bits = int(largest_bits)
        self.zero = bool(zero)
        self.rounding = require_one_of("rounding", rounding, ("geometric", "arithmetic"))
        self.distortion = require_range("distortion", distortion, 0.0)
        self.level_penalty = require_range("level_penalty", level_penalty, 0.0)
        self.bits_every = int(require_range("bits_every", bits_every, 1))
        self.warm_up = require_moment("warm_up", warm_up)
        self.frozen_from = require_moment("frozen_from", frozen_from)
        self.total_steps = require_total_steps(total_steps)
        self.exponent_learning_rate = require_range(
            "exponent_learning_rate", exponent_learning_rate, 0.0
        )
        self._exponent = OwnRate(
            "exponent", (), rate=self.exponent_learning_rate, limited=_in_range
        )

    def get_config(self) -> dict:
        return {
            "largest_bits": self.largest_bits,
            "zero": self.zero,
            "rounding": self.rounding,
            "distortion": self.distortion,
            "level_penalty": self.level_penalty,
            "bits_every": self.bits_every,
            "warm_up": self.warm_up,
            "frozen_from": self.frozen_from,
            "total_steps": self.total_steps,
            "exponent_learning_rate": self.exponent_learning_rate,
        }

    @property
    def _largest_count(self) -> int:
        return 2**self.largest_bits

    def build(self, add_weight: AddWeight) -> State:
        return {
            **self._exponent.build(add_weight),
            "bits": add_weight("bits", (), False, "int32"),
            "looked_at": add_weight("looked_at", (), False, "int64"),
            **StepCounter.build(add_weight),
        }

    def initialise(self, latent: tf.Tensor, state: State) -> None:
        for variable in state.values():
            variable.assign(tf.zeros_like(variable))
        bits = tf.constant(self.largest_bits)
        state["bits"].assign(bits)
        exponent, _ = self._best_fit(latent, bits)
        self._exponent.set(state, tf.cast(exponent, tf.float32))

    def _quantised(self, latent: tf.Tensor, exponent: tf.Tensor, bits: tf.Tensor) -> Quantised:
        """exponent, bits: int32 scalars."""
        powers = power_of_two(exponent + tf.range(self._largest_count))
        below = 2**-0.5 if self.rounding == "geometric" else 0.75
        boundaries = powers * below
        if self.rounding == "arithmetic":  # the boundary to zero is half the smallest level
            boundaries = tf.concat([powers[:1] / 2, boundaries[1:]], 0)
        index = tf.zeros_like(latent, tf.int8)
        for k in range(self._largest_count):
            above = tf.abs(latent) > boundaries[k]
            if k == 0 and not self.zero:
                above = tf.ones_like(above)
            index += tf.cast(tf.logical_and(above, k < 2**bits), tf.int8)
        levels = tf.concat([-tf.reverse(powers, [0]), [0.0], powers], 0)
        codes = tf.where(latent < 0.0, -index, index)
        return Quantised(codes, levels, self._largest_count, LARGEST_CODE)

    def _best_fit(self, latent: tf.Tensor, bits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(a, D): the exponent with the least ||W - W_q||^2 / ||W||^2, and that; int32, float32."""
        largest = tf.maximum(tf.reduce_max(tf.abs(latent)), 2.0**SMALLEST_EXPONENT)
        top = tf.cast(tf.math.ceil(tf.math.log(largest) / math.log(2)), tf.int32)
        tried = [
            tf.clip_by_value(top + 1 - 2**bits - i, SMALLEST_EXPONENT, LARGEST_EXPONENT)
            for i in range(TRIED_EXPONENTS)
        ]
        errors = [self._error(latent, self._quantised(latent, a, bits).weights) for a in tried]
        best = tf.argmin(tf.stack(errors))
        return tf.gather(tf.stack(tried), best), tf.gather(tf.stack(errors), best)

    @staticmethod
    def _error(latent: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """||W - W_q||^2 / ||W||^2: without a unit, as a layer before a batch normalisation has."""
        # Divided first, so that neither square leaves the range of float32.
        unit = tf.maximum(tf.reduce_max(tf.abs(latent)), 2.0**SMALLEST_EXPONENT)
        unit = tf.stop_gradient(unit)
        energy = tf.stop_gradient(tf.reduce_sum(tf.square(latent / unit)))
        return tf.math.divide_no_nan(tf.reduce_sum(tf.square((latent - weights) / unit)), energy)

    def _look_at_bits(
        self, latent: tf.Tensor, state: State, exponent: tf.Tensor, steps: tf.Tensor
    ) -> tf.Tensor:
        """Move B by at most one where that lowers the loss; the exponent afterwards, float32."""
        warm_up = optimiser_step("warm_up", self.warm_up, self.total_steps) or 0
        due = tf.logical_and(
            steps - state["looked_at"] >= self.bits_every,
            tf.logical_and(steps >= warm_up, self._learns(steps)),
        )
        bits = tf.convert_to_tensor(state["bits"])

        def look() -> tuple[tf.Tensor, tf.Tensor]:
            tried = [tf.clip_by_value(bits + i, 0, self.largest_bits) for i in (0, -1, 1)]
            fits = [self._best_fit(latent, b) for b in tried]
            penalties = [self.level_penalty * tf.cast(2**b, tf.float32) for b in tried]
            costs = [self.distortion * d + p for (_, d), p in zip(fits, penalties, strict=True)]
            best = tf.argmin(tf.stack(costs))  # the first where equal: B stays
            fitted = tf.cast(tf.gather(tf.stack([a for a, _ in fits]), best), tf.float32)
            return tf.gather(tf.stack(tried), best), tf.where(best == 0, exponent, fitted)

        def stay() -> tuple[tf.Tensor, tf.Tensor]:
            return bits, tf.identity(exponent)

        new_bits, new_exponent = tf.cond(due, look, stay)
        state["bits"].assign(new_bits)
        state["exponent"].assign(new_exponent)
        state["looked_at"].assign(tf.where(due, steps, state["looked_at"]))
        return new_exponent

    def _learns(self, steps: tf.Tensor) -> tf.Tensor:
        frozen = optimiser_step("frozen_from", self.frozen_from, self.total_steps)
        return tf.constant(True) if frozen is None else steps < frozen

    def _read(self, state: State, *, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        steps = StepCounter.read(state, training=training)
        learns = self._learns(steps)
        return self._exponent.read(state, training=training, learns=learns), steps

    def quantise(
        self, latent: tf.Tensor, state: State, *, relative_size: float, training: bool
    ) -> tf.Tensor:
        fixed = tf.stop_gradient(latent)
        exponent, steps = self._read(state, training=training)
        value = tf.stop_gradient(exponent)
        if training:
            value = self._look_at_bits(fixed, state, value, steps)
        rounded, bits = tf.cast(tf.round(value), tf.int32), tf.convert_to_tensor(state["bits"])
        quantised = self._quantised(fixed, rounded, bits)
        weights = quantised.weights
        # The identity, but for weights beyond the largest level that would go further out;
        # dW_q/da = ln 2 W_q.
        top = power_of_two(rounded + 2**bits - 1) * math.sqrt(2)
        surrogate = hold_within(latent, top) + math.log(2) * weights * exponent
        return StepCounter.attach(straight_through(weights, surrogate), state)

    def assign(self, latent: tf.Tensor, state: State, *, relative_size: float) -> Assignment:
        exponent, _ = self._read(state, training=False)
        bits = tf.convert_to_tensor(state["bits"])
        rounded = tf.cast(tf.round(exponent), tf.int32)
        codes, levels, middle, code = self._quantised(tf.convert_to_tensor(latent), rounded, bits)
        # Not int(bits), which AutoGraph makes a tensor while a model is being exported.
        count = 2 ** bits.numpy().item()
        return Quantised(codes, levels[middle - count : middle + count + 1], count, code).assignment

    def losses(
        self, latent: tf.Tensor, state: State, *, relative_size: float
    ) -> dict[str, tf.Tensor]:
        """`distortion`, and `levels`, whose gradient is the update of B."""
        exponent, _ = self._read(state, training=False)
        bits = tf.convert_to_tensor(state["bits"])
        rounded = tf.cast(tf.round(tf.stop_gradient(exponent)), tf.int32)
        weights = self._quantised(tf.stop_gradient(latent), rounded, bits).weights
        return {
            "distortion": self.distortion * self._error(latent, weights),
            "levels": self.level_penalty * tf.cast(2**bits, tf.float32),
        }


def power_of_two(exponent: tf.Tensor) -> tf.Tensor:
    """2^exponent exactly, float32; exponent int32 in -126 to 127, any shape."""
    return tf.bitcast((exponent + 127) * 2**23, tf.float32)


def _in_range(exponent: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(exponent, SMALLEST_EXPONENT, LARGEST_EXPONENT)
