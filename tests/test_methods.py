"""The methods beside EC2T: one inherited base for all, and what each of them claims."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import ec2t_tf
from ec2t_tf import export, methods
from ec2t_tf.methods import reference, sparsity_regularized
from ec2t_tf.methods.base import State, TernaryMethod
from ec2t_tf.tfmot.quantize_config import constant_weights, ternary_layers
from tests import models
from tests.kernels_of import kernels_of

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


class TestEC2T(MethodContract):
    """Its maths is in test_ec2t.py."""

    method = methods.EC2T()


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


class TestTGA(MethodContract):
    method = methods.TGA(initial_threshold=0.1)

    def test_numpy_twin(self, layer: Layer, latent: np.ndarray) -> None:
        expected = reference.tga(latent.astype(np.float64), float(layer.state["threshold"]))
        np.testing.assert_allclose(layer.assign().dequantise(), expected, rtol=1e-4)

    @pytest.mark.parametrize("initial_threshold", [0.02, 0.1, 0.3, 0.6])
    def test_gradients_are_the_closed_form(
        self, latent: np.ndarray, initial_threshold: float
    ) -> None:
        method = methods.TGA(
            initial_threshold=initial_threshold, gradient_limit=1e9, threshold_learning_rate=1.0
        )
        layer = Layer(method, latent)
        g = np.random.default_rng(5).normal(size=latent.shape).astype(np.float32)
        gradients = layer.gradients(g)
        by_weights, by_threshold = reference.tga_gradient(
            latent.astype(np.float64), float(layer.state["threshold"]), g.astype(np.float64)
        )
        np.testing.assert_allclose(gradients["latent"], by_weights, rtol=1e-6, atol=1e-6)
        assert gradients["threshold_step"] == pytest.approx(by_threshold, rel=1e-6, abs=1e-6)

    def test_gaussian_closed_form(self) -> None:
        """Delta = 0.612 sigma: alpha 1.224 sigma, 45.9 % zeros (derived in double precision)."""
        latent = np.random.default_rng(0).normal(size=200_000)
        layer = Layer(self.method, latent)
        layer.state["threshold"].assign(0.612 * latent.std())
        assignment = layer.assign()
        assert assignment.scale_pos == pytest.approx(1.224, abs=0.01)
        assert assignment.sparsity == pytest.approx(0.459, abs=0.005)

    def test_gradient_of_the_threshold_is_clamped(self, latent: np.ndarray) -> None:
        layer = Layer(methods.TGA(threshold_learning_rate=0.5), latent)
        codes = layer.assign().codes.astype(np.float32)
        assert layer.gradients(codes)["threshold_step"] == pytest.approx(0.5e-3)
        assert layer.gradients(-codes)["threshold_step"] == pytest.approx(-0.5e-3)

    def test_no_gradient_beyond_three_deviations(self, latent: np.ndarray) -> None:
        layer = Layer(self.method, latent)
        layer.latent.assign(np.where(np.arange(latent.size).reshape(latent.shape) == 7, 9, latent))
        layer.state["threshold"].assign(100.0)
        assert np.any(layer.assign().codes)
        assert layer.gradients(np.ones_like(latent))["threshold_step"] == 0


class TestSparsityRegularized(MethodContract):
    method = methods.SparsityRegularized(threshold=0.2)

    @staticmethod
    def run(layer: Layer, steps: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Which weights are not zero after each step."""
        optimizer, kept = tf.keras.optimizers.Adam(0.02), []
        for _ in range(steps):
            layer.step(rng.normal(size=layer.latent.shape).astype(np.float32), optimizer)
            kept.append(layer.assign().codes != 0)
        return kept

    def test_numpy_twin(self, layer: Layer, latent: np.ndarray) -> None:
        unit = np.abs(latent).max()
        expected = reference.sparsity_regularized(latent, 0.2, unit=unit)
        np.testing.assert_allclose(layer.assign().dequantise(), expected, rtol=1e-5)
        self.method.prune(layer.latent, layer.state)
        mask = layer.state["mask"].numpy()
        np.testing.assert_array_equal(mask, expected != 0)
        moved = latent[::-1] - 0.02
        layer.latent.assign(moved)
        expected = reference.sparsity_regularized(moved, 0.2, unit=unit, mask=mask)
        np.testing.assert_allclose(layer.assign().dequantise(), expected, rtol=1e-5)

    @pytest.mark.parametrize("survivors", ["binary", "ternary"])
    def test_three_stages(
        self, latent: np.ndarray, rng: np.random.Generator, survivors: str
    ) -> None:
        """Zeros come and go, then the mask is frozen; ternary survivors may still become zero."""
        method = methods.SparsityRegularized(
            threshold=0.2, prune_from=0.5, total_steps=12, survivors=survivors
        )
        layer = Layer(method, latent)
        kept = self.run(layer, 12, rng)
        assert any(np.any(later & ~earlier) for earlier, later in itertools.pairwise(kept[:6]))
        # The mask is of what was not zero when step 6 had been made.
        np.testing.assert_array_equal(layer.state["mask"].numpy(), kept[5])
        for later in kept[6:]:
            assert not np.any(later & ~kept[5])
            if survivors == "binary":
                np.testing.assert_array_equal(later, kept[5])
        assert all(float(value) == 0 for value in layer.losses().values())
        gradient = layer.gradients(np.ones_like(latent))["latent"]
        assert not np.any(gradient[~kept[5]])

    def test_threshold_ramp(self, latent: np.ndarray, rng: np.random.Generator) -> None:
        method = methods.SparsityRegularized(threshold=0.4, ramp_until=8)
        layer = Layer(method, latent)
        before = layer.assign().sparsity
        self.run(layer, 8, rng)
        eta, _ = method._eta_now(layer.state, training=False)
        assert float(eta) == pytest.approx(0.4)
        assert layer.assign().sparsity > before + 0.2

    def test_learned_threshold(self, latent: np.ndarray) -> None:
        """Its surrogate gradient in closed form, and its loss raises it."""
        method = methods.SparsityRegularized(threshold=0.3, mode="learned", l2=0.0)
        layer = Layer(method, latent)
        assert float(method.eta(layer.state, training=False)) == pytest.approx(0.3)
        g = np.random.default_rng(2).normal(size=latent.shape).astype(np.float32)
        u = latent / np.abs(latent).max()
        scale = layer.assign().scale_pos
        near = np.abs(np.abs(u) - 0.3) < 0.05
        by_eta = -(scale * g * np.sign(u) * near).sum() / 0.1
        by_rho = by_eta * (1 - np.exp(-0.3))  # derivative of softplus where it is 0.3
        assert layer.gradients(g)["rho_step"] == pytest.approx(by_rho, rel=1e-3)
        expected = 1e-3 * np.exp(-0.3 / 0.1)
        assert float(layer.losses()["threshold"]) == pytest.approx(expected, rel=1e-4)
        for _ in range(3):
            layer.step(np.zeros_like(latent), tf.keras.optimizers.Adam(0.01))
        assert float(method.eta(layer.state, training=False)) > 0.305

    def test_l2_loss(self, layer: Layer, latent: np.ndarray) -> None:
        expected = 1e-4 / 2 * (latent.astype(np.float64) ** 2).sum()
        assert float(layer.losses()["l2"]) == pytest.approx(expected, rel=1e-5)

    def test_latents_are_held_within_their_range(self) -> None:
        """A gradient does not take a weight beyond the unit further out, but brings it back."""
        layer = Layer(self.method, np.array([0.5, -1.0]))
        layer.latent.assign([1.5, -1.5])
        np.testing.assert_array_equal(layer.gradients(np.float32([-1, 1]))["latent"], [0, 0])
        assert np.all(layer.gradients(np.float32([1, -1]))["latent"] != 0)

    def test_compression_arithmetic(self, rng: np.random.Generator) -> None:
        """98 % zeros: 0.181 bits a weight at 8-bit runs, 5.5 times less than binary."""
        codes = rng.choice([-1, 0, 1], 1_000_000, p=[0.01, 0.98, 0.01])
        bits = sparsity_regularized.run_length_bits(codes, 8) / codes.size
        assert bits == pytest.approx(0.181, abs=0.002)
        assert 1 / bits == pytest.approx(5.52, abs=0.06)
        assert 2 / bits == pytest.approx(11.04, abs=0.12)

    def test_run_lengths_by_hand(self) -> None:
        # Runs 0, 2 and 7: 2-bit runs hold up to 2 zeros, 3 is the escape; 7 takes two of them.
        codes = np.array([1, 0, 0, -1, *[0] * 7, 1, 0, 0])
        assert sparsity_regularized.run_length_bits(codes, 2) == (3 + 2) * 3
        assert sparsity_regularized.run_length_bits(codes, 3) == (3 + 1) * 4
        assert sparsity_regularized.run_length_bits(np.zeros(5), 8) == 0
        best = sparsity_regularized.compressed_bits(
            methods.Assignment(codes.astype(np.int8), np.float32([-1, 0, 1]))
        )
        assert best == 32 + 15
        with pytest.raises(ValueError, match="Received: run_bits=0"):
            sparsity_regularized.run_length_bits(codes, 0)

    def test_bad_options(self) -> None:
        for options in ({"threshold": 1.0}, {"l2": -1}, {"prune_from": 1.5}, {"total_steps": 0}):
            (name,) = options
            with pytest.raises(ValueError, match=f"Received: {name}="):
                methods.SparsityRegularized(**options)
        with pytest.raises(ValueError, match="requires total_steps"):
            Layer(methods.SparsityRegularized(prune_from=0.5), np.ones(3))


