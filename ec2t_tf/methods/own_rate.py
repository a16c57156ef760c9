"""Variables that a method trains beside the weights: own learning rate, no weight decay.

The value is `base + rate * (what the optimiser has moved)`. The optimiser sees only a step, which
has no meaning but how far it moved since the last pass; each forward pass of training takes that
into the base. So any optimiser gives the variable its own learning rate (its square under plain
SGD), and a weight decay finds nothing to pull at.

A forward pass of Keras 3 cannot put the step back to zero: on JAX what a pass assigns to a trained
variable is lost. There the pass remembers, in a variable that is not trained, the step that it has
taken. A decay would then pull the step back, by the same factor as everything else, so the step has
a last entry, the witness: 1 to begin with and without a gradient, it is moved by decay alone, and
tells the factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from keras import ops

from ec2t_tf.methods.base import AddWeight, State, Tensor, ratio, straight_through


def _unlimited(value: Tensor) -> Tensor:
    return value


class OwnRate:
    """A trained variable of a layer's state.

    Args:
      name: its name in the state; the step is `<name>_step` unless given, and what has been taken
        of it `<step>_taken`.
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
        step: str | None = None,
        limited: Callable[[Tensor], Tensor] = _unlimited,
    ) -> None:
        self.name, self.step, self.shape, self.rate = name, step or f"{name}_step", shape, rate
        self.taken = f"{self.step}_taken"
        self.limited = limited

    @property
    def _with_witness(self) -> tuple[int]:
        return (math.prod(self.shape) + 1,)

    def build(self, add_weight: AddWeight) -> State:
        state = {self.name: add_weight(self.name, self.shape, False)}
        taken = add_weight(self.taken, self._with_witness, False)
        if taken is None:  # a pass may write trained variables
            return {**state, self.step: add_weight(self.step, self.shape, True)}
        return {
            **state,
            self.step: add_weight(self.step, self._with_witness, True),
            self.taken: taken,
        }

    def set(self, state: State, value: Tensor) -> None:
        state[self.name].assign(self.limited(value))
        if self.taken not in state:
            state[self.step].assign(ops.zeros(self.shape))
            return
        start = np.zeros(self._with_witness, np.float32)
        start[-1] = 1.0
        state[self.step].assign(start)
        state[self.taken].assign(start)

    def moved(self, state: State) -> Tensor:
        """What the optimiser has moved since the last pass of training: float32, with gradient."""
        step = ops.convert_to_tensor(state[self.step])
        if self.taken not in state:
            return step
        taken = ops.convert_to_tensor(state[self.taken])
        kept = ops.stop_gradient(ratio(step[-1], taken[-1]))
        return ops.reshape(step[:-1] - kept * taken[:-1], self.shape)

    def read(
        self,
        state: State,
        *,
        training: bool,
        learns: Tensor | bool = True,
        limited: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The value, float32; with `training` what the optimiser moved is taken into the base.

        Where it does not learn, that is thrown away and nothing flows back. `limited` takes the
        place of the one given to the constructor where the range depends on the weights.
        """
        moved = self.moved(state)
        if learns is not True:
            moved = ops.where(learns, moved, 0.0)
        there = ops.convert_to_tensor(state[self.name]) + self.rate * moved
        value = ops.stop_gradient((limited or self.limited)(there))
        if training:
            state[self.name].assign(value)
            if self.taken in state:
                # A copy: JAX's trainer gives away every buffer, and must not give one away twice.
                moved = ops.copy(ops.convert_to_tensor(state[self.step]))
                state[self.taken].assign(ops.stop_gradient(moved))
            else:
                state[self.step].assign(ops.zeros(self.shape))
        return straight_through(value, there)
