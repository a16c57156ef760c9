"""What users write their layers with, in Keras 3 and in tf_keras: functions, masks, Lambdas."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.export.lower import graph_of
from ec2t_tf.export.tflite import write
from tests.mcu import many_nets

from .models import trained
from .random_check import Outcome, compare
from .random_doors import DOORS, Door

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*includes a `lambda`"),
    pytest.mark.filterwarnings("ignore:.*does not support masking"),
]
INT8, TERNARY = (ec2t_tf.Policy([ec2t_tf.Rule(kind)]) for kind in ("int8", "ternary"))
Middle = Callable[[Any], Any]


class Limits:
    """With a method and an object as activations."""

    def __init__(self, ops: Any, most: float) -> None:
        self.ops, self.most = ops, most

    def limited(self, x: Any) -> Any:
        return self.ops.minimum(self.ops.relu(x), self.most)

    __call__ = limited


def limited(x: Any, ops: Any, most: float) -> Any:
    return ops.minimum(ops.relu(x), most)


def followed(door: Door, source: Any, middle: Middle, policy: Any = TERNARY) -> tuple[Any, Outcome]:
    """`apply`, steps, the file beside its integers and beside the model."""
    door.keras.utils.set_random_seed(1)
    x = middle(source)
    x = door.layers.Flatten()(x) if len(x.shape) > 2 else x
    model = door.keras.Model(source, door.layers.Dense(3, name="last")(x))
    made, inputs = trained(model, steps=2, policy=policy, optimizer=door.keras.optimizers.SGD(1e-2))
    found = Outcome(floats=tuple(made.ec2t_report.of("float")))
    compare(made, inputs, found)
    assert found.steps < 2
    return made, found


@pytest.mark.parametrize("door", DOORS)
class TestFunctions:
    """As they are: a config has only their names, or nothing of them."""

    def function(self, kind: str, ops: Any) -> Any:
        if kind == "lambda with a closure":
            held = Limits(ops, 0.5)
            return lambda x: held.limited(x)
        if kind == "partial":
            return functools.partial(limited, ops=ops, most=0.5)
        return Limits(ops, 0.5).limited if kind == "method" else Limits(ops, 0.5)

    @pytest.mark.few(3)
    @pytest.mark.parametrize("kind", ["lambda with a closure", "partial", "method", "object"])
    def test_as_activations(self, door: str, kind: str) -> None:
        one = DOORS[door]
        function = self.function(kind, one.ops)

        def middle(x: Any) -> Any:
            x = one.layers.Conv1D(4, 3, activation=function, name="first")(x)
            x = one.layers.Dense(5, activation=function, name="inner")(x)
            return one.layers.Activation(function)(x * 2.0 if door == "keras_3" else x)

        source = one.keras.Input((7, 5), name="x")
        _, found = followed(one, source, middle)
        assert not found.floats

    @pytest.mark.few(2)
    @pytest.mark.parametrize("kind", ["lambda with a closure", "partial", "object"])
    def test_as_initialisers_regularisers_and_constraints(self, door: str, kind: str) -> None:
        one = DOORS[door]
        made: Any = {
            "lambda with a closure": lambda shape, dtype=None: np.full(shape, 0.1, np.float32),
            "partial": functools.partial(_full, value=0.1),
            "object": one.keras.initializers.RandomNormal(seed=1),
        }[kind]

        def middle(x: Any) -> Any:
            return one.layers.Conv1D(
                4, 3, kernel_initializer=made, bias_regularizer=lambda w: 0.0 * w[0], name="first"
            )(x)

        followed(one, one.keras.Input((7, 5), name="x"), middle)

    def test_in_a_lambda(self, door: str) -> None:
        one = DOORS[door]

        def middle(x: Any) -> Any:
            return one.layers.Lambda(lambda x: x * 0.5 + 0.1)(one.layers.Dense(4)(x))

        _, found = followed(one, one.keras.Input((7, 5), name="x"), middle)
        assert not found.floats


def _full(shape: Any, dtype: Any = None, value: float = 0.0) -> Any:
    return np.full(shape, value, np.float32)


MASKED: dict[str, Callable[[Any, Any], Any]] = {
    "Conv1D": lambda layers, x: layers.Conv1D(4, 3)(x),
    "DepthwiseConv1D": lambda layers, x: layers.DepthwiseConv1D(3)(x),
    "Dense": lambda layers, x: layers.Dense(4, activation="relu")(x),
    "Flatten": lambda layers, x: layers.Flatten()(x),
    "Add": lambda layers, x: layers.Add()([x, layers.Dense(5)(x)]),
    "BatchNormalization": lambda layers, x: layers.BatchNormalization()(x),
    "GlobalMaxPooling1D": lambda layers, x: layers.GlobalMaxPooling1D()(x),
    "Lambda": lambda layers, x: layers.Lambda(lambda x: x * 2.0)(x),
}
REFUSED: dict[str, Callable[[Any, Any], Any]] = {
    "average": lambda layers, x: layers.GlobalAveragePooling1D(name="it")(x),
    "average, later": lambda layers, x: layers.GlobalAveragePooling1D(name="it")(
        layers.Dropout(0.1)(layers.Dense(4, activation="relu")(x))
    ),
    "product": lambda layers, x: layers.Multiply(name="it")([x, x]),
    "LSTM": lambda layers, x: layers.LSTM(3, name="it")(x),
    "attention": lambda layers, x: layers.MultiHeadAttention(2, 3, name="it")(x, x),
}


def masked(one: Door, source: str) -> tuple[Any, Any]:
    if source == "Masking":
        x = one.keras.Input((7, 5), name="x")
        return x, one.layers.Masking()(x)
    x = one.keras.Input((7,), dtype="int32", name="x")
    return x, one.layers.Embedding(9, 5, mask_zero=True)(x)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("source", ["Masking", "Embedding"])
class TestMasks:
    """What computes otherwise by one is refused by name; all else trains with it."""

    @pytest.mark.few(6)
    @pytest.mark.parametrize("case", MASKED)
    def test_trains_with_it(self, door: str, source: str, case: str) -> None:
        one = DOORS[door]
        x, y = masked(one, source)
        followed(one, x, lambda _: MASKED[case](one.layers, y), INT8)

    def test_goes_into_a_model_inside(self, door: str, source: str) -> None:
        one = DOORS[door]
        x, y = masked(one, source)
        entry = one.keras.Input((7, 5))
        block = one.keras.Model(entry, one.layers.Dense(5, activation="relu")(entry))
        followed(one, x, lambda _: block(block(y)), INT8)

    @pytest.mark.parametrize("case", REFUSED)
    def test_refused_by_name(self, door: str, source: str, case: str) -> None:
        one = DOORS[door]
        x, y = masked(one, source)
        y = REFUSED[case](one.layers, y)
        y = one.layers.Flatten()(y) if len(y.shape) > 2 else y
        model = one.keras.Model(x, one.layers.Dense(3)(y))
        with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"'it'.*a mask marks"):
            ec2t_tf.apply(model, policy=INT8, verbose=0)


GIVEN_A_MASK: dict[str, Callable[[Any, Any, Any], Any]] = {
    "average": lambda layers, x, mask: layers.GlobalAveragePooling1D(name="it")(x, mask),
    "average, by name": lambda layers, x, mask: layers.GlobalAveragePooling1D(name="it")(
        x, mask=mask
    ),
    "Softmax": lambda layers, x, mask: layers.Softmax(axis=1, name="it")(
        layers.Dense(1)(x), layers.Reshape((7, 1))(mask)
    ),
    "Attention": lambda layers, x, mask: layers.Attention(name="it")([x, x], [None, mask]),
    "heads": lambda layers, x, mask: layers.MultiHeadAttention(2, 3, name="it")(
        x, x, None, layers.Reshape((1, 7))(mask)
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", GIVEN_A_MASK)
def test_a_mask_that_is_given_is_refused_by_name(door: str, case: str) -> None:
    """By place as by name."""
    one = DOORS[door]
    x, mask = one.keras.Input((7, 5)), one.keras.Input((7,), dtype="bool")
    y = GIVEN_A_MASK[case](one.layers, one.layers.Dense(6)(x), mask)
    y = one.layers.Flatten()(y) if len(y.shape) > 2 else y
    model = one.keras.Model([x, mask], one.layers.Dense(3)(y))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"'it'.*a mask marks"):
        ec2t_tf.apply(model, policy=INT8, verbose=0)


@pytest.mark.parametrize("door", DOORS)
class TestOpenSizes:
    """A file's tensors have sizes: only the batch may be open."""

    @staticmethod
    def listener(one: Door, source: Any) -> Any:
        x = one.layers.Conv1D(6, 3, padding="same")(source)
        x = one.layers.Conv1D(6, 3, activation="relu")(x)
        return one.keras.Model(source, one.layers.Dense(3)(one.layers.GlobalMaxPooling1D()(x)))

    def test_are_refused_with_what_to_do(self, door: str, tmp_path: Path) -> None:
        one = DOORS[door]
        model = self.listener(one, one.keras.Input((None, 5), name="sound"))
        wanted = r"'sound' with shape \(None, None, 5\).*x = Input\(\(96, 5\), dtype='float32'\)"
        with pytest.raises(ValueError, match=wanted):
            ec2t_tf.apply(model, verbose=0)
        with pytest.raises(ValueError, match=wanted):
            export.to_tflite(
                model, tmp_path / "it", representative_data=np.zeros((4, 9, 5), np.float32)
            )

    def test_what_to_do_works(self, door: str) -> None:
        one = DOORS[door]
        model = self.listener(one, one.keras.Input((None, 5)))
        followed(one, one.keras.Input((9, 5), dtype="float32"), model, None)


