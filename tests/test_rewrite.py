"""What a tf_keras model is made of before it trains computes the same, and has a rule each."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from ec2t_tf.export import unwritable
from ec2t_tf.tfmot import activations, scheme
from ec2t_tf.tfmot.in_keras_3 import largest_difference
from ec2t_tf.tfmot.native import native
from ec2t_tf.tfmot.rewrite import rewrite
from tests.models import options_id

EXACT = 2e-5


def randomise(model: tf_keras.Model, seed: int = 0) -> tf_keras.Model:
    random = np.random.default_rng(seed)
    for weight in model.weights:
        value = random.normal(0.0, 0.5, weight.shape)
        if "variance" in weight.name:
            value = 0.5 + np.abs(value)
        elif "gamma" in weight.name:
            value = 1.0 + 0.5 * value
        weight.assign(value.astype(weight.dtype.as_numpy_dtype))
    return model


def settings(**choices: list) -> list[dict]:
    combinations = itertools.product(*choices.values())
    return [dict(zip(choices, values, strict=True)) for values in combinations]


def kinds(model: tf_keras.Model) -> list[str]:
    """Class names in order, without the inputs."""
    return [
        type(layer).__name__ for layer in model.layers if not isinstance(layer, layers.InputLayer)
    ]


class RewriteTest:
    """Inherited: the same output, the names of the layers kept, and a file can hold it.

    The twin in Keras 3, from which files are written, computes the same as well.
    """

    shape: ClassVar[tuple[int | None, ...]] = (8, 8, 4)
    settings: ClassVar[list[dict]] = [{}]
    forbidden: ClassVar[tuple[str, ...]] = ()
    is_written = True

    def model(self, **options: Any) -> tf_keras.Model:
        raise AssertionError("each test makes its model")

    def pytest_generate_tests(self, metafunc: Any) -> None:
        metafunc.parametrize("options", self.settings, ids=options_id)

    def test_equal(self, options: dict) -> None:
        tf_keras.utils.set_random_seed(0)
        model = randomise(self.model(**options))
        before = model.get_weights()
        result = rewrite(model)
        random = np.random.default_rng(2)
        feed = [
            random.standard_normal((3, *(n or 12 for n in tensor.shape[1:]))).astype(np.float32)
            for tensor in model.inputs
        ]
        feed = feed if len(feed) > 1 else feed[0]
        expected = model(feed, training=False)
        assert largest_difference(expected, result.model(feed, training=False)) <= EXACT
        assert not set(kinds(result.model)) & set(self.forbidden), result.model.to_json()
        assert {layer.name for layer in result.model.layers if layer.weights} <= set(result.origin)
        for weight, old in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, old)
        # Nothing is left to rewrite.
        again = rewrite(result.model)
        assert again.model is result.model, again.notes
        self.check_twin(result.model, feed, expected)

    def check_twin(self, model: tf_keras.Model, feed: Any, expected: Any) -> None:
        assert largest_difference(expected, native(model)(feed, training=False)) <= EXACT
        if self.is_written and all(None not in tensor.shape[1:] for tensor in model.inputs):
            assert unwritable(scheme.quantise(model, {})) is None


def chain(shape: tuple, *parts: layers.Layer) -> tf_keras.Model:
    return tf_keras.Sequential([tf_keras.Input(shape), *parts])


class TestConv1D(RewriteTest):
    settings: ClassVar = [
        *settings(padding=["valid", "same", "causal"], normalised=[True, False]),
        {"padding": "same", "normalised": True, "strides": 2},
        {"padding": "causal", "normalised": True, "dilation_rate": 3},
        {"padding": "valid", "normalised": False, "activation": "tanh", "length": None},
        {"padding": "same", "normalised": True, "activation": "relu", "use_bias": False},
    ]

    def model(self, *, normalised: bool, length: int | None = 12, **options: Any) -> Any:
        after = [layers.BatchNormalization(), layers.ReLU()] if normalised else []
        convs = layers.Conv1D(6, 3, **options), *after, layers.Conv1D(5, 2)
        return chain((length, 4), *convs, layers.GlobalAveragePooling1D(), layers.Dense(2))


class TestOperators(RewriteTest):
    """Python's operators on tensors, in two dimensions and on sequences."""

    settings: ClassVar = settings(rank=[2, 1])

    def model(self, *, rank: int) -> tf_keras.Model:
        source = tf_keras.Input((8, 8, 4)[2 - rank :])
        convolution = layers.Conv2D if rank == 2 else layers.Conv1D
        x = convolution(4, 3, padding="same")(source / 2.0 - 0.5)
        x = tf.nn.relu(x + source) * 3.0
        y = 1.0 - convolution(4, 1)(x)
        return tf_keras.Model(source, layers.Flatten()(y * x - source + 0.25))


