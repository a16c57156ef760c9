"""One layer at a time: the file in LiteRT, the exact integers, and Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from ec2t_tf.export.integer import Interpreter
from ec2t_tf.export.lower import Net, lower
from ec2t_tf.export.lower.rules.arithmetic import joined
from ec2t_tf.export.tflite import write
from tests.integer import runtimes

from .nets import Around, differences

Make = Callable[[Around, Any], Any]
IMAGE, VECTOR, SEQUENCE = (8, 8, 6), (12,), (10, 6)


def kernel(make: Callable[[], Any]) -> Make:
    return lambda net, x: net.kernel(make())(x)


def plain(make: Callable[[], Any]) -> Make:
    return lambda net, x: make()(x)


def fixed(name: str, low: float, high: float) -> Make:
    return lambda net, x: net.rounded(layers.Activation(name)(x), "fixed", (low, high))


def normalised(make: Callable[[], Any]) -> Make:
    return lambda net, x: layers.BatchNormalization()(net.kernel(make())(x))


def with_flipped(make: Callable[[], Any]) -> Make:
    return lambda net, x: make()([x, ops.flip(x, 1)])


def with_two(make: Callable[[], Any]) -> Make:
    return lambda net, x: make()([x, ops.flip(x, 1), ops.flip(x, 2)])


CASES: dict[str, tuple[tuple[int, ...], Make]] = {
    "Dense": (VECTOR, kernel(lambda: layers.Dense(5))),
    "Dense of rank 3": (SEQUENCE, kernel(lambda: layers.Dense(5, activation="relu"))),
    "Dense of rank 5": ((2, 3, 2, 4), kernel(lambda: layers.Dense(5))),
    "Dense, normalised": (VECTOR, normalised(lambda: layers.Dense(5))),
    "EinsumDense, heads": (
        SEQUENCE,
        kernel(lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")),
    ),
    "EinsumDense, joined heads": (
        (4, 3, 5),
        kernel(lambda: layers.EinsumDense("abcd,cde->abe", (None, 7), bias_axes="e")),
    ),
    "EinsumDense, inner axis": (
        SEQUENCE,
        kernel(lambda: layers.EinsumDense("abc,bd->adc", (7, None))),
    ),
    "Conv1D": (SEQUENCE, kernel(lambda: layers.Conv1D(4, 3, strides=2))),
    "Conv1D, causal": (
        SEQUENCE,
        kernel(lambda: layers.Conv1D(4, 3, dilation_rate=2, padding="causal")),
    ),
    "Conv1D, grouped": (SEQUENCE, kernel(lambda: layers.Conv1D(4, 3, groups=2))),
    "Conv2D": (IMAGE, kernel(lambda: layers.Conv2D(4, 3, 2, "same", activation="relu6"))),
    "Conv2D, dilated": (IMAGE, kernel(lambda: layers.Conv2D(4, 3, dilation_rate=2))),
    "Conv2D, grouped": (IMAGE, kernel(lambda: layers.Conv2D(9, 3, groups=3))),
    "Conv2D, a group a channel": (IMAGE, kernel(lambda: layers.Conv2D(12, 3, groups=6))),
    "Conv2D, normalised, ReLU": (
        IMAGE,
        lambda net, x: layers.ReLU()(normalised(lambda: layers.Conv2D(4, 3))(net, x)),
    ),
    "Conv2D, ReLU(1)": (IMAGE, lambda net, x: layers.ReLU(1.0)(net.kernel(layers.Conv2D(4, 3))(x))),
    "Conv2D, ReLU(4)": (IMAGE, lambda net, x: layers.ReLU(4.0)(net.kernel(layers.Conv2D(4, 3))(x))),
    "DepthwiseConv2D": (
        IMAGE,
        kernel(lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2)),
    ),
    "DepthwiseConv1D": (SEQUENCE, kernel(lambda: layers.DepthwiseConv1D(3, 2, padding="same"))),
    "Conv2DTranspose": (IMAGE, kernel(lambda: layers.Conv2DTranspose(4, 3, 2, "same"))),
    "Conv2DTranspose, valid": (IMAGE, kernel(lambda: layers.Conv2DTranspose(4, 3, 2))),
    "Conv2DTranspose, stride above size": (
        IMAGE,
        kernel(lambda: layers.Conv2DTranspose(4, 2, strides=3)),
    ),
    "Conv2DTranspose, output_padding": (
        IMAGE,
        kernel(lambda: layers.Conv2DTranspose(4, 4, 2, "valid", output_padding=1)),
    ),
    "Conv2DTranspose, dilated, same": (
        IMAGE,
        kernel(lambda: layers.Conv2DTranspose(4, 3, dilation_rate=2, padding="same")),
    ),
    "Conv2DTranspose, dilated": (
        IMAGE,
        kernel(lambda: layers.Conv2DTranspose(4, 2, dilation_rate=2)),
    ),
    "Conv1DTranspose": (SEQUENCE, kernel(lambda: layers.Conv1DTranspose(4, 3, 2, "same"))),
    "BatchNormalization": (IMAGE, plain(layers.BatchNormalization)),
    "BatchNormalization, axis 1": (IMAGE, plain(lambda: layers.BatchNormalization(axis=1))),
    "BatchNormalization, sequence": (SEQUENCE, plain(layers.BatchNormalization)),
    "BatchNormalization, vector": (VECTOR, plain(layers.BatchNormalization)),
    "LayerNormalization": (SEQUENCE, plain(layers.LayerNormalization)),
    "LayerNormalization, two axes": (IMAGE, plain(lambda: layers.LayerNormalization([1, 3]))),
    "LayerNormalization, plain": (
        VECTOR,
        plain(lambda: layers.LayerNormalization(center=False, scale=False)),
    ),
    "GroupNormalization": (IMAGE, plain(lambda: layers.GroupNormalization(3))),
    "GroupNormalization, instances": (SEQUENCE, plain(lambda: layers.GroupNormalization(-1))),
    "RMSNormalization": (SEQUENCE, plain(layers.RMSNormalization)),
    "UnitNormalization": (IMAGE, plain(layers.UnitNormalization)),
    "Rescaling": (IMAGE, plain(lambda: layers.Rescaling(1 / 3, 0.2))),
    "Rescaling, channels": (IMAGE, plain(lambda: layers.Rescaling([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))),
    "Normalization": (
        IMAGE,
        plain(lambda: layers.Normalization(mean=[0.0, 1, 2, 3, 4, 5], variance=[1.0] * 6)),
    ),
    "ReLU(0.7) alone": (IMAGE, plain(lambda: layers.ReLU(0.7))),
    "ReLU of all options": (IMAGE, plain(lambda: layers.ReLU(2.0, 0.1, 0.3))),
    "LeakyReLU": (IMAGE, plain(lambda: layers.LeakyReLU(0.1))),
    "PReLU": (IMAGE, plain(lambda: layers.PReLU("uniform", shared_axes=[1, 2]))),
    "PReLU of a sequence": (SEQUENCE, plain(lambda: layers.PReLU("uniform"))),
    "ELU": (IMAGE, plain(lambda: layers.ELU(0.5))),
    "ops.relu": (IMAGE, plain(lambda: ops.relu)),
    "ops.relu6": (IMAGE, plain(lambda: ops.relu6)),
    "ops.leaky_relu": (IMAGE, plain(lambda: ops.leaky_relu)),
    "ops.abs": (IMAGE, plain(lambda: ops.abs)),
    "ops.clip": (IMAGE, lambda net, x: ops.clip(x, -0.5, 0.7)),
    "sigmoid": (IMAGE, fixed("sigmoid", 0.0, 255 / 256)),
    "tanh": (IMAGE, fixed("tanh", -1.0, 127 / 128)),
    "softmax": (IMAGE, fixed("softmax", 0.0, 255 / 256)),
    **{
        name: (IMAGE, plain(lambda name=name: layers.Activation(name)))
        for name in (
            *("silu", "gelu", "hard_sigmoid", "hard_silu", "softplus", "selu", "mish", "softsign"),
            *("exponential", "celu", "hard_tanh", "log_sigmoid", "squareplus", "soft_shrink"),
        )
    },
    "Add": (IMAGE, with_flipped(layers.Add)),
    "Add of three": (IMAGE, with_two(layers.Add)),
    "Add, broadcast": (IMAGE, lambda net, x: x + ops.max(x, axis=(1, 2), keepdims=True)),
    "x + 1.5": (IMAGE, lambda net, x: x + 1.5),
    "1 - x": (IMAGE, lambda net, x: 1 - x),
    "x * constants": (IMAGE, lambda net, x: x * np.arange(6, dtype=np.float32)),
    "x / 3": (IMAGE, lambda net, x: x / 3.0),
    "Subtract": (IMAGE, with_flipped(layers.Subtract)),
    "Multiply": (IMAGE, with_flipped(layers.Multiply)),
    "Average": (IMAGE, with_two(layers.Average)),
    "Maximum": (IMAGE, with_two(layers.Maximum)),
    "Minimum": (IMAGE, with_flipped(layers.Minimum)),
    "Maximum, a constant": (IMAGE, lambda net, x: ops.maximum(x, 0.1)),
    "Concatenate": (IMAGE, with_flipped(layers.Concatenate)),
    "Concatenate, axis 1": (IMAGE, with_flipped(lambda: layers.Concatenate(axis=1))),
    "MaxPooling2D": (IMAGE, plain(lambda: layers.MaxPooling2D(3, 2, "same"))),
    "AveragePooling2D": (IMAGE, plain(lambda: layers.AveragePooling2D(2))),
    "MaxPooling1D": (SEQUENCE, plain(lambda: layers.MaxPooling1D(2))),
    "AveragePooling1D": (SEQUENCE, plain(lambda: layers.AveragePooling1D(3, 2))),
    "GlobalAveragePooling2D": (IMAGE, plain(layers.GlobalAveragePooling2D)),
    "GlobalAveragePooling1D": (
        SEQUENCE,
        plain(lambda: layers.GlobalAveragePooling1D(keepdims=True)),
    ),
    "GlobalMaxPooling2D": (IMAGE, plain(layers.GlobalMaxPooling2D)),
    "GlobalMaxPooling1D": (SEQUENCE, plain(layers.GlobalMaxPooling1D)),
    "ops.mean": (IMAGE, lambda net, x: ops.mean(x, axis=-1)),
    "ops.sum": (IMAGE, lambda net, x: ops.sum(x, axis=(1, 2))),
    "ops.max": (IMAGE, lambda net, x: ops.max(x, axis=3)),
    "ops.min": (IMAGE, lambda net, x: ops.min(x, axis=1)),
    "ZeroPadding2D": (IMAGE, plain(lambda: layers.ZeroPadding2D(((1, 2), (0, 3))))),
    "ZeroPadding1D": (SEQUENCE, plain(lambda: layers.ZeroPadding1D((1, 2)))),
    "Cropping2D": (IMAGE, plain(lambda: layers.Cropping2D(((1, 2), (0, 3))))),
    "Cropping1D": (SEQUENCE, plain(lambda: layers.Cropping1D(2))),
    "ops.pad": (IMAGE, lambda net, x: ops.pad(x, ((0, 0), (1, 1), (0, 2), (0, 0)))),
    "ops.pad, reflected": (
        IMAGE,
        lambda net, x: ops.pad(x, ((0, 0), (1, 1), (0, 2), (0, 0)), mode="reflect"),
    ),
    "UpSampling2D": (IMAGE, plain(lambda: layers.UpSampling2D((2, 3)))),
    "UpSampling2D, bilinear": (
        IMAGE,
        plain(lambda: layers.UpSampling2D(2, interpolation="bilinear")),
    ),
    "UpSampling1D": (SEQUENCE, plain(lambda: layers.UpSampling1D(3))),
    "Resizing": (IMAGE, plain(lambda: layers.Resizing(5, 11))),
    "Resizing, nearest": (IMAGE, plain(lambda: layers.Resizing(5, 11, "nearest"))),
    "CenterCrop": (IMAGE, plain(lambda: layers.CenterCrop(5, 4))),
    "Reshape": (IMAGE, plain(lambda: layers.Reshape((4, -1)))),
    "Flatten": (IMAGE, plain(layers.Flatten)),
    "Permute": (IMAGE, plain(lambda: layers.Permute((3, 1, 2)))),
    "RepeatVector": (VECTOR, plain(lambda: layers.RepeatVector(4))),
    "ops.transpose": (IMAGE, lambda net, x: ops.transpose(x, (0, 2, 3, 1))),
    "ops.swapaxes": (IMAGE, lambda net, x: ops.swapaxes(x, 1, 3)),
    "ops.moveaxis": (IMAGE, lambda net, x: ops.moveaxis(x, 1, 3)),
    "slices": (IMAGE, lambda net, x: x[:, 1:7:2, ..., :3]),
    "an index": (IMAGE, lambda net, x: x[:, 3]),
    "a new axis": (IMAGE, lambda net, x: x[:, None]),
    "ops.split": (
        IMAGE,
        lambda net, x: ops.concatenate(ops.split(x, 3, axis=-1)[::-1], axis=1),
    ),
    "ops.unstack": (IMAGE, lambda net, x: ops.stack(ops.unstack(x, axis=1)[::-1], axis=2)),
    "ops.repeat": (IMAGE, lambda net, x: ops.repeat(x, 2, axis=1)),
    "ops.squeeze": ((1, 6), lambda net, x: ops.squeeze(x, 1)),
    "ops.flip": (IMAGE, lambda net, x: ops.flip(x, (1, 2))),
    "ops.matmul": (SEQUENCE, lambda net, x: ops.matmul(x, ops.transpose(x, (0, 2, 1)))),
    "ops.einsum": ((4, 2, 3), lambda net, x: ops.einsum("aecd,abcd->acbe", x, x)),
    "Dropout": (IMAGE, plain(lambda: layers.Dropout(0.5))),
}


@pytest.mark.parametrize("case", CASES)
def test_the_file_is_exact_and_near_training(case: str) -> None:
    """0 steps between LiteRT and the exact integers in both roundings; at most one to Keras."""
    keras.utils.set_random_seed(1)
    shape, make = CASES[case]
    data = np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)
    model = Around().model(shape, make, data)
    for rounding, (exact, trained) in differences(model, {"x": data}).items():
        assert exact == 0, rounding
        # The operator's output has the scale of its input; here a finer one follows.
        assert trained <= (2 if "Average" in case else 1), rounding


def test_no_reshape_that_another_undoes() -> None:
    data = np.random.default_rng(0).normal(size=(4, *SEQUENCE)).astype(np.float32)

    def make(net: Around, x: Any) -> Any:
        x = net.rounded(net.kernel(layers.Conv1D(4, 3))(x))
        return net.kernel(layers.Conv1D(4, 3))(x)

    graph = lower(Around().model(SEQUENCE, make, data))
    kinds = [operator.kind for operator in graph.operators]
    assert kinds == ["QUANTIZE", "RESHAPE", "CONV_2D", "CONV_2D", "RESHAPE", "DEQUANTIZE"]


@pytest.mark.parametrize("kind", ["ADD", "SUB"])
def test_a_sum_of_a_dead_branch_and_a_faint_one(kind: str) -> None:
    """LiteRT ended the program where one step is more than 2^19 times the other and the sum's."""
    net = Net()
    faint, dead = net.int8("faint", (1, 6), 4e-11, 3), net.int8("dead", (1, 6), 1 / 255, -128)
    net.graph.inputs = (faint, dead)
    pending = joined(net, kind, "sum", [faint, dead], (1, 6))
    net.graph.outputs = (net.with_range(pending, 4e-11, 0, "sum"),)
    content = write(net.pruned())
    random = np.random.default_rng(0)
    given = [random.integers(-128, 128, (5, 6)).astype(np.int8), np.full((5, 6), -128, np.int8)]
    for rounding in ("reference", "xnnpack", "builtin"):
        (file,) = runtimes.run(content, rounding, given)
        (exact,) = runtimes.compute(Interpreter(net.pruned(), rounding=rounding), given)
        np.testing.assert_array_equal(file.reshape(5, 6), np.asarray(exact).reshape(5, 6))
