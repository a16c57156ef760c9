"""EC2T: entropy-constrained trained ternarization (Marban, Becking, Wiedemann, Samek, CVPRW 2020).

A latent weight w goes to the cluster c in {n, 0, p}, with values (-w_n, 0, +w_p), that minimises

    (w - q_c)^2 + lambda I_c,        I_c = -log2 P_c,

where P comes from the nearest-neighbour assignment of the current weights. The zero cluster is the
most probable, so lambda moves weights into it: pruning and ternarization at once. The minimum is
found without the cost itself, because it is a rule of two thresholds:

    w > t_p -> p,    w < -t_n -> n,    else 0,    t_c = w_c / 2 + lambda (I_c - I_0) / (2 w_c).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from ec2t_tf import schedule as schedules
from ec2t_tf.methods.base import (
    INT8_LARGEST_CODE,
    SMALLEST_CENTROID,
    AddWeight,
    Assignment,
    Member,
    State,
    TernaryMethod,
    int8_levels,
)
from ec2t_tf.methods.checks import optimiser_step, require_moment, require_total_steps
from ec2t_tf.schedule import StepCounter

if TYPE_CHECKING:
    from tensorflow_model_optimization.python.core.sparsity.keras.pruning_schedule import (
        PruningSchedule,
    )

# Where zero and another cluster are equally probable, no lambda moves the boundary.
SMALLEST_INFORMATION_GAP = 1e-6
# Lets a small layer be constrained too: delta = (N/N_largest + sigma) / (1 + sigma).
SIZE_SIGMA = 0.05
# Half of a Gaussian lies within 0.675 standard deviations; keeps centroids from collapsing.
CENTROID_FLOOR = 0.675
# The published s, and where nothing is said, the published gamma.
DEFAULT_CENTROID_SCALE = 0.3
DEFAULT_ENTROPY_GAIN = 0.1
# Published for the pruning of the layers that stay int8 (EfficientNet-B1, ec2t.md 2.8).
PRUNING_CENTROID_SCALE = 0.25
PRUNING_ENTROPY_GAIN = 0.15
# With a target sparsity: values of s to choose from.
CENTROID_SCALES = tuple(0.05 * 1.3**step for step in range(14))
# A target sparsity missed by more than this at the start is worth a warning.
SPARSITY_TOLERANCE = 0.01
# Share of a centroid up to which a weight is zero whatever the gain: a gain below 0 moves the
# boundary from half of the centroid towards this, and does not give dead weights a value.
SMALLEST_THRESHOLD = 0.25


class Thresholds(NamedTuple):
    """Scalars, float32: weights below -negative and above positive are not zero."""

    negative: tf.Tensor
    positive: tf.Tensor
    lambda_: tf.Tensor
    probabilities: tf.Tensor  # P of n, 0, p after the floor; shape (3,)


def probabilities(
    latent: tf.Tensor, w_n: tf.Tensor, w_p: tf.Tensor, *, reference_floor: bool
) -> tf.Tensor:
    """P of (n, 0, p) by nearest neighbour, with P_0 >= 1/2 and no empty cluster: float32 (3,)."""
    size = float(latent.shape.num_elements())
    count_n = tf.reduce_sum(tf.cast(latent < -w_n / 2, tf.float32))
    count_p = tf.reduce_sum(tf.cast(latent > w_p / 2, tf.float32))
    counts = tf.stack([count_n, size - count_n - count_p, count_p])
    p_n, p_0, p_p = tf.unstack(tf.maximum(counts, 1.0) / size)
    missing = tf.maximum(0.5 - p_0, 0.0)
    non_zero = p_n + p_p
    floored_n = p_n - missing * p_n / non_zero
    # The published code divides by the already reduced P_n + P_p here.
    floored_p = p_p - missing * p_p / (floored_n + p_p if reference_floor else non_zero)
    return tf.stack([floored_n, p_0 + missing, floored_p])


def thresholds(
    latent: tf.Tensor,
    w_n: tf.Tensor,
    w_p: tf.Tensor,
    *,
    gain: float | tf.Tensor,
    reference_floor: bool = False,
) -> Thresholds:
    """The two boundaries of the entropy-constrained assignment (ec2t.md sections 1.2 to 1.4).

    Args:
      latent: float32, any shape.
      w_n, w_p: float32 scalars, positive.
      gain: gamma * delta in (-1, 1); 0 is nearest neighbour, below it entropy is rewarded, down to
        thresholds of a quarter of the centroid.
    """
    p = probabilities(latent, w_n, w_p, reference_floor=reference_floor)
    information = -tf.math.log(p) / np.float32(np.log(2.0))
    lowest, highest = tf.reduce_min(latent), tf.reduce_max(latent)

    def limit(extreme: tf.Tensor, centroid: tf.Tensor, cost: tf.Tensor) -> tf.Tensor:
        """lambda at which even the most extreme weight of this side goes to zero."""
        # extreme^2 - (centroid - extreme)^2, without the cancellation of two squares
        gap = centroid * (2.0 * extreme - centroid)
        usable = tf.logical_and(gap > 0.0, cost > SMALLEST_INFORMATION_GAP)
        # No usable limit means nearest neighbour; a side without weights does not limit.
        finite = tf.where(usable, gap / tf.maximum(cost, SMALLEST_INFORMATION_GAP), 0.0)
        return tf.where(extreme > 0.0, finite, np.float32(np.inf))

    cost_n, cost_p = information[0] - information[1], information[2] - information[1]
    largest = tf.minimum(limit(-lowest, w_n, cost_n), limit(highest, w_p, cost_p))
    lambda_ = gain * tf.where(tf.math.is_finite(largest), largest, 0.0)
    return Thresholds(
        negative=tf.maximum(w_n / 2 + lambda_ * cost_n / (2 * w_n), SMALLEST_THRESHOLD * w_n),
        positive=tf.maximum(w_p / 2 + lambda_ * cost_p / (2 * w_p), SMALLEST_THRESHOLD * w_p),
        lambda_=lambda_,
        probabilities=p,
    )


def on_grid(w_n: tf.Tensor, w_p: tf.Tensor, levels: int) -> tf.Tensor:
    """(w_n, w_p), the smaller one moved to the nearest k/levels of the larger, k from 1: (2,)."""
    centroids = tf.stack([w_n, w_p])
    step = tf.reduce_max(centroids) / levels
    return tf.maximum(tf.round(centroids / step), 1.0) * step


class EC2T(TernaryMethod):
    """Entropy-constrained trained ternarization.

    The strength of the entropy constraint, gamma, comes from one of three places: `entropy_gain`
    fixes it, as the paper does; `target_sparsity` finds it at each step, one gain for the whole
    network, so that this share of the ternary weights is zero; `schedule` varies either of them
    over the optimiser's steps.

    Args:
      centroid_scale: s in (0, 2); w_n = s |min(W)|, w_p = s |max(W)| to begin with. Larger is
        sparser. None means 0.3, or with a target sparsity the s whose ternary net is nearest to the
        float net at that sparsity.
      entropy_gain: gamma in [0, 1). 0 is nearest neighbour. None means 0.1.
      target_sparsity: share of zeros in all ternary layers together, in (0, 1). Where nearest
        neighbour alone gives more zeros, gamma becomes negative: entropy is rewarded. Weights
        below a quarter of the centroid stay zero all the same.
      schedule: a `tfmot.sparsity.keras.PruningSchedule`. As in tfmot the last value holds outside
        its pruning steps; before the first, EC2T is nearest neighbour.
      schedule_of: what the schedule gives, "sparsity" or "entropy_gain".
      frozen_from: optimiser step from which on the assignment does not change any more, while
        centroids and all other weights go on training; or a share of `total_steps`, between 0 and
        1. None trains the assignment to the end.
      prune_int8_from: optimiser step, or share of `total_steps`, from which on the layers that the
        policy's defaults keep int8 (the first, the last, depthwise) are pruned too: `ECP` with the
        paper's s and gamma for such layers (ec2t.md 2.8). `frozen_from` freezes them with the
        others. None leaves them int8.
      total_steps: optimiser steps of the whole training; needed where a moment is a share.
      centroid_learning_rate: learning rate of the centroids relative to the optimiser's, under
        optimisers that do not depend on the gradient's scale (Adam and its family); its square
        under plain SGD. The reference uses 0.1.
      level_grid: number of levels of which the larger centroid of a layer is the last and the
        smaller one is one too. 7 is the grid of INT4, for `to_tflite(format="int4")`. The
        optimiser moves both freely; the network, its assignment included, computes with the
        nearest levels. None leaves the ratio free.
      reference_sign: gradient of w_n with the published code's sign, which ascends the loss
        (ec2t.md 2.2). For replication only.
      reference_floor: the published code's slip in the floor of P_0 (ec2t.md 1.2). For replication
        only.

    The centroid of a layer is `centroids + rate * centroid_step`. The optimiser sees only the step,
    which starts each forward pass of training at zero after it has been added to the centroids. So
    any optimiser gives the centroids their own learning rate, and a weight decay, which pulls a
    variable towards zero, has nothing to pull at.
    """

    name = "ec2t"

    def __init__(
        self,
        *,
        centroid_scale: float | None = None,
        entropy_gain: float | None = None,
        target_sparsity: float | None = None,
        schedule: PruningSchedule | dict | None = None,
        schedule_of: Literal["sparsity", "entropy_gain"] = "sparsity",
        frozen_from: float | None = None,
        prune_int8_from: float | None = None,
        total_steps: int | None = None,
        centroid_learning_rate: float = 0.1,
        level_grid: int | None = None,
        reference_sign: bool = False,
        reference_floor: bool = False,
    ) -> None:
        if centroid_scale is not None and not 0.0 < centroid_scale < 2.0:
            raise ValueError(
                "centroid_scale must lie between 0 and 2 (exclusive): at 2 no weight is nearer to "
                f"a centroid than to zero. Received: centroid_scale={centroid_scale}."
            )
        if entropy_gain is not None and not 0.0 <= entropy_gain < 1.0:
            raise ValueError(
                "entropy_gain must be at least 0 and less than 1: at 1 a layer loses all its "
                f"weights. Received: entropy_gain={entropy_gain}."
            )
        if target_sparsity is not None and not 0.0 < target_sparsity < 1.0:
            raise ValueError(
                "target_sparsity must lie between 0 and 1 (exclusive), 0.8 for 80 % zeros. "
                f"Received: target_sparsity={target_sparsity}."
            )
        given = {
            "entropy_gain": entropy_gain,
            "target_sparsity": target_sparsity,
            "schedule": schedule,
        }
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise ValueError(
                "At most one of entropy_gain, target_sparsity and schedule may say how strong the "
                f"entropy constraint is. Received: {' and '.join(named)}."
            )
        if schedule_of not in ("sparsity", "entropy_gain"):
            raise ValueError(
                "schedule_of must be 'sparsity' or 'entropy_gain'. "
                f"Received: schedule_of={schedule_of!r}."
            )
        if not centroid_learning_rate >= 0.0:
            raise ValueError(
                "centroid_learning_rate must be 0 (fixed centroids) or positive. "
                f"Received: centroid_learning_rate={centroid_learning_rate}."
            )
        if level_grid is not None and level_grid not in range(1, INT8_LARGEST_CODE + 1):
            raise ValueError(
                "level_grid must be a whole number from 1 to 127, 7 for INT4, or None. "
                f"Received: level_grid={level_grid}."
            )
        self.centroid_scale = centroid_scale
        self.entropy_gain = entropy_gain
        self.target_sparsity = target_sparsity
        self.schedule = None if schedule is None else schedules.check(schedule)
        self.schedule_of = schedule_of
        self.frozen_from = require_moment("frozen_from", frozen_from)
        self.prune_int8_from = require_moment("prune_int8_from", prune_int8_from)
        self.total_steps = require_total_steps(total_steps)
        if _not_before(prune_int8_from, frozen_from):
            raise ValueError(
                "prune_int8_from must come before frozen_from, which freezes what is pruned too. "
                f"Received: prune_int8_from={prune_int8_from}, frozen_from={frozen_from}."
            )
        self.centroid_learning_rate = float(centroid_learning_rate)
        self.level_grid = None if level_grid is None else int(level_grid)
        self.reference_sign = bool(reference_sign)
        self.reference_floor = bool(reference_floor)

    def get_config(self) -> dict:
        return {
            "centroid_scale": self.centroid_scale,
            "entropy_gain": self.entropy_gain,
            "target_sparsity": self.target_sparsity,
            "schedule": schedules.serialize(self.schedule),
            "schedule_of": self.schedule_of,
            "frozen_from": self.frozen_from,
            "prune_int8_from": self.prune_int8_from,
            "total_steps": self.total_steps,
            "centroid_learning_rate": self.centroid_learning_rate,
            "level_grid": self.level_grid,
            "reference_sign": self.reference_sign,
            "reference_floor": self.reference_floor,
        }

    @property
    def controls_network(self) -> bool:
        """Whether the entropy gain is found from a sparsity of the whole network."""
        scheduled = self.schedule is not None and self.schedule_of == "sparsity"
        return scheduled or self.target_sparsity is not None

    @property
    def _final_sparsity(self) -> float:
        if self.schedule is not None:
            return schedules.final_value(self.schedule)
        return float(self.target_sparsity or 0.0)

    @property
    def freezing_step(self) -> int | None:
        """The optimiser step from which on the assignment is frozen; None for never.

        Raises:
          ValueError: it is a share of a number of steps that is not known.
        """
        return optimiser_step("frozen_from", self.frozen_from, self.total_steps)

    @property
    def _counts_steps(self) -> bool:
        return self.schedule is not None or self.freezing_step is not None

    def build(self, add_weight: AddWeight) -> State:
        state = {
            "centroids": add_weight("centroids", (2,), False),
            "centroid_step": add_weight("centroid_step", (2,), True),
        }
        if self.controls_network or self.schedule is not None:
            state["entropy_gain"] = add_weight("entropy_gain", (), False)
        if self.controls_network and self.schedule is not None:
            state["target_sparsity"] = add_weight("target_sparsity", (), False)
        if self._counts_steps:
            state |= StepCounter.build(add_weight)
        if self.freezing_step is not None:
            state["codes"] = add_weight("codes", None, False, "int8")
            state["frozen"] = add_weight("frozen", (), False, "bool")
        return state

    def initialise(self, latent: tf.Tensor, state: State) -> None:
        scale = DEFAULT_CENTROID_SCALE if self.centroid_scale is None else self.centroid_scale
        self._place_centroids(latent, state, scale)
        for name in set(state) - {"centroids"}:
            state[name].assign(tf.zeros_like(state[name]))

    @staticmethod
    def _place_centroids(latent: tf.Tensor, state: State, scale: float) -> None:
        extremes = tf.abs(tf.stack([tf.reduce_min(latent), tf.reduce_max(latent)]))
        state["centroids"].assign(tf.maximum(scale * extremes, SMALLEST_CENTROID))

    def initialise_network(self, members: Sequence[Member]) -> None:
        """Choose s where a sparsity is wanted and no s was given, and the gain to begin with."""
        if not self.controls_network:
            return
        final = self._final_sparsity
        if self.centroid_scale is None:
            starts = {scale: self._start(members, scale, final) for scale in CENTROID_SCALES}
            self._place_all_centroids(members, min(starts, key=lambda scale: starts[scale].rank))
        start = self._start(members, None, final)
        if abs(start.sparsity - final) > SPARSITY_TOLERANCE:
            fewest = "at least " if start.sparsity > final else ""
            warnings.warn(
                f"The target of {final:.1%} zeros is out of reach for these weights: the entropy "
                f"constraint gives {fewest}{start.sparsity:.1%} (weights below a quarter of a "
                "centroid stay zero), and training goes on from there. Set centroid_scale "
                "(smaller for fewer zeros, larger for more), or choose another target.",
                stacklevel=2,
            )
        if self.schedule is not None:
            self._control(members, tf.constant(0.0))

    def _place_all_centroids(self, members: Sequence[Member], scale: float) -> None:
        for member in members:
            self._place_centroids(tf.convert_to_tensor(member.latent), member.state, scale)

    def _start(self, members: Sequence[Member], scale: float | None, sparsity: float) -> _Start:
        """The ternary net at a sparsity: centroids by this s, or (None) as they are."""
        if scale is not None:
            self._place_all_centroids(members, scale)
        self._control(members, tf.constant(sparsity))
        error, zeros, size = 0.0, 0.0, 0
        for member in members:
            latent = tf.convert_to_tensor(member.latent)
            assignment = self.assign(latent, member.state, relative_size=member.relative_size)
            energy = max(float(tf.reduce_sum(tf.square(latent))), SMALLEST_CENTROID)
            squares = float(tf.reduce_sum(tf.square(latent - assignment.dequantise())))
            count = assignment.codes.size
            error += count * squares / energy
            zeros += count * assignment.sparsity
            size += count
        return _Start(zeros / size, abs(zeros / size - sparsity), error / size)

    def before_pass(self, members: Sequence[Member]) -> None:
        """Find the entropy gain that gives the whole network its sparsity."""
        state = members[0].state
        target, learns = tf.constant(self.target_sparsity or 0.0), tf.constant(True)
        if self._counts_steps:
            steps = StepCounter.read(state, training=True)
            if self.freezing_step is not None:
                learns = steps < self.freezing_step
        if self.schedule is not None:
            target = schedules.scheduled(self.schedule, steps, state["target_sparsity"])
            state["target_sparsity"].assign(target)
        self._control(members, target, learns)

    def _control(
        self, members: Sequence[Member], sparsity: tf.Tensor, learns: bool | tf.Tensor = True
    ) -> tf.Tensor:
        """Set and return the gain that gives the network this sparsity; kept unless it learns.

        A schedule that rises to its final value does so from nearest neighbour: the gain is below
        zero only where the final value needs it.
        """
        zeroing_gains = []
        for member in members:
            latent = tf.stop_gradient(tf.convert_to_tensor(member.latent))
            centroids = tf.stop_gradient(self.levels(self.centroids(latent, member.state)))
            zeroing_gains.append(self._zeroing_gains(latent, centroids, member.relative_size))
        wanted = tf.stack([sparsity, self._final_sparsity])
        now, final = tf.unstack(schedules.gain_for_sparsity(zeroing_gains, wanted))
        gain = tf.maximum(now, tf.minimum(final, 0.0))
        gain = tf.where(learns, gain, members[0].state["entropy_gain"])
        for member in members:
            member.state["entropy_gain"].assign(gain)
        return gain

    def _zeroing_gains(
        self, latent: tf.Tensor, centroids: tf.Tensor, relative_size: float
    ) -> tf.Tensor:
        """The gain from which on each weight is zero: thresholds are linear in the gain."""
        largest = self.thresholds(
            latent, centroids, relative_size=relative_size, entropy_gain=tf.constant(1.0)
        )
        centroid = tf.where(latent > 0.0, centroids[1], centroids[0])
        start = centroid / 2
        slope = tf.where(latent > 0.0, largest.positive, largest.negative) - start
        beyond = tf.abs(latent) - start
        gains = tf.math.divide_no_nan(beyond, slope)
        # No gain moves the threshold, or not so far.
        fixed = tf.where(beyond > 0.0, np.float32(np.inf), -np.float32(np.inf))
        always_zero = tf.abs(latent) <= SMALLEST_THRESHOLD * centroid
        return tf.where(tf.logical_or(slope <= 0.0, always_zero), fixed, gains)

    @property
    def _fixed_gain(self) -> float:
        return DEFAULT_ENTROPY_GAIN if self.entropy_gain is None else self.entropy_gain

    def gain(
        self, relative_size: float, entropy_gain: tf.Tensor | None = None
    ) -> tf.Tensor | float:
        """gamma * delta of a layer (ec2t.md 1.3); by default with the gamma that was fixed."""
        size_factor = (relative_size + SIZE_SIGMA) / (1 + SIZE_SIGMA)
        return (self._fixed_gain if entropy_gain is None else entropy_gain) * size_factor

    def current_gain(self, state: State) -> tf.Tensor:
        """gamma in force, float32 scalar: the one fixed, or the last one found or scheduled."""
        return tf.convert_to_tensor(state.get("entropy_gain", self._fixed_gain), tf.float32)

    def centroids(self, latent: tf.Tensor, state: State) -> tf.Tensor:
        """(w_n, w_p), float32 (2,): with the optimiser's last step, not below the floor."""
        moved = state["centroids"] + self.centroid_learning_rate * state["centroid_step"]
        count = latent.shape.num_elements()
        deviation = latent - tf.reduce_mean(latent)
        variance = tf.reduce_sum(tf.square(deviation)) / max(count - 1, 1)
        return tf.maximum(moved, tf.maximum(CENTROID_FLOOR * tf.sqrt(variance), SMALLEST_CENTROID))

    def levels(self, centroids: tf.Tensor) -> tf.Tensor:
        """(w_n, w_p) the network computes with: on the grid, if there is one."""
        if self.level_grid is None:
            return centroids
        return on_grid(centroids[0], centroids[1], self.level_grid)

    @property
    def _largest_code(self) -> int:
        """The int8 code of the larger centroid: each level of a grid has a whole code."""
        grid = self.level_grid or 1
        return grid * (INT8_LARGEST_CODE // grid)

    def thresholds(
        self,
        latent: tf.Tensor,
        centroids: tf.Tensor,
        *,
        relative_size: float,
        entropy_gain: tf.Tensor,
    ) -> Thresholds:
        """The layer's two thresholds at an entropy gain of the network."""
        return thresholds(
            latent,
            centroids[0],
            centroids[1],
            gain=self.gain(relative_size, entropy_gain),
            reference_floor=self.reference_floor,
        )

    def quantise(
        self, latent: tf.Tensor, state: State, *, relative_size: float, training: bool
    ) -> tf.Tensor:
        fixed = tf.stop_gradient(latent)
        centroids = tf.stop_gradient(self.centroids(fixed, state))
        step = tf.convert_to_tensor(state["centroid_step"])
        if training:
            state["centroids"].assign(centroids)
            state["centroid_step"].assign(tf.zeros(2))
        centroids = self.levels(centroids)
        if self._counts_steps:
            steps = StepCounter.read(state, training=training)
        if training and self.schedule is not None and self.schedule_of == "entropy_gain":
            gain = schedules.scheduled(self.schedule, steps, state["entropy_gain"])
            state["entropy_gain"].assign(gain)
        boundary = self.thresholds(
            fixed, centroids, relative_size=relative_size, entropy_gain=self.current_gain(state)
        )
        negative, positive = fixed < -boundary.negative, fixed > boundary.positive
        learns: bool | tf.Tensor = True
        if self.freezing_step is not None:
            learns = steps < self.freezing_step
            codes = _held_codes(negative, positive, state)
            negative, positive = codes < 0, codes > 0
            if training:
                state["codes"].assign(codes)
                state["frozen"].assign(tf.logical_not(learns))
        weights = self._ternary_weights(latent, step, centroids, negative, positive, learns)
        return StepCounter.attach(weights, state) if self._counts_steps else weights

    def _ternary_weights(
        self,
        latent: tf.Tensor,
        step: tf.Tensor,
        centroids: tf.Tensor,
        negative: tf.Tensor,
        positive: tf.Tensor,
        learns: bool | tf.Tensor,
    ) -> tf.Tensor:
        levels = int8_levels(centroids[0], centroids[1], largest_code=self._largest_code)

        @tf.custom_gradient
        def assigned(latent: tf.Tensor, step: tf.Tensor) -> tuple:
            def gradient(g: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                """ec2t.md 2.2: scaled straight-through for the latents, sums for the centroids."""
                scale = tf.where(positive, centroids[1], tf.where(negative, centroids[0], 1.0))
                if learns is not True:
                    scale = tf.where(learns, scale, 0.0)
                sum_n = tf.reduce_sum(tf.where(negative, g, 0.0))
                sum_p = tf.reduce_sum(tf.where(positive, g, 0.0))
                # The value is -w_n, so the true derivative by w_n is minus the sum.
                sum_n = sum_n if self.reference_sign else -sum_n
                return scale * g, self.centroid_learning_rate * tf.stack([sum_n, sum_p])

            return tf.where(positive, levels[2], tf.where(negative, levels[0], 0.0)), gradient

        return assigned(latent, step)

    def assign(self, latent: tf.Tensor, state: State, *, relative_size: float) -> Assignment:
        latent = tf.convert_to_tensor(latent)
        w_n, w_p = tf.unstack(self.levels(self.centroids(latent, state)))
        codes = self._codes(latent, state, relative_size)
        levels = int8_levels(w_n, w_p, largest_code=self._largest_code)
        return Assignment(codes.numpy(), levels.numpy(), largest_code=self._largest_code)

    def _codes(self, latent: tf.Tensor, state: State, relative_size: float) -> tf.Tensor:
        """Codes -1, 0, +1 of the state as it is: int8, shape of `latent`."""
        centroids = self.levels(self.centroids(latent, state))
        boundary = self.thresholds(
            latent, centroids, relative_size=relative_size, entropy_gain=self.current_gain(state)
        )
        return _held_codes(latent < -boundary.negative, latent > boundary.positive, state)


class _Start(NamedTuple):
    """How a network starts with some s, and how good that is."""

    sparsity: float
    miss: float  # distance to the sparsity wanted
    error: float  # squared distance to the float weights / their squares, mean over all weights

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: reach the sparsity first, then stay near the float weights."""
        return self.miss if self.miss > SPARSITY_TOLERANCE else 0.0, self.error


def _held_codes(negative: tf.Tensor, positive: tf.Tensor, state: State) -> tf.Tensor:
    """Codes -1, 0, +1 as int8: the frozen ones where the assignment is frozen."""
    codes = tf.cast(positive, tf.int8) - tf.cast(negative, tf.int8)
    return tf.where(state["frozen"], state["codes"], codes) if "frozen" in state else codes


def _not_before(first: float | None, second: float | None) -> bool:
    """Whether two moments, both shares or both steps, are in the wrong order."""
    if first is None or second is None or (0.0 < first < 1.0) != (0.0 < second < 1.0):
        return False
    return first >= second
