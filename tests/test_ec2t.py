"""EC2T's maths: the assignment against golden values and its NumPy twin, the gradients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from ec2t_tf import methods
from ec2t_tf.methods import centroids, ec2t_reference, entropy_constraint
from ec2t_tf.methods.base import int8_levels
from tests.method_contract import ODD_LAYERS


def state_of(method: methods.EC2T, latent: np.ndarray) -> dict[str, tf.Variable]:
    def add_weight(name: str, shape: tuple[int, ...], trainable: bool) -> tf.Variable:
        return tf.Variable(tf.zeros(shape), trainable=trainable, name=name)

    state = method.build(add_weight)
    method.initialise(tf.constant(latent), state)
    return state


def tensorflow_codes(latent: np.ndarray, w_n: float, w_p: float, **options: object) -> np.ndarray:
    boundary = entropy_constraint.thresholds(
        tf.constant(latent), tf.constant(w_n), tf.constant(w_p), **options
    )
    positive = latent > boundary.positive.numpy()
    return positive.astype(np.int8) - (latent < -boundary.negative.numpy())


class TestGolden:
    """The authors' function on the 18 block convolutions of their float ResNet-20."""

    @pytest.fixture(scope="class")
    def golden(self, shared: Path) -> dict:
        return json.loads((shared / "reference" / "golden_assign.json").read_text())

    @pytest.fixture(scope="class")
    def weights(self, shared: Path) -> dict[str, np.ndarray]:
        with np.load(shared / "models" / "resnet20_fp.npz") as archive:
            return {name: archive[name] for name in archive.files}

    @pytest.mark.parametrize("twin", ["tensorflow", "numpy"])
    def test_all_settings_and_layers(
        self, golden: dict, weights: dict[str, np.ndarray], twin: str
    ) -> None:
        assert len(golden) == 12
        for setting, expected in golden.items():
            gamma = float(setting.split("gamma=")[1])
            assert len(expected["rows"]) == 18
            for row in expected["rows"]:
                latent = weights[row["name"]].astype(np.float32)
                gain = gamma * row["delta"]
                if twin == "numpy":
                    result = ec2t_reference.assign(
                        latent, row["wn"], row["wp"], gain=gain, reference_floor=True
                    )
                    codes, lambda_ = result.codes, result.lambda_
                else:
                    w_n, w_p = np.float32(row["wn"]), np.float32(row["wp"])
                    options = {"gain": gain, "reference_floor": True}
                    codes = tensorflow_codes(latent, w_n, w_p, **options)
                    lambda_ = entropy_constraint.thresholds(
                        tf.constant(latent), tf.constant(w_n), tf.constant(w_p), **options
                    ).lambda_.numpy()
                counts = [int((codes == code).sum()) for code in (-1, 0, 1)]
                assert counts == row["counts"], (setting, row["name"])
                assert lambda_ == pytest.approx(row["lam"], rel=1e-5), (setting, row["name"])

    def test_initial_centroids_and_size_factor(
        self, golden: dict, weights: dict[str, np.ndarray]
    ) -> None:
        for setting, expected in golden.items():
            scale = float(setting.split(",")[0].split("=")[1])
            method = methods.EC2T(centroid_scale=scale, entropy_gain=0.5, start="published")
            for row in expected["rows"]:
                latent = weights[row["name"]].astype(np.float32)
                w_n, w_p = state_of(method, latent)["centroids"].numpy()
                assert (w_n, w_p) == pytest.approx((row["wn"], row["wp"]), rel=1e-6)
                assert method.gain(latent.size / 36864) == pytest.approx(0.5 * row["delta"])


def test_small_golden_without_shared_data() -> None:
    """A layer worked by hand: 8 weights, s = 0.5, gamma * delta = 0.25."""
    latent = np.array([-1.0, -0.5, -0.2, 0.0, 0.1, 0.2, 0.6, 2.0], np.float32)
    w_n, w_p = ec2t_reference.initial_centroids(latent, 0.5)
    assert (w_n, w_p) == (0.5, 1.0)
    # Nearest neighbour: n for w < -0.25 (2), p for w > 0.5 (2), zero else (4): P = 1/4, 1/2, 1/4.
    # Limits: 0.5 (2 - 0.5) / 1 = 0.75 and 1 (4 - 1) / 1 = 3; lambda = 0.25 * 0.75.
    boundary = entropy_constraint.thresholds(tf.constant(latent), 0.5, 1.0, gain=0.25)
    np.testing.assert_allclose(boundary.probabilities, [0.25, 0.5, 0.25])
    assert float(boundary.lambda_) == pytest.approx(0.1875)
    assert float(boundary.negative) == pytest.approx(0.25 + 0.1875 / (2 * 0.5))
    assert float(boundary.positive) == pytest.approx(0.5 + 0.1875 / (2 * 1.0))
    codes = tensorflow_codes(latent, np.float32(w_n), np.float32(w_p), gain=0.25)
    assert codes.tolist() == [-1, -1, 0, 0, 0, 0, 1, 1]


