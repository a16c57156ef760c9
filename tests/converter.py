"""TensorFlow's converter, with which our files are compared. The product does without it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from ec2t_tf.export.tflite import read, write
from ec2t_tf.tfmot.quantizers import TernaryQuantizer


def converted(
    model: tf_keras.Model, representative_data: Iterable[np.ndarray] | None = None
) -> bytes:
    """What the converter makes of a model, trained or plain, with one input and one output."""
    (entry,) = model.inputs
    signature = tf.TensorSpec((1, *entry.shape[1:]), entry.dtype, name="input")
    inference = tf.function(lambda x: model(x, training=False))
    with _as_it_wants():
        concrete = inference.get_concrete_function(signature)
    # A bare holder of the variables: given the model, the converter would trace every layer again.
    variables = tf.Module()
    variables.held = model.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], variables)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if representative_data is not None:
        converter.representative_dataset = lambda: ([x[None]] for x in representative_data)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return write(read(converter.convert()))


@contextlib.contextmanager
def _as_it_wants() -> Iterator[None]:
    """Functions traced inside hold ternary weights as constants under a fake quantisation.

    The converter stores a weight as int8 only if it meets a constant there. Dilated convolutions
    are one operator there too, not three: Keras computes them by moving space to batch, because
    TensorFlow has no gradient of the operator on a CPU; the converter makes float operators of it.
    """
    with (
        mock.patch.object(TernaryQuantizer, "__call__", _constant),
        mock.patch.object(layers.Conv2D, "convolution_op", _convolution),
        mock.patch.object(layers.DepthwiseConv2D, "call", _depthwise(layers.DepthwiseConv2D.call)),
    ):
        yield


def _constant(
    self: TernaryQuantizer, inputs: tf.Variable, training: bool, weights: Any, **_: Any
) -> tf.Tensor:
    with tf.init_scope():
        assignment = self.assign(inputs, weights)
    values = assignment.dequantise()
    # TensorFlow's kernel refuses an empty range.
    largest = np.maximum(assignment.largest, np.float32(1e-8))
    if len(values.shape) == 2 or "transpose" in inputs.name:
        return tf.quantization.fake_quant_with_min_max_vars(
            tf.constant(values), -largest, largest, num_bits=8, narrow_range=True
        )
    limits = np.broadcast_to(largest, values.shape[-1:]).astype(np.float32)
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(
        tf.constant(values), -limits, limits, num_bits=8, narrow_range=True
    )


def _convolution(self: layers.Conv2D, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.nn.conv2d(
        inputs,
        kernel,
        list(self.strides),
        self.padding.upper(),
        dilations=list(self.dilation_rate),
    )


def _depthwise(call: Any) -> Any:
    def depthwise(self: layers.DepthwiseConv2D, inputs: tf.Tensor) -> tf.Tensor:
        if max(self.dilation_rate) == 1:
            return call(self, inputs)
        outputs = tf.raw_ops.DepthwiseConv2dNative(
            input=inputs,
            filter=tf.convert_to_tensor(self.depthwise_kernel),
            strides=[1, *self.strides, 1],
            padding=self.padding.upper(),
            dilations=[1, *self.dilation_rate, 1],
        )
        return tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs

    return depthwise
