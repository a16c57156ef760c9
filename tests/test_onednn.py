"""Gradients of strided 1x1 convolutions, which TensorFlow's oneDNN computes wrongly on x86."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import ec2t_tf
from ec2t_tf import onednn
from ec2t_tf.train import zoo


@pytest.fixture
def affected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    processor(monkeypatch, "avx2")


def processor(monkeypatch: pytest.MonkeyPatch, *features: str) -> None:
    monkeypatch.setattr(onednn, "_features", lambda: frozenset(features))


def net(library=keras, **options):
    source = library.Input((8, 8, 4))
    x = library.layers.Conv2D(6, 3, activation="relu", name="first")(source)
    x = library.layers.Conv2D(8, 1, name="shortcut", **options)(x)
    x = library.layers.GlobalAveragePooling2D()(x)
    return library.Model(source, library.layers.Dense(2, name="last")(x))


@pytest.mark.usefixtures("affected")
@pytest.mark.parametrize("library", [keras, tf_keras])
def test_apply_warns(library) -> None:
    with pytest.warns(UserWarning, match=r"Received: '[^,]*shortcut'\. Set TF_ENABLE"):
        ec2t_tf.apply(net(library, strides=(1, 2)), verbose=0)


class Own(keras.layers.Layer):
    """A layer of a user's that convolves by a kernel of its own."""

    def build(self, shape):
        self.kernel = self.add_weight((1, 1, shape[-1], 8), "glorot_uniform", name="kernel")

    def call(self, x):
        return keras.ops.conv(x, self.kernel, strides=2, padding="valid")


@pytest.mark.usefixtures("affected")
def test_apply_warns_of_what_a_layer_of_ones_own_computes() -> None:
    source = keras.Input((8, 8, 4))
    x = Own(name="own")(keras.layers.Conv2D(6, 3, activation="relu")(source))
    model = keras.Model(source, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    with pytest.warns(UserWarning, match=r"Received: 'own[^,]*'\. Set TF_ENABLE_ONEDNN_OPTS=0"):
        ec2t_tf.apply(model, verbose=0)


@pytest.mark.usefixtures("affected")
def test_others_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    source = keras.Input((8, 8, 8))
    eight = keras.layers.Conv2D(4, 1, 2)(source)
    assert not onednn.wrong_gradients(keras.Model(source, eight))
    assert not onednn.wrong_gradients(net())
    for kind in (keras.layers.Conv2D, keras.layers.Conv2DTranspose):
        few = keras.Model(source, kind(4, (1, 1), 2, name="few")(source))
        assert onednn.wrong_gradients(few) == ([] if kind is keras.layers.Conv2D else ["few"])
    assert onednn.wrong_gradients(net(strides=2)) == ["shortcut"]
    assert onednn.wrong_gradients(keras.Sequential([net(strides=2)])) == ["shortcut"]
    for value in ("0", "false", ""):
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", value)
        assert not onednn.wrong_gradients(net(strides=2))


@pytest.mark.parametrize(
    ("features", "said", "fewest"),
    [
        ((), "1", 0),
        (("avx2",), None, 0),
        (("avx2", "avx_vnni"), None, 8),
        (("avx2", "avx512bw"), "1", 16),
        (("avx2", "avx512bw"), None, 0),
        (("avx2", "avx512bw", "avx512_vnni"), None, 16),
        (("avx2", "avx512bw", "avx512_vnni"), "0", 0),
    ],
)
def test_processors(features, said, fewest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many channels as the processor takes at once, where TensorFlow has the kernels on."""
    processor(monkeypatch, *features)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if said:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", said)
    for channels in (1, 7, 8, 15, 16):
        model = keras.Sequential([keras.Input((4, 4, channels)), keras.layers.Conv2D(2, 1, 2)])
        assert bool(onednn.wrong_gradients(model)) == (channels < fewest), channels


@pytest.mark.parametrize("size", [(12, 12), (8, 8), (7, 9), (32, 32)])
@pytest.mark.parametrize("strides", [2, (1, 2), (3, 3)])
@pytest.mark.parametrize("channels", [3, 4, 7, 8, 12, 16, 20])
def test_gradients_of_what_is_not_named_are_right(channels, strides, size) -> None:
    """On this processor, against a sum in float64."""
    random = np.random.default_rng(0)
    x = random.normal(size=(32, *size, channels)).astype(np.float32)
    layer = keras.layers.Conv2D(8, 1, strides)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    if onednn.wrong_gradients(model):
        pytest.skip("TensorFlow computes a wrong one here, and apply says so")
    down, right = layer.strides
    weights = random.normal(size=model.output_shape[1:])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x) * weights)
    found = np.asarray(tape.gradient(loss, layer.kernel.value))[0, 0]
    wanted = np.einsum("nhwi,hwo->io", x[:, ::down, ::right].astype(float), weights)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("channels", [3, 7, 8, 12, 16])
def test_gradients_of_transposed_convolutions(channels: int) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(32, 12, 12, 8)).astype(np.float32)
    layer = keras.layers.Conv2DTranspose(channels, 1, 2)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    if onednn.wrong_gradients(model):
        pytest.skip("TensorFlow computes a wrong one here, and apply says so")
    weights = random.normal(size=model.output_shape[1:])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x) * weights)
    found = np.asarray(tape.gradient(loss, layer.kernel.value))[0, 0]
    wanted = np.einsum("hwo,nhwi->oi", weights[::2, ::2], x.astype(float))
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.few(4)
@pytest.mark.parametrize("name", zoo.MODELS)
def test_nets_of_the_zoo(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that the script trains with oneDNN, none has such a layer on any processor."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    processor(monkeypatch, "avx2", "avx512bw")
    rank = zoo.INPUT_RANKS.get(name, (3,))[0]
    shape = {1: (64,), 2: (32, 3), 3: (64, 64, 3)}[rank]

    def named(**scaling: float) -> list[str]:
        return onednn.wrong_gradients(zoo.build(name, input_shape=shape, classes=64, **scaling))

    if name in zoo.NARROW_SHORTCUTS:
        assert not named()
        assert named(width=0.5)
    else:
        assert not (named() if name == "lenet5" else named(width=0.25))
