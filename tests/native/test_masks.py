"""Masks that are constants: attention that looks back only, numbers like -1e9 before a softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import ec2t_tf
from ec2t_tf.quantisation.masks import FAR, Masked
from tests.lower.models import trained
from tests.lower.random_check import Outcome, compare

STEPS = 7
BACK = np.tri(STEPS, dtype=bool)
ADDED = (1.0 - BACK) * -1e9


def heads(x: Any, **options: Any) -> Any:
    return layers.MultiHeadAttention(2, 4, dropout=0.1)(x, x, **options)


def by_scores(masked: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Attention by the softmax that a function makes of its scores."""

    def attended(x: Any) -> Any:
        scores = ops.matmul(x, ops.transpose(layers.Dense(8)(x), (0, 2, 1)))
        return ops.matmul(masked(scores / 2.0), x)

    return attended


class Head(layers.Layer):
    """As many write it."""

    def __init__(self, how: str, **options: Any) -> None:
        super().__init__(**options)
        self.how = how
        self.query, self.key, self.value = layers.Dense(8), layers.Dense(8), layers.Dense(8)

    def build(self, shape: Any) -> None:
        for part in (self.query, self.key, self.value):
            part.build(shape)

    def call(self, x: Any) -> Any:
        scores = ops.matmul(self.query(x), ops.transpose(self.key(x), (0, 2, 1))) / np.sqrt(8.0)
        steps = x.shape[1]
        if self.how == "sum":
            scores = scores + (1.0 - ops.tril(ops.ones((steps, steps)))) * -1e9
        elif self.how == "difference":
            scores = scores - 1e4 * ops.triu(ops.ones((steps, steps)), 1)
        else:
            places = ops.arange(steps)
            allowed = ops.expand_dims(places, 1) >= ops.expand_dims(places, 0)
            scores = ops.where(allowed, scores, -float("inf"))
        return ops.matmul(ops.softmax(scores, axis=-1), self.value(x))

    def get_config(self) -> dict:
        return {**super().get_config(), "how": self.how}


LOOK_BACK: dict[str, Callable[[Any], Any]] = {
    "heads, causal": lambda x: heads(x, use_causal_mask=True),
    "heads, given": lambda x: heads(x, attention_mask=BACK[None]),
    "heads, both": lambda x: heads(
        x, attention_mask=np.ones((1, STEPS, STEPS), bool), use_causal_mask=True
    ),
    "heads, by name": lambda x: layers.MultiHeadAttention(2, 4)(
        query=x, value=x[:, :5], key=x[:, :5], attention_mask=BACK[None, :, :5]
    ),
    "heads that share": lambda x: layers.GroupQueryAttention(4, 4, 2)(x, x, use_causal_mask=True),
    "heads that share, given": lambda x: layers.GroupQueryAttention(4, 2, 2)(
        x, x, attention_mask=BACK[None]
    ),
    "Attention": lambda x: layers.Attention(True)([x, layers.Dense(8)(x)], use_causal_mask=True),
    "AdditiveAttention": lambda x: layers.AdditiveAttention()([x, x], use_causal_mask=True),
    "dot_product_attention": lambda x: ops.squeeze(
        ops.dot_product_attention(*[ops.expand_dims(x, 2)] * 3, is_causal=True), 2
    ),
    "dot_product_attention, given": lambda x: ops.squeeze(
        ops.dot_product_attention(*[ops.expand_dims(x, 2)] * 3, mask=BACK[None, None]), 2
    ),
    "Softmax": by_scores(lambda x: layers.Softmax()(x, mask=BACK[None])),
    "a sum": by_scores(lambda x: layers.Softmax()(x + ADDED)),
    "a sum the other way": by_scores(lambda x: layers.Activation("softmax")(ops.add(ADDED, x))),
    "a sum of less": by_scores(lambda x: ops.softmax(x * BACK.astype("f") + ADDED / 1e5)),
    "where": by_scores(lambda x: ops.softmax(ops.where(BACK, x, -1e30))),
    "where not": by_scores(lambda x: ops.softmax(ops.where(~BACK, -1e30, x))),
    "a layer, by a sum": lambda x: Head("sum")(x),
    "a layer, by a difference": lambda x: Head("difference")(x),
    "a layer, by where": lambda x: Head("where")(x),
}


def net(middle: Callable[[Any], Any]) -> keras.Model:
    keras.utils.set_random_seed(1)
    source = keras.Input((STEPS, 5), name="x")
    return keras.Model(source, layers.Dense(3)(middle(layers.Dense(8)(layers.Dense(8)(source)))))


