"""Layers with a loop, of ternary or int8 matrices, trained with what is rounded inside of it: what
all share, and the LSTM of one integer operator. `stepped` has those of a file step by step.

Each has two kernels, for the inputs and for the hidden state, which hold the matrices of all gates
side by side. The ranges of values inside are carried through the loop, so that no variable is
written there.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from ec2t_tf.layer_config import config_of
from ec2t_tf.methods.base import TernaryMethod, straight_through
from ec2t_tf.moving_range import GROWTH, moved
from ec2t_tf.quantisation.fake_quant import STATE
from ec2t_tf.quantisation.kinds import name_of_function
from ec2t_tf.quantisation.quantised import Quantised
from ec2t_tf.quantisation.registered import registered

Tensor = Any
Masks = list[Tensor] | None
# What the integer LSTM keeps of a gate's input: 16 bits, 3 of them before the point.
GATE_LIMIT = 8.0
# Integer bits of its cell state.
CELL_BITS = (0, 6)


class Recurrent(keras.layers.Layer):
    """What all share.

    Args:
      layer: of Keras, or its saved form; its weights are copied by `take_weights`.
      method: a ternary method (or its saved form) for both kernels; None for int8.
      relative_size: as of `Quantised`.
      int8_inputs: the kernel for the inputs is int8 in any case.

    Attributes:
      layer: it computes nothing, and holds no weights; its options count.
      observing: ranges cover all that it is called with, also outside of training.
      kernel, recurrent: `Quantised` matrices (inputs, gates * units), (units, gates * units).
    """

    observing = False
    gates: ClassVar[int]
    states: ClassVar[int] = 1  # of the size of the output: the hidden one, a cell's
    # Values inside that have a range each.
    inner: ClassVar[tuple[str, ...]]
    # Options that the operators of a file have: one value, or several.
    wanted: ClassVar[dict[str, Any]]

    def __init__(
        self,
        layer: Any,
        method: TernaryMethod | dict | None = None,
        relative_size: float = 1.0,
        int8_inputs: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**{**options, "dtype": "float32", "autocast": False})
        self.int8_inputs = bool(int8_inputs)
        if isinstance(layer, dict):
            self.layer = keras.saving.deserialize_keras_object(layer)
        else:
            self.layer = type(layer).from_config(config_of(layer, keras.activations.linear))
        config = config_of(self.layer, keras.activations.linear)
        self.rates = (config["dropout"], config["recurrent_dropout"])
        self.seed_generator = (
            keras.random.SeedGenerator(config.get("seed")) if any(self.rates) else None
        )
        width = self.gates * self.layer.units
        given = {"kernel": None if int8_inputs else method, "recurrent": method}
        # A ternary kernel trains without weight decay, as in all layers.
        regularisers = {
            part: None if given[part] is not None else getattr(self.layer, f"{part}_regularizer")
            for part in given
        }
        self.kernel, self.recurrent = (
            Quantised(
                keras.layers.Dense(
                    width,
                    use_bias=False,
                    kernel_regularizer=regularisers[part],
                    kernel_constraint=getattr(self.layer, f"{part}_constraint"),
                ),
                given[part],
                relative_size,
                name=f"{self.name}_{part}",
            )
            for part in ("kernel", "recurrent")
        )

    @classmethod
    def missing(cls, layer: Any) -> list[str]:
        """Options of a layer that no int8 operator has."""
        found = []
        for name, wanted in cls.wanted.items():
            value = getattr(layer, name)
            if callable(value):
                known = name_of_function(value).removesuffix("_of_keras_2")
                value = known or f"'{getattr(value, '__name__', value)}' of yours"
            if value != wanted and not (isinstance(wanted, tuple) and value in wanted):
                found.append(_lacks(name, value, wanted))
        return found

    @property
    def parts(self) -> list[Quantised]:
        return [self.kernel, self.recurrent]

    def build(self, shape: Any) -> None:
        self.kernel.build((shape[0], shape[-1]))
        self.recurrent.build((shape[0], self.layer.units))
        self.bias = self.add_weight(
            self.bias_shape(),
            "zeros",
            name="bias",
            regularizer=self.layer.bias_regularizer,
            constraint=self.layer.bias_constraint,
        )
        self.bias.trainable = self.layer.use_bias
        count = (len(self.inner),)
        self.smallest = self.add_weight(count, "zeros", name="smallest", **STATE)
        self.largest = self.add_weight(count, "zeros", name="largest", **STATE)
        self.built = True

    def bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.layer.units,)

    def take_weights(self, weights: list[np.ndarray]) -> None:
        """The weights of the layer that this one stands for."""
        kernel, recurrent, *bias = weights
        self.kernel.latent.assign(kernel)
        self.recurrent.latent.assign(recurrent)
        if bias:
            self.bias.assign(bias[0])

    def plain_weights(self) -> list[np.ndarray]:
        """What it computes with, as the weights of the layer that it stands for."""
        matrices = [
            ops.convert_to_numpy(part.latent) if part.method is None else part.assign().dequantise()
            for part in self.parts
        ]
        return [*matrices, *([ops.convert_to_numpy(self.bias)] if self.layer.use_bias else [])]

    def limits(self, name: str) -> tuple[float, float]:
        """The range of a value inside."""
        place = self.inner.index(name)
        low, high = (ops.convert_to_numpy(v.value)[place] for v in (self.smallest, self.largest))
        return float(low), float(high)

    def call(self, x: Tensor, mask: Any = None, training: bool | None = None) -> Tensor:
        if mask is not None:
            raise ValueError(
                f"'{self.name}' takes all steps. Received: a mask. Take the layer that makes the "
                "mask out of the model, or keep this one float by a rule."
            )
        learning = bool(training) or self.observing
        kernel, recurrent = (part.quantised_kernel(training=bool(training)) for part in self.parts)
        # Copies: on torch an assignment would change what the gradient needs.
        low, high = self.smallest.value + 0.0, self.largest.value + 0.0
        made, least, most = self.all_steps(
            x,
            kernel,
            recurrent,
            self.bias.value,
            low,
            high,
            self.dropout_masks(x) if training else (None, None),
        )
        if learning:
            limits = self.learnt(low, high, least, most)
            for variable, value in zip((self.smallest, self.largest), limits, strict=True):
                variable.assign(value)
        return made

    @property
    def mask_count(self) -> int:
        """Masks of the inputs and of the hidden state, as many as Keras draws: one a gate as soon
        as the hidden state has any.
        """
        return self.gates if self.rates[1] else 1

    def dropout_masks(self, x: Tensor) -> tuple[Masks, Masks]:
        """Of the inputs and of the hidden state; one draw for all steps, as in Keras."""
        batch = ops.shape(x)[0]

        def drawn(ones: Tensor, rate: float) -> Masks:
            seed = self.seed_generator
            draws = range(self.mask_count)
            return [keras.random.dropout(ones, rate, seed=seed) for _ in draws] if rate else None

        of_inputs, of_states = self.rates
        ones = ops.ones((batch, 1, x.shape[-1])), ops.ones((batch, self.layer.units))
        return drawn(ones[0], of_inputs), drawn(ones[1], of_states)

    def all_steps(
        self,
        x: Tensor,
        kernel: Tensor,
        recurrent: Tensor,
        bias: Tensor,
        low: Tensor,
        high: Tensor,
        masks: tuple[Masks, Masks] = (None, None),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the layer computes, of tensors only: in the layer of tf_keras too.

        Args:
          x: float32 (batch, steps, channels).
          kernel, recurrent: quantised; float32, shapes of the latent weights.
          bias: float32.
          low, high: float32 (values inside,), the range of each.
          masks: what `dropout_masks` returns.

        Returns:
          The output, and the least and the largest of each value inside, without gradients.
        """
        units, seen = self.layer.units, len(self.inner)
        of_inputs, of_states = masks
        given = ops.moveaxis(self.before_loop(product(x, kernel, of_inputs), bias), 1, 0)
        if self.layer.go_backwards:
            given = ops.flip(given, axis=0)

        def step(carry: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
            state, least, most = ops.split(carry, [self.width, self.width + seen], axis=1)
            inside = Inside(low, high, self.inner)
            h = state[:, :units]
            state = self.step(state, now, product(h, recurrent, of_states), bias, inside)
            least, most = inside.widened(least, most)
            carry = ops.concatenate([state, least, most], axis=1)
            return carry, carry

        # One tensor: TensorFlow's scan wants an output of the shape of what it carries.
        empty = ops.zeros((ops.shape(x)[0], self.width + 2 * seen), "float32")
        carry, sequence = ops.scan(step, empty, given)
        least = ops.min(ops.stop_gradient(carry[:, self.width : self.width + seen]), axis=0)
        most = ops.max(ops.stop_gradient(carry[:, self.width + seen :]), axis=0)
        if self.layer.return_sequences:
            return ops.moveaxis(sequence[:, :, :units], 0, 1), least, most
        return carry[:, :units], least, most

    def learnt(
        self, low: Tensor, high: Tensor, least: Tensor, most: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The ranges after a batch with these extremes."""
        unknown = ops.equal(low, high)
        finite = ops.logical_and(ops.isfinite(least), ops.isfinite(most))
        if self.observing:
            new_low, new_high = ops.minimum(low, least), ops.maximum(high, most)
        else:
            new_low, new_high = moved(low, high, least, most, growth=GROWTH)
            new_low = ops.where(unknown, least, new_low)
            new_high = ops.where(unknown, most, new_high)
        return ops.where(finite, new_low, low), ops.where(finite, new_high, high)

    @property
    def width(self) -> int:
        """Numbers that are carried from step to step; the hidden state comes first."""
        return self.states * self.layer.units

    def before_loop(self, products: Tensor, bias: Tensor) -> Tensor:
        """What is done with x @ kernel of all steps at once."""
        return products + bias

    def step(
        self, state: Tensor, now: Tensor, product: Tensor, bias: Tensor, inside: Inside
    ) -> Tensor:
        """The next state.

        Args:
          now: what `before_loop` made of this step's inputs.
          product: the hidden state @ its kernel.
        """
        raise NotImplementedError

    def compute_output_shape(self, shape: Any) -> Any:
        last = (self.layer.units,)
        return (*shape[:2], *last) if self.layer.return_sequences else (shape[0], *last)

    def compute_output_spec(self, x: Any, *_: Any, **__: Any) -> keras.KerasTensor:
        return keras.KerasTensor(self.compute_output_shape(x.shape), dtype=self.compute_dtype)

    def get_config(self) -> dict:
        inner = keras.saving.serialize_keras_object(self.layer)
        shared = self.recurrent.get_config()
        return {
            **super().get_config(),
            "layer": inner,
            "method": shared["method"],
            "relative_size": shared["relative_size"],
            "int8_inputs": self.int8_inputs,
        }


def product(x: Tensor, kernel: Tensor, masks: Masks) -> Tensor:
    """x @ kernel; with masks, each gate of as many multiplies x by one of its own."""
    if masks is None:
        return ops.matmul(x, kernel)
    parts = ops.split(kernel, len(masks), axis=1)
    made = [ops.matmul(x * mask, part) for mask, part in zip(masks, parts, strict=True)]
    return ops.concatenate(made, axis=-1)


class Inside:
    """Roundings of one step, and what they have seen."""

    def __init__(self, low: Tensor, high: Tensor, names: tuple[str, ...]) -> None:
        self.low, self.high, self.names = low, high, names
        self.seen: dict[str, Tensor] = {}

    def see(self, name: str, value: Tensor) -> None:
        self.seen[name] = ops.stop_gradient(value)

    def rounded(self, name: str, value: Tensor) -> Tensor:
        """As int8 codes of the value's range; as it is while that is not known."""
        self.see(name, value)
        place = self.names.index(name)
        return in_codes(value, self.low[place], self.high[place])

    def widened(self, least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
        values = [self.seen[name] for name in self.names]
        low = ops.concatenate([ops.min(v, axis=1, keepdims=True) for v in values], axis=1)
        high = ops.concatenate([ops.max(v, axis=1, keepdims=True) for v in values], axis=1)
        return ops.minimum(least, low), ops.maximum(most, high)


def in_codes(x: Tensor, low: Any, high: Any) -> Tensor:
    """x on the grid of 256 codes that covers a range, with the gradient of the identity inside."""
    scale = ops.maximum(high - low, 1e-8) / 255.0
    zero = ops.round(-low / scale)
    codes = ops.clip(ops.round(x / scale) + zero, 0.0, 255.0)
    value = straight_through((codes - zero) * scale, ops.clip(x, low, high))
    return ops.where(high > low, value, x)


def _lacks(option: str, value: Any, wanted: Any) -> str:
    *some, last = wanted if isinstance(wanted, tuple) else (wanted,)
    others = f"{', '.join(some)} or {last}" if some else last
    return f"{option}={value} (there is one with {others})"


RETURNS_STATE = _lacks("return_state", True, False)


@registered
class QuantisedLSTM(Recurrent):
    """As TensorFlow Lite's integer LSTM: int8 hidden state, 16 bits for all else inside."""

    gates, states = 4, 2  # i, f, g, o
    inner = ("hidden", "cell")
    wanted: ClassVar = {
        **{"activation": "tanh", "recurrent_activation": "sigmoid", "return_state": False},
        "stateful": False,
    }

    def before_loop(self, products: Tensor, bias: Tensor) -> Tensor:
        return ops.clip(products + bias, -GATE_LIMIT, GATE_LIMIT)

    def step(
        self, state: Tensor, now: Tensor, product: Tensor, bias: Tensor, inside: Inside
    ) -> Tensor:
        c = state[:, self.layer.units :]
        gates = ops.clip(now + product, -GATE_LIMIT, GATE_LIMIT)
        i, f, g, o = ops.split(gates, 4, axis=1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        inside.see("cell", c)
        limit = 2.0 ** CELL_BITS[1]
        c = ops.clip(c, -limit, limit)
        h = inside.rounded("hidden", ops.sigmoid(o) * ops.tanh(c))
        return ops.concatenate([h, c], axis=1)

    def cell_bits(self) -> int:
        """Integer bits of the cell state."""
        most = max(np.abs(self.limits("cell")).max(), 1e-8)
        return int(np.clip(np.ceil(np.log2(most)), *CELL_BITS))
