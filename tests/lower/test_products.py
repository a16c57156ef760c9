"""Products of matrices by `keras.ops`, of computed ones and of arrays; what others compose."""

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

RANDOM = np.random.default_rng(5)
MATRIX = RANDOM.normal(size=(8, 6)).astype(np.float32)
CUBE = RANDOM.normal(size=(2, 4, 5)).astype(np.float32)


class Statistics(layers.Layer):
    """Means and deviations of channels, as nets of speakers have them, of normalised steps."""

    def call(self, x: Any) -> Any:
        x = ops.normalize(x, axis=-1)
        return ops.concatenate([ops.mean(x, axis=1), ops.std(x, axis=1)], axis=-1)


class Gated(layers.Layer):
    """Gates and the logarithm of a sum, as they are in user's layers."""

    def call(self, x: Any) -> Any:
        return ops.logsumexp(ops.glu(x, axis=-1), axis=1)


class OwnNorm(layers.Layer):
    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape[-1:], "uniform", name="scale")
        self.shift = self.add_weight(shape[-1:], "uniform", name="shift")

    def call(self, x: Any) -> Any:
        return ops.layer_normalization(x, self.scale, self.shift)


def _heads(x: Any, axis: int) -> list[Any]:
    return [ops.expand_dims(part, axis) for part in (x, ops.tanh(x), x)]


PRODUCTS: dict[str, Callable[[Any], Any]] = {
    "matmul with an array": lambda x: ops.matmul(x, MATRIX),
    "matmul of an array": lambda x: ops.matmul(MATRIX[:3, :5], x),
    "einsum of two rows": lambda x: ops.einsum("abc,cd->abd", x, MATRIX),
    "einsum of two inner axes": lambda x: ops.einsum(
        "abhc,hcd->abd", ops.reshape(x, (-1, 5, 2, 4)), CUBE
    ),
    "einsum moved back": lambda x: ops.einsum("abc,cd->dab", x, MATRIX)[0],
    "einsum of two columns": lambda x: ops.reshape(
        ops.einsum("abc,cde->abde", x, np.stack([MATRIX, -MATRIX], 1)), (-1, 5, 12)
    ),
    "einsum with itself": lambda x: ops.einsum("abc,adc->abd", x, ops.tanh(x)),
    "tensordot": lambda x: ops.tensordot(x, MATRIX, axes=1),
    "variance": lambda x: ops.var(x, axis=-1, keepdims=True) * x,
    "deviation of steps": lambda x: ops.std(x, axis=1),
    "deviation of all": lambda x: x - ops.std(x, axis=(1, 2), keepdims=True),
    "normalised": lambda x: ops.normalize(x, axis=-1),
    "statistics of steps, in a layer": lambda x: Statistics()(x),
    "average": lambda x: ops.average(x, axis=1),  # not the layer of that name
    "weighted average": lambda x: ops.average(x, axis=-1, weights=np.arange(1.0, 9.0)) + x[..., 0],
    "average by values": lambda x: ops.average(x, axis=1, weights=ops.sigmoid(x)),
    "dot": lambda x: ops.dot(x, MATRIX),
    "gated, in a layer": lambda x: Gated()(x),
    "attention": lambda x: ops.squeeze(ops.dot_product_attention(*_heads(x, 2), scale=0.4), 2),
    "attention with a bias": lambda x: ops.squeeze(
        ops.dot_product_attention(*_heads(x, 2), bias=np.tri(5, dtype=np.float32)), 2
    ),
    "normalised by a layer's own numbers": lambda x: OwnNorm()(x),
    "log of a sum": lambda x: ops.logsumexp(x, axis=(1, 2), keepdims=True) - x,
    "norms": lambda x: (
        x / (ops.norm(x, axis=(1, 2), keepdims=True) + 1.0) + ops.norm(x, 1, 1, True)
    ),
    "moments": lambda x: (
        (x - ops.moments(x, (-1,), True)[0]) / (ops.moments(x, (-1,), True)[1] + 1.0)
    ),
    "quotient": lambda x: x / (ops.sum(ops.relu(x), axis=-1, keepdims=True) + 1.0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_product(name: str) -> None:
    keras.utils.set_random_seed(1)
    source = keras.Input((5, 8))
    x = layers.Dense(8, activation="relu")(source)
    x = PRODUCTS[name](x)
    if len(x.shape) == 2:
        x = ops.expand_dims(x, 1)
    x = layers.Dense(6)(x)
    model = keras.Model(source, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))
    made, inputs = trained(model, steps=1)
    assert not made.ec2t_report.of("float")
    found = Outcome()
    compare(made, inputs, found)
    assert found.steps < 3


REFUSED: dict[str, Callable[[Any], Any]] = {
    r"dot.* \(Dot\) has no rule": lambda x: ops.dot(x, np.ones((2, 8, 3), np.float32)),
    "computes each example by itself": lambda x: ops.average(x) * x,
    r"each example by itself.*\(Multiply\)": lambda x: ops.average(x, weights=ops.sigmoid(x)) * x,
    r"\(Dot\) has no rule": lambda x: ops.dot(x, 2.0),
    r"\(Greater\) has no rule": lambda x: ops.squeeze(
        ops.dot_product_attention(
            *_heads(x, 2), mask=ops.expand_dims(ops.greater(x[..., :5], 0.0), 1)
        ),
        2,
    ),
    "interpolation 'bicubic' has no rule": lambda x: ops.image.resize(
        ops.expand_dims(x, 3), (7, 9), interpolation="bicubic"
    ),
    "windows of several sizes": lambda x: layers.AdaptiveMaxPooling1D(3)(x),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_has_no_rule_is_refused_by_name(said: str) -> None:
    source = keras.Input((5, 8))
    x = REFUSED[said](layers.Dense(8)(layers.Dense(8)(source)))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=said):
        ec2t_tf.apply(keras.Model(source, layers.Dense(2)(x)), verbose=0)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"axis": None}, r"each example by itself.*\(Normalize\)"),
        ({"axis": -1, "order": 1}, r"normalize.*\(Normalize\) has no rule"),
    ],
)
def test_a_norm_of_the_batch_or_another_order_is_refused_by_name(
    options: dict[str, Any], why: str
) -> None:
    source = keras.Input((5, 8))
    x = ops.normalize(layers.Dense(8)(layers.Dense(8)(source)), **options)
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=why):
        ec2t_tf.apply(keras.Model(source, layers.Dense(2)(x)), verbose=0)