class TestDepthwiseConv1D(RewriteTest):
    settings: ClassVar = settings(padding=["valid", "same"], strides=[1, 2])

    def model(self, **options: Any) -> Any:
        conv = layers.DepthwiseConv1D(3, depth_multiplier=2, activation="relu", **options)
        return chain((12, 4), conv, layers.Flatten())


class TestSeparable(RewriteTest):
    forbidden = ("SeparableConv2D", "SeparableConv1D")
    settings: ClassVar = [
        *settings(two=[True], padding=["valid", "same"], strides=[1, 2], activation=[None, "elu"]),
        *settings(two=[False], padding=["valid", "same", "causal"], activation=["relu", "tanh"]),
        {"two": True, "dilation_rate": 2, "use_bias": False, "depth_multiplier": 2},
    ]

    def model(self, *, two: bool, **options: Any) -> Any:
        if two:
            return chain((9, 9, 4), layers.SeparableConv2D(6, 3, **options), layers.ReLU())
        return chain((12, 4), layers.SeparableConv1D(6, 3, **options), layers.ReLU())


class TestDense(RewriteTest):
    settings: ClassVar = [
        *settings(shape=[(6,), (5, 6), (4, 5, 6)], activation=[None, "relu", "tanh", "softmax"]),
        {"shape": (6,), "activation": None, "use_bias": False},
    ]

    def model(self, *, shape: tuple, **options: Any) -> Any:
        parts = layers.Dense(7, **options), layers.BatchNormalization(), layers.ReLU()
        return chain(shape, *parts, layers.Dropout(0.1), layers.Dense(3, activation="gelu"))


class TestConv2DTranspose(RewriteTest):
    settings: ClassVar = settings(
        padding=["valid", "same"], use_bias=[True, False], scale=[True, False]
    )

    def model(self, *, scale: bool, **options: Any) -> Any:
        conv = layers.Conv2DTranspose(6, 3, strides=2, **options)
        return chain((5, 5, 4), conv, layers.BatchNormalization(scale=scale), layers.ReLU())


class TestActivations(RewriteTest):
    """Inside a layer and as a layer."""

    settings: ClassVar = [
        {"function": function, "inside": inside}
        for function in (
            *("relu", "tanh", "sigmoid", "swish", "elu", "gelu", "hard_sigmoid", "softmax"),
            *activations.KERAS_3_ONLY.values(),
        )
        for inside in (True, False)
    ]

    def check_twin(self, model: tf_keras.Model, feed: Any, expected: Any) -> None:
        self.is_written = activations.log_softmax not in [
            getattr(layer, "activation", None) for layer in model.layers
        ]  # which takes a row, and has no operator
        super().check_twin(model, feed, expected)

    def model(self, *, function: Any, inside: bool) -> Any:
        if inside:
            return chain((8, 8, 4), layers.Conv2D(6, 3, activation=function), layers.Flatten())
        return chain((10,), layers.Dense(6), layers.Activation(function))


class TestNormalisationAlone(RewriteTest):
    settings: ClassVar = settings(shape=[(8, 8, 4), (7, 4), (4,)])

    def model(self, *, shape: tuple) -> Any:
        return chain(shape, layers.BatchNormalization(), layers.ReLU(), layers.Dense(3))


class TestPreprocessing(RewriteTest):
    settings: ClassVar = [{"shape": (8, 8, 3)}, {"shape": (8, 3)}, {"shape": (3,)}]

    def model(self, *, shape: tuple) -> Any:
        return chain(
            shape,
            layers.Rescaling(1 / 255, offset=[0.1, 0.2, 0.3]),
            layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 1.5, 2.0]),
            layers.Normalization(mean=0.5, variance=2.0, invert=True),
        )

    def test_equal(self, options: dict) -> None:
        model = self.model(**options)
        feed = np.random.default_rng(0).uniform(0, 255, (4, *options["shape"])).astype(np.float32)
        assert rewrite(model).model is model
        self.check_twin(model, feed, model(feed))


class TestSequenceLayers(RewriteTest):
    settings: ClassVar = [
        {"make": make}
        for make in (
            lambda: layers.MaxPooling1D(2),
            lambda: layers.MaxPooling1D(3, 2, padding="same"),
            lambda: layers.AveragePooling1D(2),
            lambda: layers.ZeroPadding1D((1, 2)),
            lambda: layers.Cropping1D((2, 1)),
            lambda: layers.UpSampling1D(2),
            lambda: layers.GlobalMaxPooling1D(),
            lambda: layers.SpatialDropout1D(0.1),
            lambda: layers.Reshape((6, 12)),
            lambda: layers.Softmax(),
        )
    ]

    def model(self, *, make: Any) -> Any:
        return chain((12, 4), layers.Conv1D(6, 3, padding="same"), make(), layers.Flatten())


