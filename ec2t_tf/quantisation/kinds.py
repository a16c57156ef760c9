"""What each layer and operation is to an int8 network."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

# Layers with a kernel. Those of `TERNARY` can be given three values, the others int8.
KERNELS = (
    *("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose"),
    *("DepthwiseConv1D", "DepthwiseConv2D"),
)
DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
# Layers with a loop, of which each kernel can be given three values.
RECURRENT = ("LSTM", "GRU", "SimpleRNN")
SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
ELEMENTWISE = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
# Which of one value are that value.
JOINS = ("Add", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
NOTHING_AT_INFERENCE = (
    *("Identity", "ActivityRegularization", "GaussianNoise", "GaussianDropout", "AlphaDropout"),
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
    *("RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomContrast"),
    *("RandomBrightness", "RandomShear", "RandomHue", "RandomSaturation", "RandomGrayscale"),
    *("RandomColorJitter", "RandomErasing", "RandomSharpness", "RandomPosterization"),
    *("RandomPerspective", "RandomGaussianBlur", "RandomColorDegeneration"),
    *("RandomInvert", "RandomCrop", "InTraining", "FiniteSlope"),
)
# Only move values, and add zeros; at inference also what draws random numbers in training.
MOVING = (
    *(f"{kind}{n}D" for kind in ("MaxPooling", "GlobalMaxPooling") for n in (1, 2, 3)),
    "MaxPool",
    *(f"{kind}{n}D" for kind in ("ZeroPadding", "Cropping") for n in (1, 2, 3)),
    *("Reshape", "Flatten", "Permute", "RepeatVector", "Masking", "CenterCrop"),
    *NOTHING_AT_INFERENCE,
    # of keras.ops
    *("Transpose", "Squeeze", "ExpandDims", "Flip", "GetItem", "Pad", "Max", "Min"),
    *("Copy", "Split", "ArraySplit", "Unstack", "Swapaxes", "Moveaxis", "Repeat", "Tile", "Roll"),
    *("BroadcastTo", "Take", "Slice", "ExtractPatches", "CropImages", "PadImages"),
    *("UpSampling1D", "Moves", "ForEach", "ZerosLike"),
)
# Layers that Keras calls with `training=True` unless it is told otherwise, whatever they do then.
OF_IMAGES = ("Resizing", "CenterCrop")
# Their operator has one scale for input and output, and rounds to it.
SAME_RANGE = (
    *("AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "AveragePool", "Resizing"),
    *("UpSampling2D", "Resize"),
)
# Which round ties up.
INTERPOLATING = ("UpSampling2D", "Resizing", "Resize")
# Values that are not computed from the net's inputs.
GIVEN = ("Weight", "Constant", "Computed")
# Their output has a range of its own.
OWN_RANGE = (
    *KERNELS,
    *ELEMENTWISE,
    *("Concatenate", "Stack", "BatchNormalization", "ReLU", "LeakyReLU", "PReLU", "ELU"),
    *("Activation", "Rescaling", "Normalization", "Embedding"),
    *("LayerNormalization", "GroupNormalization", "RMSNormalization", "UnitNormalization"),
    *("Matmul", "Einsum", "Sum", "TrueDivide", "Divide", "Masked"),
    *("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D", "Mean"),
    *GIVEN,
)
# Output ranges that the operators of TensorFlow Lite prescribe.
FIXED_RANGE = {
    "sigmoid": (0.0, 255 / 256),
    "softmax": (0.0, 255 / 256),
    "log_softmax": (-255 / 16, 0.0),
    "tanh": (-1.0, 127 / 128),
}
# Activations that an operator with a kernel computes on the way out.
FUSED = ("linear", "relu", "relu6")
# Operations of keras.ops under the name of the layer that does the same.
_LAYER_OF = {
    **{"Relu": "ReLU", "Relu6": "ReLU", "LeakyRelu": "LeakyReLU", "Elu": "ELU"},
    **{"Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax"},
    "LogSoftmax": "log_softmax",
}
OF_ONE_VALUE = (
    *("Silu", "Gelu", "HardSigmoid", "HardSilu", "HardTanh", "Celu", "Selu", "Softplus", "Exp"),
    *("Softsign", "Expm1", "Log", "Log1p", "Sqrt", "Rsqrt", "Square", "Abs", "Absolute"),
    *("Negative", "Sin", "Cos", "Erf", "Reciprocal", "LogSigmoid", "SoftShrink", "HardShrink"),
    *("TanhShrink", "Squareplus", "SparsePlus", "SparseSigmoid", "Threshold", "Clip"),
    *("Floor", "Ceil", "Round", "Sign", "Power"),
    *("Tan", "Arcsin", "Arccos", "Arctan", "Sinh", "Cosh", "Arcsinh", "Arctanh"),
    *("Exp2", "Log2", "Log10", "Deg2rad", "Rad2deg", "Trunc", "NanToNum", "Fabs"),
    *("Erfc", "Erfinv"),  # not cbrt and sinc, whose slope at 0 is none
)
_LAYER_OF.update(dict.fromkeys(OF_ONE_VALUE, "Activation"))
# Operations of keras.ops of single values, without others that are constants.
ACTIVATIONS = tuple(
    x for x in (*_LAYER_OF, *OF_ONE_VALUE) if x not in ("Softmax", "LogSoftmax", "Power")
)


def kind_of(operation: Any) -> str:
    """Class name; for an activation the name of what it computes, if that is fused or fixed.

    "ReLU" is only one that an operator can fuse: max(x, 0), or min(max(x, 0), 6). A class of the
    user's has its module in front, so that it is never taken for the built-in one of that name; it
    is "Activation" or "Moves" where it says so of itself (`elementwise`, `moves_values_only`).
    """
    kind = class_name(operation)
    if getattr(operation, "elementwise", False):
        return "Activation"
    if getattr(operation, "moves_values_only", False):
        return "Moves"
    if kind == "ReLU":
        plain = not operation.negative_slope and not operation.threshold
        return "ReLU" if plain and operation.max_value in (None, 6) else "LeakyReLU"
    if kind == "Activation":
        return _kind_of_function(operation.activation)
    if kind == "UpSampling2D" and operation.interpolation == "nearest":
        return "Identity"
    if kind == "Lambda":
        return "Activation" if is_elementwise(operation.function) else "Lambda"
    if kind == "Softmax":
        return "softmax"
    return kind if isinstance(operation, keras.layers.Layer) else _LAYER_OF.get(kind, kind)


def class_name(operation: Any) -> str:
    """Of a class of Keras or of ours; with its module in front for all others."""
    kind = type(operation)
    room = kind.__module__.split(".")[0]
    return kind.__name__ if room in ("keras", "ec2t_tf") else f"{kind.__module__}.{kind.__name__}"


def _kind_of_function(function: Any) -> str:
    if isinstance(function, keras.layers.Layer):
        return kind_of(function)
    name = getattr(function, "__name__", "")
    if function is getattr(keras.activations, name, None):
        known = {"relu": "ReLU", "relu6": "ReLU", "linear": "Identity"}
        return known.get(name, name if name in FIXED_RANGE else "Activation")
    return "Activation" if is_elementwise(function) else "a function of several values"


def is_elementwise(function: Any) -> bool:
    """Whether a function treats each value by itself, as far as numbers tell."""
    x = np.linspace(-7.9, 8.3, 60, dtype=np.float32)
    try:
        row = _computed(function, x)
        shaped = _computed(function, np.ascontiguousarray(x[::-1]).reshape(3, 5, 4))
        parts = np.concatenate([_computed(function, x[:7]), _computed(function, x[7:])])
    except Exception:
        return False
    alike = row.shape == x.shape and shaped.shape == (3, 5, 4)
    return bool(
        alike
        and np.allclose(row, shaped.reshape(-1)[::-1], 1e-5, 1e-6, equal_nan=True)
        and np.allclose(row, parts, 1e-5, 1e-6, equal_nan=True)
    )


def _computed(function: Any, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(x)))


def ignores_training(operation: Any) -> bool:
    """Whether what a call says of training is nothing at inference: Keras says so by itself."""
    return class_name(operation) in (*NOTHING_AT_INFERENCE, *OF_IMAGES)


def activation_name(layer: Any) -> str:
    """Name of a layer's activation: "linear" where it has none, "" for a function of the user's."""
    function = getattr(layer, "activation", None)
    return "linear" if function is None else name_of_function(function)


@keras.saving.register_keras_serializable(package="ec2t_tf")
def hard_sigmoid_of_keras_2(x: Any) -> Any:
    """clip(0.2 x + 0.5, 0, 1), which tf_keras has under the name that is relu6(x + 3) / 6 now."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def name_of_function(function: Any) -> str:
    """Name of an activation of Keras; "" for a function of the user's, of whatever name."""
    name = getattr(function, "__name__", "")
    ours = {"hard_sigmoid_of_keras_2": hard_sigmoid_of_keras_2}
    return name if function is getattr(keras.activations, name, ours.get(name)) else ""


def has_rule(kind: str) -> bool:
    """Whether an int8 network can have it."""
    return kind in (*OWN_RANGE, *SAME_RANGE, *MOVING, *FIXED_RANGE, *SEPARABLE, *RECURRENT)
