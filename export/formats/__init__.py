"""The layer blob: a self-describing, versioned file format for one ternary layer (FORMAT.md)."""

from ec2t_tf.export.graph.multipliers import quantised_multiplier as quantize_multiplier

from .blob import pack, unpack
from .choose import Choice, choose_encoding
from .compact import Ends, ends_of, fits_compact, is_compact, pack_compact, unpack_compact
from .encodings import BlobError, Encoding
from .header import stream_size
from .layer import FixedPoint, Layer, Operator, Scales
from .ternary import TernaryCodes, first_order_entropy_bytes, ternary_codes

__all__ = [
    "BlobError",
    "Choice",
    "Encoding",
    "Ends",
    "FixedPoint",
    "Layer",
    "Operator",
    "Scales",
    "TernaryCodes",
    "choose_encoding",
    "ends_of",
    "first_order_entropy_bytes",
    "fits_compact",
    "is_compact",
    "pack",
    "pack_compact",
    "quantize_multiplier",
    "stream_size",
    "ternary_codes",
    "unpack",
    "unpack_compact",
]
