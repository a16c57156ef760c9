"""What a Keras 3 model costs: counted by hand, as its twin of tf_keras, and as its file."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.counting import micronet_score, plain_count
from ec2t_tf.export.reports import report


def model_of(layer: keras.layers.Layer, shape: tuple[int, ...]) -> keras.Model:
    return keras.Sequential([keras.Input(shape), layer])


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (layers.Conv1D(4, 3), (10, 2), 8 * 3 * 2 * 4),
        (layers.Conv2D(4, 3, strides=2, padding="same"), (6, 6, 2), 9 * 9 * 2 * 4),
        (layers.Conv2D(4, 3, padding="same", groups=2), (6, 6, 4), 36 * 9 * 2 * 4),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 2), 16 * 9 * 4),
        (layers.SeparableConv2D(5, 3), (6, 6, 2), 16 * 9 * 2 + 16 * 2 * 5),
        (layers.Conv1DTranspose(4, 3, strides=2), (5, 2), 5 * 3 * 2 * 4),
        (layers.Conv2DTranspose(4, 3, strides=2), (5, 5, 2), 25 * 9 * 2 * 4),
        (layers.Dense(3), (7, 2), 7 * 2 * 3),
    ],
)
def test_macs(layer: keras.layers.Layer, shape: tuple[int, ...], macs: int) -> None:
    assert plain_count(model_of(layer, shape)).macs == macs


def residual() -> keras.Model:
    keras.utils.set_random_seed(3)
    inner = keras.Input((8, 8, 4))
    block = keras.Model(inner, layers.Conv2D(4, 3, padding="same", name="inner")(inner))
    inputs = keras.Input((8, 8, 3))
    first = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    first = layers.BatchNormalization()(first)
    x = layers.ReLU()(block(first) + first)
    x = layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3)(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def test_training_and_file_count_alike(tmp_path: Path) -> None:
    """`summary`, `plain_count` and the report of the file: one number of multiply-accumulates."""
    expected = 64 * 9 * 3 * 4 + 64 * 9 * 4 * 4 + 36 * 9 * 4 + 4 * 10
    model = ec2t_tf.apply(residual())
    model(np.random.default_rng(0).normal(size=(16, 8, 8, 3)), training=True)
    path = export.to_tflite(model, tmp_path / "model.tflite")
    assert sum(row.macs for row in ec2t_tf.summary(model).rows) == expected
    assert plain_count(model).macs == plain_count(residual()).macs == expected
    assert sum(kernel.macs for kernel in report(path).kernels) == expected


def test_the_score_does_not_depend_on_the_library() -> None:
    tf_keras = pytest.importorskip("tf_keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the door of tf_keras needs TensorFlow as the backend")
    from ec2t_tf.tfmot import to_keras_3

    inputs = tf_keras.Input((8, 8, 3))
    first = tf_keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="first")(inputs)
    x = tf_keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="middle")(first)
    x = tf_keras.layers.BatchNormalization(name="norm")(x)
    x = tf_keras.layers.ReLU(name="relu")(tf_keras.layers.Add(name="add")([x, first]))
    x = tf_keras.layers.AveragePooling2D(2, name="pool")(x)
    x = tf_keras.layers.Dense(2, name="last")(tf_keras.layers.Flatten(name="flat")(x))
    model = tf_keras.Model(inputs, x)
    codes = np.random.default_rng(0).choice([-0.25, 0, 0.5], size=(3, 3, 4, 4))
    codes[..., 1] = 0
    model.get_layer("middle").kernel.assign(codes)
    twin = to_keras_3(model)
    for accounting in ("published", "sound"):
        score, same = (micronet_score(one, accounting=accounting) for one in (model, twin))
        assert score.layers[1:] == same.layers[1:]  # but for the name of the input
    assert plain_count(model).layers[1:] == plain_count(twin).layers[1:]


def test_what_cannot_be_counted_is_named() -> None:
    with pytest.raises(ValueError, match="built"):
        plain_count(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(ValueError, match="LSTM 'memory'"):
        micronet_score(model_of(layers.LSTM(3, name="memory"), (4, 2)))
    with pytest.raises(ValueError, match="Fixed sizes"):
        plain_count(model_of(layers.Conv2D(2, 3), (None, None, 3)))
