"""What changes while EC2T trains: schedules over optimiser steps, and the sparsity controller.

tfmot's `PruningSchedule` objects drive EC2T, without a callback. Three pieces:

- `StepCounter` counts optimiser steps from inside a layer, so that it works in `fit` and in any
  custom loop, with gradient accumulation, `steps_per_execution` and distribution alike.
- `scheduled` reads a schedule as tfmot does: outside its pruning steps the last value holds.
- `gain_for_sparsity` is the controller. EC2T's thresholds are linear in the entropy gain, so every
  weight has one gain at which it becomes zero; the gain that gives a sparsity is the quantile of
  these over the whole network. Nothing is tuned and nothing lags behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

if TYPE_CHECKING:
    from tensorflow_model_optimization.python.core.sparsity.keras.pruning_schedule import (
        PruningSchedule,
    )

    from ec2t_tf.methods.base import AddWeight, State

# Gradient of a step counter's clock: moves it under every optimiser, yet adds nothing to a norm.
TICK = 1e-12
# Resolution of the controller, in gain. A bin holds about 0.03 % of the weights of a trained net.
GAIN_BINS = 8192
# Beyond any training, where a schedule has reached its last value.
LAST_STEP = 2**40


class StepCounter:
    """Counts optimiser steps without a callback and without knowing the optimiser.

    A layer has a trainable scalar, the clock, whose gradient is a tiny constant. When the next
    forward pass of training finds that it moved, the optimiser has made a step: the pass counts it
    and puts the clock back to zero. Passes between which nothing was applied (gradient
    accumulation, skipped steps of a loss scale) count nothing. A step with learning rate 0 moves
    nothing, and is not counted either.
    """

    CLOCK = "clock"

    @staticmethod
    def build(add_weight: AddWeight) -> State:
        return {
            StepCounter.CLOCK: add_weight(StepCounter.CLOCK, (), True),
            "steps": add_weight("steps", (), False, "int64"),
        }

    @staticmethod
    def read(state: State, *, training: bool) -> tf.Tensor:
        """Optimiser steps made so far, int64; with `training` the clock is put back."""
        moved = tf.not_equal(state[StepCounter.CLOCK], 0.0)
        steps = state["steps"] + tf.cast(moved, tf.int64)
        if training:
            state["steps"].assign(steps)
            state[StepCounter.CLOCK].assign(0.0)
        return steps

    @staticmethod
    def attach(weights: tf.Tensor, state: State) -> tf.Tensor:
        """`weights`, unchanged, on whose gradient the clock runs."""

        @tf.custom_gradient
        def pass_on(weights: tf.Tensor, clock: tf.Tensor) -> tuple:
            return tf.identity(weights), lambda g: (g, tf.constant(TICK))

        return pass_on(weights, tf.convert_to_tensor(state[StepCounter.CLOCK]))


def scheduled(schedule: PruningSchedule, steps: tf.Tensor, held: tf.Variable) -> tf.Tensor:
    """The schedule's value at `steps`, or the last one (`held`) outside its pruning steps."""
    applies, value = schedule(steps)
    return tf.where(applies, tf.cast(value, tf.float32), held)


def final_value(schedule: PruningSchedule) -> float:
    """The value at which a schedule ends."""
    with tf.init_scope():  # a number also while a function is being traced
        return float(schedule(tf.constant(LAST_STEP, tf.int64))[1])


def gain_for_sparsity(zeroing_gains: Sequence[tf.Tensor], sparsity: tf.Tensor) -> tf.Tensor:
    """The smallest entropy gain at which a share `sparsity` of all weights is zero.

    A gain below 0 rewards entropy instead: fewer zeros than nearest neighbour gives.

    Args:
      zeroing_gains: for each layer the gain from which on a weight is zero, `-inf` where it always
        is and `inf` where no gain does it; float32 of any shape.
      sparsity: float32 of shape (), or (k,) for several at once; 0 to 1.

    Returns:
      float32 in [-1, 1), shape of `sparsity`, exact to 2 / `GAIN_BINS`. The smallest or largest of
      that range where the sparsity lies outside of what it gives.
    """
    counts = tf.zeros(GAIN_BINS + 1, tf.int32)
    for gains in zeroing_gains:
        # Bin b holds the weights that become zero in (-1 + 2 (b - 1) / BINS, -1 + 2 b / BINS].
        bins = tf.math.ceil((tf.clip_by_value(gains, -1.0, 1.0) + 1.0) * (GAIN_BINS / 2))
        bins = tf.reshape(tf.cast(bins, tf.int32), [-1])
        counts += tf.math.bincount(bins, minlength=GAIN_BINS + 1, maxlength=GAIN_BINS + 1)
    zeros = tf.cumsum(counts)
    wanted = sparsity * tf.cast(zeros[-1], tf.float32)
    index = tf.searchsorted(tf.cast(zeros, tf.float32), tf.reshape(wanted, [-1]), side="left")
    index = tf.reshape(tf.minimum(index, GAIN_BINS - 1), tf.shape(wanted))
    # Within a bin the weights are taken as evenly spread; only the last bin allowed can be empty.
    inside = tf.gather(counts, index)
    before = tf.cast(tf.gather(zeros, index) - inside, tf.float32)
    share = tf.where(inside > 0, (wanted - before) / tf.cast(inside, tf.float32), 1.0)
    steps = tf.cast(index, tf.float32) - 1.0 + tf.clip_by_value(share, 0.0, 1.0)
    return tf.maximum(steps, 0.0) * (2 / GAIN_BINS) - 1.0


def check(schedule: Any) -> PruningSchedule:
    """The schedule itself, or the one that `serialize` wrote down.

    Raises:
      TypeError: neither of them.
      ValueError: a user's own class that is not registered.
    """
    from tensorflow_model_optimization.sparsity import keras as sparsity

    if isinstance(schedule, dict) and {"class_name", "config"} <= set(schedule):
        name = schedule["class_name"]
        known = {
            kind.__name__: kind for kind in (sparsity.ConstantSparsity, sparsity.PolynomialDecay)
        }
        kind = known.get(name) or tf_keras.saving.get_registered_object(name)
        if kind is None:
            raise ValueError(
                f"A registered schedule is required. Received: '{name}', which is unknown. "
                "Decorate its class with tf_keras.saving.register_keras_serializable, and import "
                "its module before loading."
            )
        return kind.from_config(schedule["config"])
    if not isinstance(schedule, sparsity.PruningSchedule):
        raise TypeError(
            "schedule must be a tfmot.sparsity.keras.PruningSchedule, such as "
            "PolynomialDecay(initial_sparsity=0.5, final_sparsity=0.8, begin_step=0, "
            f"end_step=2000). Received: schedule={schedule!r}."
        )
    return schedule


def serialize(schedule: PruningSchedule | None) -> dict | None:
    """A schedule as JSON; a user's own class is named as it was registered."""
    if schedule is None:
        return None
    config = dict(schedule.get_config())
    config = config.get("config", config)
    name = tf_keras.saving.get_registered_name(type(schedule))
    return {"class_name": name, "config": config}
