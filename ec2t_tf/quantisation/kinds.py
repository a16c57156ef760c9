"""What each layer and operation is to an int8 network."""

from __future__ import annotations

from typing import Any

import keras

# Layers with a kernel. Those of `TERNARY` can be given three values, the others int8.
KERNELS = (
    *("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose"),
    *("DepthwiseConv1D", "DepthwiseConv2D"),
)
DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
ELEMENTWISE = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
# Only move values, and add zeros; at inference also what draws random numbers in training.
MOVING = (
    *(f"{kind}{n}D" for kind in ("MaxPooling", "GlobalMaxPooling") for n in (1, 2, 3)),
    *(f"{kind}{n}D" for kind in ("ZeroPadding", "Cropping") for n in (1, 2, 3)),
    *("Reshape", "Flatten", "Permute", "RepeatVector", "Identity", "ActivityRegularization"),
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
    *("GaussianNoise", "GaussianDropout", "AlphaDropout"),
    *("RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomContrast"),
    *("RandomBrightness", "RandomCrop", "CenterCrop"),
    # of keras.ops
    *("Transpose", "Squeeze", "ExpandDims", "Flip", "GetItem", "Pad", "MaxPool"),
    *("Split", "Unstack", "Ravel", "Swapaxes", "Moveaxis"),
)
# Their operator has one scale for input and output, and rounds to it.
SAME_RANGE = (
    *("AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "Resizing"),
    *("AveragePool", "UpSampling2D"),
)
# Their output has a range of its own.
OWN_RANGE = (
    *KERNELS,
    *ELEMENTWISE,
    *("Concatenate", "Stack", "BatchNormalization", "ReLU", "LeakyReLU", "PReLU", "ELU"),
    *("Activation", "Rescaling", "Normalization"),
    *("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D", "Mean"),
)
# Output ranges that the operators of TensorFlow Lite prescribe.
FIXED_RANGE = {
    "sigmoid": (0.0, 255 / 256),
    "softmax": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}
# Activations that an operator with a kernel computes on the way out.
FUSED = ("linear", "relu", "relu6")
# Operations of keras.ops under the name of the layer that does the same.
_LAYER_OF = {"Relu": "ReLU", "Relu6": "ReLU", "LeakyRelu": "LeakyReLU", "Elu": "ELU"}
_ACTIVATION_OF = {
    **{"Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax"},
    **dict.fromkeys(("Silu", "Gelu", "HardSigmoid", "HardSilu", "HardTanh"), "Activation"),
    **dict.fromkeys(
        ("Abs", "Absolute", "Negative", "Square", "Exp", "Sqrt", "Rsqrt"), "Activation"
    ),
}


def kind_of(operation: Any) -> str:
    """Class name; for an activation the name of what it computes, if that is fused or fixed.

    "ReLU" is only one that an operator can fuse: max(x, 0), or min(max(x, 0), 6).
    """
    kind = type(operation).__name__
    if isinstance(operation, keras.layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return "ReLU" if plain and operation.max_value in (None, 6) else "LeakyReLU"
    if isinstance(operation, keras.layers.Softmax):
        return "softmax"
    if isinstance(operation, keras.layers.Activation):
        name = activation_name(operation)
        return {"relu": "ReLU", "relu6": "ReLU", "linear": "Identity"}.get(
            name, name if name in FIXED_RANGE else "Activation"
        )
    if isinstance(operation, keras.layers.UpSampling2D) and operation.interpolation == "nearest":
        return "Identity"
    if isinstance(operation, keras.layers.BatchNormalization):
        return "BatchNormalization"
    if not isinstance(operation, keras.layers.Layer):
        return _LAYER_OF.get(kind, _ACTIVATION_OF.get(kind, kind))
    return kind


def activation_name(layer: Any) -> str:
    """Name of a layer's activation: "linear" where it has none, "" for a function of the user's."""
    function = getattr(layer, "activation", None)
    if function is None:
        return "linear"
    name = getattr(function, "__name__", "")
    return name if function is getattr(keras.activations, name, None) else ""


def has_rule(kind: str) -> bool:
    """Whether an int8 network can have it."""
    return kind in (*OWN_RANGE, *SAME_RANGE, *MOVING, *FIXED_RANGE, *SEPARABLE)
