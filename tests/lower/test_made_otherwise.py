"""Classes of the user's that have nothing of their own but an `__init__`: Keras' classes, in both
doors, although no config makes them again."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import ec2t_tf
from ec2t_tf.built_in import as_built_in, built_in_class, built_in_class_of

from .models import trained
from .random_check import Outcome, compare

pytestmark = pytest.mark.filterwarnings("ignore:.*does not support masking")


def kinds(library: Any) -> dict[str, type]:
    layers = library.layers

    class Conv3x3(layers.Conv2D):
        def __init__(self, filters: int) -> None:
            super().__init__(filters, 3, padding="same", activation="swish")

        def parameters(self) -> int:
            return int(self.count_params())

    class Normed(layers.BatchNormalization):
        def __init__(self, momentum: float = 0.9) -> None:
            super().__init__(axis=-1, momentum=momentum)

        def get_config(self) -> dict:
            return {"momentum": self.momentum}

    class Separable(layers.SeparableConv2D):
        def __init__(self) -> None:
            super().__init__(6, 3, padding="same")

    class Hidden(layers.Dense):
        def __init__(self) -> None:
            super().__init__(8, activation="relu")

    class Dropped(layers.Dropout):
        def __init__(self) -> None:
            super().__init__(0.1)

    class Loop(layers.LSTM):
        def __init__(self) -> None:
            super().__init__(4, return_sequences=True)

    return {name: value for name, value in locals().items() if isinstance(value, type)}


def net(library: Any) -> Any:
    layers, own = library.layers, kinds(library)
    source = library.Input((6, 6, 3), name="x")
    x = own["Normed"]()(layers.Conv2D(6, 1, name="first")(source))
    x = layers.ReLU()(own["Separable"]()(own["Conv3x3"](6)(x)))
    x = own["Dropped"]()(layers.Reshape((6, 36))(x))
    x = own["Loop"]()(layers.TimeDistributed(own["Hidden"](), name="steps")(x))
    return library.Model(source, layers.Dense(3, name="last")(layers.Flatten()(x)))


@pytest.mark.parametrize("library", [keras, tf_keras], ids=lambda library: library.__name__)
def test_is_the_class_of_keras(library: Any) -> None:
    library.utils.set_random_seed(1)
    optimizer = library.optimizers.SGD(1e-3)
    made, inputs = trained(net(library), steps=2, optimizer=optimizer)
    assert not made.ec2t_report.of("float")
    kinds_of = {d.kind for d in made.ec2t_report.decisions}
    assert {"Conv2D", "Dense", "LSTM"} <= kinds_of
    assert len(made.ec2t_report.of("ternary")) >= 4
    compare(made, inputs, Outcome())


@pytest.mark.parametrize("library", [keras, tf_keras], ids=lambda library: library.__name__)
def test_rules_know_the_class_and_its_name(library: Any) -> None:
    source = net(library)
    own = type(source.layers[3])
    assert own.__name__ == "Conv3x3"
    rules = [
        ec2t_tf.Rule("int8", kind="Conv3x3"),
        ec2t_tf.Rule("int8", predicate=lambda layer: type(layer).__name__ == "Hidden"),
    ]
    report = ec2t_tf.apply(source, policy=ec2t_tf.Policy(rules), verbose=0).ec2t_report
    by_rule = {d.layer: d.treatment for d in report.decisions if d.by_rule}
    assert source.layers[3].name in by_rule
    assert set(by_rule.values()) == {ec2t_tf.Treatment.INT8}


@pytest.mark.parametrize("library", [keras, tf_keras], ids=lambda library: library.__name__)
def test_what_computes_is_left_alone(library: Any) -> None:
    class Standardised(library.layers.Conv2D):
        def call(self, inputs: Any) -> Any:
            return super().call(inputs)

    class Odd(library.layers.ReLU):
        elementwise = True

    class Group(library.Model):
        def __init__(self) -> None:
            super().__init__()

    assert [built_in_class(kind) for kind in (Standardised, Odd, Group)] == [
        Standardised,
        Odd,
        Group,
    ]
    assert built_in_class(library.layers.Dense) is library.layers.Dense
    assert built_in_class(kinds(library)["Loop"]) is library.layers.LSTM


class Halved:
    """A mixin that stands behind Keras' class, before its base."""

    def __call__(self, inputs: Any, *arguments: Any, **options: Any) -> Any:
        return super().__call__(inputs * 0.5, *arguments, **options)  # type: ignore[misc]