@seed(20200401)
@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 400),
    mean=st.floats(-0.5, 0.5),
    scale=st.floats(0.05, 1.9),
    gain=st.floats(-0.9, 0.9),
    draw=st.integers(0, 2**32 - 1),
    shape=st.sampled_from(["gaussian", "uniform", "positive", "sparse"]),
)
def test_tensorflow_equals_numpy_twin(
    size: int, mean: float, scale: float, gain: float, draw: int, shape: str
) -> None:
    """Random layers: same lambda, same codes but for weights that lie on a boundary."""
    rng = np.random.default_rng(draw)
    latent = rng.normal(mean, 1.0, size) if shape != "uniform" else rng.uniform(-1, 1, size)
    if shape == "positive":
        latent = np.abs(latent) + 1e-3
    if shape == "sparse":
        latent = latent * (rng.random(size) < 0.3)
    latent = latent.astype(np.float32)
    w_n, w_p = np.maximum(ec2t_reference.initial_centroids(latent, scale), 1e-3).astype(np.float32)
    expected = ec2t_reference.assign(latent, float(w_n), float(w_p), gain=gain)
    boundary = entropy_constraint.thresholds(tf.constant(latent), w_n, w_p, gain=gain)
    np.testing.assert_allclose(boundary.probabilities, expected.probabilities, rtol=1e-5)
    assert float(boundary.lambda_) == pytest.approx(expected.lambda_, rel=2e-4, abs=1e-6)
    codes = tensorflow_codes(latent, w_n, w_p, gain=gain)
    t_n, t_p = float(boundary.negative), float(boundary.positive)
    on_boundary = np.minimum(np.abs(latent - t_p), np.abs(latent + t_n)) < 1e-3 * (t_n + t_p)
    np.testing.assert_array_equal(codes[~on_boundary], expected.codes[~on_boundary])