class TestSparsityRegularizedLearned(MethodContract):
    method = methods.SparsityRegularized(mode="learned", threshold=0.3, prune_from=2, scale="one")


class TestGeneralizedTernaryConnect(MethodContract):
    method = methods.GeneralizedTernaryConnect()
    levels = 9

    @pytest.mark.parametrize("bits", [0, 1, 2])
    @pytest.mark.parametrize("zero", [True, False])
    def test_numpy_twin(self, latent: np.ndarray, bits: int, zero: bool) -> None:
        layer = Layer(methods.GeneralizedTernaryConnect(largest_bits=bits, zero=zero), latent)
        exponent = round(float(layer.state["exponent"]))
        weights = layer.assign().dequantise()
        expected = reference.generalized_ternary_connect(latent, exponent, bits, zero=zero)
        np.testing.assert_array_equal(weights, expected.astype(np.float32))
        assert len(np.unique(weights)) <= 2 * 2**bits + zero
        np.testing.assert_array_equal(np.log2(np.abs(weights[weights != 0])) % 1, 0)

    def test_without_bits_it_is_ternary_with_a_power_of_two(self, latent: np.ndarray) -> None:
        layer = Layer(methods.GeneralizedTernaryConnect(largest_bits=0), latent)
        assignment = layer.assign()
        scale = 2.0 ** round(float(layer.state["exponent"]))
        np.testing.assert_array_equal(assignment.levels, [-scale, 0, scale])
        assert assignment.scale_neg == assignment.scale_pos == scale
        codes = np.sign(latent) * (np.abs(latent) > scale / np.sqrt(2))
        np.testing.assert_array_equal(assignment.codes, codes)

    def test_exponent_is_the_best_fit(self, layer: Layer, latent: np.ndarray) -> None:
        def error(exponent: int) -> float:
            weights = reference.generalized_ternary_connect(latent, exponent, 2)
            return float(((latent - weights) ** 2).sum())

        assert round(float(layer.state["exponent"])) == min(range(-15, 5), key=error)

    def test_arithmetic_rounding_is_nearest_neighbour(self, latent: np.ndarray) -> None:
        layer = Layer(methods.GeneralizedTernaryConnect(rounding="arithmetic"), latent)
        assignment = layer.assign()
        nearest = np.abs(latent[..., None] - assignment.levels).argmin(-1)
        np.testing.assert_array_equal(assignment.codes + assignment.zero_index, nearest)

    @pytest.mark.parametrize(("penalty", "bits"), [(0.0, 2), (6e-4, 1), (2e-3, 0)])
    def test_bits_follow_the_penalty(
        self, rng: np.random.Generator, penalty: float, bits: int
    ) -> None:
        """B moves by at most one at a time to the number of levels that pays for itself."""
        method = methods.GeneralizedTernaryConnect(level_penalty=penalty, bits_every=2)
        layer = Layer(method, rng.normal(size=1000))
        seen = [2]
        for _ in range(9):
            layer.step(np.zeros(1000, np.float32), tf.keras.optimizers.SGD(1e-9))
            seen.append(int(layer.state["bits"]))
            self.assert_consistent(layer)
        assert np.all(np.abs(np.diff(seen)) <= 1)
        assert seen[-1] == bits
        assert layer.assign().levels.size == 2 * 2**bits + 1

    def test_warm_up_and_freezing(self, rng: np.random.Generator) -> None:
        method = methods.GeneralizedTernaryConnect(
            bits_every=1, warm_up=0.4, frozen_from=0.5, total_steps=10
        )
        layer = Layer(method, rng.normal(size=500))
        optimizer, bits, exponents = tf.keras.optimizers.SGD(1e-3), [], []
        for _ in range(9):
            layer.step(np.ones(500, np.float32), optimizer)
            bits.append(int(layer.state["bits"]))
            exponents.append(float(layer.state["exponent"]))
        # Passes see 0, 1, ... steps: B may move in the pass that sees 4 steps, and only there.
        assert bits == [2, 2, 2, 2, 1, 1, 1, 1, 1]
        assert len(set(exponents[:4])) == 4
        assert len(set(exponents[4:])) == 1

    def test_gradients(self, layer: Layer, latent: np.ndarray) -> None:
        g = np.random.default_rng(2).normal(size=latent.shape).astype(np.float32)
        weights = layer.weights().numpy()
        gradients = layer.gradients(g)
        np.testing.assert_allclose(
            gradients["exponent_step"], np.log(2) * (g * weights).sum(), rtol=1e-4
        )
        beyond = np.abs(latent) > np.abs(weights).max() * np.sqrt(2)
        np.testing.assert_array_equal(gradients["latent"][~beyond], g[~beyond])

    def test_losses(self, layer: Layer, latent: np.ndarray) -> None:
        weights = layer.weights().numpy()
        losses = layer.losses()
        expected = 1e-2 * ((latent - weights) ** 2).sum() / (latent**2).sum()
        assert float(losses["distortion"]) == pytest.approx(expected, rel=1e-4)
        assert float(losses["levels"]) == pytest.approx(2e-3 * 4)

    def test_bad_options(self) -> None:
        with pytest.raises(ValueError, match="Received: largest_bits=3"):
            methods.GeneralizedTernaryConnect(largest_bits=3)


