"""Variables that a method trains beside the weights: own learning rate, no weight decay.

The value is `base + rate * step`. The optimiser sees only the step, which starts each forward pass
of training at zero after it has been added to the base. So any optimiser gives the variable its own
learning rate (its square under plain SGD), and a weight decay, which pulls a variable towards zero,
has nothing to pull at.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from ec2t_tf.methods.base import AddWeight, State, straight_through


class OwnRate:
    """A trained variable of a layer's state.

    Args:
      name: its name in the state; the step is `<name>_step`.
      shape: its shape.
      rate: learning rate relative to the optimiser's; 0 holds the value.
      limited: keeps the value in its range; the gradient passes as if it were not there.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        rate: float,
        limited: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
    ) -> None:
        self.name, self.step, self.shape, self.rate = name, f"{name}_step", shape, rate
        self.limited = limited

    def build(self, add_weight: AddWeight) -> State:
        return {
            self.name: add_weight(self.name, self.shape, False),
            self.step: add_weight(self.step, self.shape, True),
        }

    def set(self, state: State, value: tf.Tensor) -> None:
        state[self.name].assign(self.limited(value))
        state[self.step].assign(tf.zeros(self.shape))

    def read(self, state: State, *, training: bool, learns: tf.Tensor | bool = True) -> tf.Tensor:
        """The value, float32; with `training` the optimiser's step is taken into the base.

        Where it does not learn, the step is thrown away and nothing flows back.
        """
        step = tf.convert_to_tensor(state[self.step])
        if learns is not True:
            step = tf.where(learns, step, 0.0)
        moved = state[self.name] + self.rate * step
        value = tf.stop_gradient(self.limited(moved))
        if training:
            state[self.name].assign(value)
            state[self.step].assign(tf.zeros(self.shape))
        return straight_through(value, moved)
