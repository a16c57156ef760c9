"""What changes while a method trains: schedules over optimiser steps, and the sparsity controller.

Three pieces, without a callback:

- `ConstantSparsity` and `PolynomialDecay` are schedules with the arguments, the values and the
  saved form of tfmot's of the same name, on any backend. Outside their pruning steps the last value
  holds (`scheduled`).
- `StepCounter` counts optimiser steps from inside a layer, so that it works in `fit` and in any
  custom loop, with gradient accumulation, `steps_per_execution` and distribution alike.
- `gain_for_sparsity` is the controller. EC2T's thresholds are linear in the entropy gain, so every
  weight has one gain at which it becomes zero; the gain that gives a sparsity is the quantile of
  these over the whole network. Nothing is tuned and nothing lags behind.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import keras
from keras import ops

if TYPE_CHECKING:
    from ec2t_tf.methods.base import AddWeight, State, Tensor

# Gradient of a step counter's clock: moves it under every optimiser, yet adds nothing to a norm.
TICK = 1e-12
# Resolution of the controller, in gain. A bin holds about 0.03 % of the weights of a trained net.
GAIN_BINS = 8192
# Beyond any training, where a schedule has reached its last value.
LAST_STEP = 2**30


class Schedule(Protocol):
    """A value over optimiser steps: one of ours, of tfmot's, or the user's own."""

    def __call__(self, step: Tensor, /) -> tuple[Tensor, Tensor]:
        """Whether the value applies at this step (bool scalar), and the value (float scalar)."""

    def get_config(self) -> dict: ...


class _Timed:
    """The steps at which a schedule applies: every `frequency` steps from the first to the last."""

    def __init__(self, begin_step: int, end_step: int, frequency: int, *, endless: bool) -> None:
        if begin_step < 0:
            raise ValueError(f"begin_step must be at least 0. Received: begin_step={begin_step}.")
        if not (end_step >= begin_step or (endless and end_step == -1)):
            raise ValueError(
                f"end_step must be at least begin_step{' or -1 for no end' if endless else ''}. "
                f"Received: begin_step={begin_step}, end_step={end_step}."
            )
        if frequency < 1:
            raise ValueError(f"frequency must be at least 1. Received: frequency={frequency}.")
        self.begin_step, self.end_step, self.frequency = begin_step, end_step, frequency

    def _applies(self, step: Tensor) -> Tensor:
        turn = ops.equal(ops.mod(step - self.begin_step, self.frequency), 0)
        begun = step >= self.begin_step
        applies = ops.logical_and(begun, turn)
        return applies if self.end_step < 0 else ops.logical_and(applies, step <= self.end_step)

    def get_config(self) -> dict:
        return {
            "begin_step": self.begin_step,
            "end_step": self.end_step,
            "frequency": self.frequency,
        }

    @classmethod
    def from_config(cls, config: dict) -> Any:
        return cls(**config)


def _share(name: str, value: float) -> float:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must be at least 0 and less than 1. Received: {name}={value}.")
    return float(value)


class ConstantSparsity(_Timed):
    """One value from `begin_step` on, every `frequency` steps, up to `end_step` (-1: no end)."""

    def __init__(
        self, target_sparsity: float, begin_step: int, end_step: int = -1, frequency: int = 100
    ) -> None:
        super().__init__(begin_step, end_step, frequency, endless=True)
        self.target_sparsity = _share("target_sparsity", target_sparsity)

    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        return self._applies(step), ops.convert_to_tensor(self.target_sparsity, "float32")

    def get_config(self) -> dict:
        return {"target_sparsity": self.target_sparsity, **super().get_config()}


class PolynomialDecay(_Timed):
    """final + (initial - final) (1 - p)^power, p the share of the way, 0 at begin, 1 at end."""

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        end_step: int,
        power: float = 3,
        frequency: int = 100,
    ) -> None:
        super().__init__(begin_step, end_step, frequency, endless=False)
        self.initial_sparsity = _share("initial_sparsity", initial_sparsity)
        self.final_sparsity = _share("final_sparsity", final_sparsity)
        self.power = power
        if begin_step < end_step < begin_step + frequency and initial_sparsity != final_sparsity:
            warnings.warn(
                f"PolynomialDecay changes its value every frequency={frequency} steps, but ends "
                f"{end_step - begin_step} steps after it began: it stays at initial_sparsity="
                f"{initial_sparsity} and never reaches {final_sparsity}. Pass frequency=1.",
                stacklevel=2,
            )

    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        way = max(self.end_step - self.begin_step, 1)
        p = ops.clip(ops.cast(step - self.begin_step, "float32") / way, 0.0, 1.0)
        left = (self.initial_sparsity - self.final_sparsity) * ops.power(1.0 - p, self.power)
        return self._applies(step), left + self.final_sparsity

    def get_config(self) -> dict:
        return {
            "initial_sparsity": self.initial_sparsity,
            "final_sparsity": self.final_sparsity,
            "power": self.power,
            **super().get_config(),
        }


class StepCounter:
    """Counts optimiser steps without a callback and without knowing the optimiser.

    A layer has a trainable scalar, the clock, whose gradient is a tiny constant that pulls it
    towards zero. When the next forward pass of training finds that it moved, the optimiser has made
    a step: the pass counts it and remembers where the clock stood (or puts it back to zero where a
    pass may write trained variables). Passes between which nothing was applied (gradient
    accumulation, skipped steps of a loss scale) count nothing. A step with learning rate 0 moves
    nothing, and is not counted either.
    """

    CLOCK, SEEN = "clock", "clock_seen"

    @staticmethod
    def build(add_weight: AddWeight) -> State:
        state = {
            StepCounter.CLOCK: add_weight(StepCounter.CLOCK, (), True),
            "steps": add_weight("steps", (), False, "int64"),
        }
        seen = add_weight(StepCounter.SEEN, (), False)
        return state if seen is None else {**state, StepCounter.SEEN: seen}

    @staticmethod
    def read(state: State, *, training: bool) -> Tensor:
        """Optimiser steps made so far, a whole number; with `training` they are counted."""
        clock = ops.stop_gradient(ops.convert_to_tensor(state[StepCounter.CLOCK]))
        seen = state.get(StepCounter.SEEN)
        moved = ops.not_equal(clock, 0.0 if seen is None else ops.convert_to_tensor(seen))
        steps = ops.convert_to_tensor(state["steps"])
        steps = steps + ops.cast(moved, steps.dtype)
        if training:
            state["steps"].assign(steps)
            if seen is None:
                state[StepCounter.CLOCK].assign(ops.zeros(()))
            else:
                seen.assign(clock)
        return steps

    @staticmethod
    def attach(weights: Tensor, state: State) -> Tensor:
        """`weights`, unchanged, on whose gradient the clock runs.

        The gradient needs what the pass has counted: else only control edges keep the optimiser's
        step behind the pass's look at the clock, and TensorFlow's graph optimiser drops one.
        """

        @ops.custom_gradient
        def pass_on(weights: Tensor, clock: Tensor, steps: Tensor) -> tuple:
            def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> tuple:
                g = arguments[0] if upstream is None else upstream
                tick = ops.where(clock < 0.0, -TICK, TICK) * ops.ones_like(clock)
                return g, ops.where(steps < 0.0, 0.0, tick), ops.zeros_like(steps)

            return weights * 1.0, gradient

        # Times 1: TensorFlow wants no variable in a custom gradient.
        clock = ops.convert_to_tensor(state[StepCounter.CLOCK]) * 1.0
        steps = ops.cast(ops.convert_to_tensor(state["steps"]), "float32")
        return pass_on(weights, clock, ops.stop_gradient(steps))


def scheduled(schedule: Schedule, steps: Tensor, held: Any) -> Tensor:
    """The schedule's value at `steps`, or the last one (`held`) outside its pruning steps."""
    applies, value = schedule(steps)
    return ops.where(applies, ops.cast(value, "float32"), ops.convert_to_tensor(held))


