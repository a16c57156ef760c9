"""Layers of the user's with weights of their own, and what they do with the batch and in training:
each is what it is written in, and its file is exact."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import ec2t_tf
from tests.lower.models import trained
from tests.lower.random_check import Outcome, compare

registered = keras.saving.register_keras_serializable(package="tests_own_weights")


@registered
class Tokens(layers.Layer):
    """One more step in front, the same for every example; and a place for each step."""

    def build(self, shape: Any) -> None:
        self.first = self.add_weight((1, 1, shape[-1]), "normal", name="first")
        self.places = self.add_weight((1, shape[1] + 1, shape[-1]), "normal", name="places")

    def call(self, x: Any) -> Any:
        first = ops.broadcast_to(self.first, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([ops.cast(first, x.dtype), x], axis=1) + self.places


@registered
class Repeated(Tokens):
    def call(self, x: Any) -> Any:
        first = ops.repeat(ops.convert_to_tensor(self.first), ops.shape(x)[0], axis=0)
        return ops.concatenate([first, x], axis=1) + self.places


@registered
class Scaled(layers.Layer):
    def build(self, shape: Any) -> None:
        self.gamma = self.add_weight((shape[-1],), keras.initializers.Constant(0.3), name="gamma")

    def call(self, x: Any) -> Any:
        return x * self.gamma


@registered
class Mixed(layers.Layer):
    """A kernel that is no layer's."""

    def build(self, shape: Any) -> None:
        self.mix = self.add_weight(
            (shape[-1], 7), "glorot_uniform", name="mix", regularizer=keras.regularizers.L2(0.01)
        )

    def call(self, x: Any) -> Any:
        return ops.relu(ops.matmul(x, self.mix))


@registered
class Shares(layers.Layer):
    """Operations on weights alone: shares, and a gate by their means."""

    def build(self, shape: Any) -> None:
        self.shares = self.add_weight((shape[-1], 6), "normal", name="shares")
        self.gates = self.add_weight((6, 4), "normal", name="gates")

    def call(self, x: Any) -> Any:
        gate = ops.sigmoid(ops.mean(self.gates, axis=-1) + ops.tanh(self.gates[:, 0]))
        return ops.matmul(x, ops.softmax(self.shares)) * gate


@registered
class Placed(layers.Layer):
    """An Embedding of places that are known, which trains."""

    def __init__(self, steps: int = 9, width: int = 8, **options: Any) -> None:
        super().__init__(**options)
        self.inner = layers.Dense(width)
        self.table = layers.Embedding(steps, width)
        self.steps = steps

    def call(self, x: Any) -> Any:
        return self.inner(x) + self.table(ops.arange(0, self.steps, 1))


@registered
class Biased(layers.Layer):
    """Attention whose scores have a bias out of a table, by places that are no weights."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight((5, 2), "normal", name="table")
        index = np.arange(81).reshape(9, 9) % 5
        self.index = self.add_weight(
            (9, 9), lambda *_, **__: index, dtype="int32", trainable=False, name="index"
        )
        self.query = layers.Dense(24, name="query")
        self.query.build(shape)

    def call(self, x: Any) -> Any:
        batch, steps, _ = ops.shape(x)
        q, k, v = ops.unstack(
            ops.transpose(ops.reshape(self.query(x), (batch, steps, 3, 2, -1)), (2, 0, 3, 1, 4))
        )
        bias = ops.take(self.table, ops.reshape(self.index, (-1,)), axis=0)
        bias = ops.transpose(ops.reshape(bias, (steps, steps, -1)), (2, 0, 1))
        scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) + bias[None, :])
        return ops.reshape(ops.transpose(ops.matmul(scores, v), (0, 2, 1, 3)), (batch, -1, 8))


@registered
class Padded(layers.Layer):
    """Zeros made for the batch."""

    def call(self, x: Any) -> Any:
        return ops.concatenate([ops.zeros((ops.shape(x)[0], 2, x.shape[-1])), x], axis=1)


@registered
class InWindows(layers.Layer):
    """Three windows of three steps as a batch, rolled, and back."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inner = Scaled()

    def call(self, x: Any) -> Any:
        windows = ops.reshape(ops.roll(x, 1, 1), (-1, 3, 8))
        return ops.reshape(self.inner(windows), (-1, 9, 8))


