"""What tfmot's registry of layers says, and what ours adds to it."""

from __future__ import annotations

from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_configs,
    default_8bit_quantize_registry,
)
from tensorflow_model_optimization.python.core.quantization.keras.quantize_config import (
    QuantizeConfig,
)
from tf_keras import layers

from ec2t_tf.tfmot import activations
from ec2t_tf.tfmot.quantize_config import (
    TernaryQuantizeConfig,
)
from ec2t_tf.tfmot.quantizers import KnownRange

# Layers beyond tfmot's registry whose output has a range of its own.
OUTPUT_QUANTISED = (
    *(layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum),
    layers.BatchNormalization,
)
# Layers beyond tfmot's registry that pass values on, at inference.
PASSED_ON = (
    *(layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout, layers.Identity),
    *(layers.RandomFlip, layers.RandomRotation, layers.RandomTranslation, layers.RandomZoom),
    *(layers.RandomContrast, layers.RandomBrightness, layers.RandomCrop, layers.CenterCrop),
    layers.RepeatVector,
)
# Layers whose output has the range of their input, because their operator has one scale for both.
SAME_RANGE = (layers.AveragePooling2D, layers.UpSampling2D, layers.Resizing)
# Layers that only move values, and add zeros.
MOVING = (
    *(layers.MaxPooling2D, layers.GlobalMaxPooling2D, layers.ZeroPadding2D, layers.Cropping2D),
    *(layers.Reshape, layers.Flatten, layers.Permute, layers.RepeatVector, layers.Identity),
    *(layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout),
)
# Activations that the converter makes one int8 operator of.
ACTIVATIONS = (
    *("linear", "relu", "softmax", "sigmoid", "tanh", "swish", "silu", "gelu"),
    *(activations.hard_silu.__name__, activations.hard_tanh.__name__),
)


class TernaryRegistry(default_8bit_quantize_registry.Default8BitQuantizeRegistry):
    """tfmot's 8-bit registry, with ternary configs for the layers named in `ternary`."""

    def __init__(self, ternary: dict[str, TernaryQuantizeConfig] | None = None) -> None:
        super().__init__()
        self._ternary = ternary or {}

    def supports(self, layer: layers.Layer) -> bool:
        if isinstance(layer, layers.Activation):
            return getattr(layer.activation, "__name__", "") in ACTIVATIONS
        if type(layer) in (*OUTPUT_QUANTISED, *SAME_RANGE) or _passes_on(layer):
            return True
        return super().supports(layer)

    def get_quantize_config(self, layer: layers.Layer) -> QuantizeConfig:
        if layer.name in self._ternary:
            return self._ternary[layer.name]
        if type(layer) in OUTPUT_QUANTISED or (
            isinstance(layer, layers.Activation)
            and layer.activation.__name__ not in ("linear", "softmax", "sigmoid", "tanh")
        ):
            # A batch normalisation gets here only where it follows no convolution.
            return default_8bit_quantize_configs.Default8BitOutputQuantizeConfig()
        if type(layer) in SAME_RANGE:
            return KnownRange(role_of(layer))
        if _passes_on(layer):
            return default_8bit_quantize_configs.NoOpQuantizeConfig()
        return super().get_quantize_config(layer)


def _passes_on(layer: layers.Layer) -> bool:
    """Whether it passes values on at inference, by its type or by what its class says of itself."""
    return type(layer) in PASSED_ON or _says_it_moves_values_only(layer)


def _says_it_moves_values_only(layer: layers.Layer) -> bool:
    return bool(getattr(layer, "moves_values_only", False))


def has_int8_rule(layer: layers.Layer) -> bool:
    """Whether tfmot can train this layer with int8 weights and activations."""
    return TernaryRegistry().supports(layer)


def moves(layer: layers.Layer) -> bool:
    """Whether a layer's values are those of its input, and zeros."""
    if type(layer) in MOVING or _says_it_moves_values_only(layer):
        return True
    return type(layer) in SAME_RANGE and getattr(layer, "interpolation", "") == "nearest"


def role_of(layer: layers.Layer) -> str:
    """In `KnownRange`, of a layer whose output has the range of its input."""
    if moves(layer):
        return "move"
    return "average" if type(layer) is layers.AveragePooling2D else "interpolate"
