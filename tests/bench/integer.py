"""What the net in integers costs beside its float forward pass.

`python -m tests.bench.integer MODEL.tflite MODEL.h5 [--images=256]` prints processor seconds:
LiteRT, NumPy, and the Keras model on the backend in KERAS_BACKEND beside the float one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from ai_edge_litert import interpreter as litert

from ec2t_tf.export import tflite
from ec2t_tf.export.integer import Interpreter, keras_model


def seconds(function: Callable[[], Any]) -> float:
    """Processor time, the best of three, after one that compiles."""
    function()
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("keras_file")
    parser.add_argument("--images", type=int, default=256)
    options = parser.parse_args()
    graph = tflite.read(options.file)
    entry = graph.tensors[graph.inputs[0]]
    shape = (options.images, *entry.shape[1:])
    codes = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    images = (codes.astype(np.float32) - entry.zero_point[0].astype(np.float32)) * entry.scale[0]

    runtime: Any = litert.Interpreter(model_path=options.file, num_threads=1)
    runtime.resize_tensor_input(runtime.get_input_details()[0]["index"], shape)
    runtime.allocate_tensors()

    def invoke() -> None:
        runtime.set_tensor(runtime.get_input_details()[0]["index"], codes)
        runtime.invoke()

    rows = {"LiteRT, one thread": seconds(invoke)}
    floats = keras.saving.load_model(options.keras_file, compile=False)
    size = min(options.images, 128)
    name = f"Keras, {keras.backend.backend()}"
    rows[f"{name}: float"] = seconds(lambda: floats.predict(images, batch_size=size, verbose=0))
    for rounding in ("reference", "xnnpack"):
        net = Interpreter(graph, rounding=rounding)
        rows[f"NumPy: {rounding}"] = seconds(lambda net=net: net(codes))  # type: ignore[misc]
        model = keras_model(graph, rounding=rounding)
        rows[f"{name}: {rounding}"] = seconds(
            lambda model=model: model.predict(images, batch_size=size, verbose=0)  # type: ignore[misc]
        )
    for row, value in rows.items():
        print(f"{row:32s}{value:8.3f} s of the processor for {options.images} images")


if __name__ == "__main__":
    main()