class Doubling:
    """A mixin with a property in the place of an attribute that Keras sets."""

    @property
    def activation(self) -> Any:
        return doubled

    @activation.setter
    def activation(self, value: Any) -> None:
        pass


def doubled(x: Any) -> Any:
    return 2 * x


def otherwise(library: Any) -> dict[str, Any]:
    """Layers [batch, 6, 4] -> [batch, 6, 4] that compute something of their own, though only their
    `__init__`, a mixin or a part says so."""
    layers = library.layers

    class Base(Halved, layers.Layer):
        pass

    class Behind(layers.Dense, Base):
        pass

    class Property(layers.Dense, Doubling):
        pass

    class Put(layers.Dense):
        def __init__(self, units: int) -> None:
            super().__init__(units)
            inner = self.call
            self.call = lambda inputs: inner(inputs) * 0.5

    class Attributes(layers.Dense):
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            return value * 0.5 if name == "kernel" and self.built else value

    class Cell(layers.LSTMCell):
        def call(self, inputs: Any, states: Any, training: Any = None) -> Any:
            output, after = super().call(inputs * 0.5, states, training=training)
            return output, after

    class Loop(layers.LSTM):
        def __init__(self, units: int) -> None:
            super().__init__(units, return_sequences=True)
            self.cell = Cell(units)

    return {one.__name__: one(4) for one in (Behind, Property, Put, Attributes, Loop)}


@pytest.mark.parametrize("library", [keras, tf_keras], ids=lambda library: library.__name__)
def test_what_computes_by_its_parts_is_left_alone(library: Any) -> None:
    for name, layer in otherwise(library).items():
        assert built_in_class_of(layer) is type(layer), name
        assert as_built_in(layer) is layer

    class Swish(library.layers.Dense):
        def __init__(self) -> None:
            super().__init__(4)
            self.activation = library.activations.swish
            self.note = lambda x: x

        @property
        def parameters(self) -> int:
            return int(self.count_params())

    assert built_in_class_of(Swish()) is library.layers.Dense
    # Keras' own, in which functions stand in the place of methods too.
    for layer in (library.layers.Dense(3), library.layers.LSTM(3), library.layers.Conv2D(3, 3)):
        own = type("Own", (type(layer),), {})
        made = own.from_config(layer.get_config())
        made(library.Input((6, 4, 3) if "Conv" in type(layer).__name__ else (6, 4)))
        assert built_in_class_of(made) is type(layer)


@pytest.mark.parametrize("library", [keras, tf_keras], ids=lambda library: library.__name__)
@pytest.mark.parametrize("name", ["Behind", "Property", "Put", "Attributes", "Loop"])
def test_what_computes_by_its_parts_computes_the_same(library: Any, name: str) -> None:
    library.utils.set_random_seed(1)
    source = library.Input((6, 4), name="x")
    middle = otherwise(library)[name](source)
    last = library.layers.Dense(3, name="last")(library.layers.Flatten()(middle))
    model = library.Model(source, [middle, last])
    inputs = np.random.default_rng(1).normal(size=(4, 6, 4)).astype(np.float32)
    expected = np.asarray(model(inputs)[0])
    policy = ec2t_tf.Policy(
        [ec2t_tf.Rule("ternary", name="last"), ec2t_tf.Rule("float", predicate=lambda _: True)]
    )
    refusals = {  # whose parts cannot be opened, and which no config makes again
        (tf_keras, "Behind"): (ec2t_tf.UnsupportedLayerError, "with a __call__ of its own"),
        (keras, "Behind"): (ec2t_tf.UnsupportedLayerError, "with a __call__ of its own"),
        (keras, "Loop"): (ec2t_tf.UnsupportedLayerError, "a config that does not"),
        (tf_keras, "Loop"): (ec2t_tf.UnsupportedLayerError, "whose weights kernel"),
        (tf_keras, "Property"): (ec2t_tf.UnsupportedLayerError, "whose weights kernel"),
        (tf_keras, "Put"): (ec2t_tf.UnsupportedLayerError, "whose weights kernel"),
        (tf_keras, "Attributes"): (ec2t_tf.UnsupportedLayerError, "whose weights kernel"),
    }
    if (library, name) in refusals:
        kind, says = refusals[library, name]
        with pytest.raises(kind, match=says):
            ec2t_tf.apply(model, policy=policy, verbose=0)
        return
    made = ec2t_tf.apply(model, policy=policy, verbose=0)
    np.testing.assert_allclose(np.asarray(made(inputs)[0]), expected, rtol=0.02, atol=0.02)


