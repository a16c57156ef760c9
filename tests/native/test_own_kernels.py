"""Layers of the user's that convolve with kernels of their own: they are Keras' layers, whose
kernels may be computed from weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import ec2t_tf
from tests.lower.models import trained
from tests.lower.random_check import Outcome, compare

registered = keras.saving.register_keras_serializable(package="tests_own_kernels")
CASES: dict[str, tuple[str, Callable[..., Any]]] = {}


class Own(layers.Layer):
    """Of a kernel [3, 3, 8, 6], or another of nine places, and a bias."""

    shape: tuple[int, ...] = (3, 3, 8, 6)

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(self.shape, "glorot_uniform", name="kernel")
        self.bias = self.add_weight((6,), "normal", name="bias")


def case(kind: str, *, base: type = Own, shape: Any = None) -> Callable[..., Any]:
    """A layer by its call, and the class of Keras that it is."""

    def register(call: Callable[..., Any]) -> Callable[..., Any]:
        name = call.__name__
        members = {"call": call, **({"shape": shape} if shape else {})}
        CASES[name] = (kind, registered(type(name, (base,), members)))
        return call

    return register


@case("Conv2D")
def with_a_bias(self: Any, x: Any) -> Any:
    return ops.relu(ops.conv(x, self.kernel, strides=2, padding="same") + self.bias)


@case("Conv2D")
def as_keras_writes_it(self: Any, x: Any) -> Any:
    x = ops.conv(x, self.kernel, strides=[1, 1], padding="valid", data_format="channels_last")
    return ops.tanh(ops.add(x, ops.reshape(self.bias, (1, 1, 1, -1))))


@case("Conv2D")
def dilated(self: Any, x: Any) -> Any:
    return ops.conv(x, kernel=self.kernel, dilation_rate=2)


@case("DepthwiseConv2D", shape=(3, 3, 8, 2))
def depthwise(self: Any, x: Any) -> Any:
    return ops.relu(ops.depthwise_conv(x, self.kernel, strides=1, padding="same"))


@case("Conv2DTranspose", shape=(3, 3, 6, 8))
def transposed(self: Any, x: Any) -> Any:
    return ops.conv_transpose(x, self.kernel, strides=2, padding="same") + self.bias


@case("Conv2D")
def standardised(self: Any, x: Any) -> Any:
    mean = ops.mean(self.kernel, axis=(0, 1, 2), keepdims=True)
    spread = ops.std(self.kernel, axis=(0, 1, 2), keepdims=True)
    kernel = 0.2 * (self.kernel - mean) / (spread + 1e-5)
    return ops.relu(ops.conv(x, kernel, padding="same") + self.bias)


@case("Conv2D")
def by_moments(self: Any, x: Any) -> Any:
    mean, variance = ops.moments(self.kernel, axes=[0, 1, 2], keepdims=True)
    kernel = 0.2 * (self.kernel - mean) / ops.sqrt(variance + 1e-5)
    return ops.relu(ops.conv(x, kernel, padding="same") + self.bias)


@case("Conv2D")
def masked(self: Any, x: Any) -> Any:
    mask = np.ones((3, 3, 1, 1), np.float32)
    mask[1, 2:], mask[2:] = 0, 0
    return ops.conv(x, self.kernel * mask, padding="same")


@case("DepthwiseConv2D")
def constant(self: Any, x: Any) -> Any:
    blur = np.outer([1, 2, 1], [1, 2, 1])[..., None, None] / 16
    kernel = np.tile(blur, (1, 1, 8, 1)).astype("float32")
    return ops.depthwise_conv(x, kernel, strides=2, padding="same")


@case("Conv2D")
def twice(self: Any, x: Any) -> Any:
    return ops.conv(x, self.kernel, padding="same") - ops.conv(
        ops.relu(x - 0.1), self.kernel, padding="same"
    )


class Flat(Own):
    shape = (3, 8, 6)


@case("Conv1D", base=Flat)
def along_time(self: Any, x: Any) -> Any:
    return ops.relu(ops.conv(x, self.kernel, padding="same") + self.bias)


@case("Conv1D", base=Flat)
def normed(self: Any, x: Any) -> Any:
    norm = ops.sqrt(ops.sum(ops.square(self.kernel), axis=(0, 1), keepdims=True))
    return ops.conv(x, self.kernel / norm, strides=2) + self.bias


@case("DepthwiseConv1D", base=Flat, shape=(3, 8, 1))
def squashed(self: Any, x: Any) -> Any:
    return ops.depthwise_conv(x, ops.tanh(self.kernel), padding="same")


@case("Dense", base=Flat, shape=(8, 6))
def by_hand(self: Any, x: Any) -> Any:
    return ops.relu(ops.matmul(x, self.kernel) + self.bias)


@case("Dense", base=Flat, shape=(8, 6))
def mixed(self: Any, x: Any) -> Any:
    return ops.dot(x, ops.softmax(self.kernel, axis=0)) + self.bias


@case("EinsumDense", base=Flat, shape=(8, 2, 3))
def in_heads(self: Any, x: Any) -> Any:
    heads = ops.einsum("...c,chd->...hd", x, self.kernel)
    return ops.relu(ops.reshape(heads, (-1, x.shape[1], 6)) - 0.1)


@case("EinsumDense", base=Flat, shape=(2, 4, 6))
def over_two_axes(self: Any, x: Any) -> Any:
    pairs = ops.reshape(x, (-1, x.shape[1], 2, 4))
    return ops.tensordot(pairs, self.kernel, axes=[[2, 3], [0, 1]]) + self.bias


def net(*names: str) -> keras.Model:
    flat = issubclass(CASES[names[0]][1], Flat)
    source = keras.Input((30, 3) if flat else (12, 12, 3), name="x")
    kind = layers.Conv1D if flat else layers.Conv2D
    x = source
    for name in names:
        x = CASES[name][1](name=name)(kind(8, 3, activation="relu", padding="same")(x))
    pool = layers.GlobalMaxPooling1D() if flat else layers.GlobalMaxPooling2D()
    return keras.Model(source, layers.Dense(3)(pool(kind(4, 1)(x))))


def data(model: keras.Model) -> np.ndarray:
    shape = (8, *model.input_shape[1:])
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def numpy(x: Any) -> np.ndarray:
    return ops.convert_to_numpy(x)


NETS = (
    ("with_a_bias", "as_keras_writes_it", "standardised"),
    ("depthwise", "constant", "transposed"),
    ("masked", "dilated", "twice"),
    ("by_hand", "mixed", "in_heads", "over_two_axes"),
    ("along_time", "normed", "squashed"),
)


@pytest.mark.parametrize("names", NETS, ids=lambda names: names[0])
def test_are_layers_of_keras(names: tuple[str, ...]) -> None:
    keras.utils.set_random_seed(3)
    source = net(*names)
    x = data(source)
    policy = ec2t_tf.Policy([ec2t_tf.Rule("int8")])
    model = ec2t_tf.apply(source, policy=policy, verbose=0)
    # Before a batch no range is known, and nothing is rounded but kernels.
    expected, found = numpy(source(x)), numpy(model(x))
    assert np.abs(found - expected).max() <= 0.05 * np.ptp(expected)
    kinds = {d.layer: d.kind for d in model.ec2t_report.decisions}
    for name in names:
        found_kinds = [kind for layer, kind in kinds.items() if layer.startswith(f"{name}_")]
        # What is constant has no weights to decide about; the bias is of the same layer.
        assert found_kinds == ([] if name == "constant" else [CASES[name][0]])


@pytest.mark.parametrize("names", NETS, ids=lambda names: names[0])
def test_their_file_is_exact(names: tuple[str, ...], tmp_path: Any) -> None:
    keras.utils.set_random_seed(3)
    rules = [ec2t_tf.Rule("ternary", name=f"{name}_.*") for name in names if name != "constant"]
    policy = ec2t_tf.Policy([*rules, ec2t_tf.Rule("int8")])
    made, inputs = trained(net(*names), steps=2, policy=policy)
    outcome = Outcome()
    compare(made, inputs, outcome)
    assert outcome.steps < 3 < outcome.spread
    x = inputs[0][:8]
    predicted = numpy(made(x))
    made.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numpy(again(x)), predicted)
    stripped = numpy(ec2t_tf.strip(made)(x))
    assert np.abs(stripped - predicted).max() <= 0.2 * np.ptp(predicted)


def test_what_a_kernel_is_computed_from_trains() -> None:
    """A mask stays one, in ternary too; what was frozen stays so, saved and loaded."""
    keras.utils.set_random_seed(3)
    source = net("masked", "standardised")
    source.get_layer("standardised").kernel.trainable = False
    before = {w.path: numpy(w) for w in source.weights}
    model = ec2t_tf.apply(source, policy=ec2t_tf.Policy([ec2t_tf.Rule("ternary")]), verbose=0)
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    x = data(source)
    model.fit(x, np.ones((8, 3)), verbose=0)
    masked, standardised = (
        next(x for x in model.layers if x.name == f"{name}_conv").latent
        for name in ("masked", "standardised")
    )
    assert np.all(numpy(masked.value)[2] == 0)
    codes, _ = model.get_layer("masked_conv").codes_and_scale()
    assert np.all(codes[2] == 0)
    assert np.any(codes[0] != 0)
    assert np.any(np.asarray(masked) != before["masked/kernel"] * (np.asarray(masked) != 0))
    assert [w.trainable for w in standardised.weights] == [False]
    np.testing.assert_array_equal(standardised.get_weights()[0], before["standardised/kernel"])
    for weight in source.weights:
        np.testing.assert_array_equal(numpy(weight), before[weight.path])


class Tied(layers.Layer):
    """A matrix there and back."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight((shape[-1], 5), "glorot_uniform", name="kernel")

    def call(self, x: Any) -> Any:
        inner = ops.relu(ops.matmul(x, self.kernel))
        return ops.matmul(inner, ops.transpose(self.kernel))


