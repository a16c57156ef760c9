"""Every listed planar kernel against the reference, bit for bit, over a grid."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ec2t_tf.export.formats import FixedPoint, Layer, Operator, Scales, pack

ZEROS = (0, 0.5, 0.9, 0.99, 1)


def make(
    rng: np.random.Generator,
    shape: tuple[int, int, int, int],
    zeros: float,
    **changes: object,
) -> Layer:
    half = (1 - zeros) / 2
    weights = rng.choice([0, 127, -85], p=[zeros, half, half], size=shape).astype(np.int8)
    weights[rng.random(shape[0]) < 0.3] *= -1
    taps = max(1.0, float(np.prod(shape[1:])) * (1 - zeros))
    # Outputs that fill the range of int8 and saturate now and then.
    scales = np.exp(rng.uniform(-1, 1, shape[0])) * 3e-3 / np.sqrt(taps)
    low = int(rng.integers(-128, 0))
    layer = Layer(
        Operator.CONV_2D,
        weights,
        Scales(0.1, 0.05, scales.astype(np.float32)),
        bias=rng.integers(-20000, 20000, shape[0]).astype(np.int32),
        input_zero_point=int(rng.integers(-128, 128)),
        output_zero_point=int(rng.integers(-128, 128)),
        output_range=(low, int(rng.integers(max(low, 0), 128))),
        padding="SAME",
    )
    return dataclasses.replace(layer, **changes)


def grid() -> list[tuple[Layer, tuple[int, int]]]:
    """Layers and input sizes: edges of tiles, bands, masks, paddings, strides, long lists."""
    rng = np.random.default_rng(21)
    cases = [
        (make(rng, (5, 3, 3, 4), zeros), size)
        for zeros in ZEROS
        for size in [(1, 1), (3, 5), (7, 7), (8, 8), (16, 16), (14, 14), (9, 31), (33, 32), (2, 64)]
    ]
    cases += [
        # One by one, whole images and awkward ones; offsets beyond 16 bits.
        (make(rng, (6, 1, 1, 7), 0.6), (8, 8)),
        (make(rng, (6, 1, 1, 7), 0.6), (3, 21)),
        (make(rng, (3, 1, 1, 1100), 0.9), (8, 8)),
        # Lists longer than an int16 sum can take.
        (make(rng, (4, 3, 3, 70), 0), (5, 5)),
        (make(rng, (4, 1, 1, 900), 0.3), (4, 20)),
        # Strides, dilations, paddings, kernels of any shape.
        (make(rng, (4, 3, 3, 5), 0.5, strides=(2, 2)), (16, 16)),
        (make(rng, (4, 3, 3, 5), 0.5, strides=(2, 2)), (32, 64)),
        (make(rng, (4, 3, 3, 5), 0.5, strides=(2, 2)), (15, 17)),
        (make(rng, (4, 1, 1, 5), 0.5, strides=(2, 2)), (32, 32)),
        (make(rng, (4, 5, 3, 2), 0.5, strides=(3, 1)), (20, 9)),
        (make(rng, (4, 3, 5, 2), 0.5, strides=(1, 3)), (6, 40)),
        (make(rng, (4, 3, 3, 3), 0.5, dilations=(2, 3)), (12, 16)),
        (make(rng, (4, 3, 3, 3), 0.5, dilations=(3, 1), strides=(2, 2)), (12, 16)),
        (make(rng, (4, 3, 3, 3), 0.5, padding="VALID"), (10, 18)),
        (make(rng, (4, 4, 4, 3), 0.5), (10, 16)),
        (make(rng, (4, 7, 7, 3), 0.5, strides=(2, 2)), (30, 30)),
        (make(rng, (4, 3, 3, 3), 0.5, padding=((4, 5), (6, 7))), (5, 6)),
        (make(rng, (4, 3, 3, 3), 0.5, padding=((0, 0), (2, 0))), (5, 6)),
        (make(rng, (2, 9, 9, 2), 0.5), (3, 3)),
        # Groups and depthwise.
        (make(rng, (6, 3, 3, 2), 0.5, groups=3), (12, 16)),
        (make(rng, (8, 3, 3, 1), 0.3, groups=8, operator=Operator.DEPTHWISE_CONV_2D), (16, 16)),
        (make(rng, (8, 3, 3, 1), 0.3, groups=4, strides=(2, 2)), (14, 28)),
        # Several bands.
        (make(rng, (3, 3, 3, 40), 0.8), (40, 32)),
        (make(rng, (3, 3, 3, 24), 0.8, strides=(2, 2)), (70, 66)),
        (make(rng, (2, 3, 3, 2), 0.8), (300, 100)),
        # Saturation, one requantisation for all, no bias.
        (make(rng, (4, 3, 3, 4), 0.3, requantisation=Scales(1, 1e-4, np.float32([9.0]))), (8, 9)),
        (make(rng, (4, 3, 3, 4), 0.3, bias=None, output_range=(-128, 127)), (8, 9)),
        (make(rng, (2, 3, 3, 1), 0.3, bias=np.array([2**31 - 1, -(2**31)], np.int32)), (8, 9)),
    ]
    shifts = np.array([-31, -9, 0, 1, 5, 30], np.int8)
    fixed = FixedPoint(rng.integers(0, 1 << 31, 6).astype(np.int32), shifts)
    cases.append((make(rng, (6, 3, 3, 4), 0.5, requantisation=fixed), (8, 8)))
    return cases


def inputs(layer: Layer, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Planar int8, with the extremes over-represented."""
    shape = (layer.input_channels, *size)
    x = rng.integers(-128, 128, shape)
    extreme = rng.random(shape)
    return np.where(extreme < 0.1, -128, np.where(extreme > 0.9, 127, x)).astype(np.int8)