class TestGraphs(RewriteTest):
    settings: ClassVar = [
        {"graph": graph}
        for graph in ("residual_1d", "nested", "nested_twice", "shared", "outputs", "branches")
    ]

    def model(self, *, graph: str) -> Any:
        return getattr(self, graph)()

    def residual_1d(self) -> Any:
        source = tf_keras.Input((12, 4))
        x = layers.BatchNormalization()(layers.Conv1D(4, 3, padding="same")(source))
        x = layers.ReLU()(layers.Add()([x, source]))
        x = layers.Concatenate(axis=2)([x, layers.Conv1D(3, 1, activation="swish")(x)])
        x = layers.Concatenate(axis=1)([x, source[:, :, :1] * 0.0 + x])
        return tf_keras.Model(source, layers.Dense(2)(layers.Flatten()(x)))

    def tower(self) -> Any:
        return chain((8, 8, 4), layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization())

    def nested(self) -> Any:
        inner_source = tf_keras.Input((8, 8, 4))
        inner = tf_keras.Model(inner_source, layers.ReLU()(self.tower()(inner_source)))
        source = tf_keras.Input((8, 8, 4))
        return tf_keras.Model(source, layers.Conv2D(3, 1)(inner(source)))

    def nested_twice(self) -> Any:
        tower = self.tower()
        first, second = tf_keras.Input((8, 8, 4)), tf_keras.Input((8, 8, 4))
        return tf_keras.Model([first, second], layers.Subtract()([tower(first), tower(second)]))

    def shared(self) -> Any:
        source = tf_keras.Input((12,))
        dense, normalisation = layers.Dense(12), layers.BatchNormalization()
        x = normalisation(dense(source))
        return tf_keras.Model(source, normalisation(dense(x)))

    def outputs(self) -> Any:
        source = tf_keras.Input((12,))
        x = layers.Dense(6)(source)
        return tf_keras.Model(source, [x, layers.BatchNormalization()(x)])

    def branches(self) -> Any:
        source = tf_keras.Input((8, 8, 4))
        x = layers.Conv2D(4, 3)(source)
        both = layers.BatchNormalization()(x), layers.ReLU()(x)
        return tf_keras.Model({"picture": source}, {"sum": layers.Add()(both), "x": x})

    def test_equal(self, options: dict) -> None:
        if options["graph"] != "branches":
            super().test_equal(options)
            return
        model = randomise(self.branches())
        feed = {"picture": np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype(np.float32)}
        assert largest_difference(model(feed), rewrite(model).model(feed)) <= EXACT


def test_a_model_that_needs_nothing_is_returned_as_it_is() -> None:
    model = chain((8, 8, 3), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU())
    result = rewrite(model)
    assert result.model is model
    assert result.notes == ()


def test_notes_name_the_layer_and_what_happened() -> None:
    model = chain((6,), layers.Dense(4, "tanh", name="hidden"), layers.BatchNormalization())
    assert rewrite(model).notes == ("'hidden': its activation tanh became a layer",)


def test_a_users_function_is_not_the_built_in_of_its_name() -> None:
    def relu(x: tf.Tensor) -> tf.Tensor:
        return tf.minimum(tf.nn.relu(x), 1.0)

    model = randomise(chain((6,), layers.Dense(4, activation=relu), layers.Dense(2)))
    feed = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    result = rewrite(model)
    assert kinds(result.model) == ["Dense", "Activation", "Dense"]
    assert largest_difference(model(feed), native(result.model)(feed)) <= EXACT
    assert unwritable(scheme.quantise(result.model, {})) is None


def test_parts_know_their_origin() -> None:
    model = chain((8, 8, 4), layers.SeparableConv2D(6, 3, name="sep"))
    origin = rewrite(model).origin
    assert origin["sep_depthwise"] is origin["sep_pointwise"] is model.get_layer("sep")


def test_frozen_layers_stay_frozen() -> None:
    model = chain((6,), layers.Dense(4, "tanh", trainable=False), layers.BatchNormalization())
    new = rewrite(model).model
    assert [w.name.split("/")[-1] for w in new.trainable_weights] == ["gamma:0", "beta:0"]


@pytest.mark.parametrize("regularizer", ["l2"])
def test_regularisation_is_kept(regularizer: str) -> None:
    model = chain(
        (6,), layers.Dense(4, "tanh", kernel_regularizer=regularizer), layers.BatchNormalization()
    )
    expected = float(model.losses[0])
    np.testing.assert_allclose(float(rewrite(model).model.losses[0]), expected, rtol=1e-6)
