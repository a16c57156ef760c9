"""Loops that a file has step by step, of int8 operators: GRU, SimpleRNN, and an LSTM with
activations that the LSTM of one operator does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from keras import ops

from ec2t_tf.quantisation.kinds import FIXED_RANGE, kind_of, name_of_function
from ec2t_tf.quantisation.recurrent import Inside, QuantisedLSTM, Recurrent, Tensor, in_codes
from ec2t_tf.quantisation.registered import registered

# Activations of a step. What makes the value computes the last two on its way out.
LIMITS = {
    "tanh": FIXED_RANGE["tanh"],
    **dict.fromkeys(("sigmoid", "hard_sigmoid", "hard_sigmoid_of_keras_2"), FIXED_RANGE["sigmoid"]),
}
ACTIVATIONS = ("tanh", "sigmoid", "hard_sigmoid", "relu", "linear")


def limits_of(function: Callable) -> tuple[float, float] | None:
    """The range that an activation's values have in any case; None where the value's own counts."""
    return LIMITS.get(name_of_function(function))


class Stepped(Recurrent):
    """What they share."""

    def activated(self, function: Callable, name: str, value: Tensor, inside: Inside) -> Tensor:
        """An activation's value in codes; `name` is the range of its argument, or of itself where
        what makes the argument computes it on the way out.
        """
        limits = limits_of(function)
        if limits is None:
            return inside.rounded(name, function(value))
        return in_codes(function(inside.rounded(name, value)), *limits)


@registered
class QuantisedGRU(Stepped):
    """A GRU of int8 operators, step by step (`reset_after`, as Keras has it by default)."""

    gates = 3  # z, r, h
    inner = ("inputs", "states", "gates", "reset", "candidate", "difference", "update", "hidden")
    wanted: ClassVar = {
        **{"activation": ACTIVATIONS, "recurrent_activation": ACTIVATIONS, "return_state": False},
        **{"stateful": False, "reset_after": True},
    }

    def bias_shape(self) -> tuple[int, ...]:
        return (2, self.gates * self.layer.units)

    def before_loop(self, products: Tensor, bias: Tensor) -> Tensor:
        return products + bias[0]

    def step(
        self, state: Tensor, now: Tensor, product: Tensor, bias: Tensor, inside: Inside
    ) -> Tensor:
        h, units, layer = state, self.layer.units, self.layer
        x = inside.rounded("inputs", now)
        s = inside.rounded("states", product + bias[1])
        gates = x[:, : 2 * units] + s[:, : 2 * units]
        z, r = ops.split(
            self.activated(layer.recurrent_activation, "gates", gates, inside), 2, axis=1
        )
        reset = inside.rounded("reset", r * s[:, 2 * units :])
        g = self.activated(layer.activation, "candidate", x[:, 2 * units :] + reset, inside)
        difference = inside.rounded("difference", h - g)
        update = inside.rounded("update", z * difference)
        return inside.rounded("hidden", g + update)


@registered
class QuantisedSimpleRNN(Stepped):
    """h' = activation(W x + b + U h)."""

    gates = 1
    inner = ("inputs", "states", "hidden")
    wanted: ClassVar = {"activation": ACTIVATIONS, "return_state": False, "stateful": False}

    def step(
        self, state: Tensor, now: Tensor, product: Tensor, bias: Tensor, inside: Inside
    ) -> Tensor:
        total = inside.rounded("inputs", now) + inside.rounded("states", product)
        return self.activated(self.layer.activation, "hidden", total, inside)


@registered
class SteppedLSTM(Stepped):
    """An LSTM of int8 operators, step by step, its cell state in int8 too."""

    gates, states = 4, 2  # i, f, g, o
    inner = ("inputs", "states", "gates", "candidate", "kept", "update", "cell", "hidden")
    wanted: ClassVar = {
        **{"activation": ACTIVATIONS, "recurrent_activation": ACTIVATIONS, "return_state": False},
        "stateful": False,
    }

    def step(
        self, state: Tensor, now: Tensor, product: Tensor, bias: Tensor, inside: Inside
    ) -> Tensor:
        layer = self.layer
        total = inside.rounded("inputs", now) + inside.rounded("states", product)
        i, f, g, o = ops.split(total, 4, axis=1)
        gates = ops.concatenate([i, f, o], axis=1)
        gates = self.activated(layer.recurrent_activation, "gates", gates, inside)
        i, f, o = ops.split(gates, 3, axis=1)
        g = self.activated(layer.activation, "candidate", g, inside)
        kept = inside.rounded("kept", f * state[:, layer.units :])
        c = inside.rounded("cell", kept + inside.rounded("update", i * g))
        limits, out = limits_of(layer.activation), layer.activation(c)
        h = inside.rounded("hidden", o * (out if limits is None else in_codes(out, *limits)))
        return ops.concatenate([h, c], axis=1)


# The first that has a layer's options counts.
LOOPS: dict[str, tuple[type[Recurrent], ...]] = {
    "LSTM": (QuantisedLSTM, SteppedLSTM),
    "GRU": (QuantisedGRU,),
    "SimpleRNN": (QuantisedSimpleRNN,),
}


def loop_of(layer: Any) -> type[Recurrent]:
    """What computes an LSTM, GRU or SimpleRNN in int8; `missing` says what it lacks."""
    kinds = LOOPS[kind_of(layer)]
    return next((kind for kind in kinds if not kind.missing(layer)), kinds[-1])
