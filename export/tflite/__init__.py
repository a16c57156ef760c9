"""`.tflite` files as graphs and back: the only room that knows flatbuffers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from .reader import read
from .writer import write

__all__ = ["read", "write"]

_FORMER = ("align_to_int4", "download", "int4", "packed", "sparse", "unpack")


def __getattr__(name: str) -> Callable[..., bytes]:
    """The writers of other formats that were here: bytes to bytes."""
    if name not in _FORMER:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from .. import file_formats

    new = "unpack" if name == "unpack" else "rewrite"
    warnings.warn(
        f"{__name__}.{name} is now ec2t_tf.export.{new}; the old name goes with the next release.",
        DeprecationWarning,
        stacklevel=2,
    )
    if name == "unpack":
        return file_formats.unpack
    form = "int8_on_int4_levels" if name == "align_to_int4" else name

    def rewritten(int8_file: bytes, **options: Any) -> bytes:
        return file_formats.rewrite(int8_file, format=form, **options).content

    return rewritten
