"""The 80 bytes in front of a blob (FORMAT.md, version 1): read, checked, written."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from . import encodings
from .encodings import BlobError, Encoding
from .layer import LARGEST_CHANNELS, LARGEST_EXTENT, LARGEST_TAPS, Operator, most_weights

MAGIC = b"EC2T"
VERSION = 1
_FIELDS = struct.Struct("<4sHBBIIII6H H4H H I 4b 2b BB II ff I")
HEADER_SIZE = _FIELDS.size
HAS_BIAS, CHANNEL_VALUES, SIGN_FLIPS, LAYER_REQUANTISATION = 1, 2, 4, 8


class Header(NamedTuple):
    """The 80 bytes in front, field by field as in FORMAT.md."""

    magic: bytes
    version: int
    operator: int
    encoding: int
    blob_size: int
    checksum: int
    output_channels: int
    input_channels: int
    kernel_height: int
    kernel_width: int
    stride_vertical: int
    stride_horizontal: int
    dilation_vertical: int
    dilation_horizontal: int
    padding: int
    pad_top: int
    pad_bottom: int
    pad_left: int
    pad_right: int
    flags: int
    groups: int
    input_zero_point: int
    output_zero_point: int
    output_smallest: int
    output_largest: int
    value_plus: int
    value_minus: int
    fixed_point: int
    parameter: int
    nonzeros: int
    stream_size: int
    input_scale: float
    output_scale: float
    reserved: int


def damaged(condition: bool, what: str) -> None:
    if not condition:
        raise BlobError(f"{what} of the blob is not allowed. The file is damaged: export it again.")


def stream_size(blob: bytes) -> int:
    """Bytes of the weight stream alone, as the header states them."""
    return read_header(blob).stream_size


def read_header(blob: bytes) -> Header:
    if len(blob) < HEADER_SIZE or blob[:4] != MAGIC:
        raise BlobError(
            f"a layer blob starts with {MAGIC!r} and has at least {HEADER_SIZE} bytes. "
            f"Received: {len(blob)} bytes starting with {bytes(blob[:4])!r}. "
            'Only files written by ec2t_tf with format="packed" or "download" hold blobs.'
        )
    header = Header._make(_FIELDS.unpack(blob[:HEADER_SIZE]))
    if header.version != VERSION:
        raise BlobError(
            f"this version of ec2t_tf reads blobs of version {VERSION}. "
            f"Received: version {header.version}. Install the matching ec2t_tf or export again."
        )
    if header.blob_size != len(blob):
        raise BlobError(
            f"the header says that the blob has {header.blob_size} bytes. "
            f"Received: {len(blob)} bytes. Fetch or export the file again."
        )
    if zlib.crc32(blob[16:]) != header.checksum:
        raise BlobError("the checksum of the blob is wrong. Fetch or export the file again.")
    return header


def check_header(header: Header) -> None:
    """The table of FORMAT.md, before anything is allocated."""
    damaged(header.operator in set(Operator), f"operator {header.operator}")
    damaged(header.encoding in set(Encoding), f"encoding {header.encoding}")
    is_int8 = header.encoding == Encoding.INT8
    damaged(header.flags < 16 and header.flags & 6 != 6, "a flag")
    damaged(not is_int8 or not header.flags & 6, "a flag of an int8 stream")
    damaged(header.padding <= 2 and header.fixed_point <= 1, "padding or requantisation")
    pads = (header.pad_top, header.pad_bottom, header.pad_left, header.pad_right)
    damaged(header.reserved == 0 and (header.padding == 2 or not any(pads)), "an unused field")
    channels, inputs, groups = header.output_channels, header.input_channels, header.groups
    extents = header[8:14]
    damaged(
        1 <= channels <= LARGEST_CHANNELS
        and 1 <= inputs <= LARGEST_CHANNELS
        and groups >= 1
        and inputs % groups == 0
        and channels % groups == 0
        and all(1 <= extent <= LARGEST_EXTENT for extent in extents),
        "the geometry",
    )
    taps = header.kernel_height * header.kernel_width * (inputs // groups)
    damaged(
        taps <= LARGEST_TAPS and taps * channels <= most_weights(header.blob_size),
        "the number of weights",
    )
    damaged(header.nonzeros <= taps * channels, "the number of non-zero weights")
    is_rice = header.encoding == Encoding.RICE
    damaged(
        header.parameter <= (encodings.LARGEST_RICE_PARAMETER if is_rice else 0),
        "the stream parameter",
    )
    damaged(
        (not is_int8 and not header.flags & CHANNEL_VALUES)
        or (header.value_plus == 0 and header.value_minus == 0),
        "a value in the header",
    )
    damaged(min(header.value_plus, header.value_minus) >= -127, "a value in the header")


def with_header(header: Header, body: bytes) -> bytes:
    """The blob of a header, its checksum filled in, and what stands behind it."""
    checksum = zlib.crc32(_FIELDS.pack(*header)[16:] + body)
    return _FIELDS.pack(*header._replace(checksum=checksum)) + body
