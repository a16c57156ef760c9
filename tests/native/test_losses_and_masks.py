"""What a model adds to its loss is kept, whatever a layer becomes; masks train or are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.export.integer import Interpreter
from ec2t_tf.export.lower import lower

INT8, TERNARY = (ec2t_tf.Policy([ec2t_tf.Rule(kind)]) for kind in ("int8", "ternary"))
IMAGE, SEQUENCE = (6, 6, 3), (7, 5)
L2 = {"activity_regularizer": keras.regularizers.L2(0.1)}
WITH_LOSSES: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "Dense": (SEQUENCE, lambda x: layers.Dense(4, activation="relu", **L2)(x)),
    "Conv2D, no fused activation": (
        IMAGE,
        lambda x: layers.Conv2D(4, 3, activation="elu", **L2)(x),
    ),
    "SeparableConv2D": (IMAGE, lambda x: layers.SeparableConv2D(4, 3, **L2)(x)),
    "DepthwiseConv2D": (IMAGE, lambda x: layers.DepthwiseConv2D(3, **L2)(x)),
    "ReLU": (IMAGE, lambda x: layers.ReLU(**L2)(x)),
    "ActivityRegularization": (IMAGE, lambda x: layers.ActivityRegularization(l2=0.1)(x)),
    "LSTM": (SEQUENCE, lambda x: layers.LSTM(4, **L2)(x)),
    "GRU": (SEQUENCE, lambda x: layers.GRU(4, return_sequences=True, **L2)(x)),
    "Bidirectional": (SEQUENCE, lambda x: layers.Bidirectional(layers.GRU(4), **L2)(x)),
    "TimeDistributed": (SEQUENCE, lambda x: layers.TimeDistributed(layers.Dense(3, **L2))(x)),
    "Add of three": (SEQUENCE, lambda x: layers.Add(**L2)([x, x, x])),
    "Embedding": ((6,), lambda x: layers.Embedding(9, 4, **L2)(x)),
    "called twice": (
        SEQUENCE,
        lambda x: (lambda d: layers.Add()([d(x), d(d(x))]))(layers.Dense(5, **L2)),
    ),
}


def net(shape: tuple[int, ...], middle: Callable[[Any], Any]) -> keras.Model:
    source = keras.Input(shape, name="x", dtype="int32" if len(shape) == 1 else "float32")
    x = middle(source)
    x = layers.Flatten()(x) if len(x.shape) > 2 else x
    return keras.Model(source, layers.Dense(2)(x))


@pytest.mark.parametrize("case", WITH_LOSSES)
def test_activity_regularisers_are_kept(case: str) -> None:
    """Within what rounding and int8 kernels change; before any batch nothing else is rounded."""
    keras.utils.set_random_seed(1)
    shape, middle = WITH_LOSSES[case]
    model = net(shape, middle)
    random = np.random.default_rng(0)
    x: Any = random.normal(size=(8, *shape)).astype(np.float32)
    if len(shape) == 1:
        x = random.integers(0, 9, (8, *shape))
    made = ec2t_tf.apply(model, policy=INT8, verbose=0)
    wanted, found = [], []
    for one, losses in ((model, wanted), (made, found)):
        one(x)
        losses += [float(value) for value in one.losses]
    assert sum(found) == pytest.approx(sum(wanted), rel=0.05)
    assert sum(wanted) > 1e-3 or case == "TimeDistributed"


def test_losses_train_and_weight_decay_is_said() -> None:
    """In `fit`, on whatever backend; what is dropped on purpose stands in the report."""
    decay = keras.regularizers.L2(0.5)
    source = keras.Input(SEQUENCE, name="x")
    x = layers.Dense(5, kernel_regularizer=decay, name="int8")(source)
    x = layers.LSTM(4, recurrent_regularizer=decay, name="lstm")(x)
    x = layers.Dense(5, kernel_regularizer=decay, name="ternary", activation="tanh", **L2)(x)
    model = keras.Model(source, layers.Dense(2)(x))
    made = ec2t_tf.apply(
        model, policy={"ternary": "ternary", "lstm": "int8", "int8": "int8"}, verbose=0
    )
    reasons = {d.layer: d.reason for d in made.ec2t_report.decisions}
    assert "without its kernel_regularizer" in reasons["ternary"]
    assert "without" not in reasons["int8"] + reasons["lstm"]
    made.compile("sgd", "mse")
    data = np.zeros((4, *SEQUENCE), np.float32), np.zeros((4, 2), np.float32)
    first = np.square(model.get_layer("int8").get_weights()[0]).sum()
    second = np.square(model.get_layer("lstm").get_weights()[1]).sum()
    loss = made.evaluate(*data, verbose=0)  # of zeros: the regularisers alone
    assert loss == pytest.approx(0.5 * (first + second), rel=1e-3)
    made.fit(*data, epochs=2, verbose=0)
    assert made.evaluate(*data, verbose=0) < loss


def test_a_layer_that_adds_a_loss() -> None:
    """Kept where the layer is; refused by name where it would be opened."""

    @keras.saving.register_keras_serializable(package="tests_losses")
    class Kept(layers.Layer):
        elementwise = True

        def call(self, x: Any) -> Any:
            self.add_loss(0.1 * ops.mean(ops.square(x)))
            return ops.abs(x)

    @keras.saving.register_keras_serializable(package="tests_losses")
    class Opened(layers.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(0.1 * ops.mean(ops.square(x)))
            return x - ops.mean(x, axis=-1, keepdims=True)

    x = np.random.default_rng(0).normal(size=(8, *SEQUENCE)).astype(np.float32)
    model = net(SEQUENCE, lambda x: Kept()(x))
    made = ec2t_tf.apply(model, policy=TERNARY, verbose=0)
    made(x)
    assert float(sum(made.losses)) == pytest.approx(0.1 * np.square(x).mean(), rel=1e-3)
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"'Opened'.*a loss that its call adds"):
        ec2t_tf.apply(net(SEQUENCE, lambda x: Opened(name="Opened")(x)), policy=TERNARY, verbose=0)


@pytest.mark.parametrize("last", [False, True])
def test_a_layer_that_only_adds_a_loss(last: bool, tmp_path: Any) -> None:
    """As Keras' guide writes a penalty: the loss trains, the file has nothing of it."""

    @keras.saving.register_keras_serializable(package="tests_losses")
    class Penalty(layers.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(0.1 * ops.mean(ops.square(x)))
            return x

    source = keras.Input((8,))
    x = layers.Dense(6, activation="relu")(layers.Dense(8)(source))
    x = Penalty()(layers.Dense(2)(x)) if last else layers.Dense(2)(Penalty()(x))
    model = keras.Model(source, x)
    made = ec2t_tf.apply(model, policy=INT8, verbose=0)
    inputs = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    losses = []
    for one in (model, made):
        one.compile("sgd", "mse")
        losses.append(one.evaluate(inputs, np.zeros((16, 2)), verbose=0))
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert len(made.losses) == 1
    made.fit(inputs, np.zeros((16, 2)), verbose=0)
    made.save(tmp_path / "model.keras")
    again = ec2t_tf.load_model(tmp_path / "model.keras")
    path = export.to_tflite(again, tmp_path / "model.tflite")
    assert export.verify(again, path, inputs).passes()


@pytest.mark.filterwarnings("ignore:Layer '.*' .*does not support masking")
class TestMasks:
    """Masks flow as in Keras; what computes otherwise by one is refused by name."""

    def tokens(self, middle: Callable[[Any], Any]) -> keras.Model:
        return net((6,), lambda x: middle(layers.Embedding(9, 8, mask_zero=True)(x)))

    @pytest.mark.parametrize(
        "middle",
        [
            lambda x: layers.Flatten()(x),
            lambda x: layers.Dense(4)(x),
            lambda x: layers.Conv1D(4, 3)(x),
            lambda x: layers.GlobalMaxPooling1D()(x),
            lambda x: layers.Conv1D(4, 3)(layers.Masking()(layers.LayerNormalization()(x))),
            lambda x: layers.TimeDistributed(layers.Dense(4))(x),
        ],
        ids=["Flatten", "Dense", "Conv1D", "GlobalMaxPooling1D", "Masking", "TimeDistributed"],
    )
    def test_the_same_with_a_mask(self, middle: Callable[[Any], Any]) -> None:
        keras.utils.set_random_seed(1)
        made = ec2t_tf.apply(self.tokens(middle), policy=TERNARY, verbose=0)
        made.compile("sgd", "mse")
        x = np.random.default_rng(0).integers(0, 9, (16, 6))
        made.fit(x, np.zeros((16, 2)), verbose=0)
        graph = lower(made)
        exact = Interpreter(graph)(x.astype(np.int32))
        step = float(np.ptp(exact)) / 255 + 1e-6
        np.testing.assert_allclose(exact, made.predict(x, verbose=0), atol=4 * step)

    @pytest.mark.parametrize(
        ("name", "middle"),
        [
            ("mean", lambda x: layers.GlobalAveragePooling1D(name="mean")(x)),
            ("lstm", lambda x: layers.LSTM(3, name="lstm")(layers.Dense(4)(x))),
            ("both", lambda x: layers.Bidirectional(layers.GRU(3), name="both")(x)),
            ("heads", lambda x: layers.MultiHeadAttention(1, 4, name="heads")(x, x)),
            ("dots", lambda x: layers.Attention(name="dots")([x, x])),
            ("soft", lambda x: layers.Softmax(axis=1, name="soft")(x)),
            ("lstm", lambda x: layers.LSTM(3, name="lstm")(x * 1.0, mask=x[..., 0] > 0)),
        ],
    )
    def test_refused_by_name(self, name: str, middle: Callable[[Any], Any]) -> None:
        with pytest.raises(ec2t_tf.UnsupportedLayerError, match=f"'{name}' .*mask"):
            ec2t_tf.apply(self.tokens(middle), policy=TERNARY, verbose=0)


LSTM = {"units": 4, "return_sequences": True}
WITHOUT_A_RULE: dict[str, Callable[[Any], Any]] = {
    "LSTM with activation=gelu": layers.LSTM(**LSTM, activation="gelu"),
    "Bidirectional with return_state=True": lambda x: layers.Bidirectional(
        layers.LSTM(**LSTM, return_state=True)
    )(x)[0],
    "Bidirectional with merge_mode=None": lambda x: layers.Concatenate()(
        layers.Bidirectional(layers.LSTM(**LSTM), merge_mode=None)(x)
    ),
    "Bidirectional with an initial state": lambda x: layers.Bidirectional(layers.LSTM(**LSTM))(
        x, initial_state=[ops.zeros((1, 4))] * 4
    ),
}


@pytest.mark.parametrize("lacks", WITHOUT_A_RULE)
def test_a_refusal_says_what_keeps_a_layer_out(lacks: str) -> None:
    model = net(SEQUENCE, WITHOUT_A_RULE[lacks])
    kind, _, what = lacks.partition(" with ")
    pattern = rf"\({kind}\) has no rule that writes it, as it is here with {what}"
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=pattern):
        ec2t_tf.apply(model, policy=TERNARY, verbose=0)
