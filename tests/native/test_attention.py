"""Attention in models of Keras 3: scales, scores, values that are the same for all examples."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import ec2t_tf
from tests.lower.models import trained
from tests.lower.random_check import Outcome, compare


def test_attention_with_a_scale_and_with_scores() -> None:
    keras.utils.set_random_seed(3)
    source = keras.Input((9, 8), name="x")
    x = layers.Dense(8, activation="relu")(source)
    x = layers.Attention(use_scale=True)([x, layers.Dense(8)(x)])
    made, scores = layers.MultiHeadAttention(2, 4)(x, x, return_attention_scores=True)
    scores = layers.Flatten()(scores)
    y = layers.Concatenate()([layers.GlobalMaxPooling1D()(made), scores])
    model, inputs = trained(keras.Model(source, layers.Dense(3)(y)), steps=2)
    assert not model.ec2t_report.of("float")
    compare(model, inputs, Outcome())


class Latents(layers.Layer):
    """Queries that are the same for all examples, as a Perceiver or a DETR has them."""

    def build(self, shape: Any) -> None:
        self.latents = self.add_weight((4, shape[-1]), "normal", name="latents")

    def call(self, x: Any) -> Any:
        return ops.expand_dims(self.latents, 0)


@pytest.mark.parametrize("kind", [layers.Attention, layers.AdditiveAttention])
def test_attention_of_values_of_all_examples(kind: type) -> None:
    keras.utils.set_random_seed(3)
    source = keras.Input((9, 8), name="x")
    keys = layers.Dense(8)(source)
    latents = layers.Dense(8)(Latents()(source))
    x = kind(use_scale=True)([latents, keys, keys])
    x = layers.Concatenate(axis=1)([x, kind()([keys, latents])])
    x = layers.Flatten()(layers.Dense(5)(x))
    model, inputs = trained(keras.Model(source, layers.Dense(3)(x)), steps=2)
    assert not model.ec2t_report.of("float")
    found = Outcome()
    compare(model, inputs, found)
    assert found.steps < 3


def test_a_model_inside_that_is_given_numbers() -> None:
    """Latents outside of any layer, say: they are constants of the net."""
    keras.utils.set_random_seed(3)
    asked, given = keras.Input((4, 8), name="asked"), keras.Input((9, 8), name="given")
    attended = layers.Attention()([layers.Dense(8)(asked), layers.Dense(8)(given)])
    inner = keras.Model({"asked": asked, "given": given}, layers.Dense(8)(attended), name="inner")
    source = keras.Input((9, 8), name="x")
    latents = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(2, 1, 4, 8)), "float32")
    steps = layers.Dense(8)(source)
    x = layers.Concatenate(axis=1)([inner({"asked": one, "given": steps}) for one in latents])
    model, inputs = trained(keras.Model(source, layers.Dense(3)(layers.Flatten()(x))), steps=2)
    assert not model.ec2t_report.of("float")
    compare(model, inputs, Outcome())


@pytest.mark.skipif("use_gate" not in layers.MultiHeadAttention(1, 1).get_config(), reason="older")
def test_a_gate_is_refused_by_name() -> None:
    source = keras.Input((9, 8))
    x = layers.MultiHeadAttention(2, 4, use_gate=True, name="heads")(*[layers.Dense(8)(source)] * 2)
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"'heads'.*use_gate"):
        ec2t_tf.apply(keras.Model(source, layers.Dense(3)(x)), verbose=0)
