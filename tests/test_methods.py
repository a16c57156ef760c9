"""The methods beside EC2T: one inherited base for all, and what each of them claims."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ec2t_tf import methods
from ec2t_tf.methods import reference
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
        self.state: State = method.build(self._add_weight, tuple(latent.shape))
        method.initialise(tf.convert_to_tensor(self.latent), self.state)

    @staticmethod
    def _add_weight(
        name: str, shape: tuple[int, ...], trainable: bool, dtype: str = "float32"
    ) -> tf.Variable:
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
        return {name: g.numpy() for name, g in zip(names, found, strict=True)}

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


class TestTTQ(MethodContract):
    method = methods.TTQ(threshold=0.2)

    def test_numpy_twin(self, layer: Layer, latent: np.ndarray) -> None:
        assignment = layer.assign()
        expected = reference.ttq(latent, assignment.scale_neg, assignment.scale_pos, threshold=0.2)
        np.testing.assert_allclose(assignment.dequantise(), expected, rtol=1e-6)
        kept = latent[assignment.codes > 0]
        # int8 stores the smaller scale with an error of at most 0.4 % of the larger.
        assert assignment.scale_pos == pytest.approx(kept.mean(), rel=0.01)

    def test_gradients_are_those_of_the_paper(self, latent: np.ndarray) -> None:
        """W_n's gradient is minus the sum: W_q = -W_n there. Latents: g times the scale."""
        rate = 0.25
        layer = Layer(methods.TTQ(threshold=0.2, scale_learning_rate=rate), latent)
        codes = layer.assign().codes
        w_n, w_p = layer.state["scales"].numpy()
        g = np.random.default_rng(3).normal(size=latent.shape).astype(np.float32)
        gradients = layer.gradients(g)
        expected = rate * np.array([-g[codes < 0].sum(), g[codes > 0].sum()])
        np.testing.assert_allclose(gradients["scales_step"], expected, rtol=1e-4)
        np.testing.assert_allclose(
            gradients["latent"], g * np.choose(codes + 1, [w_n, 1.0, w_p]), rtol=1e-5
        )

    def test_descending_the_loss_lowers_it(self, latent: np.ndarray) -> None:
        """Pulling all negative weights up must shrink W_n: the sign that others got wrong."""
        layer = Layer(methods.TTQ(threshold=0.2), latent)
        before = layer.assign().scale_neg
        layer.step(-np.ones_like(latent), tf.keras.optimizers.Adam(0.01))
        assert layer.assign().scale_neg < before

    def test_authors_initial_scales(self, latent: np.ndarray) -> None:
        assignment = Layer(methods.TTQ(initial_scales="one"), latent).assign()
        np.testing.assert_array_equal(assignment.levels, [-1, 0, 1])

    @pytest.mark.parametrize("name", ["threshold", "scale_learning_rate"])
    def test_bad_options(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"Received: {name}=-1"):
            methods.TTQ(**{name: -1})
        with pytest.raises(ValueError, match="one of"):
            methods.TTQ(initial_scales="two")


class TestTWN(MethodContract):
    method = methods.TWN()

    @pytest.mark.parametrize(("threshold", "factor"), [("mean", 0.75), ("max", 0.05)])
    def test_numpy_twin(self, latent: np.ndarray, threshold: str, factor: float) -> None:
        weights = Layer(methods.TWN(threshold=threshold), latent).assign().dequantise()
        expected = reference.twn(latent.astype(np.float64), threshold=threshold, factor=factor)
        np.testing.assert_allclose(weights, expected, rtol=1e-5)

    def test_gaussian_sparsity(self) -> None:
        """0.75 mean|W| is 0.598 standard deviations: 45 % of a Gaussian lie within."""
        latent = np.random.default_rng(0).normal(size=100_000)
        assert Layer(self.method, latent).assign().sparsity == pytest.approx(0.450, abs=0.006)

    def test_gradient_is_the_identity(self, layer: Layer, rng: np.random.Generator) -> None:
        g = rng.normal(size=layer.latent.shape).astype(np.float32)
        np.testing.assert_array_equal(layer.gradients(g)["latent"], g)

    def test_bad_options(self) -> None:
        with pytest.raises(ValueError, match="Received: threshold='median'"):
            methods.TWN(threshold="median")
        with pytest.raises(ValueError, match="Received: factor=-1"):
            methods.TWN(factor=-1)
        with pytest.raises(ValueError, match="exact search has none"):
            methods.TWN(threshold="exact", factor=0.7)


class TestTWNExact(MethodContract):
    method = methods.TWN(threshold="exact")

    def test_numpy_twin(self, layer: Layer, latent: np.ndarray) -> None:
        expected = reference.twn_exact(latent.astype(np.float64))
        np.testing.assert_allclose(layer.assign().dequantise(), expected, rtol=1e-5)

    @pytest.mark.parametrize("seed", range(20))
    def test_never_worse_than_the_rules(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        latent = random.choice(
            [random.normal(size=300), random.uniform(-1, 1, 300), random.laplace(size=300) ** 3]
        ).astype(np.float32)

        def error(method: methods.TWN) -> float:
            weights = Layer(method, latent).assign().dequantise()
            return float(((latent.astype(np.float64) - weights) ** 2).sum())

        exact = error(self.method)
        for threshold in ("mean", "max"):
            assert exact <= error(methods.TWN(threshold=threshold)) * (1 + 1e-6)


class TestTWNPerChannel(MethodContract):
    method = methods.TWN(per_channel=True)

    def test_each_channel_is_a_layer_of_its_own(self, layer: Layer, latent: np.ndarray) -> None:
        assignment = layer.assign()
        assert assignment.axis == -1
        assert assignment.levels.shape == (5, 3)
        for channel in range(5):
            alone = Layer(methods.TWN(), latent[..., channel]).assign()
            np.testing.assert_array_equal(assignment.codes[..., channel], alone.codes)
            np.testing.assert_allclose(assignment.levels[channel], alone.levels, rtol=1e-6)

    def test_exact_search_per_channel(self, latent: np.ndarray) -> None:
        weights = Layer(methods.TWN(threshold="exact", per_channel=True), latent).assign()
        for channel in range(5):
            expected = reference.twn_exact(latent[..., channel].astype(np.float64))
            np.testing.assert_allclose(weights.dequantise()[..., channel], expected, rtol=1e-5)

    def test_dense_layer_has_one_scale(self, rng: np.random.Generator) -> None:
        assert Layer(self.method, rng.normal(size=(20, 4))).assign().axis is None


class TestAbsMean(MethodContract):
    method = methods.AbsMean()

    def test_numpy_twin(self, layer: Layer, latent: np.ndarray) -> None:
        expected = reference.abs_mean(latent.astype(np.float64))
        np.testing.assert_allclose(layer.assign().dequantise(), expected, rtol=1e-5)

    def test_gaussian_sparsity(self) -> None:
        latent = np.random.default_rng(0).normal(size=100_000)
        assert Layer(self.method, latent).assign().sparsity == pytest.approx(0.310, abs=0.006)
