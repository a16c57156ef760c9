"""Compact blobs: C expands what Python packs, and both refuse the same."""

from __future__ import annotations

import dataclasses
import struct
import zlib

import numpy as np
import pytest

from ec2t_tf.export.formats import (
    BlobError,
    FixedPoint,
    Layer,
    Scales,
    ends_of,
    fits_compact,
    layer_numbers,
    pack,
    pack_compact,
    unpack,
    unpack_compact,
)
from ec2t_tf.export.formats.number_coder import Reader, Writer
from tests.formats.test_blob import assert_same
from tests.fuzz.targets import shorter
from tests.kernels import test_decode, test_reference

SEED = 51


def layers() -> list[Layer]:
    """Every operator, ternary and not, with what is usual and what is not."""
    rng = np.random.default_rng(SEED)
    found = [layer for layer in test_reference.layers() if fits_compact(layer)]
    found += test_decode.adversarial_layers()
    for layer in test_reference.layers():
        if fits_compact(layer):
            weights = rng.normal(0, 40, layer.weights.shape).clip(-127, 127).astype(np.int8)
            relu = (layer.output_zero_point, 127)
            found.append(dataclasses.replace(layer, weights=weights, output_range=relu))
    first = found[0]
    extreme = np.array([-(2**31), 2**31 - 1, 0, -1, 1, 2**30], np.int32)
    tiny = Scales(0.03, 0.05, np.full(6, np.finfo(np.float32).tiny))
    zero = Scales(0.03, 0.05, np.array([0, 1e-3, 3e38, 0, 1e-30, 1], np.float32))
    found += [dataclasses.replace(first, requantisation=one) for one in (tiny, zero)]
    found.append(dataclasses.replace(first, bias=extreme))
    return [*found, *(shorter(layer) for layer in found[::4])]


def with_checksum(blob: bytes) -> bytes:
    return blob[:12] + struct.pack("<I", zlib.crc32(blob[16:])) + blob[16:]


def test_c_expands_what_python_packs(native, any_native) -> None:
    cases = [(pack_compact(layer), ends_of(layer)) for layer in layers()]
    assert {blob[0] for blob, _ in cases} == {2, 3}
    for driver in (native, any_native):
        for layer, (compact, ends), (status, blob) in zip(
            layers(), cases, driver.expand(cases), strict=True
        ):
            assert status == "OK"
            assert_same(unpack_compact(compact, ends), layer)
            assert_same(unpack(with_checksum(blob)), layer)


