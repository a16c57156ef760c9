"""Loops of tf_keras inside tfmot's wrapper (LSTM, GRU, SimpleRNN). What is rounded in them is that
of Keras 3 (`ec2t_tf.quantisation.recurrent`), on the matrices that tfmot's quantizers make.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import quantizers
from tf_keras import layers

from ec2t_tf import methods
from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.quantisation.kinds import hard_sigmoid_of_keras_2
from ec2t_tf.quantisation.quantised import Quantised
from ec2t_tf.quantisation.recurrent import Masks, Recurrent
from ec2t_tf.quantisation.stepped import loop_of
from ec2t_tf.tfmot.quantizers import OutputRange, TernaryQuantizer

OPTIONS = ("units", "return_sequences", "go_backwards", "dropout", "recurrent_dropout")
_register = tf_keras.saving.register_keras_serializable(package="ec2t_tf")


class Rounded:
    """What all share: a layer of tf_keras whose `call` is the loop of the native layer."""

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)  # type: ignore[misc]
        made: Any = self
        kind = type(self).__name__.removeprefix("Rounded")
        options = {key: getattr(made, key) for key in OPTIONS}
        for key in ("activation", "recurrent_activation"):
            if hasattr(made, key):
                options[key] = _in_keras_3(getattr(made, key))
        layer = getattr(keras.layers, kind)(**options)
        loop = loop_of(layer)(layer)
        self._loop = lambda: loop  # where Keras does not look for layers
        shape = (len(loop.inner),)
        self.smallest, self.largest = (
            made.add_weight(
                name=name,
                shape=shape,
                initializer="zeros",
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for name in ("smallest", "largest")
        )

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        made: Any = self
        cell, loop = made.cell, self._loop()
        low, high = self.smallest.read_value(), self.largest.read_value()
        bias = cell.bias if made.use_bias else tf.zeros(loop.bias_shape())
        output, least, most = loop.all_steps(
            tf.cast(inputs, tf.float32),
            cell.kernel,
            cell.recurrent_kernel,
            bias,
            low,
            high,
            self._masks(inputs) if training else (None, None),
        )
        if training:
            replica = tf.distribute.get_replica_context()
            if replica is not None and replica.num_replicas_in_sync > 1:
                least = tf.reduce_min(replica.all_gather(least[None], axis=0), axis=0)
                most = tf.reduce_max(replica.all_gather(most[None], axis=0), axis=0)
            limits = loop.learnt(low, high, least, most)
            with tf.control_dependencies(
                [self.smallest.assign(limits[0]), self.largest.assign(limits[1])]
            ):
                output = tf.identity(output)
        return output

    def _masks(self, inputs: tf.Tensor) -> tuple[Masks, Masks]:
        """As `Recurrent.dropout_masks`, of those that tf_keras draws itself."""
        made: Any = self
        cell, loop = made.cell, self._loop()
        cell.reset_dropout_mask()
        cell.reset_recurrent_dropout_mask()
        # Its fused loop draws anew each step, the other once.
        steps = inputs if getattr(made, "_could_use_gpu_kernel", False) else inputs[:, :1]
        state = tf.zeros((tf.shape(inputs)[0], made.units))
        count = max(2, loop.gates)  # more than are used: of one, tf_keras returns no list
        of_inputs = cell.get_dropout_mask_for_cell(tf.cast(steps, tf.float32), True, count)
        of_states = cell.get_recurrent_dropout_mask_for_cell(state, True, count)
        return tuple(x and x[: loop.mask_count] for x in (of_inputs, of_states))

    def native(self, name: str, matrices: Callable[[Quantised, int], Quantised]) -> Recurrent:
        """The native layer with this one's bias and ranges.

        Args:
          matrices: gives one of its two from that which the layer has, and its number.
        """
        made: Any = self
        loop = self._loop()
        layer = type(loop)(loop.layer, name=name)
        layer.kernel, layer.recurrent = (matrices(part, i) for i, part in enumerate(layer.parts))
        layer.build((None, None, int(made.cell.kernel.shape[0])))
        if made.use_bias:
            layer.bias.assign(made.cell.bias.numpy())
        layer.smallest.assign(self.smallest.numpy())
        layer.largest.assign(self.largest.numpy())
        return layer


def _in_keras_3(function: Any) -> Any:
    """An activation of those that loops have: others stay float, or are refused."""
    if function is tf_keras.activations.hard_sigmoid:
        return hard_sigmoid_of_keras_2
    return getattr(keras.activations, function.__name__)


@_register
class RoundedLSTM(Rounded, layers.LSTM):
    """See `ec2t_tf.quantisation.recurrent.QuantisedLSTM`, `ec2t_tf.quantisation.stepped`."""


@_register
class RoundedGRU(Rounded, layers.GRU):
    """See `ec2t_tf.quantisation.stepped.QuantisedGRU`."""


@_register
class RoundedSimpleRNN(Rounded, layers.SimpleRNN):
    """See `ec2t_tf.quantisation.stepped.QuantisedSimpleRNN`."""


ROUNDED: dict[type, type] = {
    layers.LSTM: RoundedLSTM,
    layers.GRU: RoundedGRU,
    layers.SimpleRNN: RoundedSimpleRNN,
}
PLAIN: dict[type, type] = {ours: plain for plain, ours in ROUNDED.items()}


@_register
class RecurrentQuantizeConfig(OutputRange):
    """A quantizer for each of the two matrices; the output is rounded in the loop.

    Args:
      method: a ternary method, or its saved form; None for int8.
      relative_size: weights of the larger matrix / weights of the largest ternary layer.
      int8_inputs: the matrix for the inputs is int8 in any case.
    """

    weight_attrs = ("kernel", "recurrent_kernel")  # of the cell

    def __init__(
        self,
        method: TernaryMethod | dict | None = None,
        relative_size: float = 1.0,
        int8_inputs: bool = False,
    ) -> None:
        method = methods.deserialize(method) if isinstance(method, dict) else method
        self.method, self.relative_size, self.int8_inputs = method, relative_size, int8_inputs
        self._quantizers = [
            quantizers.LastValueQuantizer(8, per_axis=False, symmetric=True, narrow_range=True)
            if given is None
            else TernaryQuantizer(given, relative_size)
            for given in (None if int8_inputs else method, method)
        ]

    def get_weights_and_quantizers(self, layer: Any) -> list:
        matrices = [getattr(layer.cell, name) for name in self.weight_attrs]
        return list(zip(matrices, self._quantizers, strict=True))

    def set_quantize_weights(self, layer: Any, quantize_weights: list) -> None:
        for name, value in zip(self.weight_attrs, quantize_weights, strict=True):
            setattr(layer.cell, name, value)

    def get_output_quantizers(self, layer: Any) -> list:
        return []

    def get_config(self) -> dict:
        return {
            "method": None if self.method is None else methods.serialize(self.method),
            "relative_size": self.relative_size,
            "int8_inputs": self.int8_inputs,
        }