def final_value(schedule: Schedule) -> float:
    """The value at which a schedule ends; a number also while a function is being traced."""
    if isinstance(schedule, ConstantSparsity):
        return schedule.target_sparsity
    if isinstance(schedule, PolynomialDecay):
        return schedule.final_sparsity
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.init_scope():
            return float(schedule(tf.constant(LAST_STEP, tf.int64))[1])
    if keras.backend.backend() == "jax":
        import jax

        with jax.ensure_compile_time_eval():
            return float(schedule(ops.convert_to_tensor(LAST_STEP, "int32"))[1])
    return float(ops.convert_to_numpy(schedule(ops.convert_to_tensor(LAST_STEP, "int32"))[1]))


def gain_for_sparsity(zeroing_gains: Sequence[Tensor], sparsity: Tensor) -> Tensor:
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
    sparsity = ops.convert_to_tensor(sparsity, "float32")
    counts = ops.zeros((GAIN_BINS + 1,), "int32")
    for gains in zeroing_gains:
        # Bin b holds the weights that become zero in (-1 + 2 (b - 1) / BINS, -1 + 2 b / BINS].
        bins = ops.ceil((ops.clip(gains, -1.0, 1.0) + 1.0) * (GAIN_BINS / 2))
        bins = ops.reshape(ops.cast(bins, "int32"), (-1,))
        counts += ops.segment_sum(ops.ones_like(bins), bins, GAIN_BINS + 1)
    zeros = ops.cumsum(counts)
    wanted = sparsity * ops.cast(zeros[-1], "float32")
    flat = ops.reshape(wanted, (-1,))
    index = ops.searchsorted(ops.cast(zeros, "float32"), flat, side="left")
    index = ops.reshape(ops.minimum(index, GAIN_BINS - 1), sparsity.shape)
    # Within a bin the weights are taken as evenly spread; only the last bin allowed can be empty.
    inside = ops.take(counts, index)
    before = ops.cast(ops.take(zeros, index) - inside, "float32")
    filled = ops.cast(ops.maximum(inside, 1), "float32")
    share = ops.where(inside > 0, (wanted - before) / filled, 1.0)
    steps = ops.cast(index, "float32") - 1.0 + ops.clip(share, 0.0, 1.0)
    return ops.maximum(steps, 0.0) * (2 / GAIN_BINS) - 1.0


