"""Every method against its NumPy twin, on the backend of this process; see test_backends.py."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from ec2t_tf import methods
from ec2t_tf.methods import ec2t_reference, entropy_constraint, reference
from tests.native.method_layer import MethodLayer

METHODS = {
    "ec2t": methods.EC2T(entropy_gain=0.2),
    "ec2t published": methods.EC2T(entropy_gain=0.2, start="published"),
    "ecp": methods.ECP(),
    "ttq": methods.TTQ(threshold=0.2, scale_learning_rate=0.25),
    "twn": methods.TWN(),
    "twn exact": methods.TWN(threshold="exact", per_channel=True),
    "abs_mean": methods.AbsMean(),
    "tga": methods.TGA(initial_threshold=0.2, gradient_limit=1e6, threshold_learning_rate=1.0),
    "sparsity_regularized": methods.SparsityRegularized(),
    "generalized_ternary_connect": methods.GeneralizedTernaryConnect(),
}


@pytest.fixture
def latent(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0.01, 0.08, (3, 3, 16, 15)).astype(np.float32)


@pytest.fixture
def upstream(rng: np.random.Generator) -> np.ndarray:
    return np.random.default_rng(7).normal(0.3, 1.0, (3, 3, 16, 15)).astype(np.float32)


def value_of(variable: keras.Variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def test_golden_assignment(shared: Path) -> None:
    """The authors' function on the 18 block convolutions of their ResNet-20: 0 codes differ."""
    golden = json.loads((shared / "reference" / "golden_assign.json").read_text())
    with np.load(shared / "models" / "resnet20_fp.npz") as archive:
        weights = {name: archive[name].astype(np.float32) for name in archive.files}
    assert len(golden) == 12
    for setting, expected in golden.items():
        gamma = float(setting.split("gamma=")[1])
        assert len(expected["rows"]) == 18
        for row in expected["rows"]:
            latent = weights[row["name"]]
            on_backend = keras.ops.convert_to_tensor(latent)
            w_n, w_p = keras.ops.unstack(keras.ops.convert_to_tensor([row["wn"], row["wp"]]))
            boundary = entropy_constraint.thresholds(
                on_backend, w_n, w_p, gain=gamma * row["delta"], reference_floor=True
            )
            positive = keras.ops.convert_to_numpy(on_backend > boundary.positive)
            negative = keras.ops.convert_to_numpy(on_backend < -boundary.negative)
            codes = positive.astype(np.int8) - negative
            twin = ec2t_reference.assign(
                latent, row["wn"], row["wp"], gain=gamma * row["delta"], reference_floor=True
            )
            assert [int((codes == code).sum()) for code in (-1, 0, 1)] == row["counts"]
            assert int((codes != twin.codes).sum()) == 0, (setting, row["name"])


@pytest.mark.parametrize("name", METHODS)
def test_inference_is_the_assignment(name: str, latent: np.ndarray) -> None:
    layer = MethodLayer(METHODS[name], latent)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(layer.weights()), layer.assign().dequantise()
    )