@pytest.mark.parametrize("door", DOORS)
def test_functions_of_a_layer_inside_a_layer(door: str) -> None:
    one = DOORS[door]
    limits = Limits(one.ops, 0.5)
    followed(
        one,
        one.keras.Input((7, 5), name="x"),
        lambda x: one.layers.TimeDistributed(
            one.layers.Dense(4, activation=functools.partial(limits.limited)), name="steps"
        )(x),
    )


@pytest.mark.parametrize("door", DOORS)
def test_why_a_layer_of_layers_has_no_rule_is_said(door: str) -> None:
    one = DOORS[door]

    def middle(x: Any) -> Any:
        x = one.layers.Reshape((7, 5, 1))(one.layers.Dense(5, name="first")(x))
        return one.layers.TimeDistributed(one.layers.GRU(3, reset_after=False), name="steps")(x)

    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"'steps'.*reset_after=False"):
        followed(one, one.keras.Input((7, 5), name="x"), middle)


def _doubled(one: Door, base: type, units: int) -> Any:
    """A layer, or a model, of the user's; its class has no config, and is nowhere registered."""

    class Doubled(base):  # type: ignore[misc]
        def __init__(self, held: Any) -> None:
            super().__init__()
            self.held = held

        def build(self, shape: Any) -> None:
            self.held.build(shape)
            self.built = True

        def call(self, x: Any) -> Any:
            return 2.0 * self.held(x)

        def compute_output_shape(self, shape: Any) -> Any:
            return (*shape[:-1], units)

    return Doubled(one.layers.Dense(units))