@registered
class Normed(layers.Layer):
    """A quotient of two values."""

    def call(self, x: Any) -> Any:
        x = ops.relu(x) + 0.5
        return x / (1e-3 + ops.sum(x, axis=-1, keepdims=True))


@registered
class Headed(layers.Layer):
    """Heads by sizes that are read, (batch, -1, heads, channels): symbolically all are open."""

    def build(self, shape: Any) -> None:
        self.query = layers.Dense(8)
        self.query.build(shape)

    def call(self, x: Any) -> Any:
        batch = ops.shape(x)[0]
        heads = ops.transpose(ops.reshape(self.query(x), (batch, -1, 2, 4)), (0, 2, 1, 3))
        scores = ops.softmax(ops.matmul(heads, ops.transpose(heads, (0, 1, 3, 2))) / 2.0)
        mixed = ops.transpose(ops.matmul(scores, heads), (0, 2, 1, 3))
        return ops.reshape(mixed, (batch, -1, 8)), scores


@registered
class Block(layers.Layer):
    """One with such layers inside."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.second = Headed(name="first"), Headed(name="second")

    def call(self, x: Any) -> Any:
        made, _ = self.second(self.first(x)[0])
        return made


CASES = (Tokens, Repeated, Scaled, Mixed, Shares, Placed, Biased, Padded, InWindows, Normed, Block)


def test_sizes_that_only_the_batch_leaves_open() -> None:
    """Between layers of the user's, and as outputs."""
    source = keras.Input((9, 8), name="x")
    x = layers.Dense(8, activation="relu")(source)
    x, first = Headed()(x)
    assert x.shape == (None, None, 8)
    x, scores = Headed()(x)
    x = layers.Dense(8)(x)
    made, _ = trained(keras.Model(source, [layers.Dense(3)(x), scores, first]), steps=2)
    assert [x.shape for x in made.outputs] == [(None, 9, 3), (None, 2, 9, 9), (None, 2, 9, 9)]
    assert not made.ec2t_report.of("float")
    compare(made, [np.random.default_rng(0).normal(size=(8, 9, 8)).astype("float32")], Outcome())


def net(middle: Any) -> keras.Model:
    source = keras.Input((9, 8), name="x")
    x = layers.Dense(8, activation="relu")(source)
    x = layers.Dense(8, name="middle")(middle(x))
    return keras.Model(source, layers.Dense(3)(layers.GlobalMaxPooling1D()(x)))


@pytest.mark.few(5)
@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_is_what_it_is_written_in(kind: type, tmp_path: Any) -> None:
    keras.utils.set_random_seed(3)
    source = net(kind(name="mine"))
    x = np.random.default_rng(0).normal(size=(8, 9, 8)).astype(np.float32)
    policy = ec2t_tf.Policy([ec2t_tf.Rule("int8")])
    model = ec2t_tf.apply(source, policy=policy, verbose=0)
    # Before a batch no range is known, and nothing is rounded but int8 kernels.
    expected = ops.convert_to_numpy(source(x))
    found = ops.convert_to_numpy(model(x))
    assert np.abs(found - expected).max() <= 0.05 * np.ptp(expected)
    assert sum(int(np.prod(w.shape)) for w in source.trainable_weights) == sum(
        int(np.prod(w.shape)) for w in model.trainable_weights if "step" not in w.path
    )
    keras.utils.set_random_seed(3)
    made, inputs = trained(net(kind(name="mine")), steps=2)
    outcome = Outcome()
    compare(made, inputs, outcome)
    assert outcome.steps < 3
    made.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again(inputs[0])), ops.convert_to_numpy(made(inputs[0]))
    )