class TestGradients:
    """1e-6 relative for latent weights, 1e-4 for sums over a layer."""

    def latents(self, found: np.ndarray, expected: np.ndarray) -> None:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())

    def sums(self, found: np.ndarray, expected: object) -> None:
        *moved, witness = found
        assert witness == 0
        np.testing.assert_allclose(moved, np.atleast_1d(expected), rtol=1e-4)

    @pytest.mark.parametrize("name", ["ec2t", "ec2t published"])
    def test_ec2t(self, name: str, latent: np.ndarray, upstream: np.ndarray) -> None:
        layer = MethodLayer(METHODS[name], latent)
        w_n, w_p = value_of(layer.state["centroids"])
        codes = layer.assign().codes
        found = layer.gradients(upstream)
        slope = np.choose(codes + 1, [w_n, 1.0, w_p])
        self.latents(found["latent"], upstream * slope)
        g = upstream.astype(np.float64)
        self.sums(found["centroid_step"], [-0.1 * g[codes < 0].sum(), 0.1 * g[codes > 0].sum()])

    def test_ecp(self, latent: np.ndarray, upstream: np.ndarray) -> None:
        layer = MethodLayer(METHODS["ecp"], latent)
        w_n, w_p = value_of(layer.state["centroids"])
        signs = np.sign(layer.assign().codes)
        found = layer.gradients(upstream)
        self.latents(found["latent"], upstream * np.choose(signs + 1, [w_n, 1.0, w_p]))
        np.testing.assert_array_equal(found["centroid_step"], 0)

    def test_ttq(self, latent: np.ndarray, upstream: np.ndarray) -> None:
        layer = MethodLayer(METHODS["ttq"], latent)
        codes, (w_n, w_p) = layer.assign().codes, value_of(layer.state["scales"])
        found = layer.gradients(upstream)
        self.latents(found["latent"], upstream * np.choose(codes + 1, [w_n, 1.0, w_p]))
        g = upstream.astype(np.float64)
        self.sums(found["scales_step"], [-0.25 * g[codes < 0].sum(), 0.25 * g[codes > 0].sum()])

    @pytest.mark.parametrize("name", ["twn", "twn exact", "abs_mean"])
    def test_straight_through(self, name: str, latent: np.ndarray, upstream: np.ndarray) -> None:
        layer = MethodLayer(METHODS[name], latent)
        np.testing.assert_array_equal(layer.gradients(upstream)["latent"], upstream)

    def test_tga(self, latent: np.ndarray, upstream: np.ndarray) -> None:
        layer = MethodLayer(METHODS["tga"], latent)
        threshold = float(layer.state["threshold"])
        found = layer.gradients(upstream)
        by_latent, by_threshold = reference.tga_gradient(
            latent.astype(np.float64), threshold, upstream.astype(np.float64)
        )
        self.latents(found["latent"], by_latent)
        self.sums(found["threshold_step"], by_threshold)

    def test_sparsity_regularized(self, latent: np.ndarray, upstream: np.ndarray) -> None:
        layer = MethodLayer(METHODS["sparsity_regularized"], latent)
        unit, scale = float(layer.state["unit"]), layer.assign().scale_pos
        outward = (np.abs(latent / unit) > 1) & (latent * upstream < 0)
        expected = np.where(outward, 0.0, upstream * scale / unit)
        self.latents(layer.gradients(upstream)["latent"], expected)

    def test_generalized_ternary_connect(self, latent: np.ndarray, upstream: np.ndarray) -> None:
        layer = MethodLayer(METHODS["generalized_ternary_connect"], latent)
        weights = layer.assign().dequantise().astype(np.float64)
        found = layer.gradients(upstream)
        inside = np.abs(latent) <= np.abs(weights).max() * np.sqrt(2)
        self.latents(found["latent"][inside], upstream[inside])
        self.sums(found["exponent_step"], np.log(2) * (upstream * weights).sum())


def test_twins(latent: np.ndarray) -> None:
    """Weights of the methods that have closed twins, to the rounding of int8."""
    wide = latent.astype(np.float64)

    def weights(name: str) -> np.ndarray:
        return MethodLayer(METHODS[name], latent).assign().dequantise()

    ttq = MethodLayer(METHODS["ttq"], latent).assign()
    expected = reference.ttq(wide, ttq.scale_neg, ttq.scale_pos, threshold=0.2)
    np.testing.assert_allclose(ttq.dequantise(), expected, rtol=1e-5)
    twn = reference.twn(wide, threshold="mean", factor=0.75)
    np.testing.assert_allclose(weights("twn"), twn, rtol=1e-5)
    columns = [reference.twn_exact(wide[..., i]) for i in range(latent.shape[-1])]
    np.testing.assert_allclose(weights("twn exact"), np.stack(columns, -1), rtol=1e-5)
    np.testing.assert_allclose(weights("abs_mean"), reference.abs_mean(wide), rtol=1e-5)
    threshold = 0.2 * np.abs(latent).max()
    np.testing.assert_allclose(weights("tga"), reference.tga(wide, threshold), rtol=1e-5)
