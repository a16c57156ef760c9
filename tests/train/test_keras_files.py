"""Published .h5 files of whole models as weights of the zoo's networks."""

from __future__ import annotations

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from ec2t_tf.train import zoo
from ec2t_tf.train.tasks.images import KNOWN_STATISTICS
from ec2t_tf.train.zoo import keras_files
from ec2t_tf.train.zoo.published import load_weights

RANDOM = np.random.default_rng(2)


def published(*, units: int = 5) -> keras.Model:
    """An autoencoder of the zoo's kind whose layers have biases, and other names."""
    x = inputs = layers.Input((6,))
    for size in (4, 4, 4, 4, 8, 4, 4, 4, 4):
        x = layers.Activation("relu")(layers.BatchNormalization()(layers.Dense(size)(x)))
    model = keras.Model(inputs, layers.Dense(units)(x))
    for weight in model.weights:
        weight.assign(RANDOM.uniform(0.2, 1.2, weight.shape))
    return model


def test_a_bias_without_a_place_moves_into_the_normalisation(tmp_path: Path) -> None:
    source = published(units=6)
    source.save(tmp_path / "whole.h5")
    model = zoo.MODELS["autoencoder"](input_shape=(6,), classes=6, width=4 / 128)
    load_weights(model, tmp_path / "whole.h5")
    inputs = RANDOM.normal(size=(32, 6)).astype(np.float32)
    expected = source.predict(inputs, verbose=0)
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(model.predict(inputs, verbose=0), expected, rtol=1e-4, atol=1e-4)


def test_files_of_other_networks_are_refused_and_change_nothing(tmp_path: Path) -> None:
    published(units=5).save(tmp_path / "units.h5")
    model = zoo.MODELS["autoencoder"](input_shape=(6,), classes=6, width=4 / 128)
    before = [np.array(w) for w in model.get_weights()]
    with pytest.raises(ValueError, match=r"shapes .* for layer 'reproduced'"):
        load_weights(model, tmp_path / "units.h5")
    with pytest.raises(ValueError, match="none for 'conv1'"):
        load_weights(
            zoo.build("lenet5", input_shape=(28, 28, 1), classes=10), tmp_path / "units.h5"
        )
    more = keras.Sequential([layers.Input((6,)), *(layers.Dense(6) for _ in range(2))])
    more.save(tmp_path / "more.h5")
    with pytest.raises(ValueError, match="holds more layers"):
        load_weights(keras.Sequential([layers.Input((6,)), layers.Dense(6)]), tmp_path / "more.h5")
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("config", ["{", "[]", '{"config": {"layers": [{"class_name": 3}]}}'])
def test_damaged_files_are_refused_by_name(tmp_path: Path, config: str) -> None:
    published().save(tmp_path / "whole.h5")
    with h5py.File(tmp_path / "whole.h5", "r+") as file:
        file.attrs["model_config"] = config
    model = keras.Sequential([layers.Input((6,)), layers.Dense(6)])
    with pytest.raises(ValueError, match="whole model that Keras wrote"):
        load_weights(model, tmp_path / "whole.h5")


def test_pixels_and_normalised_images_give_the_same_inside_the_border(tmp_path: Path) -> None:
    def net() -> keras.Model:
        return keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(4, 3, padding="same")])

    source, model = net(), net()
    source.save(tmp_path / "whole.h5")
    mean, std = map(np.array, KNOWN_STATISTICS["cifar10"])
    keras_files.load(model, tmp_path / "whole.h5", mean=mean, std=std)
    pixels = RANDOM.integers(0, 256, (4, 8, 8, 3)).astype(np.float32)
    found = model.predict((pixels / 255 - mean) / std, verbose=0)
    expected = source.predict(pixels, verbose=0)
    np.testing.assert_allclose(
        found[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-2 + 1e-5 * np.ptp(expected)
    )
    assert np.abs(found - expected).max() > 1  # zeros around it are the mean, no longer black


@pytest.mark.parametrize(
    ("file", "name", "shape", "classes"),
    [
        ("mlperf_tiny_resnet8.h5", "resnet8", (32, 32, 3), 10),
        ("mlperf_tiny_vww_96.h5", "mobilenet", (96, 96, 3), 2),
        ("mlperf_tiny_ad01.h5", "autoencoder", (640,), 640),
    ],
)
def test_mlperf_tiny(
    shared: Path, file: str, name: str, shape: tuple[int, ...], classes: int
) -> None:
    import tf_keras

    source = tf_keras.models.load_model(shared / "models" / file, compile=False)
    model = zoo.build(name, input_shape=shape, classes=classes)
    load_weights(model, shared / "models" / file)
    inputs = RANDOM.uniform(0, 255 if name == "resnet8" else 1, (16, *shape)).astype(np.float32)
    expected, found = source.predict(inputs, verbose=0), model.predict(inputs, verbose=0)
    if name != "autoencoder":
        found = np.asarray(keras.ops.softmax(found))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_command(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "start.weights.h5"
    file = str(shared / "models" / "mlperf_tiny_resnet8.h5")
    arguments = ["program", file, str(out), "--model=resnet8", "--statistics=cifar10_jpeg"]
    assert keras_files.command(arguments) == 0
    assert "78,666 parameters" in capsys.readouterr().out
    model = zoo.build("resnet8", input_shape=(32, 32, 3), classes=10)
    load_weights(model, out)
    with h5py.File(file) as whole:
        first = whole["model_weights"]["conv2d"]["conv2d"]["kernel:0"][()]
    kernel = keras.ops.convert_to_numpy(model.get_layer("conv1").kernel)
    np.testing.assert_allclose(kernel[..., 0, :], first[..., 0, :] * 63.0, rtol=1e-5)
    assert keras_files.command(["program", file, "start.npz", "--model=resnet8"]) != 0
    assert ".weights.h5" in capsys.readouterr().err
