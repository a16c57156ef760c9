"""What somebody who had only the README did first."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.export import file_formats
from ec2t_tf.export.running import run
from ec2t_tf.export.tflite.reader import read
from tests.native.published import NETS


def recurrent(kind: type) -> keras.Model:
    chain = [keras.Input((12, 6)), kind(16), layers.Dense(16, activation="relu"), layers.Dense(2)]
    return keras.Sequential(chain)


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_summary_of_recurrent_layers(kind: type) -> None:
    model = ec2t_tf.apply(recurrent(kind), verbose=0)
    rows = {row.layer: row for row in ec2t_tf.summary(model).rows}
    name = (
        model.layers[-1].name and next(n for n in rows if n.endswith("/kernel"))[: -len("/kernel")]
    )
    gates = 4 if kind is layers.LSTM else 3
    assert rows[f"{name}/kernel"].shape == (6, gates * 16)
    assert rows[f"{name}/recurrent"].macs == 12 * 16 * gates * 16
    assert 0 < rows[f"{name}/recurrent"].zeros < 1


@pytest.mark.parametrize("activation", ["linear", "softmax", "sigmoid"])
def test_losses_by_the_names_of_outputs(activation: str, tmp_path: Path) -> None:
    given = keras.Input((4,), name="x")
    y = layers.Dense(8, activation="relu")(layers.Dense(8, activation="relu")(given))
    source = keras.Model(
        given,
        [layers.Dense(2, name="cls", activation=activation)(y), layers.Dense(3, name="box")(y)],
    )
    model = ec2t_tf.apply(source, verbose=0)
    assert model.output_names == ["cls", "box"]
    model.compile("sgd", loss={"cls": "mse", "box": "mse"}, metrics={"box": ["mae"]})
    x = np.zeros((8, 4), np.float32)
    history = model.fit(x, {"cls": np.zeros((8, 2)), "box": np.zeros((8, 3))}, verbose=0).history
    assert {"cls_loss", "box_loss", "box_mae"} <= set(history)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.output_names == ["cls", "box"]
    one = ec2t_tf.apply(
        keras.Sequential([keras.Input((4,)), *source.layers[1:3], layers.Dense(2, name="o")]),
        verbose=0,
    )
    one.compile("sgd", loss={"o": "mse"})
    one.fit(x, np.zeros((8, 2)), verbose=0)


@pytest.mark.parametrize("kind", ["Concatenate", "Add", "Multiply", "Average", "Minimum"])
def test_what_joins_one_value_is_that_value(kind: str, tmp_path: Path) -> None:
    """A net made in a loop over branches, of which there is one."""
    keras.utils.set_random_seed(0)
    given = keras.Input((6,))
    x = layers.Dense(16, activation="relu")(given)
    x = layers.Dense(16, activation="relu")(getattr(layers, kind)()([x]))
    model = ec2t_tf.apply(keras.Model(given, layers.Dense(3)(x)), verbose=0)
    values = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
    model(values, training=True)
    path = export.to_tflite(model, tmp_path / "m.tflite")
    assert export.verify(model, path, values).largest_difference <= 4


def test_tokens_are_drawn_from_their_table(tmp_path: Path) -> None:
    chain = [keras.Input((20,), dtype="int32"), layers.Embedding(50, 16)]
    chain += [layers.Conv1D(24, 3, activation="relu"), layers.GlobalAveragePooling1D()]
    chain += [layers.Dense(24, activation="relu"), layers.Dense(1)]
    model = ec2t_tf.apply(keras.Sequential(chain), verbose=0)
    tokens = np.random.default_rng(0).integers(0, 50, (64, 20))
    model(tokens, training=True)
    path = export.to_tflite(model, tmp_path / "m.tflite")
    found = export.verify(model, path)
    assert found.inputs > 8
    with pytest.raises(ValueError, match="inputs that the net can take"):
        run(path.read_bytes(), [np.full((2, 20), 1000.0, np.float32)])


def test_plain_takes_a_path(tmp_path: Path) -> None:
    model = ec2t_tf.apply(recurrent(layers.LSTM), verbose=0)
    model(np.random.default_rng(0).normal(size=(4, 12, 6)).astype(np.float32), training=True)
    path = export.to_tflite(model, tmp_path / "m.tflite")
    export.rewrite(path, format="download", output=tmp_path / "m.ec2d")
    assert file_formats.plain(tmp_path / "m.ec2d") == path.read_bytes()


def test_exact_of_tf_keras() -> None:
    tf_keras = pytest.importorskip("tf_keras")
    kind = tf_keras.layers
    source = tf_keras.Sequential(
        [
            kind.Input((6, 6, 2)),
            kind.Conv2D(4, 3, activation="relu"),
            kind.Conv2D(4, 3, activation="relu"),
            kind.Flatten(),
            kind.Dense(3),
        ]
    )
    model = ec2t_tf.apply(source, verbose=0)
    x = np.random.default_rng(0).normal(size=(16, 6, 6, 2)).astype(np.float32)
    model(x, training=True)
    found = ec2t_tf.exact(model).predict(x, verbose=0)
    np.testing.assert_allclose(found, model.predict(x, verbose=0), atol=0.1)


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_a_recurrent_first_layer(kind: type, tmp_path: Path) -> None:
    """The inputs' matrix is int8, the states' ternary: LSTM -> Dense needs no policy."""
    chain = [keras.Input((5, 3)), kind(8, name="steps"), layers.Dense(2, name="last")]
    model = ec2t_tf.apply(keras.Sequential(chain), verbose=0)
    assert {d.layer: (d.treatment, d.only) for d in model.ec2t_report.decisions} == {
        "steps": ("ternary", "recurrent"),
        "last": ("int8", ""),
    }
    treatments = {row.layer: row.treatment for row in ec2t_tf.summary(model).rows}
    assert treatments == {"steps/kernel": "int8", "steps/recurrent": "ternary", "last": "int8"}
    x = np.random.default_rng(0).normal(size=(16, 5, 3)).astype(np.float32)
    model(x, training=True)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.get_layer("steps").kernel.method is None
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    path = export.to_tflite(loaded, tmp_path / "m.tflite")
    assert export.verify(loaded, path, x).largest_difference <= 4
    both = ec2t_tf.apply(keras.Sequential(chain), policy={"steps": "ternary"}, verbose=0)
    assert both.get_layer("steps").kernel.method is not None


def test_every_head_has_a_last_layer() -> None:
    given = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="stem")(given)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="body")(x))
    heads = [layers.Dense(2, name="kind")(x), layers.Dense(4, name="place")(x)]
    model = ec2t_tf.apply(keras.Model(given, heads), verbose=0)
    assert set(model.ec2t_report.of("int8")) == {"stem", "kind", "place"}
    assert model.ec2t_report.of("ternary") == ["body"]


@pytest.mark.parametrize(
    "name",
    [n if n in ("curves", "siamese") else pytest.param(n, marks=pytest.mark.slow) for n in NETS],
)
def test_nets_of_keras_io(name: str, tmp_path: Path) -> None:
    """As they are: treated, trained, saved, loaded, in exact integers as in training."""
    keras.utils.set_random_seed(0)
    source = NETS[name]()
    model = ec2t_tf.apply(source, verbose=0)
    assert model.ec2t_report.of("ternary")
    assert not model.ec2t_report.refused
    random = np.random.default_rng(0)
    inputs = [
        random.integers(0, 100, (16, *x.shape[1:]))
        if x.dtype == "int32"
        else random.uniform(0, 1, (16, *x.shape[1:])).astype(np.float32)
        for x in model.inputs
    ]
    x = inputs if len(inputs) > 1 else inputs[0]
    target = random.uniform(0, 1, (16, *model.outputs[0].shape[1:])).astype(np.float32)
    eager = keras.backend.backend() == "tensorflow"
    model.compile(keras.optimizers.Adam(1e-3), "mse", run_eagerly=eager)
    losses = model.fit(x, target, batch_size=8, epochs=2, verbose=0).history["loss"]
    assert np.all(np.isfinite(losses))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, atol=1e-6)
    if not any("float" in d.reason for d in model.ec2t_report.decisions):
        apart = np.abs(ec2t_tf.exact(loaded).predict(x, verbose=0) - expected)
        reach = np.ptp(np.append(expected, 0.0))  # an int8 range has zero in it
        assert np.median(apart) <= 2 * reach / 255


def test_an_embedding_grows_out_of_its_first_range() -> None:
    """Values must become many times as large as in the first batch; what is clipped cannot."""
    keras.utils.set_random_seed(0)
    chain = [keras.Input((4,), dtype="int32"), layers.Embedding(20, 8, name="table")]
    chain += [layers.Flatten(), layers.Dense(8, activation="relu"), layers.Dense(1)]
    model = ec2t_tf.apply(keras.Sequential(chain), verbose=0)
    tokens = np.random.default_rng(0).integers(0, 20, (64, 4))
    goal = 10.0 * (tokens[:, :1] - 10.0)
    eager = keras.backend.backend() == "tensorflow"
    model.compile(keras.optimizers.Adam(0.02), "mse", run_eagerly=eager)
    model(tokens, training=True)
    ranges = {layer.name: layer for layer in model.layers if layer.name.endswith("_range")}
    before = float(ranges["table_range"].largest)
    for _ in range(60):
        model.train_on_batch(tokens, goal)
    values = np.abs(keras.ops.convert_to_numpy(model.get_layer("table").latent)).max()
    assert values > 6 * before
    assert float(ranges["table_range"].largest) > 2.5 * before


def small() -> keras.Sequential:
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="first"),
            layers.Dense(8, activation="relu", name="middle"),
            layers.Dense(3, name="last"),
        ]
    )


def test_a_plain_sequential_that_was_never_called(tmp_path: Path) -> None:
    model, x = small(), np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
    exact = ec2t_tf.exact(model, representative_data=x)
    path = export.to_tflite(model, tmp_path / "m.tflite", representative_data=x)
    assert "(0 off:" in str(export.verify(model, path, x))
    difference = next(iter(export.verify(exact, path, x).outputs.values()))
    assert max(difference.steps) <= 1  # LiteRT rounds as XNNPACK does


def test_a_treated_model_inside_another_is_not_exported_as_a_float_one(tmp_path: Path) -> None:
    inner = ec2t_tf.apply(small(), verbose=0)
    inner.name = "inner"
    whole = keras.Sequential([keras.Input((6,)), inner, layers.Softmax()])
    x = np.ones((4, 6), np.float32)
    for data in (None, x):
        with pytest.raises(ValueError, match="has it inside as 'inner'"):
            export.to_tflite(whole, tmp_path / "m.tflite", representative_data=data)


def test_a_name_in_a_policy_that_no_layer_has() -> None:
    with pytest.warns(UserWarning, match="'midle', of which 1 decided .* 'middle', 'last'"):
        ec2t_tf.apply(small(), policy={"midle": "ternary"}, verbose=0)


def test_a_batch_of_each_of_two_inputs_is_no_list_of_examples(tmp_path: Path) -> None:
    one, other = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([one, other], layers.Dense(2)(layers.Concatenate()([one, other])))
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    with pytest.raises(ValueError, match=r"must have 2 arrays.*Received: 1\."):
        export.to_tflite(model, tmp_path / "m.tflite", representative_data=[x, x, x])
    export.to_tflite(model, tmp_path / "m.tflite", representative_data=[(x, x)])


def test_a_model_that_was_built_by_its_data_is_of_any_batch(tmp_path: Path) -> None:
    """A Sequential that was not started with an Input has the batch that it was first given."""
    chain = [
        layers.Dense(8, activation="relu"),
        layers.Dense(8, activation="relu"),
        layers.Dense(2),
    ]
    source = keras.Sequential(chain)
    values = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    source(values[:5])
    assert source.inputs[0].shape[0] == 5
    model = ec2t_tf.apply(source, verbose=0)
    model(values, training=True)
    path = export.to_tflite(model, tmp_path / "m.tflite")
    assert read(path.read_bytes()).tensors[0].shape[0] == 1
    assert export.verify(model, path, values).inputs == 20


def test_models_of_several_examples_at_once_are_refused() -> None:
    source = keras.Input((4,), batch_size=5, name="five")
    x = keras.layers.Dense(8)(keras.layers.Dense(8, activation="relu")(source))
    with pytest.raises(ValueError, match=r"single examples.*'five' with shape \(5, 4\)"):
        ec2t_tf.apply(keras.Model(source, keras.layers.Dense(2)(x)), verbose=0)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_whole_numbers_that_are_computed_with_are_refused(dtype: str) -> None:
    source = keras.Input((8, 8, 3), dtype=dtype)
    x = layers.Conv2D(8, 3, activation="relu")(layers.Rescaling(1 / 255)(source))
    x = layers.Flatten()(layers.Conv2D(8, 3, activation="relu")(x))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=f"whole numbers .{dtype}.*float32"):
        ec2t_tf.apply(keras.Model(source, layers.Dense(2)(x)), verbose=0)