def _convolutions(one: Door) -> Any:
    source, layers = one.keras.Input((6, 6, 3)), one.layers
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(source))
    x = layers.Activation("relu")(x)
    x = layers.MaxPooling2D(2)(layers.Add()([x, layers.Conv2D(4, 1)(x)]))
    x = layers.Dense(5, activation="gelu")(layers.Flatten()(x))
    return one.keras.Model(source, x)


def _of_a_sequence(one: Door, *layers: Any) -> Any:
    source = one.keras.Input((6, 3))
    return one.keras.Sequential([source, *layers])


EVERY_STEP: dict[str, tuple[tuple[int, ...], Callable[[Door], Any]]] = {
    "a model": ((4, 6, 6, 3), _convolutions),
    "a Sequential that is open": (
        (4, 6, 6, 3),
        lambda one: one.keras.Sequential([one.layers.Conv2D(4, 3), one.layers.Flatten()]),
    ),
    "a model with a layer of the user's": (
        (4, 6, 3),
        lambda one: _of_a_sequence(one, _doubled(one, one.layers.Layer, 4), one.layers.ReLU()),
    ),
    "a model of loops": (
        (4, 6, 3),
        lambda one: _of_a_sequence(
            one, one.layers.GRU(4, return_sequences=True), one.layers.LSTM(3), one.layers.Dense(5)
        ),
    ),
    "LSTM": ((4, 6, 3), lambda one: one.layers.LSTM(4, return_sequences=True)),
    "SimpleRNN": ((4, 6, 3), lambda one: one.layers.SimpleRNN(4, go_backwards=True)),
    "both ways": ((4, 6, 3), lambda one: one.layers.Bidirectional(one.layers.GRU(3))),
}


@pytest.mark.few(4)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("what", EVERY_STEP)
def test_what_is_done_every_step(what: str, door: str, tmp_path: Path) -> None:
    one, (shape, make) = DOORS[door], EVERY_STEP[what]
    done = make(one)
    if door == "keras_3" and "user's" in what:  # copied there, not opened
        with pytest.raises(
            ec2t_tf.UnsupportedLayerError, match=r"(?s)Doubled.*Write its get_config"
        ):
            followed(one, one.keras.Input(shape), lambda x: one.layers.TimeDistributed(done)(x))
        return
    made, found = followed(
        one, one.keras.Input(shape, name="x"), lambda x: one.layers.TimeDistributed(done)(x)
    )
    assert not found.floats
    assert found.spread > 8
    content = write(graph_of(made))
    values = many_nets.inputs(content, 4, seed=1)
    (got,) = many_nets.on_host([content], [values], tmp_path, sanitize=True)
    np.testing.assert_array_equal(got, many_nets.reference(content, values))


def test_a_model_of_the_users_every_step() -> None:
    one = DOORS["tf_keras"]
    model = _doubled(one, tf_keras.Model, 4)
    source = one.keras.Input((4, 6, 3), name="x")
    followed(one, source, lambda x: one.layers.TimeDistributed(model)(x))
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == [0, 0]


