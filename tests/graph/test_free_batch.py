"""What Keras 3 nets with a free batch become in TensorFlow's converter is read, and folded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ec2t_tf.export.graph import Graph
from ec2t_tf.export.tflite import read, write

from .test_round_trip import assert_same

# Run in a process of its own: it needs Keras 3 beside TensorFlow, which warn a great deal.
MAKER = """
import os, sys
os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", TF_USE_LEGACY_KERAS="0")
import keras, numpy as np, tensorflow as tf
from keras import layers as L

def image(*rest):
    x = i = keras.Input((8, 8, 3))
    for layer in rest:
        x = layer(x)
    return keras.Model(i, x)

def squeeze_and_excite():
    i = keras.Input((8, 8, 3))
    x = L.Conv2D(8, 3, padding="same")(i)
    s = L.Reshape((1, 1, 8))(L.GlobalAveragePooling2D()(x))
    s = L.Conv2D(8, 1, activation="sigmoid")(L.Conv2D(2, 1, activation="relu")(s))
    return keras.Model(i, L.Dense(3)(L.GlobalAveragePooling2D()(L.Multiply()([x, s]))))

def sequence():
    i = keras.Input((16, 3))
    return keras.Model(i, L.Dense(4)(L.Flatten()(L.Conv1D(4, 3, activation="relu")(i))))

NETS = {
    "flatten": lambda: image(L.Conv2D(4, 3), L.Flatten(), L.Dense(4)),
    "reshape": lambda: image(L.Conv2D(4, 3, padding="same"), L.Reshape((16, -1)), L.Dense(4)),
    "conv1d": sequence,
    "squeeze_and_excite": squeeze_and_excite,
    "transpose": lambda: image(L.Conv2D(4, 3), L.Conv2DTranspose(4, 3, 2, padding="same")),
    "pad": lambda: image(L.ZeroPadding2D(), L.SeparableConv2D(6, 3, 2, padding="same"),
                         L.GlobalMaxPooling2D()),
}

for name, make in NETS.items():
    keras.utils.set_random_seed(7)
    model = make()
    rng = np.random.default_rng(0)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    shape = (1, *model.inputs[0].shape[1:])
    converter.representative_dataset = lambda: (
        [rng.normal(size=shape).astype(np.float32)] for _ in range(8))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with open(os.path.join(sys.argv[1], name + ".tflite"), "wb") as file:
        file.write(converter.convert())
"""
NETS = ("flatten", "reshape", "conv1d", "squeeze_and_excite", "transpose", "pad")
FOLDED = {"SHAPE", "STRIDED_SLICE", "PACK", "GATHER"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("keras")
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("free_batch")
    done = subprocess.run(
        [sys.executable, "-c", MAKER, str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def kinds(graph: Graph) -> set[str]:
    return {operator.kind for operator in graph.operators}


@pytest.mark.slow
@pytest.mark.parametrize("net", NETS)
def test_the_batch_is_folded(folder: Path, net: str) -> None:
    content = (folder / f"{net}.tflite").read_bytes()
    graph = assert_same(content)
    assert not kinds(graph) & FOLDED, json.dumps(sorted(kinds(graph)))
    assert all(graph.tensors[index].shape[0] == 1 for index in (*graph.inputs, *graph.outputs))
    again = read(write(graph))
    assert [one.kind for one in again.operators] == [one.kind for one in graph.operators]


@pytest.mark.slow
def test_some_files_have_something_to_fold(folder: Path) -> None:
    """Else the test above shows nothing: the files name the operators that the graphs lack."""
    from ai_edge_litert import schema_py_generated as schema

    found = 0
    for net in NETS:
        root = schema.Model.GetRootAs((folder / f"{net}.tflite").read_bytes(), 0)
        codes = [root.OperatorCodes(i) for i in range(root.OperatorCodesLength())]
        builtin = {max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) for code in codes}
        found += schema.BuiltinOperator.SHAPE in builtin
    assert found >= 2
