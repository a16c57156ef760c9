"""The table of layers is complete and true: each name in it, applied, is what the table says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import ec2t_tf
from ec2t_tf.export.lower import lower
from ec2t_tf.export.lower.table import supported
from ec2t_tf.quantisation.graph import read

from .nets import differences
from .random_check import Outcome, compare
from .random_doors import TF_KERAS

Make = Callable[[Any], Any]
RANDOM = (
    *("Brightness", "ColorDegeneration", "ColorJitter", "Contrast", "Erasing", "Flip"),
    *("GaussianBlur", "Grayscale", "Hue", "Invert", "Perspective", "Posterization", "Rotation"),
    *("Saturation", "Sharpness", "Shear", "Translation", "Zoom"),
)
RANDOM_OPTIONS: dict[str, tuple[Any, ...]] = {
    "Posterization": (4,),
    "ColorJitter": (),
    "Erasing": (),
    "Flip": (),
    "GaussianBlur": (),
    "Grayscale": (),
    "Perspective": (),
    "Translation": (0.1, 0.1),
    # Keras does not rebuild one from the config of RandomShear(0.1).
    "Shear": ((0.0, 0.1),),
}


def random_layer(name: str) -> Make:
    options = RANDOM_OPTIONS.get(name, (0.1,))
    return lambda x: getattr(layers, f"Random{name}")(*options)(x)


# One net of each kind of input; every entry is an output of its own.
IMAGE: dict[str, Make] = {
    "Conv2D": lambda x: layers.Conv2D(3, 3)(x),
    "Conv2DTranspose": lambda x: layers.Conv2DTranspose(3, 3, 2)(x),
    "DepthwiseConv2D": lambda x: layers.DepthwiseConv2D(3)(x),
    "SeparableConv2D": lambda x: layers.SeparableConv2D(3, 3)(x),
    "AveragePooling2D": lambda x: layers.AveragePooling2D(2)(x),
    "AveragePool": lambda x: ops.average_pool(x, 2),
    "MaxPool": lambda x: ops.max_pool(x, 3, 2, "same"),
    "MaxPooling2D": lambda x: layers.MaxPooling2D(2)(x),
    "GlobalAveragePooling2D": lambda x: layers.GlobalAveragePooling2D()(x),
    "GlobalMaxPooling2D": lambda x: layers.GlobalMaxPooling2D()(x),
    "BatchNormalization": lambda x: layers.BatchNormalization()(layers.MaxPooling2D(2)(x)),
    "GroupNormalization": lambda x: layers.GroupNormalization(3)(x),
    "CenterCrop": lambda x: layers.CenterCrop(4, 3)(x),
    "Cropping2D": lambda x: layers.Cropping2D(1)(x),
    "ZeroPadding2D": lambda x: layers.ZeroPadding2D(1)(x),
    "Flatten": lambda x: layers.Flatten()(x),
    "Permute": lambda x: layers.Permute((2, 1, 3))(x),
    "Reshape": lambda x: layers.Reshape((-1, 3))(x),
    "Resizing": lambda x: layers.Resizing(4, 5)(x),
    "Resize": lambda x: ops.image.resize(x, (9, 4)),
    "AdaptiveAveragePooling2D": lambda x: layers.AdaptiveAveragePooling2D((2, 3))(x),
    "AdaptiveMaxPooling2D": lambda x: layers.AdaptiveMaxPooling2D((3, 2))(x),
    "UpSampling2D": lambda x: layers.UpSampling2D(2)(x),
    "SpatialDropout2D": lambda x: layers.SpatialDropout2D(0.1)(x),
    "PReLU": lambda x: layers.PReLU("uniform", shared_axes=[1, 2])(x),
    "Normalization": lambda x: layers.Normalization(mean=[0.0] * 3, variance=[2.0] * 3)(x),
    "ExtractPatches": lambda x: ops.image.extract_patches(x, 2),
    "CropImages": lambda x: ops.image.crop_images(x, 1, 1, target_height=4, target_width=5),
    "PadImages": lambda x: ops.image.pad_images(x, 1, 1, target_height=8, target_width=9),
    "RandomCrop": lambda x: layers.RandomCrop(6, 6)(x),
    **{f"Random{name}": random_layer(name) for name in RANDOM},
}
SEQUENCE: dict[str, Make] = {
    "Bidirectional": lambda x: layers.Bidirectional(layers.LSTM(3))(x),
    "LSTM": lambda x: layers.LSTM(3)(x),
    "GRU": lambda x: layers.GRU(3)(x),
    "SimpleRNN": lambda x: layers.SimpleRNN(3)(x),
    "Conv1D": lambda x: layers.Conv1D(3, 3)(x),
    "Conv1DTranspose": lambda x: layers.Conv1DTranspose(3, 3)(x),
    "DepthwiseConv1D": lambda x: layers.DepthwiseConv1D(3)(x),
    "SeparableConv1D": lambda x: layers.SeparableConv1D(3, 3)(x),
    "EinsumDense": lambda x: layers.EinsumDense("abc,cd->abd", (5, 3))(x),
    "MultiHeadAttention": lambda x: layers.MultiHeadAttention(2, 3)(x, x),
    "GroupQueryAttention": lambda x: layers.GroupQueryAttention(3, 4, 2)(x, x),
    "Attention": lambda x: layers.Attention()([x, x]),
    "AdditiveAttention": lambda x: layers.AdditiveAttention()([x, x]),
    "RNN": lambda x: layers.RNN([layers.LSTMCell(3), layers.GRUCell(3)])(x),
    "Dot": lambda x: layers.Dot(2)([x, x]),
    "TimeDistributed": lambda x: layers.TimeDistributed(layers.Dense(3))(x),
    "AveragePooling1D": lambda x: layers.AveragePooling1D(2)(x),
    "MaxPooling1D": lambda x: layers.MaxPooling1D(2)(x),
    "GlobalAveragePooling1D": lambda x: layers.GlobalAveragePooling1D()(x),
    "GlobalMaxPooling1D": lambda x: layers.GlobalMaxPooling1D()(x),
    "Cropping1D": lambda x: layers.Cropping1D(1)(x),
    "ZeroPadding1D": lambda x: layers.ZeroPadding1D(1)(x),
    "UpSampling1D": lambda x: layers.UpSampling1D(2)(x),
    "SpatialDropout1D": lambda x: layers.SpatialDropout1D(0.1)(x),
    "Masking": lambda x: layers.Masking()(x),
    "LayerNormalization": lambda x: layers.LayerNormalization()(x),
    "RMSNormalization": lambda x: layers.RMSNormalization()(x),
    "UnitNormalization": lambda x: layers.UnitNormalization()(x),
    "Einsum": lambda x: ops.einsum("abc,adc->abd", x, x),
    "Matmul": lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))),
    "Moveaxis": lambda x: ops.moveaxis(x, 1, 2),
    "Swapaxes": lambda x: ops.swapaxes(x, 1, 2),
    "Transpose": lambda x: ops.transpose(x, (0, 2, 1)),
    "Squeeze": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    "ExpandDims": lambda x: ops.expand_dims(x, 1),
    "Stack": lambda x: ops.stack([x, x], axis=1),
    "Unstack": lambda x: ops.add(*ops.unstack(x, axis=-1)[:2]),
    "Split": lambda x: ops.add(*ops.split(x, 2, axis=-1)),
    "ArraySplit": lambda x: ops.add(*ops.array_split(x, 2, axis=-1)),
    "GetItem": lambda x: x[:, 1:],
    "Repeat": lambda x: ops.repeat(x, 2, axis=1),
    "Pad": lambda x: ops.pad(x, ((0, 0), (1, 0), (0, 0))),
    "Max": lambda x: ops.max(x, axis=1),
    "Min": lambda x: ops.min(x, axis=1),
    "Mean": lambda x: ops.mean(x, axis=1),
    "Sum": lambda x: ops.sum(x, axis=1),
    "Var": lambda x: ops.var(x, axis=1),
    "Std": lambda x: ops.std(x, axis=-1),
    "Normalize": lambda x: ops.normalize(x, axis=-1),
    "LayerNorm": lambda x: ops.layer_normalization(x),
    "Norm": lambda x: ops.norm(x, axis=-1),
    "Moments": lambda x: ops.add(*ops.moments(x, [-1])),
    "Logsumexp": lambda x: ops.logsumexp(x, axis=-1),
    "Glu": lambda x: ops.glu(x),
    "DotProductAttention": lambda x: ops.dot_product_attention(*[ops.expand_dims(x, 2)] * 3),
    "Amax": lambda x: ops.amax(x, axis=1),
    "Amin": lambda x: ops.amin(x, axis=1),
    "AdaptiveAveragePooling1D": lambda x: layers.AdaptiveAveragePooling1D(1)(x),
    "AdaptiveMaxPooling1D": lambda x: layers.AdaptiveMaxPooling1D(5)(x),
    "Flip": lambda x: ops.flip(x, 1),
    "BroadcastTo": lambda x: layers.Lambda(
        lambda v: ops.broadcast_to(v[:, :1], (ops.shape(v)[0], 3, 4))
    )(x),
    "Roll": lambda x: ops.roll(x, 2, 1),
    "Slice": lambda x: ops.slice(x, (0, 1, 0), (-1, 2, 3)),
    "Take": lambda x: ops.take(x, [0, 2], axis=1),
    "Tile": lambda x: ops.tile(x, (1, 2, 1)),
    "ZerosLike": lambda x: ops.concatenate([x, ops.zeros_like(x)], 2),
}
VECTOR: dict[str, Make] = {
    "Dense": lambda x: layers.Dense(3)(x),
    "Activation": lambda x: layers.Activation("silu")(x),
    "ActivityRegularization": lambda x: layers.ActivityRegularization(0.1)(x),
    "Add": lambda x: layers.Add()([x, x]),
    "Average": lambda x: layers.Average()([x, ops.flip(x, 1)]),
    "Concatenate": lambda x: layers.Concatenate()([x, x]),
    "Maximum": lambda x: layers.Maximum()([x, ops.flip(x, 1)]),
    "Minimum": lambda x: layers.Minimum()([x, ops.flip(x, 1)]),
    "Multiply": lambda x: layers.Multiply()([x, ops.flip(x, 1)]),
    "Subtract": lambda x: layers.Subtract()([x, ops.flip(x, 1)]),
    "AlphaDropout": lambda x: layers.AlphaDropout(0.1)(x),
    "Dropout": lambda x: layers.Dropout(0.1)(x),
    "GaussianDropout": lambda x: layers.GaussianDropout(0.1)(x),
    "GaussianNoise": lambda x: layers.GaussianNoise(0.1)(x),
    "Identity": lambda x: layers.Identity()(x),
    "ELU": lambda x: layers.ELU()(x),
    "LeakyReLU": lambda x: layers.LeakyReLU()(x),
    "ReLU": lambda x: layers.ReLU()(x),
    "Softmax": lambda x: layers.Softmax()(x),
    "Lambda": lambda x: layers.Lambda(lambda v: v * 2)(x),
    "RepeatVector": lambda x: layers.RepeatVector(2)(x),
    "Rescaling": lambda x: layers.Rescaling(0.5)(x),
    "Clip": lambda x: ops.clip(x, -0.5, 0.5),
    "Divide": lambda x: ops.divide(x, 3.0),
    "TrueDivide": lambda x: ops.true_divide(x, 3.0),
    "Log": lambda x: ops.log(ops.sigmoid(x)),
    "Log1p": lambda x: ops.log1p(ops.relu(x)),
    "Sqrt": lambda x: ops.sqrt(ops.relu(x)),
    "Rsqrt": lambda x: ops.rsqrt(ops.exp(x)),
    "Reciprocal": lambda x: ops.reciprocal(ops.exp(x)),
    "Power": lambda x: x**3 + ops.power(2.0, x),
    "Threshold": lambda x: ops.threshold(x, 0.1, 0.0),
    "LogSoftmax": lambda x: ops.log_softmax(x),
    "Log2": lambda x: ops.log2(ops.sigmoid(x)),
    "Log10": lambda x: ops.log10(ops.sigmoid(x)),
    **{
        name.capitalize(): lambda x, name=name: getattr(ops, name)(0.9 * ops.tanh(x))
        for name in ("arcsin", "arccos", "arctanh", "tan", "sinh", "cosh", "erfinv", "exp2")
    },
    **{
        "".join(part.capitalize() for part in name.split("_")): (
            lambda x, name=name: getattr(ops, name)(x)
        )
        for name in (
            *("abs", "absolute", "celu", "cos", "elu", "erf", "exp", "expm1", "gelu"),
            *("hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu"),
            *("log_sigmoid", "negative", "relu", "relu6", "selu", "sigmoid", "silu", "sin"),
            *("soft_shrink", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "square"),
            *("squareplus", "tanh", "tanh_shrink"),
            *("ceil", "copy", "floor", "round", "sign", "trunc", "arctan", "arcsinh", "erfc"),
            *("fabs", "deg2rad", "rad2deg", "nan_to_num"),
        )
    },
}
CUBE: dict[str, Make] = {
    "Cropping3D": lambda x: layers.Cropping3D(1)(x),
    "ZeroPadding3D": lambda x: layers.ZeroPadding3D(1)(x),
    "GlobalAveragePooling3D": lambda x: layers.GlobalAveragePooling3D()(x),
    "GlobalMaxPooling3D": lambda x: layers.GlobalMaxPooling3D()(x),
}
FLOAT: dict[str, Make] = {
    "Cast": lambda x: ops.cast(ops.cast(x, "int32"), "float32"),
}
NETS: dict[str, tuple[tuple[int, ...], dict[str, Make]]] = {
    "image": ((6, 6, 3), IMAGE),
    "sequence": ((5, 4), SEQUENCE),
    "vector": ((6,), VECTOR),
    "cube": ((3, 4, 5, 2), CUBE),
    "float": ((4, 4, 3), FLOAT),
}
TABLE = {one.name: one.how for one in supported()}


def test_the_nets_have_every_name() -> None:
    named = {name for _, parts in NETS.values() for name in parts} | {"Embedding"}
    assert {*TABLE} == named


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*includes a `lambda`")
@pytest.mark.parametrize("net", NETS)
def test_each_is_what_the_table_says(net: str) -> None:
    keras.utils.set_random_seed(0)
    shape, parts = NETS[net]
    source = keras.Input(shape, name="x")
    x = layers.Dense(shape[-1], name="first")(source)
    made_of = {name: make(x) for name, make in parts.items()}
    model = keras.Model(source, list(made_of.values()))
    calls = {type(call.operation).__name__ for call in read(model).calls}
    # Abs is another name of Absolute; BroadcastTo is inside of a Lambda.
    assert not {*parts} - calls - {"Abs", "BroadcastTo"}
    policy = ec2t_tf.Policy([ec2t_tf.Rule("ternary")])
    made = ec2t_tf.apply(model, policy=policy, verbose=0)
    report = made.ec2t_report
    if net == "float":
        assert len(report.of("float")) == 2
        return
    data = np.random.default_rng(0).normal(size=(16, *shape)).astype(np.float32)
    made(data, training=True)  # without a gradient: that of a square root at 0 is none
    assert not report.of("float")
    graph = lower(made)
    inside = [t for t in graph.tensors if t.dtype == "float32"]
    assert len(inside) == 1 + len(set(graph.outputs))  # what does nothing shares its output
    for rounding, (exact, from_keras) in differences(made, {"x": data[:8]}, graph=graph).items():
        assert exact == 0, rounding
        assert from_keras <= 3, rounding
    kernels = [name for name in parts if TABLE[name] == "ternary"]
    assert len(report.of("ternary")) >= len(kernels)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*includes a `lambda`")
@pytest.mark.parametrize("net", [net for net in NETS if net != "float"])
def test_tf_keras_has_all_of_it_that_it_has(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    shape, parts = NETS[net]
    source = tf_keras.Input(shape, name="x")
    x = tf_keras.layers.Dense(shape[-1], name="first")(source)
    monkeypatch.setitem(globals(), "layers", tf_keras.layers)
    monkeypatch.setitem(globals(), "ops", TF_KERAS.ops)
    made_of = {name: make(x) for name, make in parts.items() if _is_in_tf_keras(name)}
    assert len(made_of) > 0.6 * len(parts) or net == "image"
    model = tf_keras.Model(source, list(made_of.values()))
    made = ec2t_tf.apply(model, policy=ec2t_tf.Policy([ec2t_tf.Rule("ternary")]), verbose=0)
    data = np.random.default_rng(0).normal(size=(16, *shape)).astype(np.float32)
    made(data, training=True)
    assert not made.ec2t_report.of("float")
    found = Outcome()
    compare(made, [data], found)
    assert found.steps < 2


def _is_in_tf_keras(name: str) -> bool:
    if hasattr(keras.layers, name):
        return hasattr(layers, name)
    words = re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower().replace("get_item", "split")
    return hasattr(ops, words)


def test_tokens_of_float32_are_not_rounded() -> None:
    """As `keras.Input` makes them where nobody says a type: 1,000 of them have no 256 codes."""
    keras.utils.set_random_seed(0)
    source = keras.Input((5,), name="x")
    x = layers.Flatten()(layers.Dense(6, "relu")(layers.Embedding(1000, 4)(source)))
    model = keras.Model(source, layers.Dense(3)(x))
    made = ec2t_tf.apply(model, policy=ec2t_tf.Policy([ec2t_tf.Rule("ternary")]), verbose=0)
    data = np.random.default_rng(0).integers(0, 1000, (64, 5)).astype(np.float32)
    made(data, training=True)
    for exact, from_keras in differences(made, {"x": data}).values():
        assert (exact, from_keras <= 1) == (0, True)


def test_a_table_of_tokens_can_be_ternary() -> None:
    source = keras.Input((5,), dtype="int32", name="x")
    x = layers.Embedding(9, 6, name="embedding")(source)
    model = keras.Model(source, layers.Dense(2)(layers.Flatten()(x)))
    made = ec2t_tf.apply(model, policy={"embedding": "ternary"}, verbose=0)
    made(np.zeros((2, 5), np.int32), training=True)
    (table,) = [t for t in lower(made).tensors if t.shape == (9, 6)]
    assert len(np.unique(table.data)) <= 3
