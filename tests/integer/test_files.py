"""Public integer files in exact integers against LiteRT: inputs from their own input codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export import tflite
from ec2t_tf.export.graph import Graph
from ec2t_tf.export.integer import ROUNDINGS, Interpreter
from ec2t_tf.export.mcu.operators.embedding import embedding_rows

from .runtimes import compute, run

FILES = [
    "mlperf_tiny_ad01_int8.tflite",
    "mlperf_tiny_kws_ref_model.tflite",
    "mlperf_tiny_resnet8_int8.tflite",
    "mlperf_tiny_str_ww_ref_model.tflite",
    "mlperf_tiny_vww_96_int8.tflite",
    "real/arduino__magic_wand.tflite",
    "real/eiq-model-zoo__yolo_face_detect.tflite",
    "real/mltk__anomaly_detection.tflite",
    "real/mltk__fingerprint_signature_generator.tflite",
    "real/mltk__image_example1.tflite",
    "real/tflm__hello_world_int8.tflite",
    "real/tflm__micro_speech_quantized.tflite",
    "real/tflm__simple_add_model.tflite",
    "real/tflm__trained_lstm_int8.tflite",
    "real/mww__v2_vad.tflite",
    "real/tinyengine__vww.tflite",
]
RUNTIMES = ("reference", "xnnpack", "builtin")


def input_codes(graph: Graph, rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Every code of every input equally often; a float input takes the values of the codes that
    its QUANTIZE makes of it, whole numbers for an embedding fit its table."""
    found = []
    for index in graph.inputs:
        tensor = graph.tensors[index]
        shape = (count, *tensor.shape[1:])
        reader = next(o for o in graph.operators if index in o.inputs)
        codes = graph.tensors[reader.outputs[0]] if tensor.dtype == "float32" else tensor
        info = np.iinfo(codes.dtype)
        below = embedding_rows(graph, graph.operators, index)
        low, high = (0, below) if below else (int(info.min), int(info.max) + 1)
        values = rng.integers(low, high, shape)
        if tensor.dtype == "float32":
            values = (values - codes.zero_point[0]) * codes.scale[0]
        found.append(values.astype(tensor.dtype))
    return found


def differences(path: Path, rounding: str, rng: np.random.Generator, count: int) -> list[int]:
    """How many values of each output differ."""
    content = path.read_bytes()
    graph = tflite.read(content)
    inputs = input_codes(graph, rng, count)
    found = compute(Interpreter(graph, rounding=rounding), inputs)
    wanted = run(content, rounding, inputs)
    return [
        int(np.count_nonzero(a.reshape(b.shape) != b)) for a, b in zip(found, wanted, strict=True)
    ]


@pytest.mark.parametrize("rounding", RUNTIMES)
@pytest.mark.parametrize("file", FILES)
def test_two_inputs(shared: Path, rng: np.random.Generator, file: str, rounding: str) -> None:
    assert not any(differences(shared / "models" / file, rounding, rng, 2))


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("file", FILES)
def test_64_inputs(shared: Path, rng: np.random.Generator, file: str, rounding: str) -> None:
    assert not any(differences(shared / "models" / file, rounding, rng, 64))
