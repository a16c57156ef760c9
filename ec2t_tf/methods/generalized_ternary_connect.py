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

import numpy as np
from keras import ops

from ec2t_tf.methods.base import (
    AddWeight,
    Assignment,
    Quantised,
    State,
    Tensor,
    TernaryMethod,
    hold_within,
    ratio,
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

    def initialise(self, latent: Tensor, state: State) -> None:
        for variable in state.values():
            variable.assign(ops.zeros_like(ops.convert_to_tensor(variable)))
        bits = ops.convert_to_tensor(self.largest_bits, "int32")
        state["bits"].assign(bits)
        exponent, _ = self._best_fit(latent, bits)
        self._exponent.set(state, ops.cast(exponent, "float32"))

    def _quantised(self, latent: Tensor, exponent: Tensor, bits: Tensor) -> Quantised:
        """exponent, bits: int32 scalars."""
        powers = power_of_two(exponent + ops.arange(self._largest_count))
        below = 2**-0.5 if self.rounding == "geometric" else 0.75
        boundaries = powers * below
        if self.rounding == "arithmetic":  # the boundary to zero is half the smallest level
            boundaries = ops.concatenate([powers[:1] / 2, boundaries[1:]], 0)
        index = ops.zeros_like(latent, "int8")
        for k in range(self._largest_count):
            above = ops.abs(latent) > boundaries[k]
            if k == 0 and not self.zero:
                above = ops.ones_like(above)
            index += ops.cast(ops.logical_and(above, k < 2**bits), "int8")
        levels = ops.concatenate([-ops.flip(powers, axis=0), ops.zeros((1,)), powers], 0)
        codes = ops.where(latent < 0.0, -index, index)
        return Quantised(codes, levels, self._largest_count, LARGEST_CODE)

    def _best_fit(self, latent: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
        """(a, D): the exponent with the least ||W - W_q||^2 / ||W||^2, and that; int32, float32."""
        largest = ops.maximum(ops.max(ops.abs(latent)), 2.0**SMALLEST_EXPONENT)
        top = ops.cast(ops.ceil(ops.log(largest) / math.log(2)), "int32")
        tried = [
            ops.clip(top + 1 - 2**bits - i, SMALLEST_EXPONENT, LARGEST_EXPONENT)
            for i in range(TRIED_EXPONENTS)
        ]
        errors = [self._error(latent, self._quantised(latent, a, bits).weights) for a in tried]
        best = ops.argmin(ops.stack(errors))
        return ops.take(ops.stack(tried), best), ops.take(ops.stack(errors), best)

    @staticmethod
    def _error(latent: Tensor, weights: Tensor) -> Tensor:
        """||W - W_q||^2 / ||W||^2: without a unit, as a layer before a batch normalisation has."""
        # Divided first, so that neither square leaves the range of float32.
        unit = ops.maximum(ops.max(ops.abs(latent)), 2.0**SMALLEST_EXPONENT)
        unit = ops.stop_gradient(unit)
        energy = ops.stop_gradient(ops.sum(ops.square(latent / unit)))
        return ratio(ops.sum(ops.square((latent - weights) / unit)), energy)

    def _look_at_bits(
        self, latent: Tensor, state: State, exponent: Tensor, steps: Tensor
    ) -> Tensor:
        """Move B by at most one where that lowers the loss; the exponent afterwards, float32."""
        warm_up = optimiser_step("warm_up", self.warm_up, self.total_steps) or 0
        looked_at = ops.convert_to_tensor(state["looked_at"])
        due = ops.logical_and(
            steps - looked_at >= self.bits_every,
            ops.logical_and(steps >= warm_up, self._learns(steps)),
        )
        bits = ops.convert_to_tensor(state["bits"])

        def look() -> tuple[Tensor, Tensor]:
            tried = [ops.clip(bits + i, 0, self.largest_bits) for i in (0, -1, 1)]
            fits = [self._best_fit(latent, b) for b in tried]
            penalties = [self.level_penalty * ops.cast(2**b, "float32") for b in tried]
            costs = [self.distortion * d + p for (_, d), p in zip(fits, penalties, strict=True)]
            best = ops.argmin(ops.stack(costs))  # the first where equal: B stays
            fitted = ops.cast(ops.take(ops.stack([a for a, _ in fits]), best), "float32")
            return ops.take(ops.stack(tried), best), ops.where(best == 0, exponent, fitted)

        def stay() -> tuple[Tensor, Tensor]:
            return bits, exponent

        new_bits, new_exponent = ops.cond(due, look, stay)
        state["bits"].assign(new_bits)
        state["exponent"].assign(new_exponent)
        state["looked_at"].assign(ops.where(due, steps, looked_at))
        return new_exponent

    def _learns(self, steps: Tensor) -> Tensor:
        frozen = optimiser_step("frozen_from", self.frozen_from, self.total_steps)
        return ops.convert_to_tensor(True) if frozen is None else steps < frozen

    def _read(self, state: State, *, training: bool) -> tuple[Tensor, Tensor]:
        steps = StepCounter.read(state, training=training)
        learns = self._learns(steps)
        return self._exponent.read(state, training=training, learns=learns), steps

    def quantise(
        self, latent: Tensor, state: State, *, relative_size: float, training: bool
    ) -> Tensor:
        fixed = ops.stop_gradient(latent)
        exponent, steps = self._read(state, training=training)
        value = ops.stop_gradient(exponent)
        if training:
            value = self._look_at_bits(fixed, state, value, steps)
        rounded, bits = ops.cast(ops.round(value), "int32"), ops.convert_to_tensor(state["bits"])
        quantised = self._quantised(fixed, rounded, bits)
        weights = quantised.weights
        # The identity, but for weights beyond the largest level that would go further out;
        # dW_q/da = ln 2 W_q.
        top = power_of_two(rounded + 2**bits - 1) * math.sqrt(2)
        surrogate = hold_within(latent, top) + math.log(2) * weights * exponent
        return StepCounter.attach(straight_through(weights, surrogate), state)

    def assign(self, latent: Tensor, state: State, *, relative_size: float) -> Assignment:
        exponent, _ = self._read(state, training=False)
        bits = ops.convert_to_tensor(state["bits"])
        rounded = ops.cast(ops.round(exponent), "int32")
        codes, levels, middle, code = self._quantised(ops.convert_to_tensor(latent), rounded, bits)
        # Not int(bits), which AutoGraph makes a tensor while a model is being exported.
        count = 2 ** ops.convert_to_numpy(bits).item()
        return Quantised(codes, levels[middle - count : middle + count + 1], count, code).assignment

    def losses(self, latent: Tensor, state: State, *, relative_size: float) -> dict[str, Tensor]:
        """`distortion`, and `levels`, whose gradient is the update of B."""
        exponent, _ = self._read(state, training=False)
        bits = ops.convert_to_tensor(state["bits"])
        rounded = ops.cast(ops.round(ops.stop_gradient(exponent)), "int32")
        weights = self._quantised(ops.stop_gradient(latent), rounded, bits).weights
        return {
            "distortion": self.distortion * self._error(latent, weights),
            "levels": self.level_penalty * ops.cast(2**bits, "float32"),
        }


_POWERS = np.ldexp(np.float32(1.0), np.arange(-126, 128)).astype(np.float32)


def power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent exactly, float32; exponent int32 in -126 to 127, any shape."""
    return ops.take(_POWERS, exponent + 126)


def _in_range(exponent: Tensor) -> Tensor:
    return ops.clip(exponent, SMALLEST_EXPONENT, LARGEST_EXPONENT)
