"""Wrapping layers in one pass gives what tfmot's own scheme and layout transforms give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

from ec2t_tf.tfmot import ranges, scheme
from ec2t_tf.tfmot.wrapper import QuantizeWrapper
from tests import models

# tfmot drops the kernel's quantisation of a convolution whose ReLU is a layer of its own and has no
# batch normalisation between, and gives average pooling a range of its own; these nets have none.


def residual() -> tf_keras.Model:
    inputs = layers.Input(models.IMAGE)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(4, 3, padding="same")(x)
    y = layers.BatchNormalization()(y)
    z = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    z = layers.Activation("relu")(layers.BatchNormalization()(z))
    x = layers.ReLU()(layers.Add()([y, z]))
    x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(x))
    x = layers.Dense(6, activation="relu")(x)
    return tf_keras.Model(inputs, layers.Dense(models.CLASSES)(x))


def chain() -> tf_keras.Model:
    return tf_keras.Sequential(
        [
            layers.InputLayer(models.IMAGE),
            layers.ZeroPadding2D(1),
            layers.Conv2D(4, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(models.CLASSES),
        ]
    )


@pytest.fixture
def tfmots_ranges_and_averages() -> Iterator[None]:
    """Ours follow the batches in another way: `ranges`, `normalisation`."""
    with (
        mock.patch.object(ranges, "learns", return_value=False),
        mock.patch.object(QuantizeWrapper, "_is_normalisation", False),
    ):
        yield


@pytest.mark.usefixtures("tfmots_ranges_and_averages")
@pytest.mark.parametrize("build", [residual, chain])
def test_one_pass_is_what_tfmot_does(build: Callable[[], tf_keras.Model]) -> None:
    tf_keras.utils.set_random_seed(0)
    net = build()
    ours = scheme.quantise(net, {})
    theirs = tfmot.quantization.keras.quantize_model(net)
    images, _ = models.examples()
    for model in (ours, theirs):
        # Learns the ranges of activations; without the bias of a file, which inference adds.
        tf_keras.utils.set_random_seed(0)
        model(tf.constant(images), training=True)
    tf_keras.utils.set_random_seed(0)
    expected = theirs(tf.constant(images), training=True)
    tf_keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(ours(tf.constant(images), training=True), expected)

    def ranges_and_weights(model: tf_keras.Model) -> list[float]:
        """Every variable's sum; the layers at the input have other names in tfmot."""
        return sorted(float(tf.reduce_sum(v)) for v in model.variables if v.dtype.is_floating)

    np.testing.assert_allclose(ranges_and_weights(ours), ranges_and_weights(theirs), rtol=1e-6)