class ForEachHead(layers.Layer):
    """A matrix for each step."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight((*shape[1:], 5), "glorot_uniform", name="kernel")

    def call(self, x: Any) -> Any:
        return ops.einsum("bhd,hde->bhe", x, self.kernel)


@pytest.mark.parametrize("kind", [Tied, ForEachHead])
def test_other_products_are_by_constants_of_int8(kind: type) -> None:
    keras.utils.set_random_seed(3)
    source = keras.Input((7, 6))
    x = kind(name="mine")(layers.Dense(8)(source))
    x = layers.Dense(4)(layers.GlobalMaxPooling1D()(layers.Dense(8)(x)))
    model, inputs = trained(keras.Model(source, x), steps=2)
    assert "mine_kernel" in model.ec2t_report.of("int8")
    compare(model, inputs, Outcome())


class Moving(Own):
    """A kernel that depends on the input."""

    def call(self, x: Any) -> Any:
        return ops.conv(x, self.kernel * ops.mean(x), padding="same")


class Shared(Own):
    """A kernel in two convolutions that differ."""

    def call(self, x: Any) -> Any:
        return ops.conv(x, self.kernel) + ops.conv(x, ops.flip(self.kernel, 0))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Moving, "with others beside it in the batch"),  # a kernel that depends on the input
        (Shared, "Conv of keras.ops inside with .*weights that are also used elsewhere"),
    ],
)
def test_others_are_refused_by_name(kind: type, why: str) -> None:
    source = keras.Input((10, 10, 8))
    x = layers.Dense(4)(layers.GlobalMaxPooling2D()(kind(name="mine")(source)))
    model = keras.Model(source, layers.Dense(3)(layers.Dense(5)(x)))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=f"'mine'.*{why}"):
        ec2t_tf.apply(model, verbose=0)


@registered
class Standardised(layers.Conv2D):
    """As the documentation of Keras suggests."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        kernel = (kernel - ops.mean(kernel, axis=(0, 1, 2))) / ops.std(kernel, axis=(0, 1, 2))
        return super().convolution_op(inputs, 0.2 * kernel)


def test_a_convolution_of_keras_with_an_operation_of_its_own() -> None:
    keras.utils.set_random_seed(3)
    source = keras.Input((10, 10, 3))
    options = {"activation": "relu", "kernel_regularizer": "l2", "name": "mine"}
    x = Standardised(8, 3, **options)(layers.Conv2D(8, 3)(source))
    x = layers.GlobalMaxPooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    model, inputs = trained(keras.Model(source, layers.Dense(3)(x)), steps=2)
    assert "mine_conv" in model.ec2t_report.of("ternary")
    (decision,) = (d for d in model.ec2t_report.decisions if d.layer == "mine_conv")
    assert "without its regularizers" in decision.reason
    assert not model.losses
    compare(model, inputs, Outcome())
