"""The methods beside EC2T: one inherited base for all, and what each of them claims."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from ec2t_tf import methods
from ec2t_tf.methods import reference, sparsity_regularized
from tests.method_contract import Layer, MethodContract


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