@pytest.mark.parametrize("kind", [Tokens, Placed, Biased], ids=lambda kind: kind.__name__)
def test_its_weights_train(kind: type) -> None:
    keras.utils.set_random_seed(3)
    source = net(kind(name="mine"))
    model = ec2t_tf.apply(source, verbose=0)
    before = {w.path: ops.convert_to_numpy(w) for w in model.trainable_weights}
    given = {w.path: ops.convert_to_numpy(w) for w in source.weights}
    x = np.random.default_rng(0).normal(size=(8, 9, 8)).astype(np.float32)
    eager = keras.backend.backend() == "tensorflow"
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=eager)
    model.fit(x, np.ones((8, 3)), verbose=0)
    own = [w for w in model.trainable_weights if "mine" in w.path]
    assert own
    assert all(np.any(before[w.path] != ops.convert_to_numpy(w)) for w in own)
    for weight in source.weights:  # `source` is not changed
        np.testing.assert_array_equal(given[weight.path], ops.convert_to_numpy(weight))


@registered
class Depth(layers.Layer):
    """Stochastic depth: examples lose a branch in training."""

    def __init__(self, rate: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.rate = rate
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training:
            return x
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        keep = ops.floor(1 - self.rate + keras.random.uniform(shape, seed=self.seeds))
        return x / (1 - self.rate) * keep

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate}


@registered
class Dropped(layers.Layer):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inner, self.drop = layers.Dense(8), layers.Dropout(0.5, seed=1)

    def call(self, x: Any, training: bool | None = None) -> Any:
        x = self.inner(x)
        return self.drop(x, training=training) if training else x


@pytest.mark.parametrize("kind", [Depth, Dropped], ids=lambda kind: kind.__name__)
def test_what_only_training_does_stays(kind: type, tmp_path: Any) -> None:
    keras.utils.set_random_seed(3)
    model, inputs = trained(net(kind(name="mine")), steps=1)
    x = inputs[0]
    spread = np.std([ops.convert_to_numpy(model(x, training=True)) for _ in range(4)], axis=0)
    assert spread.max() > 0.01
    quiet = [ops.convert_to_numpy(model(x, training=False)) for _ in range(2)]
    np.testing.assert_array_equal(*quiet)
    compare(model, inputs, Outcome())
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x, training=False)), quiet[0])


@registered
class Otherwise(layers.Layer):
    def call(self, x: Any, training: bool | None = None) -> Any:
        return ops.tanh(x) if training else ops.relu(x) * 2.0


@registered
class Moving(layers.Layer):
    """A statistic that `call` itself keeps."""

    def build(self, shape: Any) -> None:
        self.mean = self.add_weight((shape[-1],), "zeros", trainable=False, name="mean")

    def call(self, x: Any) -> Any:
        self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(x, axis=(0, 1)))
        return x - self.mean


@registered
class MaskedKernel(layers.Layer):
    """PixelCNN: the kernel of a layer inside is masked whenever it is called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inner = layers.Dense(8)

    def call(self, x: Any) -> Any:
        kernel = self.inner.kernel
        kernel.assign(kernel * np.tri(*kernel.shape))
        return self.inner(x)

    def build(self, shape: Any) -> None:
        self.inner.build(shape)


@registered
class Noise(layers.Layer):
    """Other numbers at each call, in training or not."""

    def call(self, x: Any) -> Any:
        return x + np.random.default_rng().normal(size=(x.shape[-1],)).astype(np.float32)


@registered
class NoisyPlaces(layers.Layer):
    """The same, of what a layer inside is asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.table = layers.Embedding(50, 8)

    def build(self, shape: Any) -> None:
        self.table.build(())

    def call(self, x: Any) -> Any:
        return x + self.table(np.random.default_rng().integers(0, 50, size=(1, x.shape[1])))


@registered
class OverBatch(layers.Layer):
    """A number that is another one for each size of the batch."""

    def call(self, x: Any) -> Any:
        return x / ops.cast(ops.shape(x)[0], "float32")


@pytest.mark.parametrize(
    "kind",
    [Otherwise, Moving, MaskedKernel, Noise, NoisyPlaces, OverBatch],
    ids=lambda kind: kind.__name__,
)
def test_what_no_graph_holds_is_refused_by_name(kind: type) -> None:
    source = net(kind(name="mine"))
    before = [ops.convert_to_numpy(w) for w in source.weights]
    others = "others for another batch" if kind in (Noise, NoisyPlaces) else ""
    others = "others beside it in the batch" if kind is OverBatch else others
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=f"'mine'.*{others}"):
        ec2t_tf.apply(source, verbose=0)
    for weight, given in zip(source.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), given)


