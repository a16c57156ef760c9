"""Reference kernels against a NumPy twin with unbounded integers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ec2t_tf.export.formats import (
    FixedPoint,
    Layer,
    Operator,
    Scales,
    pack,
    quantize_multiplier,
)


def pads_of(layer: Layer, size: tuple[int, int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Output height and width, and padding (before, after) of both axes."""
    outputs, pads = [], []
    for axis in range(2):
        reach = (layer.weights.shape[1 + axis] - 1) * layer.dilations[axis] + 1
        stride = layer.strides[axis]
        if layer.padding == "SAME":
            output = -(-size[axis] // stride)
            total = max((output - 1) * stride + reach - size[axis], 0)
            pads.append((total // 2, total - total // 2))
        else:
            pad = (0, 0) if layer.padding == "VALID" else layer.padding[axis]
            output = (size[axis] + sum(pad) - reach) // stride + 1
            pads.append(pad)
        outputs.append(output)
    return outputs, pads


def convolve(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Accumulators int64 [n, h, w, output channels], bias included."""
    (height, width), pads = pads_of(layer, x.shape[1:3])
    centred = np.pad(x.astype(np.int64) - layer.input_zero_point, [(0, 0), *pads, (0, 0)])
    outputs, inputs = layer.output_channels // layer.groups, layer.weights.shape[3]
    out = np.zeros((len(x), height, width, layer.output_channels), np.int64)
    for ky in range(layer.weights.shape[1]):
        for kx in range(layer.weights.shape[2]):
            rows = ky * layer.dilations[0] + layer.strides[0] * np.arange(height)
            columns = kx * layer.dilations[1] + layer.strides[1] * np.arange(width)
            patch = centred[:, rows][:, :, columns]
            for group in range(layer.groups):
                o, i = slice(group * outputs, (group + 1) * outputs), group * inputs
                weights = layer.weights[o, ky, kx].astype(np.int64)
                out[..., o] += patch[..., i : i + inputs] @ weights.T
    return out if layer.bias is None else out + layer.bias


def real_factors(layer: Layer) -> np.ndarray:
    """f64 factor of each channel, or of all."""
    if isinstance(layer.requantisation, Scales):
        scales = layer.requantisation
        products = float(np.float32(scales.input)) * scales.weights.astype(np.float64)
        return products / float(np.float32(scales.output))
    fixed = layer.requantisation
    return np.ldexp(fixed.multiplier.astype(np.float64), fixed.shift.astype(int) - 31)


def requantise(layer: Layer, acc: np.ndarray, mode: str) -> np.ndarray:
    """int8 outputs; TensorFlow Lite's double rounding, f32 with ties to even (XNNPACK), or f64 with
    ties away from zero (TensorFlow Lite's fully connected layers)."""
    low, high = layer.output_range
    zero = layer.output_zero_point
    if mode == "fp32":
        assert isinstance(layer.requantisation, Scales)
        scales = layer.requantisation
        factor = np.float32(scales.input) * scales.weights / np.float32(scales.output)
        scaled = acc.astype(np.float32) * factor
        return (np.rint(np.clip(scaled, low - zero, high - zero)) + zero).astype(np.int8)
    if mode == "real":
        scaled = np.clip(acc.astype(np.float64) * real_factors(layer), low - zero, high - zero)
        whole = np.trunc(scaled)
        away = np.sign(scaled) * (np.abs(scaled - whole) >= 0.5)
        return (whole + away + zero).astype(np.int8)
    if isinstance(layer.requantisation, Scales):
        scales = layer.requantisation
        reals = float(np.float32(scales.input)) * scales.weights.astype(np.float64)
        if layer.operator is Operator.FULLY_CONNECTED and len(scales.weights) == 1:
            reals = (np.float32(scales.input) * scales.weights).astype(np.float64)
        pairs = [quantize_multiplier(r / float(np.float32(scales.output))) for r in reals]
        multiplier, shift = np.array(pairs, np.int64).T
    else:
        multiplier = layer.requantisation.multiplier.astype(np.int64)
        shift = layer.requantisation.shift.astype(np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    doubled = ((acc << left).astype(np.int32).astype(np.int64) * multiplier + (1 << 30)) >> 31
    # Round half away from zero at the right shift.
    magnitude = (np.abs(doubled) + np.where(right > 0, 1 << np.maximum(right - 1, 0), 0)) >> right
    return np.clip(np.sign(doubled) * magnitude + zero, low, high).astype(np.int8)


def random_layer(rng: np.random.Generator, shape: tuple[int, ...], **changes: object) -> Layer:
    weights = rng.choice([0, 127, -85], p=[0.4, 0.3, 0.3], size=shape).astype(np.int8)
    channels = shape[0]
    low = int(rng.integers(-128, 0))
    layer = Layer(
        Operator.CONV_2D,
        weights,
        Scales(0.03, 0.05, np.exp(rng.uniform(-9, -4, channels)).astype(np.float32)),
        bias=rng.integers(-5000, 5000, channels).astype(np.int32),
        input_zero_point=int(rng.integers(-128, 128)),
        output_zero_point=int(rng.integers(-128, 128)),
        output_range=(low, int(rng.integers(low, 128))),
    )
    return dataclasses.replace(layer, **changes)


def layers() -> list[Layer]:
    rng = np.random.default_rng(11)
    depthwise, fully = Operator.DEPTHWISE_CONV_2D, Operator.FULLY_CONNECTED
    one_scale = Scales(0.03, 0.05, np.float32([0.004]))
    fixed = FixedPoint(
        rng.integers(1 << 30, 1 << 31, 6).astype(np.int32), np.int8([-9, -5, 0, 2, -31, -12])
    )
    return [
        random_layer(rng, (6, 3, 3, 4), padding="SAME"),
        random_layer(rng, (6, 3, 3, 4), padding="VALID", bias=None),
        random_layer(rng, (5, 3, 2, 3), padding="SAME", strides=(2, 1)),
        random_layer(rng, (5, 2, 3, 3), padding="SAME", strides=(1, 3), dilations=(2, 1)),
        random_layer(rng, (5, 5, 5, 2), padding=((2, 1), (0, 3)), strides=(2, 2)),
        random_layer(rng, (8, 1, 1, 12)),
        random_layer(rng, (8, 3, 3, 2), padding="SAME", groups=4),
        random_layer(rng, (6, 3, 3, 1), padding="SAME", groups=6, operator=depthwise),
        random_layer(rng, (6, 3, 3, 1), strides=(2, 2), groups=3, operator=depthwise),
        random_layer(rng, (7, 1, 1, 11), operator=fully),
        random_layer(rng, (7, 1, 1, 11), operator=fully, requantisation=one_scale),
        random_layer(rng, (6, 3, 3, 4), padding="SAME", requantisation=fixed),
        random_layer(rng, (6, 3, 3, 4), padding="SAME", requantisation=one_scale),
    ]


def test_twin_of_twin_on_one_pixel() -> None:
    """The NumPy twin on a case done by hand: (3 - -1) * 2 + 10 = 18, times 1/4 = 4.5."""
    layer = Layer(
        Operator.CONV_2D,
        np.int8([[[[2]]]]),
        Scales(0.25, 1.0, np.float32([1.0])),
        bias=np.int32([10]),
        input_zero_point=-1,
    )
    acc = convolve(layer, np.int8([[[[3]]]]))
    assert acc.item() == 18
    assert requantise(layer, acc, "tflite").item() == 5
    assert requantise(layer, acc, "fp32").item() == 4
    assert requantise(layer, acc, "real").item() == 5
    assert requantise(layer, -acc, "real").item() == -5


@pytest.mark.parametrize("mode", ["tflite", "fp32", "real"])
def test_reference_equals_numpy(native, any_native, mode: str) -> None:
    rng = np.random.default_rng(12)
    cases, expected = [], []
    for layer in layers():
        if mode == "fp32" and isinstance(layer.requantisation, FixedPoint):
            continue
        for batch, height, width in [(1, 7, 7), (2, 5, 9), (1, 6, 6)]:
            x = rng.integers(-128, 128, (batch, height, width, layer.input_channels), np.int64)
            x[0, 0] = -128
            x[0, 1] = 127
            cases.append((mode, pack(layer), x.astype(np.int8)))
            expected.append(requantise(layer, convolve(layer, x), mode))
    for driver in (native, any_native):
        for (_, _, x), want, (status, got) in zip(
            cases, expected, driver.reference(cases), strict=True
        ):
            assert status == "OK"
            np.testing.assert_array_equal(got, want.ravel(), err_msg=str(x.shape))


def test_shapes_that_do_not_fit(native) -> None:
    layer = random_layer(np.random.default_rng(1), (2, 3, 3, 1))
    ((status, _),) = native.reference([("tflite", pack(layer), np.zeros((1, 2, 5, 1), np.int8))])
    assert status == "ARGUMENT"


def test_fixed_point_serves_no_fp32(native) -> None:
    fixed = FixedPoint(np.int32([1 << 30]), np.int8([0]))
    layer = random_layer(np.random.default_rng(1), (2, 1, 1, 1), requantisation=fixed)
    ((status, _),) = native.reference([("fp32", pack(layer), np.zeros((1, 1, 1, 1), np.int8))])
    assert status == "UNSUPPORTED"


def test_whole_multipliers_equal_floats_for_every_sum(native) -> None:
    """All sums up to saturation, for factors of every size."""
    rng = np.random.default_rng(29)
    found = 0
    factors = np.exp2(rng.uniform(-15, -6, 40)).astype(np.float32)
    for zero_point, output_range in ((-128, (-128, 127)), (5, (-128, 127)), (-3, (-3, 90))):
        least, most = (limit - zero_point for limit in output_range)
        for largest in (5_000, 1_000_000):
            multipliers = native.whole_multipliers(zero_point, output_range, largest, factors)
            for factor, multiplier in zip(factors, multipliers.astype(np.int64), strict=True):
                if multiplier == 0:
                    continue
                found += 1
                end = min(largest, int(300 / factor))
                sums = np.arange(-end, end + 1)
                wanted = np.rint(np.clip(sums.astype(np.float32) * factor, least, most))
                scaled = (sums * multiplier >> 31) + zero_point * 128
                got = np.clip((scaled + 64) >> 7, *output_range)
                np.testing.assert_array_equal(got, wanted + zero_point, err_msg=str(factor))
    assert found > 60
