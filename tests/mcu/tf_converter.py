"""TensorFlow's converter, which the package itself does without."""

from __future__ import annotations

from typing import Any

import numpy as np


def convert(net: Any, *, words: int = 0) -> bytes:
    """An int8 .tflite file of a Keras model with a free batch; `words`: its input is whole numbers
    below that."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    shape = (1, *net.inputs[0].shape[1:])

    def samples() -> Any:
        for _ in range(8):
            if words:
                yield [random.integers(0, words, shape).astype(np.int32)]
            else:
                yield [random.normal(0, 1, shape).astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8  # but of words
    return bytes(converter.convert())
