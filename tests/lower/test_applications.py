"""The nets of keras.applications: their files are exact in both roundings on 64 inputs.

Their weights are random (nothing is fetched), their normalisations follow two batches of noise, so
that outputs differ from input to input as after a training.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tf_keras

import ec2t_tf
from ec2t_tf.export.lower import graph_of, lower

from .nets import differences

INPUTS = 64
# Name -> pixels on a side.
NETS = {
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "EfficientNetB0": 64,
    "ResNet50": 48,
    "DenseNet121": 48,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_zero_steps_on_64_inputs(name: str) -> None:
    keras.utils.set_random_seed(1)
    size = NETS[name]
    options = {"classes": 10, "classifier_activation": None}
    source = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), **options)
    made = ec2t_tf.apply(source, verbose=0)
    assert not made.ec2t_report.of("float")
    random = np.random.default_rng(0)
    # Smooth images: of noise all look alike.
    coarse = random.uniform(0, 255, (INPUTS, 4, 4, 3)).astype(np.float32)
    x = keras.ops.convert_to_numpy(keras.ops.image.resize(coarse, (size, size)))
    for _ in range(2):
        made(x[:32], training=True)
    graph = lower(made)
    kinds = {t.dtype for t in graph.tensors}
    assert kinds <= {"int8", "int32", "float32"}
    assert sum(t.dtype == "float32" for t in graph.tensors) == 2  # input and output
    given = {made.inputs[0].name: x}
    expected = keras.ops.convert_to_numpy(made(x, training=False))
    assert len(np.unique(np.round(expected, 4), axis=0)) > INPUTS // 2
    for rounding, (exact, from_keras) in differences(made, given, graph=graph).items():
        print(
            f"{name}, {rounding}: {exact:.0f} steps from the integers, {from_keras:.0f} from Keras"
        )
        assert exact == 0, rounding


# Name -> what opens it.
SHARED = {
    "mlperf_tiny_ad01.h5": keras,
    "mlperf_tiny_resnet8.h5": keras,
    "real/mltk__image_example1.h5": keras,
    "real/st__miniresnet_1_stacks_backbone.h5": keras,
    "mlperf_tiny_vww_96.h5": tf_keras,
    "mlperf_tiny_str_ww_ref_model.h5": tf_keras,
    "real/st__yamnet_256_f32.h5": tf_keras,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`")  # of old files
@pytest.mark.parametrize("name", SHARED)
def test_trained_nets_of_others(shared: Path, name: str) -> None:
    source = SHARED[name].models.load_model(shared / "models" / name, compile=False)
    keras.utils.set_random_seed(1)
    made = ec2t_tf.apply(source, verbose=0)
    assert not made.ec2t_report.of("float")
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (INPUTS, *source.inputs[0].shape[1:])).astype(np.float32)
    made(keras.tree.pack_sequence_as(made.input, [x]), training=True)
    graph = graph_of(made)
    for rounding, (exact, from_keras) in differences(
        made, {graph.tensors[graph.inputs[0]].name: x}, graph=graph
    ).items():
        print(
            f"{name}, {rounding}: {exact:.0f} steps from the integers, {from_keras:.0f} from Keras"
        )
        assert exact == 0, rounding
