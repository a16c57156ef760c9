"""What all ternary methods promise, as tests to inherit; and a layer without a model."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ec2t_tf import methods
from ec2t_tf.methods.base import State, TernaryMethod

ODD_LAYERS: dict[str, np.ndarray] = {
    "all zero": np.zeros(9),
    "constant": np.full(9, 0.25),
    "negative constant": np.full(9, -0.25),
    "one weight": np.array([0.7]),
    "only positive": np.linspace(0.1, 2.0, 50),
    "only negative": np.linspace(-2.0, -0.1, 50),
    "half zero, half one": np.repeat([0.0, 1.0], 25),
    "tiny": np.linspace(-1e-20, 1e-20, 21),
    "huge": np.linspace(-1e15, 1e15, 21),
    "one outlier": np.append(np.linspace(-0.01, 0.01, 100), 1e4),
}


class Layer:
    """A layer's latent weights and state, without a model around them."""

    def __init__(self, method: TernaryMethod, latent: np.ndarray) -> None:
        self.method = method
        self.latent = tf.Variable(latent.astype(np.float32))
        self.state: State = method.build(self._add_weight)
        method.initialise(tf.convert_to_tensor(self.latent), self.state)

    def _add_weight(
        self, name: str, shape: tuple[int, ...] | None, trainable: bool, dtype: str = "float32"
    ) -> tf.Variable:
        shape = self.latent.shape if shape is None else shape
        return tf.Variable(tf.zeros(shape, dtype), trainable=trainable, name=name)

    @property
    def trained(self) -> list[tf.Variable]:
        return [self.latent, *(v for v in self.state.values() if v.trainable)]

    def weights(self, *, training: bool = False) -> tf.Tensor:
        return self.method.quantise(
            tf.convert_to_tensor(self.latent), self.state, relative_size=1.0, training=training
        )

    def assign(self) -> methods.Assignment:
        return self.method.assign(self.latent, self.state, relative_size=1.0)

    def losses(self) -> dict[str, tf.Tensor]:
        latent = tf.convert_to_tensor(self.latent)
        return self.method.losses(latent, self.state, relative_size=1.0)

    def gradients(self, upstream: np.ndarray) -> dict[str, np.ndarray]:
        """Of sum(upstream * weights) by the latent weights and by each trained variable."""
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(self.weights(training=True) * upstream)
        names = ["latent", *(n for n, v in self.state.items() if v.trainable)]
        found = tape.gradient(value, self.trained, unconnected_gradients="zero")
        gradients = {name: g.numpy() for name, g in zip(names, found, strict=True)}
        for name, gradient in gradients.items():
            if name.endswith("_step"):
                *rest, witness = gradient
                assert witness == 0  # only decay moves it
                gradients[name] = np.array(rest) if len(rest) > 1 else rest[0]
        return gradients

    def step(self, upstream: np.ndarray, optimizer: object) -> None:
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(self.weights(training=True) * upstream)
            value = tf.add_n([value, *self.losses().values()])
        gradients = tape.gradient(value, self.trained, unconnected_gradients="zero")
        optimizer.apply_gradients(zip(gradients, self.trained, strict=True))


class MethodContract:
    """What holds for every method; each has a subclass below."""

    method: TernaryMethod
    levels = 3

    @pytest.fixture
    def latent(self, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(0.01, 0.08, (3, 3, 6, 5)).astype(np.float32)

    @pytest.fixture
    def layer(self, latent: np.ndarray) -> Layer:
        return Layer(self.method, latent)

    def assert_consistent(self, layer: Layer) -> None:
        """What the layer computes with at inference is its assignment, and of few values."""
        assignment = layer.assign()
        weights = layer.weights().numpy()
        np.testing.assert_array_equal(weights, assignment.dequantise())
        assert weights.dtype == np.float32
        assert assignment.codes.dtype == np.int8
        assert np.all(np.diff(assignment.levels, axis=-1) > 0)
        assert np.all(assignment.levels[..., assignment.zero_index] == 0)
        assert assignment.levels.shape[-1] <= self.levels
        assert len(np.unique(assignment.codes)) <= self.levels
        rows = weights.reshape(-1, weights.shape[-1]) if assignment.axis else weights.reshape(-1, 1)
        assert all(len(np.unique(row)) <= self.levels for row in rows.T)

    def test_inference_is_the_assignment(self, layer: Layer, rng: np.random.Generator) -> None:
        optimizer = tf.keras.optimizers.Adam(0.01)
        self.assert_consistent(layer)
        for _ in range(4):
            layer.step(rng.normal(size=layer.latent.shape).astype(np.float32), optimizer)
            self.assert_consistent(layer)

    def test_inference_changes_nothing_and_sees_the_last_step(
        self, layer: Layer, rng: np.random.Generator
    ) -> None:
        upstream = rng.normal(size=layer.latent.shape).astype(np.float32)
        layer.step(upstream, tf.keras.optimizers.Adam(0.01))
        before = {name: variable.numpy() for name, variable in layer.state.items()}
        evaluated = layer.weights().numpy()
        for name, variable in layer.state.items():
            np.testing.assert_array_equal(variable.numpy(), before[name])
        np.testing.assert_array_equal(layer.weights(training=True).numpy(), evaluated)

    def test_int8_stores_the_levels(self, layer: Layer) -> None:
        """The exported fake quantisation gives back each weight, bit for bit."""
        assignment = layer.assign()
        values = assignment.dequantise()
        limits = np.broadcast_to(assignment.largest, values.shape[-1:]).astype(np.float32)
        stored = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            values, -limits, limits, num_bits=8, narrow_range=True
        )
        np.testing.assert_array_equal(stored, values)

    def test_config_round_trip(self) -> None:
        again = methods.deserialize(methods.serialize(self.method))
        assert type(again) is type(self.method)
        assert again.get_config() == self.method.get_config()
        assert isinstance(methods.get(self.method.name), type(self.method))

    @pytest.mark.parametrize("name", ODD_LAYERS)
    def test_odd_layers_stay_finite(self, name: str) -> None:
        latent = ODD_LAYERS[name].astype(np.float32)
        layer = Layer(self.method, latent)
        for _ in range(3):
            gradients = layer.gradients(np.ones_like(latent))
            for value in (*gradients.values(), *(v.numpy() for v in layer.losses().values())):
                assert np.all(np.isfinite(value))
        for variable in layer.state.values():
            assert np.all(np.isfinite(variable.numpy().astype(np.float64)))
        self.assert_consistent(layer)

    def test_reinitialised_after_loading(self, layer: Layer, rng: np.random.Generator) -> None:
        """New float weights set the whole state anew, whatever it was before."""
        layer.step(np.ones(layer.latent.shape, np.float32), tf.keras.optimizers.Adam(0.1))
        loaded = rng.normal(0, 3, layer.latent.shape).astype(np.float32)
        layer.latent.assign(loaded)
        self.method.initialise(tf.convert_to_tensor(layer.latent), layer.state)
        fresh = Layer(self.method, loaded)
        for name, variable in fresh.state.items():
            np.testing.assert_array_equal(variable.numpy(), layer.state[name].numpy())

    def test_every_trained_variable_has_a_gradient(self, layer: Layer) -> None:
        """Nothing trained is left behind."""
        size = layer.latent.shape.num_elements()
        upstream = np.linspace(-1, 2, size).reshape(layer.latent.shape).astype(np.float32)
        gradients = layer.gradients(upstream)
        for name, gradient in gradients.items():
            assert np.any(gradient != 0), name
