"""Where TensorFlow's oneDNN kernels train wrongly: strided 1x1 convolutions of few channels.

On x86 processors with AVX2 and nothing newer the gradient of such a kernel is wrong by its own
size, and where the process has one processor its memory is overwritten (TensorFlow 2.21; forward
passes and other convolutions are right). TensorFlow leaves oneDNN off on these processors unless
TF_ENABLE_ONEDNN_OPTS is set to 1.
"""

from __future__ import annotations

import os
import platform
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from ec2t_tf import doors

FEWEST = 8  # input channels from which on the gradient is right


def wrong_gradients(model: Any) -> list[str]:
    """Names of the convolutions of a model whose kernels would get wrong gradients here."""
    if doors.is_keras_3(model):
        import keras

        if keras.backend.backend() != "tensorflow":
            return []
    if not (_is_on() and _is_affected()):
        return []
    return [layer.name for layer in model._flatten_layers() if _is_strided_1x1_of_few(layer)]


def require_right_gradients(model: Any) -> None:
    """Raise ValueError if training `model` in this process would go wrong."""
    if names := wrong_gradients(model):
        raise ValueError(_message(names))


def warn_of_wrong_gradients(model: Any, *, stacklevel: int) -> None:
    if names := wrong_gradients(model):
        warnings.warn(_message(names), stacklevel=stacklevel + 1)


def _message(names: list[str]) -> str:
    return (
        "TensorFlow's oneDNN kernels give wrong gradients on this processor (AVX2, no AVX-512) to "
        f"1x1 convolutions with strides that read fewer than {FEWEST} channels. Received: "
        f"{', '.join(map(repr, names))}, and TF_ENABLE_ONEDNN_OPTS=1. Set TF_ENABLE_ONEDNN_OPTS=0 "
        f"before Python starts, which trains slower and right, or give them {FEWEST} channels."
    )


def _is_strided_1x1_of_few(layer: Any) -> bool:
    if "Conv2D" not in {one.__name__ for one in type(layer).__mro__}:
        return False
    size, strides = tuple(layer.kernel_size), tuple(layer.strides)
    return size == (1, 1) and max(strides) > 1 and layer.kernel.shape[-2] < FEWEST


def _is_on() -> bool:
    return os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower() in ("1", "true")


@cache
def _is_affected() -> bool:
    """Of the processor; False where its features cannot be read."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    features = next((x.split() for x in text.splitlines() if x.startswith("flags")), [])
    return "avx2" in features and "avx512f" not in features
