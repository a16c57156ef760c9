"""From `apply` over a few steps of training to the file: exact in both roundings."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.export.lower import exact, lower
from ec2t_tf.export.lower.trained import batches, graph_of
from ec2t_tf.export.tflite import read

from .models import NETS, data_for, squeeze_and_excitation, trained
from .nets import differences, in_litert

FAST = ("shared", "two_inputs_and_outputs")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in NETS]
)
def test_zero_steps(name: str) -> None:
    keras.utils.set_random_seed(1)
    model, inputs = trained(NETS[name]())
    given = {x.name: values[:16] for x, values in zip(model.inputs, inputs, strict=True)}
    for rounding, (from_exact, from_keras) in differences(model, given).items():
        assert from_exact == 0, rounding
        assert from_keras <= 3, rounding


MOVES = {
    "Flatten": layers.Flatten,
    "Reshape": lambda: layers.Reshape((-1, 8)),
    "UpSampling2D": layers.UpSampling2D,
    "MaxPooling2D": layers.MaxPooling2D,
    "Dropout": lambda: layers.Dropout(0.1),
    "Cropping2D": layers.Cropping2D,
    "ZeroPadding2D": layers.ZeroPadding2D,
    "Permute": lambda: layers.Permute((2, 1, 3)),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
def test_moved_into_a_concatenation(move: str, activation: str) -> None:
    """What `apply` calls ternary is ternary in the file, whatever moves its output."""
    keras.utils.set_random_seed(1)
    source = keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(source)
    ways = [
        MOVES[move]()(layers.Conv2D(8, 3, padding="same", activation=activation, name=name)(x))
        for name in "ab"
    ]
    y = layers.Flatten()(layers.Concatenate()(ways))
    model = ec2t_tf.apply(keras.Model(source, layers.Dense(3, name="last")(y)), verbose=0)
    data = np.random.default_rng(0).normal(size=(16, 8, 8, 2)).astype(np.float32)
    model(data, training=True)
    graph = lower(model)
    ends = {*graph.inputs, *graph.outputs}
    floats = [t.name for i, t in enumerate(graph.tensors) if t.dtype == "float32"]
    assert len(floats) == len(ends), floats
    for from_exact, from_keras in differences(model, {"image": data}, graph=graph).values():
        assert from_exact == 0
        assert from_keras <= 2


class TestToTflite:
    def test_files_and_exact_model(self, tmp_path: Path) -> None:
        keras.utils.set_random_seed(1)
        model, (data,) = trained(squeeze_and_excitation())
        for io_dtype in ("float32", "int8"):
            path = export.to_tflite(model, tmp_path / f"{io_dtype}.tflite", io_dtype=io_dtype)
            graph = read(path)
            assert [graph.tensors[i].dtype for i in graph.inputs] == [io_dtype]
            assert [graph.tensors[i].dtype for i in graph.outputs] == [io_dtype]
            (signature,) = graph.signatures
            assert list(signature.inputs) == ["image"]
            assert list(signature.outputs) == ["last"]
        content = (tmp_path / "float32.tflite").read_bytes()
        for rounding in ("reference", "xnnpack"):
            (file,) = in_litert(content, {"image": data[:8]}, rounding)
            computed = exact(model, rounding=rounding).predict(data[:8], verbose=0)
            np.testing.assert_array_equal(computed, file)

    def test_a_plain_model_is_calibrated(self, tmp_path: Path) -> None:
        keras.utils.set_random_seed(1)
        model = squeeze_and_excitation()
        (data,) = data_for(model, np.random.default_rng(0), 64)
        before = model.get_weights()
        path = export.to_tflite(model, tmp_path / "m.tflite", representative_data=data)
        for weights, old in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weights, old)
        (file,) = in_litert(path.read_bytes(), {"image": data}, "reference")
        expected = model.predict(data, verbose=0)
        assert np.abs(file - expected).max() < 0.05 * np.abs(expected).max()

    def test_ranges_do_not_depend_on_how_examples_come(self) -> None:
        """One by one, in batches, of a net that takes one at a time: but for codes' rounding."""
        (data,) = data_for(squeeze_and_excitation(), np.random.default_rng(0), 40)
        scales = []
        for batch, ways in ((None, [data, [data[:1], data[1:9], *data[9:]]]), (1, [data])):
            keras.utils.set_random_seed(1)
            net = squeeze_and_excitation()
            if batch:
                source = keras.Input(batch_shape=(batch, *data.shape[1:]), name="image")
                net = keras.Model(source, net(source))
            for way in ways:
                graph = graph_of(net, representative_data=way)
                scales.append([float(t.scale[0]) for t in graph.tensors if t.dtype == "int8"])
        for other in scales[1:]:
            np.testing.assert_allclose(other, scales[0], rtol=0.02)

    def test_every_example_is_seen_once(self) -> None:
        sizes = [1, 1, 1, 1, 1, 3, 1, 1, 5]
        stops = np.cumsum(sizes)
        examples = [[np.arange(stop - n, stop)] for n, stop in zip(sizes, stops, strict=True)]
        joined = [part for (part,) in batches(examples, 4)]
        assert [len(part) for part in joined] == [4, 1, 3, 2, 5]
        np.testing.assert_array_equal(np.concatenate(joined), np.arange(stops[-1]))

    @pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
    def test_a_plain_recurrent_model_is_calibrated(self, tmp_path: Path, kind: type) -> None:
        """The values inside of its loop too."""
        keras.utils.set_random_seed(1)
        source = keras.Input((7, 5), name="x")
        model = keras.Model(source, layers.Dense(3, name="last")(kind(6)(source)))
        (data,) = data_for(model, np.random.default_rng(0), 32)
        path = export.to_tflite(model, tmp_path / "m.tflite", representative_data=data)
        (file,) = in_litert(path.read_bytes(), {"x": data}, "reference")
        expected = model.predict(data, verbose=0)
        assert np.abs(file - expected).max() < 0.08 * np.abs(expected).max()

    def test_a_plain_model_needs_data(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="representative_data"):
            export.to_tflite(squeeze_and_excitation(), tmp_path / "m.tflite")
        with pytest.raises(ValueError, match="at least one input"):
            export.to_tflite(
                squeeze_and_excitation(), tmp_path / "m.tflite", representative_data=[]
            )

    def test_a_model_that_has_seen_no_batch_is_refused(self) -> None:
        with pytest.raises(ValueError, match="seen no batch"):
            lower(ec2t_tf.apply(squeeze_and_excitation(), verbose=0))
