"""The tfmot quantisation scheme that puts ternary kernels into quantize-aware training.

A scheme, not a config per layer: tfmot applies its Conv+BN+ReLU layout transforms only to layers
whose config comes from the registry. Knows tfmot's internals.
"""

from __future__ import annotations

import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize,
    quantize_annotate,
    quantize_layer,
    quantize_wrapper,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_configs,
    default_8bit_quantize_registry,
    default_8bit_quantize_scheme,
)
from tensorflow_model_optimization.python.core.quantization.keras.quantize_config import (
    QuantizeConfig,
)
from tf_keras import layers

from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.quantize_config import TernaryQuantizeConfig, TernaryQuantizer

# Kernel attribute, and whether the converter accepts a scale per output channel.
TERNARY_KERNELS: dict[type, tuple[str, bool]] = {
    layers.Conv2D: ("kernel", True),
    layers.Dense: ("kernel", False),
}
# Layers that a layout transform replaces by ones that the registry knows.
TRANSFORMED = (layers.SeparableConv1D, layers.SeparableConv2D)


class TernaryRegistry(default_8bit_quantize_registry.Default8BitQuantizeRegistry):
    """tfmot's 8-bit registry, with ternary configs for the layers named in `ternary`."""

    def __init__(self, ternary: dict[str, TernaryQuantizeConfig] | None = None) -> None:
        super().__init__()
        self._ternary = ternary or {}

    def supports(self, layer: layers.Layer) -> bool:
        return isinstance(layer, layers.BatchNormalization) or super().supports(layer)

    def get_quantize_config(self, layer: layers.Layer) -> QuantizeConfig:
        if layer.name in self._ternary:
            return self._ternary[layer.name]
        if isinstance(layer, layers.BatchNormalization):
            # Only one that follows no convolution gets here: int8 multiply and add.
            return default_8bit_quantize_configs.Default8BitOutputQuantizeConfig()
        return super().get_quantize_config(layer)


class TernaryScheme(default_8bit_quantize_scheme.Default8BitQuantizeScheme):
    def __init__(self, ternary: dict[str, TernaryQuantizeConfig]) -> None:
        super().__init__()
        self._ternary = ternary

    def get_quantize_registry(self) -> TernaryRegistry:
        return TernaryRegistry(self._ternary)


def has_int8_rule(layer: layers.Layer) -> bool:
    """Whether tfmot can train this layer with int8 weights and activations."""
    return isinstance(layer, TRANSFORMED) or TernaryRegistry().supports(layer)


def quantise(
    model: tf_keras.Model,
    method: TernaryMethod,
    *,
    ternary: list[str],
    untouched: list[str],
) -> tf_keras.Model:
    """A copy of `model` for quantize-aware training: weights copied, `model` unchanged.

    Args:
      model: built Sequential or Functional model.
      ternary: names of the layers with ternary kernels.
      untouched: names of the layers that stay float.
    """
    by_name = {layer.name: layer for layer in model.layers}
    sizes = {
        name: getattr(by_name[name], TERNARY_KERNELS[type(by_name[name])][0]).shape.num_elements()
        for name in ternary
    }
    configs = {}
    for name in ternary:
        kernel, per_channel = TERNARY_KERNELS[type(by_name[name])]
        relative_size = sizes[name] / max(sizes.values())
        quantizer = TernaryQuantizer(method, relative_size, per_channel)
        configs[name] = TernaryQuantizeConfig([kernel], ["activation"], False, quantizer)

    def annotate(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config()
        if layer.name in ternary:
            # Latent weights train without weight decay (ec2t.md pitfall 15).
            config["kernel_regularizer"] = None
        copy = type(layer).from_config(config)
        return copy if layer.name in untouched else quantize_annotate.QuantizeAnnotate(copy)

    annotated = tf_keras.models.clone_model(model, clone_function=annotate)
    annotated.set_weights(model.get_weights())
    return quantize.quantize_apply(annotated, TernaryScheme(configs))


def wrapped(layer: layers.Layer) -> layers.Layer:
    """The layer inside tfmot's wrapper, or the layer itself."""
    return layer.layer if isinstance(layer, quantize_wrapper.QuantizeWrapper) else layer


def is_quantised(model: tf_keras.Model) -> bool:
    """Whether the model is one for quantize-aware training."""
    ours = (quantize_wrapper.QuantizeWrapper, quantize_layer.QuantizeLayer)
    return any(isinstance(layer, ours) for layer in model.layers)
