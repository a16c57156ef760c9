"""A rule that a user registers for a layer of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import ec2t_tf
from ec2t_tf.export.lower import Net, lower, pending, rule
from ec2t_tf.export.tflite import write

from .models import trained
from .nets import in_litert

SHAPE = (7, 6)


@keras.saving.register_keras_serializable(package="tests_user_rules")
class Gained(layers.Layer):
    """Times a factor that is trained, plus the row in front: in operations that no rule knows."""

    def build(self, _: Any) -> None:
        self.gain = self.add_weight((), "ones", name="gain")

    def call(self, x: Any) -> Any:
        others = keras.ops.cumsum(x, axis=1) - x
        return x * self.gain + keras.ops.roll(x, 1, axis=1) + 0.0 * others


@pytest.fixture
def registered() -> Iterator[list[str]]:
    """The kinds of values that the rule was given."""
    given_to_it: list[str] = []

    @rule(Gained)
    def _gained(net: Net, call: Any, given: Any, *_: Any) -> int:
        index = net.real(given)
        given_to_it.append(call.name)
        shape = call.shape
        gain = np.float32(call.operation.gain)
        factor = net.constant(f"{call.key}/gain", gain, "float32")
        order = net.constant(f"{call.key}/order", np.roll(np.arange(shape[1]), 1))
        parts = [
            net.graph.call(kind, inputs, net.graph.add(f"{call.key}/{kind}", shape, "float32"), **o)
            for kind, inputs, o in (
                ("MUL", (index, factor), {"activation": "none"}),
                ("GATHER", (index, order), {"axis": 1, "batch_dims": 0}),
            )
        ]
        output = net.graph.add(call.key, shape, "float32")
        return net.graph.call("ADD", tuple(parts), output, activation="none")

    yield given_to_it
    del pending.RULES[f"{Gained.__module__}.{Gained.__name__}"]


def net(middle: layers.Layer) -> keras.Model:
    source = keras.Input(SHAPE, name="x")
    x = middle(layers.Dense(6, activation="relu", name="a")(source))
    return keras.Model(source, layers.Dense(3, name="last")(layers.Flatten()(x)))


def test_without_a_rule_it_is_refused_by_name() -> None:
    with pytest.raises(
        ec2t_tf.UnsupportedLayerError,
        match=r"'mine' .*with Cumsum of keras.ops inside.*export\.lower\.rule",
    ):
        ec2t_tf.apply(net(Gained(name="mine")), policy={"a": "ternary"}, verbose=0)


def test_with_a_rule_it_is_a_float_part_that_is_said(registered: list[str]) -> None:
    keras.utils.set_random_seed(1)
    made, (x,) = trained(net(Gained(name="mine")), policy={"a": "ternary"})
    assert made.ec2t_report.of("float") == ["mine"]
    graph = lower(made)
    assert "mine" in registered
    expected = keras.ops.convert_to_numpy(made(x[:8], training=False))
    for rounding in ("reference", "xnnpack"):
        (file,) = in_litert(write(graph), {"x": x[:8]}, rounding)
        assert np.abs(file - expected).max() <= 0.02 * np.ptp(expected), rounding
    kinds = [one.kind for one in graph.operators]
    assert kinds.index("DEQUANTIZE") < kinds.index("GATHER") < kinds.index("ADD")


def test_a_kind_has_one_rule(registered: list[str]) -> None:
    with pytest.raises(ValueError, match="has a rule already"):
        rule(Gained)(lambda *_: 0)
