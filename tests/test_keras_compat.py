"""Models of Keras 3 rebuilt in tf_keras and back: same outputs, same weights, same names."""

from __future__ import annotations

import itertools
import re
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import layers, ops

from ec2t_tf import doors
from ec2t_tf.tfmot import activations, to_keras_3, to_tf_keras
from ec2t_tf.tfmot.in_keras_3 import _SHARED_ACTIVATIONS, largest_difference
from tests.models import options_id

EXACT = 1e-5


def randomise(model: Any, seed: int = 0) -> Any:
    """Random weights everywhere, also where Keras starts at zeros and ones."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        name = getattr(weight, "path", weight.name)
        if "seed_generator" in name:
            continue
        value = random.normal(0.0, 0.5, weight.shape)
        if "variance" in name:
            value = 0.5 + np.abs(value)
        elif "gamma" in name:
            value = 1.0 + 0.5 * value
        elif len(weight.shape) > 1:
            value *= np.sqrt(4.0 / np.prod(weight.shape[:-1]))
        weight.assign(value)
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def random_input(model: Any, seed: int = 1) -> Any:
    random = np.random.default_rng(seed)
    arrays = [
        random.standard_normal([3, *(n or 16 for n in tensor.shape[1:])]).astype(np.float32)
        for tensor in model.inputs
    ]
    return arrays if len(arrays) > 1 else arrays[0]


def settings(**choices: list) -> list[dict]:
    """Every combination of the choices."""
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


class CompatTest:
    """What has to hold for each layer: inherited, with the layer and its settings as data."""

    shape: ClassVar[tuple[int | None, ...]] = (8, 8, 4)
    settings: ClassVar[list[dict]] = [{}]

    def layer(self, **options: Any) -> Any:
        raise AssertionError("each test names its layer")

    def model(self, options: dict) -> Any:
        source = keras.Input(self.shape)
        return keras.Model(source, self.layer(**options)(source))

    def pytest_generate_tests(self, metafunc: Any) -> None:
        if "options" in metafunc.fixturenames:
            metafunc.parametrize("options", self.settings, ids=options_id)

    def test_there_and_back(self, options: dict) -> None:
        keras.utils.set_random_seed(0)
        model = randomise(self.model(options))
        feed = random_input(model)
        expected = model(feed, training=False)
        twin = to_tf_keras(model)
        assert largest_difference(expected, twin(feed, training=False)) <= EXACT
        assert twin.count_params() == sum(
            int(np.prod(w.shape)) for w in model.weights if "seed_generator" not in w.path
        )
        names = {layer.name for layer in model.layers}
        assert names <= {layer.name for layer in twin.layers}

        back = to_keras_3(twin)
        assert largest_difference(expected, back(feed, training=False)) <= EXACT
        assert names <= {layer.name for layer in back.layers}


class TestConv1D(CompatTest):
    shape = (12, 4)
    settings: ClassVar = [
        *settings(padding=["valid", "same", "causal"], use_bias=[True, False]),
        {"strides": 2, "activation": "relu"},
        {"dilation_rate": 2, "groups": 2},
    ]

    def layer(self, **options: Any) -> Any:
        return layers.Conv1D(6, 3, **options)


class TestConv2D(CompatTest):
    settings: ClassVar = [
        *settings(padding=["valid", "same"], strides=[1, 2], use_bias=[True, False]),
        {"dilation_rate": 2, "padding": "same"},
        {"groups": 2, "activation": "hard_silu"},
        {"kernel_regularizer": "l2", "bias_constraint": "non_neg", "trainable": False},
        {"kernel_regularizer": keras.regularizers.L1L2(0.1, 0.2)},
    ]

    def layer(self, **options: Any) -> Any:
        return layers.Conv2D(6, 3, **options)


class TestDepthwiseConv2D(CompatTest):
    settings: ClassVar = settings(
        padding=["valid", "same"], depth_multiplier=[1, 2], strides=[1, 2]
    )

    def layer(self, **options: Any) -> Any:
        return layers.DepthwiseConv2D(3, **options)


class TestSeparableConv2D(CompatTest):
    settings: ClassVar = settings(
        padding=["valid", "same"], depth_multiplier=[1, 2], activation=[None, "elu"]
    )

    def layer(self, **options: Any) -> Any:
        return layers.SeparableConv2D(6, 3, **options)


class TestSeparableConv1D(CompatTest):
    shape = (12, 4)
    settings: ClassVar = settings(padding=["valid", "same"], strides=[1, 2])

    def layer(self, **options: Any) -> Any:
        return layers.SeparableConv1D(6, 3, **options)


class TestConv2DTranspose(CompatTest):
    settings: ClassVar = settings(padding=["valid", "same"], strides=[1, 2], use_bias=[True, False])

    def layer(self, **options: Any) -> Any:
        return layers.Conv2DTranspose(6, 3, **options)


class TestDense(CompatTest):
    shape = (10,)
    settings: ClassVar = [
        *settings(use_bias=[True, False], activation=[None, "relu", "softmax"]),
        *({"activation": name} for name in activations.KERAS_3_ONLY),
        *({"activation": name} for name in _SHARED_ACTIVATIONS),
    ]

    def layer(self, **options: Any) -> Any:
        return layers.Dense(7, **options)


class TestBatchNormalization(CompatTest):
    settings: ClassVar = settings(center=[True, False], scale=[True, False], epsilon=[1e-3, 1e-2])

    def layer(self, **options: Any) -> Any:
        return layers.BatchNormalization(**options)


class TestRecurrent(CompatTest):
    shape = (6, 4)
    settings: ClassVar = settings(
        kind=[layers.LSTM, layers.GRU, layers.SimpleRNN],
        return_sequences=[True, False],
        bidirectional=[True, False],
    )

    def layer(self, *, kind: Any, bidirectional: bool, **options: Any) -> Any:
        layer = kind(5, **options)
        return layers.Bidirectional(layer) if bidirectional else layer


class TestRecurrentActivation(CompatTest):
    shape = (6, 4)
    settings: ClassVar = settings(
        kind=[layers.LSTM, layers.GRU], recurrent_activation=["hard_sigmoid"]
    )

    def layer(self, *, kind: Any, **options: Any) -> Any:
        return kind(5, **options)


class TestOneArgumentLayers(CompatTest):
    """Layers with nothing to set but what stands here."""

    settings: ClassVar[list[dict]] = [
        {"make": make}
        for make in (
            lambda: layers.ReLU(6.0, negative_slope=0.1),
            lambda: layers.LeakyReLU(0.2),
            lambda: layers.ELU(0.5),
            lambda: layers.PReLU(shared_axes=[1, 2]),
            lambda: layers.Softmax(),
            lambda: layers.Activation("hard_silu"),
            lambda: layers.Activation("hard_sigmoid"),
            lambda: layers.Activation("swish"),
            lambda: layers.MaxPooling2D(padding="same"),
            lambda: layers.AveragePooling2D(3, strides=2),
            lambda: layers.GlobalAveragePooling2D(keepdims=True),
            lambda: layers.GlobalMaxPooling2D(),
            lambda: layers.ZeroPadding2D(((0, 1), (2, 3))),
            lambda: layers.Cropping2D(1),
            lambda: layers.UpSampling2D(interpolation="bilinear"),
            lambda: layers.Flatten(),
            lambda: layers.Reshape((16, -1)),
            lambda: layers.Permute((3, 1, 2)),
            lambda: layers.Dropout(0.5, noise_shape=(None, 1, 1, 4), seed=3),
            lambda: layers.SpatialDropout2D(0.5),
            lambda: layers.GaussianNoise(0.5),
            lambda: layers.Rescaling(1 / 255, offset=[1.0, 2.0, 3.0, 4.0]),
            lambda: layers.Normalization(),
            lambda: layers.Normalization(mean=3.0, variance=4.0),
            lambda: layers.LayerNormalization(),
            lambda: layers.GroupNormalization(2),
            lambda: layers.Resizing(5, 5),
            lambda: layers.CenterCrop(4, 4),
            lambda: layers.RandomFlip("horizontal", seed=1),
            lambda: layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
            lambda: layers.RandomRotation(0.1),
            lambda: layers.RandomZoom(0.1),
            lambda: layers.RandomContrast(0.1),
            lambda: layers.TimeDistributed(layers.Conv1D(3, 2, activation="hard_tanh")),
            lambda: layers.Identity(),
            lambda: layers.ActivityRegularization(0.1),
        )
    ]

    def layer(self, *, make: Any) -> Any:
        return make()

    def pytest_generate_tests(self, metafunc: Any) -> None:
        if "options" in metafunc.fixturenames:
            names = [type(options["make"]()).__name__ for options in self.settings]
            metafunc.parametrize("options", self.settings, ids=names)


GRAPHS = ("residual", "nested_shared", "siamese", "outputs_by_name", "operators", "sequential")


class TestGraphs(CompatTest):
    """Graphs: residual, nested, shared, several inputs and outputs, operators."""

    settings: ClassVar[list[dict]] = [
        {"graph": graph}
        for graph in [
            "residual",
            "nested_shared",
            "siamese",
            "outputs_by_name",
            "operators",
            "sequential",
        ]
    ]

    def model(self, options: dict) -> Any:
        return getattr(self, options["graph"])()

    def residual(self) -> Any:
        source = keras.Input((8, 8, 4))
        x = layers.Conv2D(4, 3, padding="same", use_bias=False)(source)
        x = layers.BatchNormalization()(x)
        x = layers.add([layers.ReLU()(x), source])
        return keras.Model(source, layers.concatenate([x, layers.maximum([x, source])]))

    def nested_shared(self) -> Any:
        conv = layers.Conv2D(4, 3, padding="same")
        inner = keras.Sequential([keras.Input((8, 8, 4)), conv, layers.BatchNormalization()])
        source = keras.Input((8, 8, 4))
        deep_source = keras.Input((8, 8, 4))
        deep = keras.Model(deep_source, layers.ReLU()(inner(deep_source)), name="deep")
        return keras.Model(source, conv(deep(inner(source), training=False)))

    def siamese(self) -> Any:
        tower = layers.Dense(3, activation="tanh")
        first, second = keras.Input((5,), name="first"), keras.Input((5,), name="second")
        both = layers.Subtract()([tower(first), tower(second)])
        return keras.Model([first, second], [both, layers.Dense(1)(both)])

    def outputs_by_name(self) -> Any:
        source = keras.Input((5,))
        return keras.Model(source, {"a": layers.Dense(2)(source), "b": layers.Dense(3)(source)})

    def operators(self) -> Any:
        source = keras.Input((8, 8, 4))
        x = layers.Conv2D(4, 3, padding="same")(source)
        x = ops.relu(ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))[:, 1:-1, 1:-1]
        x = x * source - 2.0 * x + (1.0 - source) / 3.0
        x = x * ops.relu6(x + 3.0) * (1.0 / 6.0)
        gate = ops.sigmoid(ops.mean(x, axis=(1, 2), keepdims=True))
        x = ops.concatenate([ops.multiply(x, gate), ops.maximum(x, source)], axis=-1)
        x = ops.transpose(ops.silu(x), (0, 3, 1, 2))
        mean = ops.mean(x, axis=(2, 3))
        return keras.Model(source, ops.concatenate([ops.reshape(x, (-1, 512)), mean], axis=-1))

    def sequential(self) -> Any:
        conv = layers.Conv2D(4, 3, activation="relu6")
        return keras.Sequential([keras.Input((8, 8, 4)), conv, layers.Flatten(), layers.Dense(2)])


class TestApplications:
    @pytest.mark.parametrize(
        "name",
        [
            "MobileNetV2",
            "MobileNetV3Small",
            pytest.param("EfficientNetB0", marks=pytest.mark.slow),
            pytest.param("ResNet50", marks=pytest.mark.slow),
            pytest.param("DenseNet121", marks=pytest.mark.slow),
        ],
    )
    def test_there_and_back(self, name: str) -> None:
        make = getattr(keras.applications, name)
        model = randomise(make(weights=None, input_shape=(32, 32, 3), classes=10))
        feed = random_input(model)
        expected = model(feed, training=False)
        assert np.std(expected) > 1e-3, "random weights must make the outputs differ"
        twin = to_tf_keras(model)
        assert twin.count_params() == model.count_params()
        assert largest_difference(expected, twin(feed, training=False)) <= EXACT
        back = to_keras_3(twin)
        assert largest_difference(expected, back(feed, training=False)) <= EXACT


class Doubling(keras.layers.Layer):
    """A layer nobody else knows."""

    def __init__(self, factor: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.factor = factor

    def call(self, x: Any) -> Any:
        return x * self.factor

    def get_config(self) -> dict:
        return super().get_config() | {"factor": self.factor}


class TfKerasDoubling(tf_keras.layers.Layer):
    def __init__(self, factor: float = 2.0, **options: Any) -> None:
        options.pop("dtype", None)
        super().__init__(**options)
        self.factor = factor

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x * self.factor


class TfKerasTripling(TfKerasDoubling):
    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x * 3.0


def swallow(x: Any) -> Any:
    return x * 0.5


class TestCustom:
    def model(self) -> Any:
        return keras.Sequential(
            [keras.Input((4,)), layers.Dense(3), Doubling(name="mine"), layers.Dense(2, swallow)]
        )

    def test_twin_is_used(self) -> None:
        twins = {Doubling: TfKerasDoubling, swallow: swallow}
        model = self.model()
        twin = to_tf_keras(model, custom_layers=twins)
        assert isinstance(twin.get_layer("mine"), TfKerasDoubling)

    def test_unknown_layer_is_named_with_advice(self) -> None:
        with pytest.raises(ValueError, match=r"'mine' of the class Doubling.*custom_layers="):
            to_tf_keras(self.model())

    def test_unknown_activation_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"activation 'swallow'"):
            to_tf_keras(self.model(), custom_layers={Doubling: TfKerasDoubling})

    def test_twin_that_computes_otherwise_is_found_and_named(self) -> None:
        twins = {Doubling: TfKerasTripling, swallow: swallow}
        with pytest.raises(ValueError, match=r"first layer that differs is 'mine'"):
            to_tf_keras(self.model(), custom_layers=twins)

    def test_twin_with_other_weights_is_refused(self) -> None:
        class Wider(tf_keras.layers.Dense):
            @classmethod
            def from_config(cls, config: dict) -> Any:
                return cls(config["units"], use_bias=False, name=config["name"])

        model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="narrow")])
        with pytest.raises(ValueError, match=r"'narrow'.*weights|weights.*'narrow'"):
            to_tf_keras(model, custom_layers={layers.Dense: Wider})


class TestErrors:
    def test_unbuilt(self) -> None:
        with pytest.raises(ValueError, match="must be built"):
            to_tf_keras(keras.Sequential([layers.Dense(2)]))

    def test_subclassed(self) -> None:
        class Mine(keras.Model):
            def call(self, x: Any) -> Any:
                return x

        with pytest.raises(TypeError, match="Mine"):
            to_tf_keras(Mine())

    def test_wrong_keras(self) -> None:
        model = tf_keras.Sequential([tf_keras.Input((2,)), tf_keras.layers.Dense(2)])
        assert doors.is_tf_keras(model)
        assert not doors.is_keras_3(model)
        with pytest.raises(TypeError, match="must be a Keras 3 model"):
            to_tf_keras(model)

    def test_setting_that_tf_keras_lacks(self) -> None:
        source = keras.Input((6, 8))
        model = keras.Model(source, layers.UnitNormalization()(layers.RMSNormalization()(source)))
        with pytest.raises(ValueError, match="RMSNormalization"):
            to_tf_keras(model)

    def test_operator_that_is_not_mapped(self) -> None:
        source = keras.Input((6,))
        with pytest.raises(ValueError, match=r"keras\.ops 'cumsum.*Known are"):
            to_tf_keras(keras.Model(source, ops.cumsum(source, axis=1)))

    def test_text_input(self) -> None:
        source = keras.Input((1,), dtype="string")
        model = keras.Model(source, layers.Identity()(source))
        with pytest.raises(ValueError, match="must be numbers"):
            to_tf_keras(model)


class TestState:
    """What a twin keeps beside its outputs."""

    def test_frozen_layers_stay_frozen(self) -> None:
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
        model.layers[0].trainable = False
        twin = to_tf_keras(model)
        assert [layer.trainable for layer in twin.layers] == [False, True]
        assert len(twin.trainable_weights) == 2

    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
    def test_mixed_precision_is_kept(self, policy: str) -> None:
        source = keras.Input((8,))
        model = keras.Model(source, layers.Dense(3, dtype=policy)(source))
        twin = to_tf_keras(model)
        assert twin.layers[-1].compute_dtype == policy.removeprefix("mixed_")
        assert to_keras_3(twin).layers[-1].compute_dtype == twin.layers[-1].compute_dtype

    def test_the_model_given_is_untouched(self) -> None:
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
        before = [w.numpy() for w in model.weights]
        twin = to_tf_keras(model)
        twin.set_weights([w + 1 for w in twin.get_weights()])
        for weight, old in zip(model.weights, before, strict=True):
            np.testing.assert_array_equal(weight, old)

    def test_tf_keras_hard_sigmoid_goes_back_by_value(self) -> None:
        dense = tf_keras.layers.Dense(3, activation="hard_sigmoid", name="dense")
        model = tf_keras.Sequential([tf_keras.Input((5,)), dense])
        back = to_keras_3(model)
        x = np.linspace(-4, 4, 15, dtype=np.float32).reshape(3, 5)
        np.testing.assert_allclose(back(x), model(x), atol=1e-6)

    def test_errors_say_required_received_and_advice(self) -> None:
        with pytest.raises(ValueError, match=r"must be built.*Received.*Call it") as caught:
            to_tf_keras(keras.Sequential([layers.Dense(2)]))
        assert not re.search(r"\s{2,}", str(caught.value))
