"""Every kind of layer from `apply` to the exported file, with the same checks."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter
from tf_keras import layers

import ec2t_tf
from ec2t_tf.export import exact, to_tflite, verify
from ec2t_tf.export.tflite import read
from ec2t_tf.policy import Policy, Rule
from ec2t_tf.tfmot import activations
from ec2t_tf.tfmot.quantize_config import ternary_layers
from ec2t_tf.tfmot.rewrite import rewrite
from tests.kernels_of import kernels_of


def applied(model: Any, **options: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return ec2t_tf.apply(model, **options)


def train(model: Any, x: Any, steps: int = 3) -> None:
    """A few steps: ranges of activations are learnt, weights move."""
    model.compile(tf_keras.optimizers.Adam(1e-3), "mse", run_eagerly=True)  # no tracing
    target = np.random.default_rng(3).standard_normal((len(x), *model.output_shape[1:]))
    for _ in range(steps):
        model.train_on_batch(x, target.astype(np.float32))


class LayerTest:
    """Inherited: what has to hold for a model around the layer under test.

    The layer sits between the first and the last layer with a kernel, which stay int8.
    """

    shape: ClassVar[tuple[int, ...]] = (8, 8, 4)
    cases: ClassVar[dict[str, Any]] = {}  # name -> layers in the middle
    slow: ClassVar[tuple[str, ...]] = ()  # cases for `make test-slow`
    ternary: ClassVar[int | None] = 1  # how many ternary kernels come of it

    def model(self, middle: list[layers.Layer]) -> Any:
        first = layers.Conv2D(6, 3) if len(self.shape) == 3 else layers.Conv1D(6, 3)
        source = tf_keras.Input(self.shape)
        x = first(source)
        for layer in middle:
            x = layer(x)
        if len(x.shape) > 2:
            x = layers.Flatten()(x)
        return tf_keras.Model(source, layers.Dense(5)(x))

    def pytest_generate_tests(self, metafunc: Any) -> None:
        if "case" in metafunc.fixturenames:
            marks = {case: pytest.mark.slow if case in self.slow else () for case in self.cases}
            cases = [pytest.param(case, marks=mark) for case, mark in marks.items()]
            metafunc.parametrize("case", cases)

    def test_apply_train_save_export(self, case: str, tmp_path: Path) -> None:
        tf_keras.utils.set_random_seed(0)
        model = self.model(self.cases[case]())
        x = np.random.default_rng(1).standard_normal((32, *self.shape)).astype(np.float32)
        trained = applied(model)
        kernels = ternary_layers(trained)
        assert len(kernels) == self.ternary
        assert not trained.ec2t_report.refused

        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(trained(x, training=True)))
        for gradient in tape.gradient(loss, [kernel.latent for kernel in kernels]):
            assert gradient is not None
            assert float(tf.reduce_max(tf.abs(gradient))) > 0

        train(trained, x)
        expected = trained.predict(x, verbose=0)
        trained.save(tmp_path / "model.keras")
        loaded = ec2t_tf.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)

        path = to_tflite(trained, tmp_path / "model.tflite")
        result = verify(trained, path, x)
        assert result.largest_difference <= self.steps, str(result)
        exactly = verify(exact(trained, rounding="xnnpack"), path, x)
        assert exactly.largest_difference == 0, str(exactly)
        graph = read(path)
        inside = {graph.tensors[i].dtype for one in graph.operators[1:-1] for i in one.inputs}
        assert inside <= {"int8", "int32"}
        assert sum(kernel.is_ternary for kernel in kernels_of(path.read_bytes())) >= self.ternary

    # A step of difference at one layer may become more behind it: later layers sum it up.
    steps: ClassVar[int] = 2


class TestConvolutions(LayerTest):
    slow = ("plain", "no bias, same, strides", "relu inside", "grouped", "transposed")
    cases: ClassVar = {
        "plain": lambda: [layers.Conv2D(8, 3)],
        "no bias, same, strides": lambda: [layers.Conv2D(8, 3, 2, "same", use_bias=False)],
        "relu inside": lambda: [layers.Conv2D(8, 3, activation="relu")],
        "relu layer": lambda: [layers.Conv2D(8, 3), layers.ReLU()],
        "batch normalisation": lambda: [
            *(layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU(6.0))
        ],
        "dilated": lambda: [layers.Conv2D(8, 3, dilation_rate=2, padding="same")],
        "grouped": lambda: [layers.Conv2D(8, 3, groups=2), layers.BatchNormalization()],
        "separable": lambda: [layers.SeparableConv2D(8, 3), layers.BatchNormalization()],
        "depthwise": lambda: [
            *(layers.DepthwiseConv2D(3, dilation_rate=2), layers.BatchNormalization()),
            *(layers.ReLU(), layers.Conv2D(8, 1)),
        ],
        "transposed": lambda: [layers.Conv2DTranspose(8, 3, 2), layers.ReLU()],
        "transposed, normalised": lambda: [
            *(layers.Conv2DTranspose(8, 3), layers.BatchNormalization(), layers.ReLU())
        ],
    }


class TestSequences(LayerTest):
    slow = ("plain", "separable")
    shape = (16, 4)
    cases: ClassVar = {
        "plain": lambda: [layers.Conv1D(8, 3)],
        "normalised": lambda: [
            *(layers.Conv1D(8, 3, padding="causal"), layers.BatchNormalization(), layers.ReLU()),
            *(layers.MaxPooling1D(2), layers.GlobalAveragePooling1D()),
        ],
        "separable": lambda: [layers.SeparableConv1D(8, 3, padding="same", activation="relu")],
        "dense on a sequence": lambda: [layers.Dense(8, activation="relu")],
    }


class TestDense(LayerTest):
    slow = ("plain", "on an image")
    cases: ClassVar = {
        "plain": lambda: [layers.Flatten(), layers.Dense(16)],
        "relu": lambda: [layers.GlobalAveragePooling2D(), layers.Dense(16), layers.ReLU()],
        "normalised": lambda: [
            *(layers.Flatten(), layers.Dense(16), layers.BatchNormalization(), layers.ReLU())
        ],
        "on an image": lambda: [layers.Dense(8), layers.BatchNormalization()],
    }


class TestActivations(LayerTest):
    slow = ("tanh", "sigmoid", "swish", "gelu", "hard_tanh", "leaky_relu")
    cases: ClassVar = {
        name: lambda function=function: [layers.Conv2D(8, 3, activation=function)]
        for name, function in {
            **{name: name for name in ("tanh", "sigmoid", "swish", "gelu", "hard_sigmoid")},
            "hard_silu": activations.hard_silu,
            "Keras 3 hard_sigmoid": activations.hard_sigmoid,
            "hard_tanh": activations.hard_tanh,
            "leaky_relu": activations.leaky_relu,
        }.items()
    }


class TestOthers(LayerTest):
    cases: ClassVar = {
        "normalisation alone": lambda: [
            *(layers.ReLU(), layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(8, 1))
        ],
        "preprocessing and augmentation": lambda: [
            *(layers.Rescaling(2.0, 0.5), layers.RandomFlip(), layers.RandomZoom(0.1)),
            *(layers.Dropout(0.1), layers.GaussianNoise(0.1), layers.Conv2D(8, 1)),
        ],
        "padding and pooling": lambda: [
            *(layers.ZeroPadding2D(1), layers.Conv2D(8, 3), layers.MaxPooling2D()),
            *(layers.UpSampling2D(), layers.AveragePooling2D()),
        ],
    }


class TestGraphs(LayerTest):
    ternary = 2
    cases: ClassVar = dict.fromkeys(("squeeze_and_excite", "residual", "concatenated", "shared"))

    def model(self, middle: Any) -> Any:
        raise AssertionError("see test_apply_train_save_export")

    def test_apply_train_save_export(self, case: str, tmp_path: Path) -> None:
        source = tf_keras.Input(self.shape)
        x = layers.Conv2D(8, 3, padding="same", activation="relu")(source)
        x = getattr(self, case)(x)
        model = tf_keras.Model(source, layers.Dense(3)(layers.Flatten()(x)))
        self.model = lambda middle: model
        self.cases = {case: list}
        super().test_apply_train_save_export(case, tmp_path)

    def squeeze_and_excite(self, x: Any) -> Any:
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        gate = layers.Conv2D(4, 1, activation="swish")(gate)
        return layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(gate)])

    def residual(self, x: Any) -> Any:
        y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(x))
        y = layers.ReLU()(layers.Add()([x, y]))
        return layers.Subtract()([layers.Conv2D(8, 1)(y), y])

    def shared(self, x: Any) -> Any:
        """Two calls of one block, as in a siamese network, and their difference."""
        convolution = layers.Conv2D(4, 3, use_bias=False)
        normalisation = layers.BatchNormalization()
        point = layers.Conv2D(4, 1)
        sides = [
            point(layers.ReLU()(normalisation(convolution(side))))
            for side in (x, layers.MaxPooling2D(2, 1, "same")(x))
        ]
        return layers.Subtract()(sides)

    def concatenated(self, x: Any) -> Any:
        """Inputs of every kind; one of them is used elsewhere too, as in a DenseNet."""
        left = layers.Conv2D(4, 1)(x)
        right = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x)))
        inner = layers.Concatenate()([left, right])
        return layers.Concatenate()([inner, x])


@tf_keras.saving.register_keras_serializable(package="tests")
class Unknown(layers.Layer):
    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.cumsum(x, axis=1)


@tf_keras.saving.register_keras_serializable(package="tests")
class Sine(layers.Layer):
    elementwise = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.sin(x)


def chain(*parts: layers.Layer) -> Any:
    return tf_keras.Sequential([tf_keras.Input((8, 8, 4)), *parts])


class TestUnknownLayer:
    def model(self, layer: Any) -> Any:
        return chain(
            *(layers.Conv2D(4, 3), layers.Conv2D(6, 3), layer),
            *(layers.Conv2D(4, 1), layers.Flatten(), layers.Dense(3)),
        )

    @pytest.mark.parametrize("strict", [False, True])
    def test_is_refused_by_name_with_advice(self, strict: bool) -> None:
        with pytest.raises(
            ec2t_tf.UnsupportedLayerError, match=r"'?mystery'?.*[Rr]eplace"
        ) as caught:
            applied(self.model(Unknown(name="mystery")), strict=strict)
        assert "elementwise = True" in str(caught.value) or "no int8 rule" in str(caught.value)

    def test_of_single_values_is_a_table(self, tmp_path: Path) -> None:
        trained = applied(self.model(Sine(name="mystery")), strict=True)
        assert len(ternary_layers(trained)) == 2
        x = np.random.default_rng(0).standard_normal((8, 8, 8, 4)).astype(np.float32)
        train(trained, x)
        path = to_tflite(trained, tmp_path / "model.tflite")
        assert verify(exact(trained, rounding="xnnpack"), path, x).largest_difference == 0
        assert verify(trained, path, x).largest_difference <= 2

    def test_no_rule_but_float_is_a_float_part(self, tmp_path: Path) -> None:
        source = tf_keras.Input((6,))
        y = layers.Dense(8)(source)
        y = y + tf.cast(tf.cast(y * 4.0, tf.int32), tf.float32)
        model = tf_keras.Model(source, layers.Dense(3)(layers.Dense(6)(layers.Dense(7)(y))))
        trained = applied(model)
        for refused in trained.ec2t_report.refused:
            assert refused.layer.startswith("tf.cast")
            assert "no int8 rule" in refused.reason
        assert len(trained.ec2t_report.refused) == 2
        assert "Advice" in str(trained.ec2t_report)
        assert len(ternary_layers(trained)) == 2
        x = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)
        train(trained, x)
        path = to_tflite(trained, tmp_path / "model.tflite")
        runner = Interpreter(str(path), num_threads=1)
        runner.allocate_tensors()
        (entry,), (end,) = runner.get_input_details(), runner.get_output_details()
        expected = trained.predict(x, verbose=0)
        for one, values in zip(x, expected, strict=True):
            runner.set_tensor(entry["index"], one[None].astype(entry["dtype"]))
            runner.invoke()
            step = np.ptp(expected) / 30  # a whole number may be the next one
            np.testing.assert_allclose(runner.get_tensor(end["index"])[0], values, atol=step)
        with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"tf.cast"):
            applied(model, strict=True)


class TestPolicy:
    def model(self) -> Any:
        return chain(
            *(layers.Conv2D(8, 3, name="stem"), layers.DepthwiseConv2D(3, name="depth")),
            *(layers.Conv2D(8, 3, name="body"), layers.BatchNormalization(name="norm")),
            *(layers.ReLU(), layers.Flatten(), layers.Dense(6, name="neck")),
            *(layers.ReLU(), layers.Dense(3, name="head")),
        )

    def treatments(self, policy: Policy | None) -> dict[str, str]:
        report = applied(self.model(), policy=policy).ec2t_report
        return {d.layer: d.treatment.value for d in report.decisions if d.layer != "norm"}

    def test_defaults(self) -> None:
        assert self.treatments(None) == {
            **{"stem": "int8", "depth": "int8", "body": "ternary"},
            **{"neck": "ternary", "head": "int8"},
        }

    def test_first_rule_that_matches_wins(self) -> None:
        rules = [
            Rule("int8", name="ne.*"),
            Rule("prune", kind="Dense"),
            Rule("ternary", predicate=lambda layer: layer.name == "stem"),
            Rule("float", name="depth"),
        ]
        assert self.treatments(Policy(rules)) == {
            **{"stem": "ternary", "depth": "float", "body": "ternary"},
            **{"neck": "int8", "head": "prune"},
        }

    def test_a_rule_for_all(self, tmp_path: Path) -> None:
        trained = applied(self.model(), policy=Policy([Rule("ternary")]))
        assert len(ternary_layers(trained)) == 5
        x = np.random.default_rng(0).standard_normal((8, 8, 8, 4)).astype(np.float32)
        train(trained, x)
        to_tflite(trained, tmp_path / "model.tflite")

    def test_pruned_layers_keep_their_other_weights(self, tmp_path: Path) -> None:
        policy = Policy([Rule("prune", name="body|neck")])
        trained = applied(self.model(), policy=policy)
        body, _ = ternary_layers(trained)
        assignment = body.assign()
        kept = assignment.codes != 0
        assert 0.1 < kept.mean() < 0.9
        step = float(np.abs(body.latent).max()) / 127
        difference = np.abs(assignment.dequantise() - body.latent.numpy())[kept]
        assert difference.max() <= 0.51 * step
        x = np.random.default_rng(0).standard_normal((32, 8, 8, 4)).astype(np.float32)
        train(trained, x)
        path = to_tflite(trained, tmp_path / "model.tflite")
        assert verify(trained, path, x).largest_difference <= 2
        rows = {row.layer: row for row in ec2t_tf.summary(trained).rows}
        assert rows["body"].treatment == "prune"
        assert rows["body"].zeros == body.assign().sparsity
        plain = ec2t_tf.strip(trained).get_layer("body").kernel.numpy()
        np.testing.assert_array_equal(plain, body.assign().dequantise())

    def test_json_there_and_back(self) -> None:
        rules = [Rule("int8", name="a.*", kind="Dense"), Rule("float")]
        assert Policy.from_json(Policy(rules).to_json()).rules == tuple(rules)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "must be JSON"),
            ("[]", "must be an object"),
            ('{"rules": [{"name": "a"}]}', '"treatment"'),
            ('{"rules": [{"treatment": "int4"}]}', "must be one of"),
            ('{"rules": [{"treatment": "int8", "colour": "red"}]}', "A rule must be"),
            ('{"rules": [{"treatment": "int8", "name": 3}]}', "must be text"),
            ('{"rules": [{"treatment": "int8", "name": "("}]}', "regular expression"),
        ],
    )
    def test_bad_json_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Policy.from_json(text)

    def test_predicates_have_no_json(self) -> None:
        with pytest.raises(ValueError, match="predicate"):
            Policy([Rule("int8", predicate=bool)]).to_json()

    def test_a_rule_that_decides_nothing_is_reported(self) -> None:
        report = applied(self.model(), policy=Policy([Rule("int8", name="typo")])).ec2t_report
        assert report.unused_rules == ("int8 for name 'typo'",)
        assert "typo" in str(report)

    def test_rules_know_the_layer_of_the_user_s_model(self) -> None:
        model = chain(
            *(layers.Conv2D(4, 3), layers.SeparableConv2D(6, 3, name="separable")),
            *(layers.Conv2D(4, 1), layers.Flatten(), layers.Dense(2)),
        )
        policy = Policy([Rule("int8", kind="SeparableConv2D")])
        report = applied(model, policy=policy).ec2t_report
        assert {"separable_depthwise", "separable_pointwise"} <= set(report.of("int8"))


def test_frozen_layers_stay_frozen() -> None:
    model = chain(
        *(layers.Conv2D(4, 3), layers.Conv2D(6, 3, trainable=False, name="frozen")),
        *(layers.Conv2D(4, 1), layers.Flatten(), layers.Dense(3)),
    )
    trained = applied(model)
    latent = next(k for k in ternary_layers(trained) if k.name == "frozen").latent
    before = latent.numpy()
    train(trained, np.random.default_rng(0).standard_normal((8, 8, 8, 4)).astype(np.float32))
    np.testing.assert_array_equal(latent.numpy(), before)


class TestFrozenNormalisation:
    """Transfer learning: a model inside whose statistics are not to follow the batches."""

    x: ClassVar = 3.0 + np.random.default_rng(0).standard_normal((32, 8, 8, 4)).astype(np.float32)

    def model(self, **call: bool) -> Any:
        tf_keras.utils.set_random_seed(0)
        base = chain(
            *(layers.Conv2D(4, 3), layers.Conv2D(6, 3, use_bias=False)),
            *(layers.BatchNormalization(name="follows"), layers.ReLU(), layers.Dropout(0.5)),
            *(layers.BatchNormalization(name="alone"), layers.Conv2D(4, 1)),
        )
        source = tf_keras.Input((8, 8, 4))
        x = base(source, **call)
        return tf_keras.Model(source, layers.Dense(3)(layers.Flatten()(x)))

    def statistics(self, model: Any) -> list[np.ndarray]:
        return [v.numpy() for v in model.variables if "moving_" in v.name]

    def test_call_argument_survives(self, tmp_path: Path) -> None:
        model = self.model(training=False)
        # What the layers would compute without quantisation: Dropout and batches have no say.
        plain = rewrite(model).model
        np.testing.assert_allclose(
            plain(self.x, training=True), model(self.x, training=True), rtol=1e-4, atol=1e-4
        )
        trained = applied(model)
        before = self.statistics(trained)
        assert len(before) == 4
        train(trained, self.x)
        np.testing.assert_equal(self.statistics(trained), before)
        ranges = [v for v in trained.variables if "max" in v.name and v.shape.rank == 0]
        assert all(float(v) != 6.0 for v in ranges)  # which are learnt nevertheless

        trained.save(tmp_path / "model.keras")
        loaded = ec2t_tf.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded(self.x, training=True), trained(self.x, training=True))
        np.testing.assert_equal(self.statistics(loaded), before)
        assert verify(trained, to_tflite(trained, tmp_path / "m.tflite"), self.x).agreement >= 0.9
        stripped = ec2t_tf.strip(trained)
        stripped(self.x, training=True)
        np.testing.assert_equal(self.statistics(stripped), before)

    def test_without_it_they_follow(self) -> None:
        trained = applied(self.model())
        before = self.statistics(trained)
        train(trained, self.x)
        for new, old in zip(self.statistics(trained), before, strict=True):
            assert np.abs(new - old).max() > 0

    def test_layers_that_are_not_trainable(self, tmp_path: Path) -> None:
        model = self.model()
        model.layers[1].trainable = False
        trained = applied(model)
        trained.save(tmp_path / "model.keras")
        for candidate in (trained, ec2t_tf.load_model(tmp_path / "model.keras")):
            frozen = [w for layer in candidate.layers[:-1] for w in layer.trainable_weights]
            assert not frozen
            before = self.statistics(candidate)
            kernels = [kernel.latent.numpy() for kernel in ternary_layers(candidate)]
            train(candidate, self.x)
            np.testing.assert_equal(self.statistics(candidate), before)
            np.testing.assert_equal([k.latent.numpy() for k in ternary_layers(candidate)], kernels)


class Shuffle(layers.Layer):
    """A layer of the user's that only moves values."""

    moves_values_only = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs[..., ::-1]


def test_layers_that_only_move_values_stay_int8(tmp_path: Path) -> None:
    parts = layers.Conv2D(4, 3), Shuffle(), layers.Conv2D(4, 3), layers.Conv2D(2, 3)
    model = tf_keras.Sequential([layers.InputLayer((8, 8, 3)), *parts])
    trained = ec2t_tf.apply(model, strict=True)
    assert not trained.ec2t_report.of("float")
    path = tmp_path / "model.keras"
    trained.save(path)
    with pytest.raises(ValueError, match="import its module before loading"):
        ec2t_tf.load_model(path)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    with tf_keras.saving.custom_object_scope({"Shuffle": Shuffle}):
        np.testing.assert_array_equal(ec2t_tf.load_model(path)(x), trained(x))
