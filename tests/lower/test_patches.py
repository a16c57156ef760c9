"""Patches, crops, rolls and rows at known places: values that only move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import layers, ops

import ec2t_tf
from ec2t_tf.export.lower import graph_of
from tests.lower.models import trained
from tests.lower.random_check import Outcome, compare

MOVES: dict[str, Callable[[Any], Any]] = {
    "patches": lambda x: ops.image.extract_patches(x, 4),
    "patches that leave a border": lambda x: ops.image.extract_patches(x, (4, 3)),
    "patches of a border of zeros": lambda x: ops.image.extract_patches(x, 5, padding="same"),
    "patches one over another": lambda x: ops.image.extract_patches(x, (3, 2), (2, 1)),
    "3x3 around each pixel": lambda x: ops.image.extract_patches(x, 3, 1, 1, "same"),
    "patches with gaps": lambda x: ops.image.extract_patches(x, 2, 1, 3),
    "one pixel each": lambda x: ops.image.extract_patches(x, 1, 2),
    "roll": lambda x: ops.roll(x, 3, 1),
    "roll of two axes": lambda x: ops.roll(x, [-1, 14], axis=[1, 2]),
    "roll of channels": lambda x: ops.roll(x, -1, -1),
    "tile": lambda x: ops.tile(x, (1, 1, 2, 1)),
    "tile of the last axes": lambda x: ops.tile(x, (2, 3)),
    "take": lambda x: ops.take(x, np.array([3, 0, -1, 3]), axis=2),
    "take of a list": lambda x: ops.take(x, [3, 0, -1, 3], axis=2),
    "take of a list of one": lambda x: ops.take(x, indices=[2], axis=1),
    "take of a number": lambda x: ops.expand_dims(ops.take(x, 2, axis=1), 1),
    "take of two axes": lambda x: ops.reshape(
        ops.take(x, np.array([[3, 0], [1, 1]]), axis=1), (-1, 4, 12, 4)
    ),
    "slice": lambda x: ops.slice(x, (0, 1, 2, 0), (-1, 5, 6, 2)),
    "broadcast": layers.Lambda(
        lambda x: ops.broadcast_to(x[:, :, :1], (ops.shape(x)[0], 12, 4, x.shape[-1]))
    ),
    "crop": lambda x: ops.image.crop_images(
        x, 2, bottom_cropping=1, left_cropping=0, target_width=7
    ),
    "crop to a size": lambda x: ops.image.crop_images(
        x, bottom_cropping=1, right_cropping=2, target_height=9, target_width=7
    ),
    "pad": lambda x: ops.image.pad_images(x, 2, 1, target_height=15, target_width=14),
    "pad behind": lambda x: ops.image.pad_images(x, 0, 0, 3, 1),
    "random crop": lambda x: layers.RandomCrop(12, 12)(x),
}


@pytest.mark.parametrize("name", MOVES)
def test_of_keras_ops(name: str) -> None:
    keras.utils.set_random_seed(1)
    source = keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(source)
    x = layers.Conv2D(3, 1)(MOVES[name](x))
    model = keras.Model(source, layers.Dense(2)(layers.GlobalMaxPooling2D()(x)))
    made, inputs = trained(model, steps=1)
    assert not made.ec2t_report.of("float")
    found = Outcome()
    compare(made, inputs, found)
    assert found.steps < 2


def test_patches_beside_each_other_are_one_transpose() -> None:
    source = keras.Input((12, 12, 3))
    x = ops.reshape(ops.image.extract_patches(source, 4), (-1, 9, 48))
    x = layers.Dense(5)(layers.Dense(5)(x))
    model = keras.Model(source, layers.Dense(2)(layers.Flatten()(x)))
    made, _ = trained(model, steps=1)
    kinds = [one.kind for one in graph_of(made).operators]
    assert kinds[:4] == ["QUANTIZE", "RESHAPE", "TRANSPOSE", "RESHAPE"]
    assert not {"GATHER", "CONCATENATION"} & set(kinds)


def test_a_random_crop_that_cuts_is_refused_by_name() -> None:
    source = keras.Input((12, 12, 3))
    x = layers.RandomCrop(8, 8, name="cut")(source)
    x = layers.Conv2D(4, 3)(layers.Conv2D(4, 3)(x))
    model = keras.Model(source, layers.Dense(2)(layers.Flatten()(x)))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match="'cut' must not change the shape"):
        ec2t_tf.apply(model, verbose=0)


TF_MOVES: dict[str, Callable[[Any], Any]] = {
    "patches": lambda x: tf.image.extract_patches(
        x, [1, 4, 4, 1], [1, 4, 4, 1], [1, 1, 1, 1], "VALID"
    ),
    "3x3 around each pixel": lambda x: tf.image.extract_patches(
        images=x, sizes=[1, 3, 3, 1], strides=[1, 1, 1, 1], rates=[1, 1, 1, 1], padding="SAME"
    ),
    "roll": lambda x: tf.roll(x, shift=[-1, 2], axis=[1, 2]),
    "tile": lambda x: tf.tile(x, [1, 1, 2, 1]),
    "gather": lambda x: tf.gather(x, [3, 0, 3], axis=2),
}


@pytest.mark.parametrize("name", TF_MOVES)
def test_of_tensorflow(name: str) -> None:
    tf_keras.utils.set_random_seed(1)
    kind = tf_keras.layers
    source = kind.Input((12, 12, 3))
    x = kind.Conv2D(4, 3, padding="same", activation="relu")(source)
    x = kind.Conv2D(3, 1)(TF_MOVES[name](x))
    model = tf_keras.Model(source, kind.Dense(2)(kind.GlobalMaxPooling2D()(x)))
    made, inputs = trained(model, steps=1, optimizer=tf_keras.optimizers.SGD(1e-3))
    assert not made.ec2t_report.of("float")
    found = Outcome()
    compare(made, inputs, found)
    assert found.steps < 2
