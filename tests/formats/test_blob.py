"""Blobs: round trips, refusals, and the byte layout of FORMAT.md."""

from __future__ import annotations

import dataclasses
import re
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export.formats import (
    BlobError,
    Encoding,
    FixedPoint,
    Layer,
    Operator,
    Scales,
    choose_encoding,
    first_order_entropy_bytes,
    pack,
    quantize_multiplier,
    stream_size,
    ternary_codes,
    unpack,
)
from ec2t_tf.export.formats import encodings as streams

TERNARY = [encoding for encoding in Encoding if encoding is not Encoding.INT8]


def ternary_weights(
    shape: tuple[int, ...], zeros: float, seed: int, values: tuple[int, int] = (127, -85)
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    half = (1 - zeros) / 2
    return rng.choice([0, *values], p=[zeros, half, half], size=shape).astype(np.int8)


def make_layer(weights: np.ndarray, /, **changes: object) -> Layer:
    channels = len(weights)
    layer = Layer(
        operator=Operator.CONV_2D,
        weights=weights,
        requantisation=Scales(0.05, 0.1, np.linspace(0.001, 0.02, channels, dtype=np.float32)),
        bias=np.arange(channels, dtype=np.int32) - 3,
        input_zero_point=-5,
        output_zero_point=7,
        output_range=(-100, 101),
        padding="SAME",
    )
    return dataclasses.replace(layer, **changes)


def assert_same(layer: Layer, other: Layer) -> None:
    for field in dataclasses.fields(Layer):
        mine, theirs = getattr(layer, field.name), getattr(other, field.name)
        if isinstance(mine, (Scales, FixedPoint)):
            assert type(mine) is type(theirs)
            for part in dataclasses.fields(mine):
                a, b = getattr(mine, part.name), getattr(theirs, part.name)
                np.testing.assert_array_equal(np.float32(a), np.float32(b), err_msg=part.name)
        else:
            np.testing.assert_array_equal(mine, theirs, err_msg=field.name)


@pytest.mark.parametrize("encoding", Encoding, ids=lambda e: e.name.lower())
@pytest.mark.parametrize("zeros", [0, 0.5, 0.9, 0.99, 1])
@pytest.mark.parametrize("shape", [(7, 3, 3, 5), (1, 1, 1, 1), (4, 1, 1, 700), (33, 5, 2, 3)])
def test_round_trip(encoding: Encoding, zeros: float, shape: tuple[int, ...]) -> None:
    layer = make_layer(ternary_weights(shape, zeros, seed=len(shape) + shape[0]))
    assert_same(unpack(pack(layer, encoding=encoding)), layer)


@pytest.mark.parametrize(
    "changes",
    [
        {"bias": None},
        {"strides": (2, 3), "dilations": (4, 1), "padding": ((1, 2), (0, 4))},
        {"padding": "VALID", "requantisation": Scales(0.5, 2.0, np.float32([0.125]))},
        {
            "requantisation": FixedPoint(
                np.arange(8, dtype=np.int32) << 20, np.arange(-4, 4, dtype=np.int8)
            )
        },
        {"operator": Operator.DEPTHWISE_CONV_2D, "weights": ternary_weights((8, 3, 3, 1), 0.4, 3)},
        {"weights": ternary_weights((8, 3, 3, 2), 0.4, 3), "groups": 4},
    ],
    ids=["no bias", "geometry", "one scale", "fixed point", "depthwise", "groups"],
)
def test_every_field_comes_back(changes: dict[str, object]) -> None:
    layer = make_layer(ternary_weights((8, 3, 3, 4), 0.6, seed=1), **changes)
    if layer.operator is Operator.DEPTHWISE_CONV_2D:
        layer = dataclasses.replace(layer, groups=8)
    assert_same(unpack(pack(layer)), layer)


def test_flipped_channels_share_the_two_values() -> None:
    weights = ternary_weights((9, 3, 3, 4), 0.6, seed=2)
    weights[[1, 4]] *= -1
    weights[7] = 0
    codes = ternary_codes(weights)
    assert codes.layer_values == (127, -85)
    assert codes.flips.nonzero()[0].tolist() == [1, 4]
    assert_same(unpack(pack(make_layer(weights))), make_layer(weights))


def test_channels_with_their_own_values() -> None:
    weights = ternary_weights((3, 1, 1, 20), 0.3, seed=3)
    weights[1] = np.where(weights[1] > 0, 3, np.where(weights[1] < 0, -90, 0))
    assert ternary_codes(weights).layer_values is None
    assert_same(unpack(pack(make_layer(weights))), make_layer(weights))


def test_one_sided_channels() -> None:
    weights = np.zeros((4, 1, 1, 3), np.int8)
    weights[0, 0, 0, 0], weights[1, 0, 0, 1], weights[2, 0, 0, 2] = 127, -127, 127
    assert_same(unpack(pack(make_layer(weights))), make_layer(weights))


def test_layout_of_a_small_blob() -> None:
    """The bytes of FORMAT.md, written out by hand."""
    weights = np.array([[0, 5, 0, 0, -6, 0]], np.int8).reshape(1, 1, 2, 3)
    layer = Layer(
        operator=Operator.CONV_2D,
        weights=weights,
        requantisation=FixedPoint(np.array([0x12345678], np.int32), np.array([-3], np.int8)),
        bias=np.array([-2], np.int32),
        output_range=(-128, 127),
        padding=((1, 2), (3, 4)),
    )
    body = (
        b"\x01\x00\x00\x00\x03\x00\x00\x00\x01\x00\x02\x00\x01\x00\x01\x00\x01\x00\x01\x00"
        b"\x02\x00\x01\x00\x02\x00\x03\x00\x04\x00\x01\x00\x01\x00\x00\x00\x00\x00\x80\x7f"
        b"\x05\xfa\x01\x00\x02\x00\x00\x00\x04\x00\x00\x00" + bytes(12)
    )
    sections = b"\xfe\xff\xff\xff" + b"\x78\x56\x34\x12" + b"\xfd\x00\x00\x00"
    # Rice, parameter 0: gap 1 = "01", plus = "0"; gap 2 = "001", minus = "1"
    sections += struct.pack("<I", 0b0100011 << 25)
    head = b"EC2T\x01\x00\x01\x05" + struct.pack("<II", 96, zlib.crc32(body + sections))
    assert pack(layer) == head + body + sections


def test_five_trits_is_keras_layout() -> None:
    """keras.quantizers.pack_ternary: digit = value + 1, first of five least significant."""
    assert streams.encode_five_trits(np.array([1, 0, 0, 0, 0, -1], np.int8)) == bytes([122, 120])


def test_weights_that_are_not_ternary_are_refused_by_name() -> None:
    weights = np.array([[1, 0], [1, 2]], np.int8).reshape(2, 1, 1, 2)
    with pytest.raises(ValueError, match=r"output channel 1 with values \[1, 2\]"):
        pack(make_layer(weights))
    assert_same(unpack(pack(make_layer(weights), encoding="int8")), make_layer(weights))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.zeros((2, 3), np.int8)}, "weights are an int8 array"),
        ({"weights": np.full((2, 1, 1, 3), -128, np.int8)}, "-127 to 127"),
        ({"weights": np.zeros((1, 4, 4, 4096), np.int8)}, "at most 65535 weights"),
        ({"bias": np.zeros(2, np.int64)}, "bias is int32"),
        ({"strides": (0, 1)}, "strides"),
        ({"padding": "FULL"}, "padding is"),
        ({"padding": ((0, -1), (0, 0))}, "explicit padding"),
        ({"output_range": (3, 2)}, "output_range"),
        ({"input_zero_point": 128}, "zero points"),
        ({"groups": 3}, "groups divide"),
        ({"requantisation": Scales(0.1, 0.0, np.float32([1, 1]))}, "scales are finite"),
        ({"requantisation": Scales(0.1, 0.1, np.float32([1, np.nan]))}, "scales are finite"),
        ({"requantisation": Scales(0.1, 0.1, np.float32([1, 1, 1]))}, "weight scales"),
        (
            {"requantisation": FixedPoint(np.int32([-1, 0]), np.int8([0, 0]))},
            "multiplier is not negative",
        ),
        ({"operator": Operator.FULLY_CONNECTED}, "fully connected"),
        ({"operator": Operator.DEPTHWISE_CONV_2D}, "depthwise"),
    ],
)
def test_layers_no_blob_can_hold(changes: dict[str, object], message: str) -> None:
    layer = make_layer(ternary_weights((2, 3, 3, 4), 0.5, seed=1), **changes)
    with pytest.raises(ValueError, match=message):
        pack(layer)


