"""Whole tf_keras models: through `apply`, training, a file, and to Keras 3."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import ec2t_tf
from ec2t_tf import moving_range, quantisation
from ec2t_tf.export import exact, to_tflite, verify
from ec2t_tf.export.tflite.reader import read
from ec2t_tf.tfmot import activations, to_keras_3, to_tf_keras, wrapper
from ec2t_tf.tfmot.in_keras_3 import largest_difference
from ec2t_tf.tfmot.quantize_config import ternary_layers
from tests.test_keras_compat import Doubling, TfKerasDoubling, randomise


def small() -> tf_keras.Model:
    """Nested, with functions of TensorFlow and activations that tf_keras lacks."""
    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    block = tf_keras.Sequential(
        [
            layers.InputLayer((8, 8, 6)),
            layers.Conv2D(6, 3, padding="same", use_bias=False, name="inner"),
            layers.BatchNormalization(),
            layers.Activation(activations.hard_silu),
        ],
        name="block",
    )
    source = tf_keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(6, 3, padding="same", name="first")(source)
    x = block(x) + x
    gate = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
    x = x * layers.Conv2D(6, 1, activation=activations.hard_sigmoid, name="gate")(gate)
    x = layers.Flatten()(x)
    return tf_keras.Model(source, layers.Dense(3, name="last")(x))


def images(count: int, shape: tuple[int, ...] = (8, 8, 3)) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)


def test_to_a_file_and_to_keras_3(tmp_path: Path) -> None:
    model = randomise(small())
    before = [np.array(weight) for weight in model.weights]
    trained = ec2t_tf.apply(model)
    assert trained.ec2t_report.of("ternary") == ["inner", "gate"]
    assert not trained.ec2t_report.refused
    x = images(32)
    trained.compile("adam", "mse")
    trained.train_on_batch(x, np.zeros((32, 3), np.float32))
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)

    path = to_tflite(trained, tmp_path / "model.tflite")
    assert verify(trained, path, x).largest_difference <= 2
    assert verify(exact(trained, rounding="xnnpack"), path, x).largest_difference == 0

    plain = ec2t_tf.strip(trained)
    with pytest.warns(DeprecationWarning, match="keras_version goes with the next release"):
        back = ec2t_tf.strip(trained, keras_version=3)
    assert isinstance(back, keras.Model)
    assert largest_difference(plain(x), back(x)) <= 1e-5
    assert len(np.unique(back.get_layer("inner").kernel)) == 3


def test_same_codes_as_the_model_in_keras_3() -> None:
    model = randomise(small())
    first = quantisation.ternary_layers(ec2t_tf.apply(to_keras_3(model)))
    second = ternary_layers(ec2t_tf.apply(model))
    for one, other in zip(first, second, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.assign().codes, other.assign().codes)
        np.testing.assert_array_equal(one.assign().levels, other.assign().levels)


def test_custom_layers_are_handed_on() -> None:
    parts = keras.layers.Conv2D(4, 3), keras.layers.Conv2D(4, 3), Doubling(name="mine")
    rest = keras.layers.Flatten(), keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((8, 8, 3)), *parts, *rest])
    with pytest.raises(ValueError, match="custom_layers"):
        to_tf_keras(model)
    with pytest.warns(DeprecationWarning, match="custom_layers goes with the next release"):
        trained = ec2t_tf.apply(model, custom_layers={Doubling: TfKerasDoubling})
    assert any("'mine'" in line for line in trained.ec2t_report.rewritten)
    assert any("mine_tf.math.multiply" in layer.name for layer in trained.layers)


def test_unknown_version() -> None:
    with pytest.raises(ValueError, match="keras_version must be 2"):
        ec2t_tf.strip(tf_keras.Sequential(), keras_version=4)


APPLICATIONS = [
    "MobileNetV2",
    "MobileNetV3Small",
    pytest.param("EfficientNetB0", marks=pytest.mark.slow),
    pytest.param("ResNet50", marks=pytest.mark.slow),
    pytest.param("DenseNet121", marks=pytest.mark.slow),
]
SIZE, CLASSES = (32, 32, 3), 10


@pytest.mark.no_cover  # long in Python; other tests run its lines
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications(name: str, tmp_path: Path) -> None:
    """tf_keras.applications with random weights: apply, one step, file, equal to `exact`."""
    tf_keras.utils.set_random_seed(0)
    options = {"MobileNetV2": {"alpha": 0.35}, "MobileNetV3Small": {"minimalistic": False}}
    model = getattr(tf_keras.applications, name)(
        **{"weights": None, "input_shape": SIZE, "classes": CLASSES},
        **{"classifier_activation": None, **options.get(name, {})},
    )
    trained = ec2t_tf.apply(model)
    assert not trained.ec2t_report.refused
    assert len(ternary_layers(trained)) >= 20
    x, labels = classified(64)
    trained.compile("adam", "mse", run_eagerly=True)  # a graph costs more than it saves here
    trained.train_on_batch(x[:16], np.zeros((16, CLASSES), np.float32))
    settle(trained, x, labels)
    path = to_tflite(trained, tmp_path / "model.tflite")
    exactly = verify(exact(trained, rounding="xnnpack"), path, x)
    assert exactly.largest_difference == 0, str(exactly)
    result = verify(trained, path, x)
    print(f"{name}: {len(ternary_layers(trained))} ternary layers; {result}")
    # Keras' floats in a random net: MobileNetV2 has 98.4 % on two cores, 95.3 % on one.
    assert result.agreement >= 0.93, str(result)


def classified(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures of one pattern a class: float32 (count, *SIZE), labels (count,)."""
    random = np.random.default_rng(0)
    patterns = random.normal(size=(CLASSES, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    labels = np.arange(count) % CLASSES
    pictures = 60.0 * (patterns[labels] + 0.2 * random.normal(size=(count, *SIZE))) + 128.0
    return np.clip(pictures, 0.0, 255.0).astype(np.float32), labels


def settle(model: tf_keras.Model, x: np.ndarray, labels: np.ndarray) -> None:
    """What a training would do to a network of random weights whose outputs are nearly tied.

    Statistics and ranges are those of `x`, in one pass; the last layer is fitted to the labels
    by ridge regression on what the network feeds it.
    """
    *_, last = (layer for layer in model.layers if wrapper.quantised_weights(layer))
    for layer in model.layers:
        if isinstance(wrapper.wrapped(layer), tf_keras.layers.BatchNormalization):
            wrapper.wrapped(layer).momentum = 0.0
    with mock.patch.object(moving_range, "DECAY", 0.0):
        features = tf_keras.Model(model.inputs, last.input)
        features(x, training=True)
        given = features(x, training=False).numpy().reshape(len(x), -1)
        mean = given.mean(axis=0)
        kernel, bias = (
            next(v for v in last.weights if v.name.endswith(f"/{name}:0"))
            for name in ("kernel", "bias")
        )
        given = given - mean
        wanted = 4.0 * np.eye(CLASSES)[labels] - 0.4
        gram = given @ given.T
        ridge = 1e-2 * np.trace(gram) / len(x) * np.eye(len(x))
        solution = given.T @ np.linalg.solve(gram + ridge, wanted)
        kernel.assign(solution.reshape(kernel.shape))
        bias.assign(-mean @ solution)
        model(x, training=True)


def test_published_net(shared: Path, tmp_path: Path) -> None:
    """The MLPerf Tiny ResNet-8 file, as tf_keras opens it."""
    path = shared / "models" / "mlperf_tiny_resnet8.h5"
    given = tf_keras.models.load_model(path, compile=False)
    x = images(8, (32, 32, 3))
    assert largest_difference(given(x), to_keras_3(given)(x)) <= 1e-5
    trained = ec2t_tf.apply(given)
    assert len(ternary_layers(trained)) == 8
    trained(x, training=True)
    path = to_tflite(trained, tmp_path / "model.tflite")
    assert verify(exact(trained, rounding="xnnpack"), path, x).largest_difference == 0


@pytest.mark.parametrize("trainable", [True, False])
def test_statistics_of_a_frozen_base(trainable: bool) -> None:
    """Keras 3 lets `fit` overrule a call's `training`, but not `trainable`."""
    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    inner = layers.InputLayer((8, 8, 3)), layers.Conv2D(4, 3), layers.BatchNormalization()
    base = tf_keras.Sequential(inner, name="base")
    base.trainable = trainable
    source = tf_keras.Input((8, 8, 3))
    x = layers.Flatten()(base(layers.Conv2D(3, 1)(source), training=False))
    model = tf_keras.Model(source, layers.Dense(2)(x))
    twin = to_keras_3(model)
    x = 3.0 + images(8)
    assert largest_difference(model(x), twin(x)) <= 1e-5
    twin(x, training=True)
    norm = twin.get_layer("base").layers[-1]
    assert (float(np.abs(norm.moving_mean).max()) > 0) == trainable
    trained = ec2t_tf.apply(model)
    trained(x, training=True)
    means = [v.numpy() for v in trained.variables if "moving_mean" in v.name]
    assert np.abs(means[0]).max() == 0  # tf_keras does as the call says


def test_what_joins_one_value_can_be_saved(tmp_path: Path) -> None:
    """tf_keras saves no list of one, and cannot load what it saved: training would be lost."""
    tf_keras.utils.set_random_seed(0)
    source = tf_keras.Input((6, 6, 3))
    x = tf_keras.layers.Conv2D(8, 3, activation="relu")(source)
    for kind in ("Concatenate", "Add", "Multiply", "Average", "Maximum", "Minimum"):
        x = getattr(tf_keras.layers, kind)(name=kind)([x])
        x = tf_keras.layers.Conv2D(8, 1, activation="relu")(x)
    x = tf_keras.layers.Dense(3)(tf_keras.layers.GlobalAveragePooling2D()(x))
    model = ec2t_tf.apply(tf_keras.Model(source, x), verbose=0)
    values = np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype(np.float32)
    model(values, training=True)
    model.save(tmp_path / "m.keras")
    again = ec2t_tf.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(values), model(values))
    path = to_tflite(again, tmp_path / "m.tflite")
    assert verify(again, path, values).largest_difference <= 4


def test_open_sizes_are_refused_by_name_in_front_of_functions_that_need_them() -> None:
    layers = tf_keras.layers
    source = tf_keras.Input((None, None, 3), name="photo")
    x = layers.Conv2D(8, 3)(layers.Conv2D(8, 3, activation="relu")(source))
    x = layers.Lambda(lambda x: tf.nn.depth_to_space(x, 2))(x)
    with pytest.raises(ValueError, match=r"'photo' with shape .*Input\(\(96, 96, 3\)"):
        ec2t_tf.apply(tf_keras.Model(source, layers.Conv2D(3, 3)(x)), verbose=0)


def test_a_model_that_was_built_by_its_data_is_of_any_batch(tmp_path: Path) -> None:
    """A Sequential that was not started with an Input has the batch that it was first given."""
    layers = tf_keras.layers
    chain = [
        layers.Dense(8, activation="relu"),
        layers.Dense(8, activation="relu"),
        layers.Dense(2),
    ]
    source = tf_keras.Sequential(chain)
    values = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    source(values[:5])
    assert source.inputs[0].shape[0] == 5
    model = ec2t_tf.apply(source, verbose=0)
    model(values, training=True)
    path = to_tflite(model, tmp_path / "m.tflite")
    assert read(path.read_bytes()).tensors[0].shape[0] == 1
    assert verify(model, path, values).inputs == 20


def test_models_of_several_examples_at_once_are_refused() -> None:
    source = tf_keras.Input((4,), batch_size=5, name="five")
    x = tf_keras.layers.Dense(8)(tf_keras.layers.Dense(8, activation="relu")(source))
    with pytest.raises(ValueError, match=r"single examples.*'five' with shape \(5, 4\)"):
        ec2t_tf.apply(tf_keras.Model(source, tf_keras.layers.Dense(2)(x)), verbose=0)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_whole_numbers_that_are_computed_with_are_refused(dtype: str) -> None:
    layers = tf_keras.layers
    source = tf_keras.Input((8, 8, 3), dtype=dtype)
    x = layers.Conv2D(8, 3, activation="relu")(layers.Rescaling(1 / 255)(source))
    x = layers.Flatten()(layers.Conv2D(8, 3, activation="relu")(x))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=f"whole numbers .{dtype}.*float32"):
        ec2t_tf.apply(tf_keras.Model(source, layers.Dense(2)(x)), verbose=0)
