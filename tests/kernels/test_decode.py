"""The C parser and decoders against the Python ones."""

from __future__ import annotations

import dataclasses
import struct
import zlib

import numpy as np
import pytest

from ec2t_tf.export.formats import (
    BlobError,
    Encoding,
    Layer,
    Operator,
    Scales,
    pack,
    quantize_multiplier,
    unpack,
)


def ternary_layer(shape: tuple[int, ...], zeros: float, rng: np.random.Generator) -> Layer:
    half = (1 - zeros) / 2
    weights = rng.choice([0, 127, -85], p=[zeros, half, half], size=shape).astype(np.int8)
    weights[rng.random(shape[0]) < 0.3] *= -1
    scales = Scales(0.05, 0.1, np.full(shape[0], 0.01, np.float32))
    return Layer(Operator.CONV_2D, weights, scales, bias=np.zeros(shape[0], np.int32))


def adversarial_layers() -> list[Layer]:
    """Tensors at the edges of the encodings: long runs, runs that end at borders, one symbol."""
    rng = np.random.default_rng(7)
    layers = [
        ternary_layer(shape, zeros, rng)
        for zeros in (0, 0.5, 0.9, 0.99, 1)
        for shape in [(1, 1, 1, 1), (7, 3, 3, 5), (32, 1, 1, 32), (3, 1, 1, 1001), (65, 3, 1, 2)]
    ]
    one = ternary_layer((4, 1, 1, 9000), 1, rng)
    for place in (0, 126, 127, 128, 254, 9000, 35999):
        weights = np.zeros(4 * 9000, np.int8)
        weights[place] = -85
        layers.append(dataclasses.replace(one, weights=weights.reshape(one.weights.shape)))
    # Dense at the front, then one far away: a long unary run under a small Rice parameter.
    weights = np.full(4 * 9000, 127, np.int8)
    weights[8000:-1] = 0
    layers.append(dataclasses.replace(one, weights=weights.reshape(one.weights.shape)))
    own = ternary_layer((3, 1, 1, 40), 0.4, rng)
    own.weights[1] //= 2
    layers.append(own)
    return layers


@pytest.mark.parametrize("encoding", Encoding, ids=lambda e: e.name.lower())
def test_c_decodes_what_python_encodes(native, any_native, encoding: Encoding) -> None:
    layers = adversarial_layers()
    blobs = [pack(layer, encoding=encoding) for layer in layers]
    for driver in (native, any_native):
        for layer, (status, weights) in zip(layers, driver.decode(blobs), strict=True):
            assert status == "OK"
            np.testing.assert_array_equal(weights, layer.weights.ravel())


@pytest.mark.parametrize("encoding", Encoding, ids=lambda e: e.name.lower())
def test_c_and_python_refuse_the_same_blobs(native, encoding: Encoding) -> None:
    """Damaged blobs with a mended checksum: both sides refuse, or both give the same weights."""
    seed = 40 + encoding
    print(f"replay with np.random.default_rng({seed})")
    rng = np.random.default_rng(seed)
    blob = pack(ternary_layer((5, 3, 3, 4), 0.7, rng), encoding=encoding)
    damaged = [blob[:size] for size in range(0, len(blob), 5)]
    # The range decoder in Python is slow, and damaged headers make layers large.
    for _ in range(100 if encoding is Encoding.RANGE else 600):
        bits = rng.integers(0, 8 * len(blob), size=rng.integers(1, 4))
        copy = bytearray(blob)
        for bit in bits:
            copy[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(copy[:12]) + struct.pack("<I", zlib.crc32(copy[16:])) + copy[16:])
    damaged.append(blob[:12] + b"\0\0\0\0" + blob[16:])
    refused = 0
    for case, (status, weights) in zip(damaged, native.decode(damaged), strict=True):
        try:
            expected = unpack(case).weights.ravel()
        except BlobError:
            assert status != "OK", case.hex()
            refused += 1
        else:
            assert status == "OK", case.hex()
            np.testing.assert_array_equal(weights, expected)
    assert refused > 60


def test_statuses_name_the_mistake(native) -> None:
    rng = np.random.default_rng(1)
    blob = pack(ternary_layer((5, 3, 3, 4), 0.7, rng))
    cases = {
        "TRUNCATED": blob[:-4],
        "MAGIC": b"EC2X" + blob[4:],
        "VERSION": blob[:4] + b"\x02\x00" + blob[6:],
        "CHECKSUM": blob[:12] + b"\0\0\0\0" + blob[16:],
        "HEADER": blob[:6] + b"\x09" + blob[7:],
        "HEADER: more weights than its bytes may claim": blob[:16] + b"\0\0\1\0" + blob[20:],
    }
    statuses = [status for status, _ in native.decode(list(cases.values()))]
    assert statuses == [case.split(":")[0] for case in cases]


def test_multiplier_equals_python(native) -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate(
        [
            [0, 1, 0.5, 1 - 2**-40, 2.0**-32, 2.0**-33, 1e-300, 1e300, 2.0**30, 2.0**31],
            np.exp(rng.uniform(-30, 5, 2000)),
        ]
    )
    expected = np.array([quantize_multiplier(value) for value in values])
    np.testing.assert_array_equal(native.multipliers(values), expected)