def test_attention_keeps_its_own_scale() -> None:
    """T5's has none: its queries are not divided by anything. No config of Keras' says so."""

    class Unscaled(keras.layers.MultiHeadAttention):
        def __init__(self) -> None:
            super().__init__(2, 4)
            self._inverse_sqrt_key_dim = 1.0

    keras.utils.set_random_seed(2)
    source = keras.Input((6, 8), name="x")
    middle = Unscaled()(source, source)
    last = keras.layers.Dense(3, name="last")(keras.layers.Flatten()(middle))
    model = keras.Model(source, [middle, last])
    inputs = 3 * np.random.default_rng(1).normal(size=(4, 6, 8)).astype(np.float32)
    policy = ec2t_tf.Policy(
        [ec2t_tf.Rule("ternary", name="last"), ec2t_tf.Rule("float", predicate=lambda _: True)]
    )
    made = ec2t_tf.apply(model, policy=policy, verbose=0)
    expected, found = (np.asarray(one(inputs)[0]) for one in (model, made))
    assert (
        np.abs(found - expected).max() < 0.06
    )  # a softmax of eight bits; divided once more it is 1.83


@pytest.mark.parametrize("library", [keras, tf_keras], ids=lambda library: library.__name__)
@pytest.mark.parametrize("replaced", ["call", "cell"])
def test_what_was_replaced_later_is_refused(library: Any, replaced: str) -> None:
    layers = library.layers

    class Cell(layers.LSTMCell):
        def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
            output, states = super().call(inputs, states, training=training)
            return 2.0 * output, states

    middle = layers.Dense(6, name="middle") if replaced == "call" else layers.LSTM(6, name="middle")
    if replaced == "call":
        original = middle.call
        middle.call = lambda x: 2.0 * original(x)
    else:
        middle.cell = Cell(6)
    source = library.Input((5, 4))
    model = library.Model(source, layers.Dense(3)(layers.Dense(4)(middle(source))))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=f"'middle'.*whose {replaced} was"):
        ec2t_tf.apply(model, verbose=0)


def normalisations(library: Any) -> dict[str, type]:
    class HandsOn(library.layers.BatchNormalization):
        """A frozen one takes its averages, as Keras' does by itself."""

        def call(self, x: Any, training: bool | None = False) -> Any:
            return super().call(x, training=bool(training) and self.trainable)

    class Twice(library.layers.BatchNormalization):
        def call(self, x: Any, training: bool | None = False) -> Any:
            return super().call(x, training=training) * 2.0

    class AtRest(library.layers.BatchNormalization):
        """Other than Keras' in training only."""

        def call(self, x: Any, training: bool | None = False) -> Any:
            return super().call(x, training=False)

    return {"hands on": HandsOn, "twice": Twice, "at rest": AtRest}


@pytest.mark.parametrize("library", [keras, tf_keras], ids=lambda library: library.__name__)
@pytest.mark.parametrize("name", ["hands on", "twice", "at rest"])
def test_a_normalisation_with_a_call_of_its_own(library: Any, name: str) -> None:
    """Is Keras' where it computes the same, in training too."""
    layers, kind = library.layers, normalisations(library)[name]
    layer = kind(name="mine")
    model = library.Sequential([library.Input((6, 4)), layers.Conv1D(4, 3), layer, layers.ReLU()])
    for following in (layers.Conv1D(8, 3, name="middle"), layers.Flatten(), layers.Dense(3)):
        model.add(following)
    before = layer.get_weights()
    is_keras = built_in_class_of(layer) is layers.BatchNormalization
    assert is_keras == (name == "hands on")
    for one, two in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    if not is_keras:
        with pytest.raises(ec2t_tf.UnsupportedLayerError, match="'mine'"):
            ec2t_tf.apply(model, verbose=0)
        return
    optimizer = library.optimizers.SGD(1e-3)
    made, inputs = trained(model, steps=2, optimizer=optimizer)
    assert not made.ec2t_report.of("float")
    found = Outcome()
    compare(made, inputs, found)
    assert found.steps < 3 < found.spread