def compare(driver, reference) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(22)
    cases, nhwc = [], []
    for layer, size in grid():
        x = inputs(layer, size, rng)
        blob = pack(layer)
        for mode in ("tflite", "fp32"):
            if mode == "fp32" and isinstance(layer.requantisation, FixedPoint):
                continue
            cases.append((mode, blob, x))
            nhwc.append((mode, blob, x.transpose(1, 2, 0)[None]))
    wanted = reference.reference(nhwc)
    names = driver.kernels()
    assert names
    for number, name in enumerate(names):
        for split in (False, True):
            results = driver.planar(number, cases, split=split)
            for (mode, blob, x), (ok, want), (status, got) in zip(
                cases, wanted, results, strict=True
            ):
                assert (ok, status) == ("OK", "OK"), (name, x.shape)
                channels = int.from_bytes(blob[16:20], "little")
                np.testing.assert_array_equal(
                    got.reshape(channels, -1),
                    want.reshape(-1, channels).T,
                    err_msg=f"{name} {mode} input {x.shape} split={split}",
                )


def test_planar_kernels_equal_the_reference(native, any_native) -> None:
    compare(any_native, native)


def test_planar_kernels_read_and_write_nothing_outside(native) -> None:
    """The same grid under AddressSanitizer and UBSan, every buffer of its exact size."""
    compare(native, native)


def test_kernels_that_are_too_large(native) -> None:
    layer = make(np.random.default_rng(1), (1, 33, 1, 1), 0.5)
    ((status, _),) = native.planar(0, [("tflite", pack(layer), np.zeros((1, 8, 8), np.int8))])
    assert status == "UNSUPPORTED"


@pytest.mark.parametrize("encoding", ["two_bit", "five_trits", "bitmap", "gap8", "rice"])
def test_damaged_streams_do_not_prepare(native, encoding: str) -> None:
    blob = bytearray(pack(make(np.random.default_rng(1), (3, 3, 3, 5), 0.5), encoding=encoding))
    blob[60] ^= 1  # the number of non-zeros
    ((status, _),) = native.planar(0, [("tflite", bytes(blob), np.zeros((5, 8, 8), np.int8))])
    assert status == "STREAM"


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (17, 3), (3, 17), (100, 33), (1024, 16)])
def test_layouts_turn_into_each_other(native, any_native, shape: tuple[int, int]) -> None:
    x = np.random.default_rng(9).integers(-128, 128, shape).astype(np.int8)
    for driver in (native, any_native):
        np.testing.assert_array_equal(driver.transpose(x, back=False), x.T)
        np.testing.assert_array_equal(driver.transpose(np.ascontiguousarray(x.T), back=True), x)