def test_unknown_encoding() -> None:
    with pytest.raises(ValueError, match=r"Received: 'zip'"):
        pack(make_layer(ternary_weights((2, 3, 3, 4), 0.5, seed=1)), encoding="zip")


def with_checksum(blob: bytes) -> bytes:
    return blob[:12] + struct.pack("<I", zlib.crc32(blob[16:])) + blob[16:]


@pytest.mark.parametrize("encoding", Encoding, ids=lambda e: e.name.lower())
def test_hostile_blobs_raise_blob_error(encoding: Encoding) -> None:
    """Truncation and bit flips always; with a mended checksum, an error or a valid other layer."""
    blob = pack(make_layer(ternary_weights((5, 3, 3, 4), 0.7, seed=4)), encoding=encoding)
    for size in range(0, len(blob), 3):
        with pytest.raises(BlobError):
            unpack(blob[:size])
    seed = 20 + encoding
    print(f"replay with np.random.default_rng({seed})")
    rng = np.random.default_rng(seed)
    refused = 0
    for bit in rng.permutation(8 * len(blob))[:400]:
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BlobError):
            unpack(bytes(damaged))
        try:
            unpack(with_checksum(bytes(damaged)))
        except BlobError:
            refused += 1
    assert refused > 50


def claiming(blob: bytes, outputs: int, inputs: int) -> bytes:
    """`blob` with another geometry in its header, its checksum right."""
    return with_checksum(blob[:16] + struct.pack("<II", outputs, inputs) + blob[24:])


