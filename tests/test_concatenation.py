"""Concatenations after operators whose input and output have one scale in TensorFlow Lite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import ec2t_tf
from ec2t_tf import moving_range
from ec2t_tf.export import to_tflite, verify
from ec2t_tf.tfmot.quantizers import KnownRange, nearest_code

SHAPE = (8, 8, 3)
Block = Callable[[tf.Tensor], tf.Tensor]
OPERATORS: dict[str, Callable[[], Block]] = {
    "average": lambda: layers.AveragePooling2D(2),
    "overlapping average": lambda: layers.AveragePooling2D(3, 1, "same"),
    "maximum": lambda: layers.MaxPooling2D(2),
    "global average": lambda: layers.GlobalAveragePooling2D(keepdims=True),
    "nearest": lambda: layers.UpSampling2D(2),
    "bilinear": lambda: layers.UpSampling2D(2, interpolation="bilinear"),
    "reshape": lambda: layers.Reshape((4, 16, -1)),
    "padding": lambda: layers.ZeroPadding2D(1),
    "sigmoid": lambda: layers.Activation("sigmoid"),
    "swish": lambda: layers.Activation("swish"),
    "convolution": lambda: layers.Conv2D(4, 3, padding="same", activation="relu"),
}
FAST = ("average",)


def block(channels: int) -> Block:
    def call(x: tf.Tensor) -> tf.Tensor:
        x = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization()(x))

    return call


def first(x: tf.Tensor, operator: Callable[[], Block]) -> tf.Tensor:
    return layers.Concatenate()([operator()(block(4)(x)), block(5)(operator()(x))])


def second(x: tf.Tensor, operator: Callable[[], Block]) -> tf.Tensor:
    return layers.Concatenate()([block(5)(operator()(x)), operator()(block(4)(x))])


def used_twice(x: tf.Tensor, operator: Callable[[], Block]) -> tf.Tensor:
    y = operator()(block(4)(x))
    return layers.Concatenate()([y, block(3)(y)])


def dense(x: tf.Tensor, operator: Callable[[], Block]) -> tf.Tensor:
    """Concatenations of concatenations, on both sides of the operator, as in a DenseNet."""
    x = layers.Concatenate()([x, block(2)(x)])
    x = layers.Concatenate()([x, block(2)(x)])
    x = operator()(block(4)(x))
    x = layers.Concatenate()([x, block(3)(x)])
    return layers.Concatenate()([x, block(3)(x)])


CASES = [
    pytest.param(
        operator,
        net,
        id=f"{operator}, {net.__name__}",
        marks=() if operator in FAST else pytest.mark.slow,
    )
    for operator in OPERATORS
    for net in (first, second, used_twice, dense)
]


@pytest.mark.parametrize(("operator", "net"), CASES)
def test_file_computes_the_same(
    operator: str, net: Callable[..., tf.Tensor], tmp_path: Path
) -> None:
    tf_keras.utils.set_random_seed(0)
    source = tf_keras.Input(SHAPE)
    model = tf_keras.Model(source, net(block(4)(source), OPERATORS[operator]))
    trained = ec2t_tf.apply(model)
    assert not trained.ec2t_report.refused
    x = np.random.default_rng(0).standard_normal((32, *SHAPE)).astype(np.float32)
    learn_ranges(trained, x)
    path = to_tflite(trained, tmp_path / "model.tflite")  # asserts: no float operator inside
    result = verify(trained, path, x)
    print(f"{operator}, {net.__name__}: {result}")
    # XNNPACK's conversion from one scale to another has a multiplier of 8 bits; two steps are where
    # a convolution's sum lay near a tie as well: one output in thousands.
    assert result.largest_difference <= 2
    if net is not dense:
        assert result.steps.get(2, 0) <= 1e-3 * sum(result.steps.values())
    steps = np.mean([n for n, count in result.steps.items() for _ in range(count)])
    assert steps <= (0.25 if net is dense else 0.1)
    if net is first:
        trained.save(tmp_path / "model.keras")
        loaded = ec2t_tf.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded(x, training=True), trained(x, training=True))


def learn_ranges(model: tf_keras.Model, x: np.ndarray) -> None:
    """One pass that sets ranges and statistics to those of `x`."""
    with mock.patch.object(moving_range, "DECAY", 0.0):
        model(x, training=True)
        model(x, training=True)


def test_a_shared_pooling_has_the_range_of_each_input() -> None:
    source = tf_keras.Input(SHAPE)
    pooling = layers.AveragePooling2D()
    sides = [pooling(block(4)(source)), pooling(block(4)(block(3)(source)))]
    trained = ec2t_tf.apply(tf_keras.Model(source, layers.Concatenate()(sides)))
    limits = [
        layer.quantize_config.limits[1].name
        for layer in trained.layers
        if isinstance(getattr(layer, "quantize_config", None), KnownRange)
        and isinstance(layer.layer, layers.AveragePooling2D)
    ]
    assert len(set(limits)) == 2


@pytest.mark.parametrize("away", [True, False])
def test_ties_are_rounded_as_tensorflow_lite_does(away: bool) -> None:
    codes = np.array([-128.0, -2.5, -2.25, -0.5, 0.5, 2.25, 2.5, 127.0])
    scale, zero_point = 0.5, -28.0
    limits = (np.float32((code - zero_point) * scale) for code in (-128.0, 127.0))
    values = ((codes - zero_point) * scale).astype(np.float32)
    rounded = nearest_code(values, *limits, ties_away=away)
    expected = np.array([-128.0, -2.0 - away, -2.0, -0.0 - away, 1.0, 2.0, 3.0, 127.0])
    np.testing.assert_array_equal(rounded / scale + zero_point, expected)