def test_biases_out_of_all_bounds(native, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest numbers that a stream can hold: with the line beyond 2^63."""

    def largest(pen: Writer | Reader, _: list[int], sums: list[int], *, rounded: bool) -> list[int]:
        if rounded:
            pen.number("small", 31)
        assert max(sums) >= 128
        pen.signed("small", 2**31 - 1)
        pen.number("small", 31)
        pen.signed("small", 2**31 - 1)
        for _ in sums:
            pen.signed("bias", 2**31 - 1)
            pen.plain(0, 31)
        return [0] * len(sums)

    layer = next(one for one in layers() if one.bias is not None)
    layer = dataclasses.replace(layer, weights=np.full_like(layer.weights, 127))
    for one, version in ((layer, 2), (shorter(layer), 3)):
        with monkeypatch.context() as patch:
            patch.setattr(layer_numbers, "code_biases", largest)
            blob = pack_compact(one)
        assert blob[0] == version
        ((status, _),) = native.expand([(blob, ends_of(one))])
        assert status == "HEADER"
        with pytest.raises(BlobError, match="is no int32"):
            unpack_compact(blob, ends_of(one))


@pytest.mark.parametrize("place", ["scales", "biases"])
def test_more_zeros_than_digits(native, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """18 of a scale, 32 of a bias."""
    most = {"scales": 17, "biases": 31}[place]

    def one_more(pen: Writer | Reader, values: list[int], limit: int, rounded: bool) -> int:
        zeros = usual(pen, values, limit, rounded=False)
        if rounded:
            pen.number("small", most + 1 if limit == most else 0)
        return zeros

    layer = shorter(next(one for one in layers() if one.bias is not None))
    usual = layer_numbers._zeros
    with monkeypatch.context() as patch:
        patch.setattr(layer_numbers, "_zeros", one_more)
        patch.setattr("ec2t_tf.export.formats.compact.VERSION", 3)  # of the two, no other
        blob = pack_compact(layer)
    ((status, _),) = native.expand([(blob, ends_of(layer))])
    assert status == "HEADER"
    with pytest.raises(BlobError, match=f"{most + 1} digits of zero, of at most {most}"):
        unpack_compact(blob, ends_of(layer))


def test_smaller_than_blobs() -> None:
    for layer in layers():
        if layer.weights.size > 100 and len(layer.weights) > 4:
            encoding = "int8" if len(np.unique(layer.weights)) > 9 else "range"
            assert len(pack_compact(layer)) < len(pack(layer, encoding=encoding)) - 40


@pytest.mark.no_cover  # long in Python; other tests run its lines
def test_c_and_python_refuse_the_same(native) -> None:
    """Damaged streams with a mended checksum: both refuse, or both give the same layer."""
    print(f"replay with np.random.default_rng({SEED})")
    rng = np.random.default_rng(SEED)
    found = layers()
    chosen = [found[i] for i in (0, 1, 5, 7, 9, 10, -5, -8)]
    middle = len(found) // 2
    chosen += [found[middle - 1], *(found[middle + i] for i in (0, 1, 5, 7))]
    cases = []
    for layer in chosen:
        blob = pack_compact(layer)
        streams = [blob[3:end] for end in range(3, len(blob), max(len(blob) // 6, 1))]
        for _ in range(60):
            copy = bytearray(blob[3:])
            reach = len(copy) if rng.integers(2) else min(12, len(copy))
            for bit in rng.integers(0, 8 * reach, size=rng.integers(1, 4)).tolist():
                copy[bit // 8] ^= 1 << bit % 8
            streams.append(bytes(copy))
        streams += [rng.bytes(int(rng.integers(1, 40))) for _ in range(20)]
        for stream in streams:
            check = zlib.crc32(stream) & 0xFFFF
            cases.append((blob[:1] + struct.pack("<H", check) + stream, ends_of(layer)))
    refused = 0
    for (compact, ends), (status, blob) in zip(cases, native.expand(cases), strict=True):
        try:
            layer = unpack_compact(compact, ends)
        except BlobError:
            assert status != "OK", compact.hex()
            refused += 1
        else:
            assert status == "OK", (compact.hex(), ends)
            assert_same(unpack(with_checksum(blob)), layer)
    assert 60 < refused < len(cases)


def test_statuses_name_the_mistake(native) -> None:
    layer = layers()[0]
    blob, ends = pack_compact(layer), ends_of(layer)
    longer = blob[3:] + b"\x55" * 5
    longer = bytes([2]) + struct.pack("<H", zlib.crc32(longer) & 0xFFFF) + longer
    cases = {
        "TRUNCATED": blob[:2],
        "VERSION": b"\x04" + blob[1:],
        "CHECKSUM": blob[:-1],
        "STREAM": longer,
    }
    statuses = [status for status, _ in native.expand([(one, ends) for one in cases.values()])]
    assert statuses == list(cases)
    for one in cases.values():
        with pytest.raises(BlobError):
            unpack_compact(one, ends)


def test_layers_without_words_are_refused() -> None:
    explicit = dataclasses.replace(layers()[0], padding=((1, 0), (0, 0)))
    factors = FixedPoint(np.full(6, 1 << 30, np.int32), np.zeros(6, np.int8))
    for layer in (explicit, dataclasses.replace(layers()[0], requantisation=factors)):
        assert not fits_compact(layer)
        with pytest.raises(ValueError, match="padding"):
            pack_compact(layer)