@pytest.mark.parametrize("encoding", TERNARY, ids=lambda e: e.name.lower())
@pytest.mark.parametrize(("outputs", "inputs"), [(1 << 20, 256), (4096, 1024), (4, 65000)])
def test_few_bytes_do_not_claim_many_weights(encoding: Encoding, outputs: int, inputs: int) -> None:
    """84 bytes of zeros, whatever they claim, cost next to nothing."""
    one = Scales(0.1, 0.1, np.float32([0.01]))
    layer = make_layer(np.zeros((2, 1, 1, 1), np.int8), bias=None, requantisation=one)
    blob = claiming(pack(layer, encoding=encoding), outputs, inputs)
    assert len(blob) < 100
    start = time.process_time()
    with pytest.raises(BlobError, match=r"number of weights|takes .* bytes"):
        unpack(blob)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("optimize", ["size", "speed", "download"])
def test_a_large_layer_of_zeros_still_fits(optimize: str) -> None:
    """Its shortest stream has no bytes at all, which readers do not believe."""
    layer = make_layer(np.zeros((300, 1, 1, 300), np.int8), bias=None)
    layer = dataclasses.replace(layer, requantisation=Scales(0.1, 0.1, np.float32([0.01])))
    with pytest.raises(ValueError, match="at most 237568 weights"):
        pack(dataclasses.replace(layer, weights=np.zeros((1000, 1, 1, 300), np.int8)))
    choice = choose_encoding(np.zeros((1000, 1, 1, 300), np.int8), optimize=optimize)
    large = dataclasses.replace(layer, weights=np.zeros((1000, 1, 1, 300), np.int8))
    assert_same(unpack(pack(large, encoding=choice.encoding)), large)
    assert len(pack(layer)) < 100


def test_multiplier_of_known_values() -> None:
    assert quantize_multiplier(1.0) == (1 << 30, 1)
    assert quantize_multiplier(0.5) == (1 << 30, 0)
    assert quantize_multiplier(0.0) == (0, 0)
    assert quantize_multiplier(1 - 2**-40) == (1 << 30, 1)
    assert quantize_multiplier(2.0**-33) == (0, 0)


def test_streams_of_the_released_resnet20() -> None:
    """Rice within 3 % of the first-order entropy of each layer in all, range coded below 95 %."""
    path = Path(__file__).resolve().parents[3] / "shared" / "models" / "resnet20_t64.npz"
    if not path.exists():
        pytest.skip(f"the released ResNet-20 is not there: {path}")
    entropy, sizes = 0.0, {Encoding.RICE: 0, Encoding.RANGE: 0}
    layers = 0
    with np.load(path) as tensors:
        for name in tensors.files:
            if not re.fullmatch(r"layer\d\.\d\.conv\d\.weight", name):
                continue
            symbols = np.sign(tensors[name]).astype(np.int8).transpose(0, 2, 3, 1)
            layers += 1
            entropy += first_order_entropy_bytes(symbols)
            for encoding in sizes:
                sizes[encoding] += stream_size(pack(make_layer(symbols), encoding=encoding))
    assert layers == 18
    ratios = {encoding.name: size / entropy for encoding, size in sizes.items()}
    print(ratios)
    assert ratios["RICE"] <= 1.03
    assert ratios["RANGE"] <= 0.95
