"""Our quantize config in tfmot's own hands, and models that come from tfmot's other techniques."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

import ec2t_tf
from ec2t_tf.tfmot import TernaryQuantizeConfig, finish
from ec2t_tf.tfmot.quantize_config import ternary_layers
from tests import models


def annotated(method: object) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(0)
    annotate = tfmot.quantization.keras.quantize_annotate_layer
    return tf_keras.Sequential(
        [
            layers.InputLayer(models.IMAGE),
            layers.Conv2D(4, 3, activation="relu", name="first"),
            annotate(layers.Conv2D(6, 3, activation="relu"), TernaryQuantizeConfig(method)),
            layers.Flatten(),
            annotate(layers.Dense(6, activation="relu"), TernaryQuantizeConfig(method)),
            layers.Dense(models.CLASSES, name="last"),
        ]
    )


@pytest.mark.parametrize(
    "method", ["ec2t", ec2t_tf.methods.EC2T(target_sparsity=0.7)], ids=["ec2t", "target"]
)
def test_quantize_apply(method: object) -> None:
    with tfmot.quantization.keras.quantize_scope():
        model = tfmot.quantization.keras.quantize_apply(annotated(method))
    finish(model)
    conv, dense = ternary_layers(model)
    sizes = np.array([3 * 3 * 4 * 6, 4 * 4 * 6 * 6])
    assert [x.quantizer.relative_size for x in (conv, dense)] == list(sizes / sizes.max())
    models.trained(model)
    for layer in (conv, dense):
        assert set(np.unique(layer.assign().codes)) == {-1, 0, 1}
    if method != "ec2t":
        zeros = sum(np.sum(x.assign().codes == 0) for x in (conv, dense)) / sizes.sum()
        assert zeros == pytest.approx(0.7, abs=0.02)


def test_what_has_no_kernel_is_refused() -> None:
    config = TernaryQuantizeConfig("ec2t")
    with pytest.raises(ValueError, match=r"Received: 'pool', a MaxPooling2D\. Give another"):
        config.get_weights_and_quantizers(layers.MaxPooling2D(name="pool"))
    with pytest.raises(ValueError, match="finish requires a model with ternary layers"):
        finish(models.sequential())


def test_pruned_models_are_stripped_first() -> None:
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, begin_step=0, frequency=1)
    pruned = tfmot.sparsity.keras.prune_low_magnitude(models.sequential(), schedule)
    with pytest.raises(ValueError, match=r"PruneLowMagnitude wrapper.*strip_pruning\(model\)"):
        ec2t_tf.apply(pruned)
    models.compiled(pruned)
    images, labels = models.examples()
    step = tfmot.sparsity.keras.UpdatePruningStep()
    pruned.fit(images, labels, epochs=2, verbose=0, callbacks=[step])
    plain = tfmot.sparsity.keras.strip_pruning(pruned)
    trained = ec2t_tf.apply(plain, verbose=0)
    (hidden,) = ternary_layers(trained)
    latent = hidden.latent.numpy()
    assert np.mean(latent == 0) == pytest.approx(0.5, abs=0.01)
    assert (hidden.assign().codes[latent == 0] == 0).all()


def test_another_backend_is_refused() -> None:
    pytest.importorskip("jax")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os; os.environ['KERAS_BACKEND'] = 'jax'; import ec2t_tf.tfmot",
        ],
        capture_output=True,
        text=True,
    )
    assert "requires TensorFlow as the backend of Keras 3" in done.stderr