def test_an_operation_without_a_rule_is_named_by_its_layer() -> None:
    class Sorted(layers.Layer):
        def call(self, x: Any) -> Any:
            return ops.sort(x)

    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"'mine' .* Sort of keras\.ops"):
        ec2t_tf.apply(net(Sorted(name="mine")), verbose=0)


def test_a_lambda_of_several_values() -> None:
    keras.utils.set_random_seed(3)
    function = layers.Lambda(lambda x: ops.softmax(x[:, :, 4:]) * x[:, :, :4])
    made, inputs = trained(net(function), steps=1)
    assert not made.ec2t_report.of("float")
    compare(made, inputs, Outcome())


class Near(keras.regularizers.Regularizer):
    """Without a config, as PointNet's of keras.io."""

    def __call__(self, x: Any) -> Any:
        return 0.1 * ops.sum(ops.square(x - 1.0))


class NearWithConfig(Near):
    """Which nobody registered."""

    def get_config(self) -> dict:
        return {}


@pytest.mark.parametrize("kind", [Near, NearWithConfig])
def test_regularisers_that_keras_cannot_make(kind: type) -> None:
    source = keras.Input((6,), name="x")
    x = layers.Dense(8, kernel_regularizer=kind())(source)
    source = keras.Model(source, layers.Dense(3)(layers.Dense(8)(x)))
    model = ec2t_tf.apply(source, verbose=0)
    assert len(model.losses) == len(source.losses) == 1


@registered
class OfTensorFlow(layers.Layer):
    """As a layer is written that has only ever run there: its functions, and layers between."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.second = layers.Conv1D(4, 3, padding="same"), layers.Dense(4)

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        sizes = tf.shape(x)
        x = tf.reshape(x, [sizes[0], sizes[1], 2, 3])
        x = tf.reshape(tf.transpose(x, (0, 1, 3, 2)), [-1, sizes[1], 6])
        x = tf.pad(x, [[0, 0], [1, 1], [0, 0]])[:, 1:-1]
        one, other = tf.split(x, 2, axis=-1)
        x = tf.concat([self.first(one), self.second(other), tf.zeros_like(other)], -1)
        return tf.nn.relu(x) + tf.reduce_mean(x, axis=1, keepdims=True)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="runs on TensorFlow only")
def test_functions_of_tensorflow_are_those_of_keras_ops() -> None:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((7, 5))
    x = OfTensorFlow(name="it")(layers.Dense(6)(inputs))
    x = layers.Lambda(lambda v: tf_function("gather")(v, [0, 2], axis=1), output_shape=(2, 11))(x)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    data = np.random.default_rng(0).normal(size=(64, 7, 5)).astype(np.float32)
    made = ec2t_tf.apply(model, policy=ec2t_tf.Policy([ec2t_tf.Rule("ternary")]), verbose=0)
    made.compile("adam", "mse")
    made.fit(data, np.random.default_rng(1).normal(size=(64, 3)), verbose=0)
    assert any(name.startswith("it_") for name in made.ec2t_report.of("ternary"))
    found = Outcome()
    compare(made, [data], found)
    assert found.steps < 2 < found.spread


def tf_function(name: str) -> Any:
    import tensorflow as tf

    return getattr(tf, name)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="runs on TensorFlow only")
def test_functions_of_tensorflow_without_a_like_are_named() -> None:
    @registered
    class Sums(layers.Layer):
        def call(self, x: Any) -> Any:
            return tf_function("cumsum")(x, 1)

    inputs = keras.Input((7, 5))
    x = layers.Flatten()(Sums(name="it")(layers.Dense(6)(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(layers.Dense(4)(x)))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"'it'.*tf\.\S*cumsum inside"):
        ec2t_tf.apply(model, verbose=0)
    with pytest.raises(ValueError, match="KerasTensor"):  # only inside of apply
        tf_function("split")(inputs, 5, axis=-1)
