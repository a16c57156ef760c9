"""A ternary method as a tfmot `Quantizer` under a `QuantizeConfig`. Knows tfmot's internals."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_registry,
)
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import (
    QuantizeWrapper,
)
from tf_keras import layers

from ec2t_tf import methods
from ec2t_tf.methods.base import Assignment, Member, TernaryMethod
from ec2t_tf.tfmot.quantizers import TernaryQuantizer, unwrapped

# Layers with a kernel, and the name of its attribute.
TERNARY_KERNELS: dict[type, str] = {
    **dict.fromkeys((layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D), "kernel"),
    **dict.fromkeys((layers.Conv1DTranspose, layers.Conv2DTranspose), "kernel"),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), "depthwise_kernel"),
    layers.Embedding: "embeddings",
}


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class TernaryQuantizeConfig(default_8bit_quantize_registry.Default8BitQuantizeConfig):
    """Ternary kernel, tfmot's own int8 activations.

    For layers that tfmot's own functions treat:

    >>> layer = quantize_annotate_layer(Dense(64), TernaryQuantizeConfig("ec2t"))
    >>> model = quantize_apply(model_of_such_layers)
    >>> ec2t_tf.tfmot.finish(model)  # the centroids, from the layers' weights

    Args:
      method: name of a ternary method, a `TernaryMethod` object, or its saved form.
      relative_size: weights of the layer / weights of the largest ternary layer; `finish` sets it.
      weight_attrs, activation_attrs: what of the layer is quantised; None for the kernel of a
        Dense or convolution and its activation.
      quantize_output: as in tfmot.
      quantizer: of the kernel, or its saved form; in place of `method`.
    """

    weight_attrs: list[str]

    def __init__(
        self,
        method: str | TernaryMethod | dict = "ec2t",
        *,
        relative_size: float = 1.0,
        weight_attrs: Sequence[str] | None = None,
        activation_attrs: Sequence[str] | None = None,
        quantize_output: bool = False,
        quantizer: TernaryQuantizer | dict | None = None,
    ) -> None:
        activations = ["activation"] if activation_attrs is None else list(activation_attrs)
        super().__init__(list(weight_attrs or ()), activations, quantize_output)
        if isinstance(quantizer, dict):
            quantizer = TernaryQuantizer(**quantizer)
        if quantizer is None:
            made = method if isinstance(method, dict) else methods.get(method)
            quantizer = TernaryQuantizer(made, relative_size)
        self.weight_quantizer = quantizer

    def get_weights_and_quantizers(self, layer: layers.Layer) -> list:
        if not self.weight_attrs:
            kind = next((kind for kind in TERNARY_KERNELS if type(layer) is kind), None)
            if kind is None:
                raise ValueError(
                    "TernaryQuantizeConfig requires a dense or convolutional layer. "
                    f"Received: '{layer.name}', a {type(layer).__name__}. "
                    "Give another config to it, or weight_attrs=['<kernel>']."
                )
            self.weight_attrs = [TERNARY_KERNELS[kind]]
        return super().get_weights_and_quantizers(layer)

    def set_quantize_weights(self, layer: layers.Layer, quantize_weights: list) -> None:
        if not self.weight_attrs:
            self.get_weights_and_quantizers(layer)
        super().set_quantize_weights(layer, quantize_weights)

    def get_config(self) -> dict:
        return {**super().get_config(), "quantizer": self.weight_quantizer.get_config()}


class TernaryLayer:
    """A ternary kernel inside a wrapped layer: latent weights, state and method together.

    Args:
      wrapper: of the layer.
      number: which of the kernels that it quantises.
    """

    def __init__(self, wrapper: QuantizeWrapper, number: int = 0) -> None:
        self.wrapper = wrapper
        self.latent, quantizer, self.state = wrapper._weight_vars[number]
        self.quantizer: TernaryQuantizer = unwrapped(quantizer)
        self.kernel_name = wrapper.quantize_config.weight_attrs[number]

    @property
    def name(self) -> str:
        """That of the layer; of a recurrent one with that of the matrix behind."""
        name = str(self.wrapper.layer.name)
        if len(self.wrapper._weight_vars) == 1:
            return name
        return f"{name}_{self.kernel_name.removesuffix('_kernel')}"

    @property
    def method(self) -> TernaryMethod:
        return self.quantizer.method

    @property
    def layer(self) -> tf_keras.layers.Layer:
        return self.wrapper.layer

    def initialise(self) -> None:
        """Set centroids and the like from the latent weights."""
        self.method.initialise(tf.convert_to_tensor(self.latent), self.state)

    def assign(self) -> Assignment:
        return self.quantizer.assign(self.latent, self.state)

    def losses(self) -> dict[str, tf.Tensor]:
        """Regularisation losses by name, float32 scalars; parts of `model.losses`."""
        return self.quantizer.losses(self.latent, self.state)


def ternary_layers(model: tf_keras.Model) -> list[TernaryLayer]:
    """The ternary layers of a model that `apply` made, in order; empty for any other model."""
    return [
        TernaryLayer(layer, number)
        for layer in model.layers
        if isinstance(layer, QuantizeWrapper)
        for number, (_, quantizer, _) in enumerate(layer._weight_vars)
        if isinstance(unwrapped(quantizer), TernaryQuantizer)
    ]


def connect(model: tf_keras.Model) -> None:
    """Make the ternary layers of a model known to each other; needed once a model is built.

    Layers with one and the same method form a network of their own.
    """
    networks: dict[str, list[TernaryLayer]] = {}
    for layer in ternary_layers(model):
        networks.setdefault(repr(methods.serialize(layer.method)), []).append(layer)
    for network in networks.values():
        members = [
            Member(layer.latent, layer.state, layer.quantizer.relative_size) for layer in network
        ]
        for layer in network:
            layer.quantizer.members = members
            layer.quantizer.leads = layer is network[0]
    if any(layer.method.updates_twice for layer in ternary_layers(model)):
        from ec2t_tf.tfmot import two_pass

        model.train_step = functools.partial(two_pass.train_step, model)


def initialise(model: tf_keras.Model) -> None:
    """Set the state of all ternary layers from their latent weights."""
    ternary = ternary_layers(model)
    for layer in ternary:
        layer.initialise()
    for layer in ternary:
        if layer.quantizer.leads:
            layer.method.initialise_network(layer.quantizer.members or ())


def finish(model: tf_keras.Model) -> None:
    """Set up ternary layers that tfmot's `quantize_apply` made; once, before they are trained.

    Their states are set from their weights, and they get to know each other: the sizes that EC2T
    scales its constraint with, the sparsity of the network, TGA's two passes.

    Raises:
      ValueError: no layer has a `TernaryQuantizeConfig`.
    """
    ternary = ternary_layers(model)
    if not ternary:
        raise ValueError(
            "finish requires a model with ternary layers. "
            f"Received: '{model.name}', in which no layer has a TernaryQuantizeConfig. Annotate "
            "one: quantize_annotate_layer(layer, TernaryQuantizeConfig('ec2t'))."
        )
    sizes = [layer.latent.shape.num_elements() for layer in ternary]
    for layer, size in zip(ternary, sizes, strict=True):
        layer.quantizer.relative_size = size / max(sizes)
    connect(model)
    initialise(model)
