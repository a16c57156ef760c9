"""The layer blob: a self-describing, versioned file format for one ternary layer (FORMAT.md)."""

from ec2t_tf.export.graph.multipliers import quantised_multiplier as quantize_multiplier

from .blob import pack, unpack
from .choose import Choice, choose_encoding
from .encodings import BlobError, Encoding
from .header import stream_size
from .layer import FixedPoint, Layer, Operator, Scales
from .ternary import TernaryCodes, first_order_entropy_bytes, ternary_codes

__all__ = [
    "BlobError",
    "Choice",
    "Encoding",
    "FixedPoint",
    "Layer",
    "Operator",
    "Scales",
    "TernaryCodes",
    "choose_encoding",
    "first_order_entropy_bytes",
    "pack",
    "quantize_multiplier",
    "stream_size",
    "ternary_codes",
    "unpack",
]
