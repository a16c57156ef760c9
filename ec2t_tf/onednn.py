"""Where TensorFlow's oneDNN kernels train wrongly: strided 1x1 convolutions of few channels.

On x86 their gradient uses a workspace that is too small (oneDNN issue 6035, open; TensorFlow 2.21):
it is wrong by its own size, and where the process has one processor its memory is overwritten.
Forward passes and other convolutions are right. So it is with fewer input channels (of a transposed
one: output channels) than oneDNN takes at once: 8 with AVX2 (measured: `tests/test_onednn.py`), 16
with AVX-512 (by the issue).
TensorFlow turns these kernels on by itself where a processor has VNNI, bfloat16 or AMX.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from ec2t_tf import doors

DEFAULT_ON = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}


def wrong_gradients(model: Any) -> list[str]:
    """Names of the convolutions of a model whose kernels would get wrong gradients here."""
    if doors.is_keras_3(model):
        import keras

        if keras.backend.backend() != "tensorflow":
            return []
    features = _features()
    if not _is_on(features):
        return []
    fewest = _channels_at_once(features)
    return [x.name for x in model._flatten_layers() if 0 < _strided_1x1_channels(x) < fewest]


def require_right_gradients(model: Any) -> None:
    """Raise ValueError if training `model` in this process would go wrong."""
    if names := wrong_gradients(model):
        raise ValueError(_message(names))


def warn_of_wrong_gradients(model: Any, *, stacklevel: int) -> None:
    if names := wrong_gradients(model):
        warnings.warn(_message(names), stacklevel=stacklevel + 1)


def _message(names: list[str]) -> str:
    fewest = _channels_at_once(_features())
    return (
        "TensorFlow's oneDNN kernels give wrong gradients on this processor to 1x1 convolutions "
        f"with strides that read (transposed: give) fewer than {fewest} channels. Received: "
        f"{', '.join(map(repr, names))}. Set TF_ENABLE_ONEDNN_OPTS=0 before Python starts, which "
        f"trains slower and right, or give them {fewest} channels."
    )


def _strided_1x1_channels(layer: Any) -> int:
    """How many channels a strided 1x1 convolution reads, or a transposed one gives; 0: another."""
    if not {"Conv2D", "Conv2DTranspose"} & {one.__name__ for one in type(layer).__mro__}:
        return 0
    if any(size != 1 for size in layer.kernel_size) or max(layer.strides) == 1:
        return 0
    return int(layer.kernel.shape[-2])


def _is_on(features: frozenset[str]) -> bool:
    said = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower()
    return said in ("1", "true") if said else bool(features & DEFAULT_ON)


def _channels_at_once(features: frozenset[str]) -> int:
    if "avx512bw" in features:
        return 16
    return 8 if "avx2" in features else 0


@cache
def _features() -> frozenset[str]:
    """Of an x86 processor, as Linux names them; none where they cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").split())