def test_every_method_has_its_tests() -> None:
    tested = {kind.method.name for kind in MethodContract.__subclasses__()}
    assert tested == set(methods.METHODS) - {"ecp"}  # the treatment `prune` of a policy


# ------------------------------------------------------------------------------------------------
# In models. Tracing and exporting one takes 20 s of CPU, so all but two are slow.

IN_MODELS = {
    "twn per channel": methods.TWN(per_channel=True, threshold="exact"),
    "generalized_ternary_connect": methods.GeneralizedTernaryConnect(
        bits_every=1, level_penalty=1e-4
    ),
    "ttq": methods.TTQ(),
    "abs_mean": methods.AbsMean(),
    "tga": methods.TGA(update="two_pass"),
    "sparsity_regularized": methods.SparsityRegularized(prune_from=2, mode="learned"),
}
QUICK = ("twn per channel", "generalized_ternary_connect")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in IN_MODELS]
)
def test_fit_save_load_export(name: str, tmp_path: Path) -> None:
    float_model = models.convolutional()
    gamma = float_model.get_layer("norm").gamma
    gamma.assign(gamma * tf.constant([1.0, -1.0, 0.5, -2.0]))  # folded into the scales at export
    model = models.trained(ec2t_tf.apply(float_model, IN_MODELS[name]), epochs=2)
    images, labels = models.examples(seed=1)
    outputs = model.predict(images, verbose=0)
    assert np.all(np.isfinite(outputs))
    plain = ec2t_tf.strip(model)
    for layer in ternary_layers(model):
        kernel = plain.get_layer(layer.name).kernel.numpy()
        np.testing.assert_array_equal(kernel, layer.assign().dequantise())
    with constant_weights():
        exported = tf.function(lambda x: model(x, training=False))(tf.constant(images))
    np.testing.assert_array_equal(exported, model(images, training=False))

    model.save(tmp_path / "model.keras")
    loaded = ec2t_tf.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), outputs)
    for before, after in zip(ternary_layers(model), ternary_layers(loaded), strict=True):
        assert after.method.get_config() == before.method.get_config()
        assert {n: float(v) for n, v in before.losses().items()} == pytest.approx(
            {n: float(v) for n, v in after.losses().items()}
        )
    for one in (model, loaded):
        one.fit(images, labels, batch_size=32, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    path = export.to_tflite(model, tmp_path / "model.tflite")
    check = export.verify(model, path, images)
    assert check.largest_difference <= 1
    middle, hidden = (layer.assign() for layer in ternary_layers(model))
    _, conv, dense, _ = kernels_of(path.read_bytes())
    mirror = np.array([1, -1, 1, -1])[:, None]
    codes = np.moveaxis(middle.codes, -1, 0).reshape(4, -1) * mirror
    np.testing.assert_array_equal(np.sign(conv.codes), np.sign(codes))
    ratio = hidden.dequantise().T / hidden.largest
    np.testing.assert_array_equal(dense.codes, np.rint(127 * ratio))


def test_losses_are_in_the_loss() -> None:
    """What `TernaryLayer.losses` names is what Keras adds: the sum over the layers."""
    method = methods.SparsityRegularized(l2=0.5, mode="learned")
    model = ec2t_tf.apply(models.sequential(), method)
    (layer,) = ternary_layers(model)
    named = layer.losses()
    assert set(named) == {"l2", "threshold"}
    assert float(tf.add_n(model.losses)) == pytest.approx(sum(float(v) for v in named.values()))
    images, labels = models.examples()
    models.compiled(model)
    logits = model(images, training=False)
    cross_entropy = model.loss(labels, logits)
    reported = model.test_on_batch(images, labels, return_dict=True)["loss"]
    expected = float(cross_entropy) + sum(float(v) for v in named.values())
    assert reported == pytest.approx(expected, rel=1e-4)


def train_on_two_devices() -> None:
    """Run in a process of its own; see below."""
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    images, labels = models.examples()
    for name, method in IN_MODELS.items():
        with strategy.scope():
            model = ec2t_tf.apply(models.sequential(), method)
            models.compiled(model)
        model.fit(images, labels, batch_size=32, epochs=2, verbose=0)
        for layer in ternary_layers(model):
            assert np.all(np.isfinite(layer.assign().dequantise())), name
            for variable in (layer.latent, *layer.state.values()):
                copies = [copy.numpy() for copy in strategy.experimental_local_results(variable)]
                assert len(copies) == 2
                np.testing.assert_array_equal(copies[0], copies[1], err_msg=variable.name)


@pytest.mark.slow
def test_distribution() -> None:
    """Two replicas train with every method, and hold one state."""
    # Logical devices exist only if they are asked for before TensorFlow starts: a new process.
    program = """
import importlib.util, sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
spec = importlib.util.spec_from_file_location("test_methods", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.train_on_two_devices()
"""
    subprocess.run(
        [sys.executable, "-c", program, __file__], check=True, cwd=Path(__file__).parents[1]
    )


class TestTwoPass:
    def test_thresholds_step_first_and_statistics_see_the_batch_once(self) -> None:
        images, labels = models.examples(32)

        def stepped(update: str) -> tuple[tf_keras.Model, list[np.ndarray]]:
            method = methods.TGA(update=update, initial_threshold=0.2, threshold_learning_rate=1.0)
            model = ec2t_tf.apply(models.convolutional(), method)
            models.compiled(model, tf_keras.optimizers.Adam(0.01))
            model.run_eagerly = True
            model.train_on_batch(images, labels)
            moving = [v.numpy() for v in model.variables if "moving_mean" in v.name]
            return model, moving

        (joint, moving_joint), (twice, moving_twice) = stepped("joint"), stepped("two_pass")
        assert int(twice.optimizer.iterations) == 1
        # Seen twice, the moving mean would have gone about twice as far.
        for one, other in zip(moving_joint, moving_twice, strict=True):
            assert 0 < np.abs(other).sum() < 1.5 * np.abs(one).sum()
        for a, b in zip(ternary_layers(joint), ternary_layers(twice), strict=True):
            # Joint: the step waits for the next pass. Two passes: the second one has taken it in.
            assert float(a.state["threshold_step"]) != 0
            assert float(b.state["threshold_step"]) == 0
            moved = a.state["threshold"] + a.state["threshold_step"]  # the rate is 1
            assert float(b.state["threshold"]) == pytest.approx(float(moved), rel=1e-5)
            assert np.any(b.latent.numpy() != a.latent.numpy())


def test_the_example_of_a_new_method(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/methods.md: the program of 30 lines is a method like the others."""
    text = (Path(__file__).parents[1] / "docs" / "methods.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    lines = [line for line in program.splitlines() if line.strip()]
    assert len(lines) <= 35
    names: dict = {}
    try:
        exec(compile(program, "docs/methods.md", "exec"), names)
        latent = np.random.default_rng(0).normal(size=(10, 20)).astype(np.float32)
        layer = Layer(methods.get("largest_share"), latent)
        assignment = layer.assign()
        np.testing.assert_array_equal(layer.weights(), assignment.dequantise())
        assert assignment.sparsity == pytest.approx(0.8)
        again = methods.deserialize(methods.serialize(names["LargestShare"](share=0.1)))
        assert again.share == 0.1
        model = models.sequential()
        quantised = ec2t_tf.apply(model, "largest_share")
        (hidden,) = ternary_layers(quantised)
        assert hidden.assign().sparsity == pytest.approx(0.8, abs=0.01)
    finally:
        methods.METHODS.pop("largest_share", None)


def test_docs_name_every_method_and_option() -> None:
    text = (Path(__file__).parents[1] / "docs" / "methods.md").read_text()
    for name, kind in methods.METHODS.items():
        if name == "ecp":  # the treatment `prune` of a policy
            continue
        assert f"`{name}`" in text
        page = text.split(f"\n## {kind.__name__}\n")[1].split("\n## ")[0]
        for option in kind().get_config():
            assert f"`{option}`" in page, (name, option)


def test_command_line_knows_every_method_and_its_knobs() -> None:
    from absl.testing import flagsaver

    from ec2t_tf.train import __main__ as script

    def built(*arguments: str) -> TernaryMethod:
        with flagsaver.flagsaver():
            script.FLAGS(["script", *arguments])
            return script.build_method()

    assert set(script.METHOD_FLAGS) == set(methods.METHODS) - {"ecp"}
    for name, kind in methods.METHODS.items():
        if name == "ecp":  # the treatment `prune` of a policy
            continue
        method = built(f"--method={name}")
        assert type(method) is kind
        assert set(script.METHOD_FLAGS[name]) <= set(method.get_config())
    config = built("--method=twn", "--twn_threshold=exact", "--twn_per_channel").get_config()
    assert config == {"threshold": "exact", "factor": None, "per_channel": True}
    assert built("--method=sparsity_regularized", "--sr_mode=learned").ramp_until is None