@pytest.mark.few(8)
@pytest.mark.parametrize("name", LOOK_BACK)
def test_later_steps_change_nothing(name: str) -> None:
    """In the float net, in training, and in the file, which computes the same."""
    source = net(LOOK_BACK[name])
    model, (x,) = trained(source, steps=2)
    assert not model.ec2t_report.of("float")
    found = Outcome()
    compare(model, [x], found)
    assert found.steps <= 3 < found.spread
    other = x.copy()
    other[:, 3:] = np.random.default_rng(2).normal(size=other[:, 3:].shape) * 3
    for one in (source, model):
        y, z = (np.asarray(one(v, training=False)) for v in (x, other))
        np.testing.assert_allclose(y[:, :3], z[:, :3], atol=1e-5)
        assert np.abs(y[:, 3:] - z[:, 3:]).max() > 0.1
    int8 = ec2t_tf.apply(source, policy=ec2t_tf.Policy([ec2t_tf.Rule("int8")]), verbose=0)
    np.testing.assert_allclose(ec2t_tf.strip(int8)(x), source(x), atol=0.02)


def test_where_of_constant_places() -> None:
    model, inputs = trained(
        net(lambda x: ops.where(BACK[:, :1], x, 0.25) + ops.where(BACK[3][:, None], ops.sin(x), x)),
        steps=1,
    )
    found = Outcome()
    compare(model, inputs, found)
    assert found.steps <= 3 < found.spread


def test_a_difference_with_booleans() -> None:
    """Which NumPy has no negative of."""
    source = net(by_scores(lambda x: ops.softmax(ops.subtract(x, ~BACK))))
    model, inputs = trained(source, steps=1)
    found = Outcome()
    compare(model, inputs, found)
    assert found.steps <= 3 < found.spread


class Averaged(layers.Layer):
    def build(self, shape: Any) -> None:
        self.pool = layers.GlobalAveragePooling1D(keepdims=True)

    def call(self, x: Any) -> Any:
        return self.pool(x, mask=ops.convert_to_tensor(BACK[2:3]))


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an average": (
        lambda x: layers.GlobalAveragePooling1D(keepdims=True)(x, mask=BACK[2:3]),
        r"GlobalAveragePooling1D\), which leaves out the steps",
    ),
    "an average, in a layer": (
        lambda x: Averaged()(x),
        r"GlobalAveragePooling1D\), which leaves out the steps",
    ),
    "an LSTM": (
        lambda x: layers.LSTM(4, return_sequences=True)(x, mask=BACK[2:3]),
        r"LSTM\), which leaves out the steps",
    ),
    "a mask of values": (
        lambda x: heads(x, attention_mask=ops.greater(ops.matmul(x, ops.swapaxes(x, 1, 2)), 0)),
        "which leaves out the steps",
    ),
    "rows of nothing": (
        lambda x: heads(x, attention_mask=np.tri(STEPS, k=-1, dtype=bool)[None]),
        "a mask that leaves out all",
    ),
    "Softmax, rows of nothing": (
        by_scores(lambda x: layers.Softmax()(x, mask=np.tri(STEPS, k=-1, dtype=bool)[None])),
        r"a mask that leaves out all\), which",
    ),
    "Softmax of another axis": (
        by_scores(lambda x: layers.Softmax(axis=1)(x, mask=BACK[None])),
        r"a mask and an axis that is not the last\), which",
    ),
    "numbers without a softmax": (
        by_scores(lambda x: ops.max(x + ADDED, axis=1, keepdims=True)),
        r"Received: 1e\+09 in '.*' \(Add\)\. A mask of constants is taken",
    ),
    "several masks of the same scores": (
        by_scores(lambda x: ops.max(ops.softmax(x[:, None] + ADDED * [[[0]], [[1]]]), axis=1)),
        r"Received: 1e\+09 in '.*' \(Add\)\. A mask of constants is taken",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_masks_that_no_file_has_are_refused_by_name(name: str) -> None:
    middle, why = REFUSED[name]
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=why):
        ec2t_tf.apply(net(middle), verbose=0)


def test_what_is_left_out_is_below_all_scores() -> None:
    """However far apart they are: no weight of it is more than exp(-12)."""
    scores = np.random.default_rng(0).normal(0, 50, (4, STEPS, STEPS)).astype(np.float32)
    masked = Masked(BACK)
    made = np.asarray(masked(scores, training=True))
    np.testing.assert_allclose(made[:, ~BACK], scores.min() - FAR, rtol=1e-6)
    wanted = ops.softmax(np.where(BACK, scores, -np.inf))
    for training in (True, False):
        np.testing.assert_allclose(
            ops.softmax(masked(scores, training=training)), wanted, atol=STEPS * np.exp(-FAR)
        )