def test_a_normalisation_along_several_axes_is_refused_by_name() -> None:
    layers, keras = DOORS["tf_keras"].layers, DOORS["tf_keras"].keras
    source = keras.Input((7, 5), name="x")
    x = layers.BatchNormalization(axis=[1, 2], name="norm")(layers.Dense(6)(source))
    model = keras.Model(source, layers.Dense(3)(layers.Flatten()(x)))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match="'norm'"):
        ec2t_tf.apply(model, policy=INT8, verbose=0)


@pytest.mark.parametrize("inside", [False, True])
def test_losses_and_metrics_added_to_a_model_are_kept(inside: bool) -> None:
    keras = tf_keras
    keras.utils.set_random_seed(1)
    source = keras.Input((7, 5), name="x")
    y = keras.layers.Dense(6, activation="gelu" if inside else None, name="first")(source)
    model = keras.Model(source, keras.layers.Dense(3)(keras.layers.Flatten()(y)))
    model.add_loss(0.3 * tf.reduce_mean(tf.square(y)))
    model.add_metric(tf.reduce_mean(y), name="level", aggregation="mean")
    if inside:
        other = keras.Input((7, 5), name="y")
        model = keras.Model(other, model(keras.layers.Dense(5, name="before")(other)))
    made = ec2t_tf.apply(model, policy=INT8, verbose=0)
    x = np.random.default_rng(0).normal(size=(8, 7, 5)).astype(np.float32)
    made(x, training=True)
    found = []
    for one in (model, made):
        one.compile("sgd", "mse")
        found.append(one.evaluate(x, one.predict(x, verbose=0), verbose=0, return_dict=True))
    assert found[0]["loss"] > 0.01
    assert found[1] == pytest.approx(found[0], rel=0.05)
    made.fit(x, np.zeros((8, 3)), verbose=0)
    compare(made, [x], Outcome())


OF_TENSORFLOW: dict[str, Callable[[Any], Any]] = {
    "quotient": lambda x: tf.nn.relu(x) / (tf.reduce_sum(tf.nn.relu(x), -1, keepdims=True) + 1.0),
    "quotient of a number": lambda x: tf.divide(2.0, tf.nn.relu(x) + 1.0),
    "quotient by names": lambda x: tf.divide(y=tf.nn.relu(x) + 1.0, x=x, name="divided"),
    "depth_to_space": lambda x: tf.nn.depth_to_space(x, 2),
    "space_to_depth": lambda x: tf.nn.space_to_depth(x, 2),
    "max_pool": lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME"),
    "avg_pool": lambda x: tf.nn.avg_pool(x, [1, 3, 3, 1], strides=2, padding="VALID"),
    "squeeze": lambda x: tf.squeeze(tf.expand_dims(x, 2), 2),
    "erf": tf.math.erf,
    "log1p": lambda x: tf.math.log1p(tf.nn.relu(x)),
    "tile": lambda x: tf.tile(x, [1, 1, 2, 1]),
}
REFUSED_OF_TENSORFLOW: dict[str, Callable[[Any], Any]] = {
    "cumsum": lambda x: tf.cumsum(x, 1),
    "greater": lambda x: tf.where(x > 0.0, x, 0.1 * x),
}


def _image(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: function(tf_keras.layers.Conv2D(8, 3, name="first")(x))


@pytest.mark.few(4)
@pytest.mark.parametrize("name", OF_TENSORFLOW)
def test_functions_of_tensorflow(name: str) -> None:
    source = tf_keras.Input((8, 8, 3), name="x")
    _, found = followed(DOORS["tf_keras"], source, _image(OF_TENSORFLOW[name]))
    assert not found.floats


@pytest.mark.parametrize("name", REFUSED_OF_TENSORFLOW)
def test_functions_without_a_rule_are_refused_by_name(name: str) -> None:
    source = tf_keras.Input((8, 8, 3), name="x")
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=f"'tf.*{name}"):
        followed(DOORS["tf_keras"], source, _image(REFUSED_OF_TENSORFLOW[name]))


@pytest.mark.few(2)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("masks", ["causal", "given"])
def test_attention_that_looks_at_some(masks: str, door: str) -> None:
    one = DOORS[door]

    def middle(x: Any) -> Any:
        x = one.layers.Dense(6, name="first")(x)
        heads = one.layers.MultiHeadAttention(2, 3, name="heads")
        if masks == "causal":
            return heads(x, x, use_causal_mask=True)
        return heads(x, x, attention_mask=np.tri(7, dtype=bool)[None])

    source = one.keras.Input((7, 5), name="x")
    if door == "tf_keras":
        with pytest.raises(ec2t_tf.UnsupportedLayerError, match="'heads'"):
            followed(one, source, middle)
        return
    _, found = followed(one, source, middle)
    assert not found.floats