_OURS = {kind.__name__: kind for kind in (ConstantSparsity, PolynomialDecay)}


def check(schedule: Any) -> Schedule:
    """The schedule itself, ours in place of tfmot's, or the one that `serialize` wrote down.

    Raises:
      TypeError: neither of them.
      ValueError: a user's own class that is not registered.
    """
    if isinstance(schedule, dict) and {"class_name", "config"} <= set(schedule):
        name = schedule["class_name"]
        kind = _OURS.get(name) or _registered(name)
        if kind is None:
            raise ValueError(
                f"A registered schedule is required. Received: '{name}', which is unknown. "
                "Decorate its class with keras.saving.register_keras_serializable, and import "
                "its module before loading."
            )
        return kind.from_config(schedule["config"])
    if type(schedule).__module__.startswith("tensorflow_model_optimization."):
        return check(schedule.get_config())
    if not callable(schedule) or not hasattr(schedule, "get_config"):
        raise TypeError(
            "schedule must be a function of the step with a get_config, such as "
            "ec2t_tf.PolynomialDecay(initial_sparsity=0.5, final_sparsity=0.8, begin_step=0, "
            f"end_step=2000) or a PruningSchedule of tfmot. Received: schedule={schedule!r}."
        )
    return schedule


def _registered(name: str) -> Any:
    """The user's class of that name, registered with Keras 3 or with tf_keras."""
    found = keras.saving.get_registered_object(name)
    tf_keras = sys.modules.get("tf_keras")
    return found if found or tf_keras is None else tf_keras.saving.get_registered_object(name)


def serialize(schedule: Schedule | None) -> dict | None:
    """A schedule as JSON; a user's own class is named as it was registered."""
    if schedule is None:
        return None
    config = dict(schedule.get_config())
    config = config.get("config", config)
    kind = type(schedule)
    name = keras.saving.get_registered_name(kind)
    tf_keras = sys.modules.get("tf_keras")
    if name == kind.__name__ and tf_keras is not None:
        name = tf_keras.saving.get_registered_name(kind)
    return {"class_name": name, "config": config}
