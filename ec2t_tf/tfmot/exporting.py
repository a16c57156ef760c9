"""How TensorFlow's converter wants to meet weights and dilated convolutions."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import tensorflow as tf
from tf_keras import layers

_EXPORTING: contextvars.ContextVar[bool] = contextvars.ContextVar("exporting", default=False)


@contextlib.contextmanager
def constant_weights() -> Iterator[None]:
    """Functions traced inside hold ternary weights as constants under a fake quantisation.

    The converter stores a weight as int8 only if it meets a constant there. What is computed is the
    same, bit for bit. Dilated convolutions are one operator there too, not three.
    """
    token = _EXPORTING.set(True)
    try:
        with _native_dilation():
            yield
    finally:
        _EXPORTING.reset(token)


def is_exporting() -> bool:
    """Whether this runs inside `constant_weights`."""
    return _EXPORTING.get()


@contextlib.contextmanager
def _native_dilation() -> Iterator[None]:
    """Dilated convolutions as the one operator that TensorFlow Lite has.

    Keras computes them by moving space to batch, because TensorFlow has no gradient of the operator
    on a CPU; the converter makes float operators of that.
    """
    depthwise_call = layers.DepthwiseConv2D.call

    def convolution(self: layers.Conv2D, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(
            inputs,
            kernel,
            list(self.strides),
            self.padding.upper(),
            data_format=self._tf_data_format,
            dilations=list(self.dilation_rate),
        )

    def depthwise(self: layers.DepthwiseConv2D, inputs: tf.Tensor) -> tf.Tensor:
        if max(self.dilation_rate) == 1 or self.data_format != "channels_last":
            return depthwise_call(self, inputs)
        outputs = tf.raw_ops.DepthwiseConv2dNative(
            input=inputs,
            filter=tf.convert_to_tensor(self.depthwise_kernel),
            strides=[1, *self.strides, 1],
            padding=self.padding.upper(),
            dilations=[1, *self.dilation_rate, 1],
        )
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    layers.Conv2D.convolution_op = convolution
    layers.DepthwiseConv2D.call = depthwise
    try:
        yield
    finally:
        del layers.Conv2D.convolution_op  # the inherited one again
        layers.DepthwiseConv2D.call = depthwise_call
