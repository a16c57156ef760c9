"""A file that was read and written again computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from ec2t_tf.export.tflite import read, write

FILES = [
    "mlperf_tiny_resnet8_int8.tflite",
    "mlperf_tiny_ad01_int8.tflite",
    "mlperf_tiny_vww_96_int8.tflite",
    "mlperf_tiny_kws_ref_model.tflite",
    "mlperf_tiny_str_ww_ref_model.tflite",
    "real/tinyengine__vww.tflite",
    "real/mltk__image_example1.tflite",
]


def outputs(content: bytes, seed: int) -> list[np.ndarray]:
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    rng = np.random.default_rng(seed)
    for detail in interpreter.get_input_details():
        limits = (0, 256) if detail["dtype"] == np.uint8 else (-128, 128)
        values = rng.integers(*limits, detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


@pytest.mark.parametrize("file", FILES)
def test_written_back_it_computes_the_same(shared: Path, file: str) -> None:
    content = (shared / "models" / file).read_bytes()
    again = write(read(content))
    assert len(again) <= len(content)
    for seed in range(2):
        for one, other in zip(outputs(content, seed), outputs(again, seed), strict=True):
            np.testing.assert_array_equal(one, other)