class TestGradients:
    """On a net without batch normalisation, which would hide the sign of w_n's gradient."""

    WIDTH, OUTPUTS = 12, 5

    @pytest.fixture
    def layer(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        latent = rng.normal(0, 0.1, (self.WIDTH, self.OUTPUTS)).astype(np.float32)
        return latent, rng.normal(size=(7, self.WIDTH)).astype(np.float32)

    @staticmethod
    def loss(inputs: np.ndarray, weights: np.ndarray) -> float:
        return float(np.sum(np.tanh(inputs.astype(np.float64) @ weights) ** 2))

    def gradients(
        self, method: methods.EC2T, latent: np.ndarray, inputs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        state = state_of(method, latent)
        # On the int8 grid, so that the levels can be moved freely: 100/127 of the larger.
        state["centroids"].assign([0.100, 0.127])
        variable = tf.Variable(latent)
        with tf.GradientTape() as tape:
            weights = method.quantise(
                tf.convert_to_tensor(variable), state, relative_size=1.0, training=True
            )
            value = tf.reduce_sum(tf.square(tf.tanh(tf.constant(inputs) @ weights)))
        by_latent, by_step = tape.gradient(value, [variable, state["centroid_step"]])
        codes = np.sign(weights.numpy())
        assert set(np.unique(codes)) == {-1.0, 0.0, 1.0}
        *by_centroids, witness = by_step.numpy()
        assert witness == 0
        return by_latent.numpy(), np.array(by_centroids), codes

    @pytest.mark.parametrize("reference_sign", [False, True])
    def test_centroids_by_finite_differences(
        self, layer: tuple[np.ndarray, np.ndarray], reference_sign: bool
    ) -> None:
        latent, inputs = layer
        rate = 0.25
        method = methods.EC2T(
            entropy_gain=0.05, centroid_learning_rate=rate, reference_sign=reference_sign
        )
        _, by_step, codes = self.gradients(method, latent, inputs)

        def value(w_n: float, w_p: float) -> float:
            return self.loss(inputs, np.where(codes > 0, w_p, np.where(codes < 0, -w_n, 0.0)))

        h = 1e-5
        by_n = (value(0.100 + h, 0.127) - value(0.100 - h, 0.127)) / (2 * h)
        by_p = (value(0.100, 0.127 + h) - value(0.100, 0.127 - h)) / (2 * h)
        sign = -1 if reference_sign else 1
        np.testing.assert_allclose(by_step, [rate * sign * by_n, rate * by_p], rtol=1e-3)

    def test_latents_by_finite_differences(self, layer: tuple[np.ndarray, np.ndarray]) -> None:
        latent, inputs = layer
        by_latent, _, codes = self.gradients(methods.EC2T(entropy_gain=0.05), latent, inputs)
        ternary = np.where(codes > 0, 0.127, np.where(codes < 0, -0.100, 0.0))
        scale = np.where(codes > 0, 0.127, np.where(codes < 0, 0.100, 1.0))
        h = 1e-5
        for index in np.ndindex(*latent.shape):
            up, down = ternary.copy(), ternary.copy()
            up[index] += h
            down[index] -= h
            by_weight = (self.loss(inputs, up) - self.loss(inputs, down)) / (2 * h)
            expected = scale[index] * by_weight
            assert by_latent[index] == pytest.approx(expected, rel=2e-3, abs=1e-5)


class TestOddLayers:
    """Layers that break a careless formula: the result is finite and at most ternary."""

    @pytest.mark.parametrize("name", ODD_LAYERS)
    @pytest.mark.parametrize("gain", [0.0, 0.5])
    def test_finite(self, name: str, gain: float) -> None:
        latent = ODD_LAYERS[name].astype(np.float32)
        method = methods.EC2T(entropy_gain=gain)
        state = state_of(method, latent)
        variable = tf.Variable(latent)
        for _ in range(3):
            with tf.GradientTape() as tape:
                weights = method.quantise(
                    tf.convert_to_tensor(variable), state, relative_size=1.0, training=True
                )
                value = tf.reduce_sum(weights)
            gradients = tape.gradient(value, [variable, state["centroid_step"]])
        for tensor in (weights, *gradients, state["centroids"]):
            assert np.all(np.isfinite(tensor.numpy()))
        assert len(np.unique(weights.numpy())) <= 3
        assignment = method.assign(variable, state, relative_size=1.0)
        np.testing.assert_array_equal(assignment.dequantise(), weights.numpy())

    def test_one_sided_layer_keeps_its_large_weights(self) -> None:
        latent = ODD_LAYERS["only positive"].astype(np.float32)
        method = methods.EC2T(entropy_gain=0.1)
        assignment = method.assign(tf.constant(latent), state_of(method, latent), relative_size=1.0)
        assert assignment.codes[-1] == 1
        assert 0 < assignment.sparsity < 1
        assert not (assignment.codes < 0).any()


def test_centroid_floor_is_applied_and_kept() -> None:
    latent = np.random.default_rng(0).normal(0, 1, 1000).astype(np.float32)
    method = methods.EC2T(centroid_scale=0.01)
    state = state_of(method, latent)
    method.quantise(tf.constant(latent), state, relative_size=1.0, training=True)
    floor = 0.675 * np.sqrt(np.pi / 2) * np.abs(latent).mean()
    np.testing.assert_allclose(state["centroids"].numpy(), [floor, floor], rtol=1e-5)


def test_inference_changes_nothing_and_uses_the_last_step() -> None:
    latent = np.random.default_rng(0).normal(0, 1, 1000).astype(np.float32)
    method = methods.EC2T(centroid_learning_rate=0.5)
    state = state_of(method, latent)
    state["centroid_step"].assign([0.2, -0.1, 1.0])
    before = {name: variable.numpy() for name, variable in state.items()}
    evaluated = method.quantise(tf.constant(latent), state, relative_size=1.0, training=False)
    for name, variable in state.items():
        np.testing.assert_array_equal(variable.numpy(), before[name])
    training = method.quantise(tf.constant(latent), state, relative_size=1.0, training=True)
    np.testing.assert_array_equal(evaluated, training)
    np.testing.assert_allclose(
        state["centroids"].numpy(), before["centroids"] + [0.1, -0.05], rtol=1e-6
    )
    # Taken: the next pass does not move the centroids again.
    np.testing.assert_array_equal(state["centroid_step_taken"].numpy(), state["centroid_step"])
    method.quantise(tf.constant(latent), state, relative_size=1.0, training=True)
    np.testing.assert_allclose(
        state["centroids"].numpy(), before["centroids"] + [0.1, -0.05], rtol=1e-6
    )


@pytest.mark.parametrize("decay", [1.0, 0.999, 0.5])
def test_weight_decay_does_not_reach_the_centroids(decay: float) -> None:
    """Decay scales the step as a whole; the witness tells by how much."""
    latent = np.random.default_rng(0).normal(0, 1, 1000).astype(np.float32)
    method = methods.EC2T(centroid_learning_rate=0.5)
    state = state_of(method, latent)
    expected = state["centroids"].numpy().astype(np.float64)
    floor = 0.675 * np.sqrt(np.pi / 2) * np.abs(latent).mean()
    for move in np.random.default_rng(1).normal(0, 0.1, (20, 2)).astype(np.float32):
        step = state["centroid_step"].numpy()
        state["centroid_step"].assign(step * np.float32(decay) + np.append(move, 0))
        method.quantise(tf.constant(latent), state, relative_size=1.0, training=True)
        expected = np.maximum(expected + 0.5 * move, floor)
        np.testing.assert_allclose(state["centroids"].numpy(), expected, rtol=1e-5)


def test_levels_are_those_of_fake_quantisation() -> None:
    """What training computes with is what the exported fake quantisation makes of it."""
    rng = np.random.default_rng(1)
    for w_n, w_p in rng.uniform(1e-3, 1.0, (200, 2)).astype(np.float32):
        levels = int8_levels(tf.constant(w_n), tf.constant(w_p)).numpy()
        largest = np.full(4, max(w_n, w_p), np.float32)
        tensor = np.tile(levels[:, None], (1, 4))
        again = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            tensor, -largest, largest, num_bits=8, narrow_range=True
        )
        np.testing.assert_array_equal(again, tensor)
        assert np.abs(levels - [-w_n, 0, w_p]).max() <= 0.5 * max(w_n, w_p) / 127 * 1.0001


@pytest.mark.parametrize("ratio", [0.01, 0.2, 0.49, 0.64, 0.8, 0.97, 1.0])
@pytest.mark.parametrize("grid", [1, 7, 127])
def test_centroids_on_a_grid_equal_the_twin(grid: int, ratio: float) -> None:
    for w_n, w_p in ((0.3, 0.3 * ratio), (0.3 * ratio, 0.3)):
        got = centroids.on_grid(tf.constant(w_n), tf.constant(w_p), grid).numpy()
        np.testing.assert_allclose(got, ec2t_reference.on_grid(w_n, w_p, grid), rtol=1e-6)


def test_int4_levels_in_training_as_in_inference() -> None:
    """Seven levels: whole codes of int8 and of INT4, while the centroids move freely."""
    rng = np.random.default_rng(5)
    latent = rng.normal(0, 1, 2000).astype(np.float32)
    method = methods.EC2T(level_grid=7, entropy_gain=0.3)
    state = state_of(method, latent)
    codes = set()
    for w_n, w_p in ((0.9, 1.7), (1.7, 0.9), (1.2, 1.21), (3.0, 0.7)):
        state["centroids"].assign([w_n, w_p])
        trained = method.quantise(tf.constant(latent), state, relative_size=1.0, training=True)
        np.testing.assert_allclose(state["centroids"].numpy(), [w_n, w_p], rtol=1e-6)
        assignment = method.assign(tf.constant(latent), state, relative_size=1.0)
        np.testing.assert_array_equal(trained, assignment.dequantise())
        on_grid = ec2t_reference.on_grid(w_n, w_p, 7)
        np.testing.assert_allclose(assignment.levels, [-on_grid[0], 0, on_grid[1]], rtol=1e-6)
        twin = ec2t_reference.assign(latent, *on_grid, gain=method.gain(1.0))
        np.testing.assert_array_equal(assignment.codes, twin.codes)
        scale = assignment.largest / 127
        stored = np.round(assignment.levels / scale)
        np.testing.assert_array_equal(stored % 18, 0)
        assert np.abs(stored).max() == 126
        codes |= set(np.abs(stored) / 18)
    assert codes == {0, 2, 4, 7}
    assert methods.deserialize(methods.serialize(method)).level_grid == 7


@pytest.mark.parametrize(
    "options",
    [
        {"centroid_scale": 0.0},
        {"centroid_scale": 2.0},
        {"entropy_gain": -0.1},
        {"entropy_gain": 1.0},
        {"centroid_learning_rate": -1.0},
        {"centroid_scale": float("nan")},
        {"level_grid": 0},
        {"level_grid": 128},
        {"level_grid": 3.5},
    ],
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"Received: {name}="):
        methods.EC2T(**options)


def test_method_by_name_object_and_config() -> None:
    assert isinstance(methods.get("ec2t"), methods.EC2T)
    method = methods.EC2T(centroid_scale=0.4)
    assert methods.get(method) is method
    again = methods.deserialize(methods.serialize(method))
    assert again.get_config() == method.get_config()
    with pytest.raises(ValueError, match="Received: method='ec3t'"):
        methods.get("ec3t")
    with pytest.raises(TypeError, match="Received: method=3"):
        methods.get(3)
