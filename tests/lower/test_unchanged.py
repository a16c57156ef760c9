"""What is set on a layer of Keras after it was made goes along with it, or is refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from ec2t_tf import UnsupportedLayerError
from ec2t_tf.quantisation.split import split

from .test_table import IMAGE, SEQUENCE, VECTOR

TABLES = {(8, 8, 3): IMAGE, (5, 4): SEQUENCE, (6,): VECTOR}
SHAPES = ((8, 8, 3), pytest.param((5, 4), marks=pytest.mark.slow), (6,))
OTHERS = {"valid": "same", "same": "valid", "nearest": "bilinear", "bilinear": "nearest"}
# They say nothing about what a layer computes, or the graph around it would be another one.
ITS_OWN = (
    *("name", "trainable", "built", "input_spec", "seed_generator", "supports_masking"),
    *("losses", "path", "called", "autocast", "lock", "dtype_policy", "return_state"),
)
NOTHING = ("regularizer", "constraint", "initializer")


def other(value: Any) -> Any:
    """Another value of the kind; None if there is none."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.7 + 0.3
    if isinstance(value, str):
        return OTHERS.get(value)
    if value is None:
        return 0.7
    if isinstance(value, tuple | list) and value and all(type(x) is int for x in value):
        return type(value)(x + 1 for x in value)
    is_function = callable(value) and not hasattr(value, "get_config")
    return squashed if is_function and not isinstance(value, type) else None


def squashed(x: Any) -> Any:
    return ops.tanh(x) * 0.7 + 0.1


def attributes(model: keras.Model) -> Iterator[tuple[Any, str]]:
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, layers.InputLayer):
            continue
        for key in vars(layer):
            if key.strip("_") not in ITS_OWN and not key.endswith(NOTHING):
                yield layer, key


def computed(model: keras.Model, x: Any) -> list[np.ndarray] | None:
    """What a model makes; None if it cannot be run as it is."""
    try:
        return [ops.convert_to_numpy(y) for y in keras.tree.flatten(model(x))]
    except Exception:
        return None


def is_same(one: list[np.ndarray], two: list[np.ndarray] | None) -> bool:
    assert two is not None
    return all(
        x.shape == y.shape and np.allclose(x, y, 1e-3, 1e-4) for x, y in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attributes_go_along_or_are_refused(shape: tuple[int, ...]) -> None:
    keras.utils.set_random_seed(1)
    x = np.abs(np.random.default_rng(0).normal(size=(2, *shape))).astype(np.float32)
    went = refused = 0
    for name, make in TABLES[shape].items():
        if name.startswith("Random") or not hasattr(layers, name):
            continue
        source = keras.Input(shape)
        model = keras.Model(source, make(source))
        before = computed(model, x)
        if before is None:  # it looks values up
            continue
        for layer, key in list(attributes(model)):
            value = vars(layer)[key]
            changed = other(value)
            if changed is None:
                continue
            object.__setattr__(layer, key, changed)
            try:
                after = computed(model, x)
                if after is None or is_same(after, before):
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of lambdas in configs
                    copy, _ = split(model)
                assert is_same(after, computed(copy, x)), (name, key)
                went += 1
            except UnsupportedLayerError as error:
                assert "Received: '" in str(error), (name, key)  # noqa: PT017
                refused += 1
            finally:
                object.__setattr__(layer, key, value)
    assert went > 3
    assert refused or shape == (6,)


class Times(layers.Layer):
    """By what can be set later."""

    def __init__(self, factor: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.factor = factor

    def call(self, x: Any) -> Any:
        return ops.sort(x) * self.factor


def scaled() -> layers.Layer:
    layer = layers.Attention(name="mine")
    layer.build([(None, 5, 4)] * 2)
    layer.scale = 0.3
    return layer


def bent() -> layers.Layer:
    layer = layers.MultiHeadAttention(2, 3, name="mine")
    layer.build((None, 5, 4), (None, 5, 4))
    layer._output_dense.activation = ops.tanh
    return layer


@pytest.mark.parametrize("make", [scaled, bent])
def test_attention(make: Any) -> None:
    source = keras.Input((5, 4))
    layer = make()
    x = layer([source, source]) if isinstance(layer, layers.Attention) else layer(source, source)
    with pytest.raises(UnsupportedLayerError, match=r"'mine' .* an attribute was set after"):
        split(keras.Model(source, x))


def test_a_config_that_leaves_something_out() -> None:
    source = keras.Input((5, 4))
    layer = Times(2.0, name="mine")
    model = keras.Model(source, layer(source))
    assert split(model)
    layer.factor = 3.0
    with pytest.raises(UnsupportedLayerError, match=r"'mine' \(Times\).* leaves something out"):
        split(model)


def test_losses_and_states_stay_as_they_were() -> None:
    """What is run to look at it leaves nothing behind."""
    source = keras.Input((6,))
    x = layers.ActivityRegularization(l2=0.1)(layers.Dense(4)(source))
    model = keras.Model(source, layers.BatchNormalization()(x))
    model(np.ones((2, 6), np.float32))
    weights, losses = model.get_weights(), len(model.losses)
    split(model)
    assert len(model.losses) == losses
    for one, two in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
