"""The tfmot quantisation scheme that puts ternary kernels into quantize-aware training.

A scheme, not a config per layer: tfmot applies its Conv+BN+ReLU layout transforms only to layers
whose config comes from the registry. Knows tfmot's internals.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize,
    quantize_annotate,
    quantize_aware_activation,
    quantize_layer,
    quantize_wrapper,
)
from tensorflow_model_optimization.python.core.quantization.keras import (
    utils as quantize_utils,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_configs,
    default_8bit_quantize_registry,
    default_8bit_quantize_scheme,
    default_8bit_transforms,
)
from tensorflow_model_optimization.python.core.quantization.keras.graph_transformations import (
    model_transformer,
    transforms,
)
from tensorflow_model_optimization.python.core.quantization.keras.quantize_config import (
    QuantizeConfig,
)
from tensorflow_model_optimization.python.core.quantization.keras.quantize_layout_transform import (
    QuantizeLayoutTransform,
)
from tf_keras import layers

from ec2t_tf import activations, integer_bias
from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.quantize_config import (
    TernaryQuantizeConfig,
    TernaryQuantizer,
    connect,
    is_exporting,
)

# Kernel attribute, and whether the converter accepts a scale per output channel.
TERNARY_KERNELS: dict[type, tuple[str, bool]] = {
    layers.Conv2D: ("kernel", True),
    layers.DepthwiseConv2D: ("depthwise_kernel", True),
    layers.Conv2DTranspose: ("kernel", False),
    layers.Dense: ("kernel", False),
}
# Layers beyond tfmot's registry whose output has a range of its own.
OUTPUT_QUANTISED = (
    *(layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum),
    *(layers.Resizing, layers.BatchNormalization),
)
# Layers beyond tfmot's registry that pass values on, at inference.
PASSED_ON = (
    *(layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout, layers.Identity),
    *(layers.RandomFlip, layers.RandomRotation, layers.RandomTranslation, layers.RandomZoom),
    *(layers.RandomContrast, layers.RandomBrightness, layers.RandomCrop, layers.CenterCrop),
    layers.RepeatVector,
)
# Activations that the converter makes one int8 operator of.
ACTIVATIONS = (
    *("linear", "relu", "softmax", "sigmoid", "tanh", "swish", "silu", "gelu"),
    *(activations.hard_silu.__name__, activations.hard_tanh.__name__),
)


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class QuantizeInput(quantize_layer.QuantizeLayer):
    """tfmot's layer at the model's input, which would create its weights twice when loaded."""

    def build_from_config(self, config: dict) -> None:
        """Nothing: calling the layer builds it, with its name before those of its weights."""


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class QuantizeWrapper(quantize_wrapper.QuantizeWrapperV2):
    """tfmot's wrapper, with weights whose names and order survive saving and loading."""

    def build_from_config(self, config: dict) -> None:
        """Nothing: calling the layer builds it, with its name before those of its weights."""

    # tfmot's lists the kernel among its own trainable weights, also of a frozen layer.
    @property
    def trainable_weights(self) -> list:
        return super().trainable_weights if self.layer.trainable else []

    @property
    def non_trainable_weights(self) -> list:
        frozen = [] if self.layer.trainable else super().trainable_weights
        return frozen + super().non_trainable_weights

    @tf.autograph.experimental.do_not_convert
    def call(self, inputs: tf.Tensor, training: bool | None = None, **kwargs: object) -> tf.Tensor:
        if training is None:
            training = tf_keras.backend.learning_phase()
        known = not tf.is_tensor(training)
        rounded = None if known and training else rounded_bias(self)
        if rounded is None:
            return super().call(inputs, training=training, **kwargs)
        name, value = rounded
        if not known:
            value = tf.where(tf.cast(training, tf.bool), getattr(self.layer, name), value)
        with integer_bias.replaced(self.layer, name, value):
            return super().call(inputs, training=training, **kwargs)

    @classmethod
    def from_config(cls, config: dict) -> QuantizeWrapper:
        inner = {key: value for key, value in config["layer"].items() if key != "build_config"}
        return super().from_config({**config, "layer": inner})


def rounded_bias(wrapper: QuantizeWrapper) -> tuple[str, tf.Tensor] | None:
    """Name and value of the variable that makes a layer's bias a whole number of its units.

    None for a layer that adds no bias in the file, and where the unit is not known: shared layers,
    inputs without a range of their own. The file's bias is then up to half a unit off.
    """
    if not is_exporting():
        return _rounded_bias(wrapper)
    with tf.init_scope():
        rounded = _rounded_bias(wrapper)
    # The converter is to meet a constant.
    return None if rounded is None else (rounded[0], tf.constant(rounded[1].numpy()))


def _rounded_bias(wrapper: QuantizeWrapper) -> tuple[str, tf.Tensor] | None:
    layer = wrapper.layer
    if isinstance(layer, layers.BatchNormalization):
        before = _only_input(wrapper)
        unit = None if before is None or not layer.center else _bias_unit(before)
        if before is None or unit is None:
            return None
        bias = before.layer.bias if before.layer.use_bias else 0.0
        return "beta", integer_bias.folded_offset(layer, bias, unit)
    if not getattr(layer, "use_bias", False) or _feeds_normalisation(wrapper):
        return None
    unit = _bias_unit(wrapper)
    return None if unit is None else ("bias", integer_bias.nearest(layer.bias, unit))


def _bias_unit(wrapper: layers.Layer) -> tf.Tensor | None:
    """Float32, () or (channels,), of a wrapped layer with a kernel."""
    if not isinstance(wrapper, QuantizeWrapper) or len(wrapper._weight_vars) != 1:
        return None
    limits, source = None, _only_input(wrapper)
    while source is not None and limits is None:
        limits, source = _output_range(source), _only_input(source)
    if limits is None:
        return None
    ((kernel, quantizer, variables),) = wrapper._weight_vars
    if isinstance(quantizer, TernaryQuantizer):
        largest = quantizer.largest_weight(kernel, variables)
    else:
        largest = variables["max_var"]
    if largest is None or largest.shape.num_elements() not in (1, wrapper.output.shape[-1]):
        return None
    return integer_bias.unit(limits, largest)


def _only_input(layer: layers.Layer) -> layers.Layer | None:
    """The layer before it, if it is used once and on one input."""
    if len(layer.inbound_nodes) != 1:
        return None
    before = layer.inbound_nodes[0].inbound_layers
    return before if isinstance(before, layers.Layer) else None


def _feeds_normalisation(layer: layers.Layer) -> bool:
    return any(
        isinstance(wrapped(node.outbound_layer), layers.BatchNormalization)
        for node in layer.outbound_nodes
    )


def _output_range(layer: layers.Layer) -> tuple[tf.Variable, tf.Variable] | None:
    """Limits of the fake quantisation of a layer's output, if it has one."""
    if is_quantise_layer(layer):
        variables = layer.quantizer_vars
    elif not isinstance(layer, QuantizeWrapper):
        return None
    elif layer._output_quantizers:
        variables = layer._output_quantizer_vars
    else:
        after = (getattr(a, "_post_activation_vars", None) for a in layer._quantize_activations)
        variables = next((found for found in after if found), None)
    return None if variables is None else (variables["min_var"], variables["max_var"])


class TernaryRegistry(default_8bit_quantize_registry.Default8BitQuantizeRegistry):
    """tfmot's 8-bit registry, with ternary configs for the layers named in `ternary`."""

    def __init__(self, ternary: dict[str, TernaryQuantizeConfig] | None = None) -> None:
        super().__init__()
        self._ternary = ternary or {}

    def supports(self, layer: layers.Layer) -> bool:
        if isinstance(layer, layers.Activation):
            return getattr(layer.activation, "__name__", "") in ACTIVATIONS
        if type(layer) in OUTPUT_QUANTISED or type(layer) in PASSED_ON:
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
        if type(layer) in PASSED_ON:
            return default_8bit_quantize_configs.NoOpQuantizeConfig()
        return super().get_quantize_config(layer)


class FuseRelu(default_8bit_transforms.LayerReLUQuantize):
    """No fake quantisation between a layer and the ReLU after it.

    tfmot's own transform drops the one of the kernel as well, so that a convolution without batch
    normalisation trains with float weights; and it takes a Conv2DTranspose for a Conv2D.
    """

    def pattern(self) -> transforms.LayerPattern:
        return transforms.LayerPattern("ReLU", inputs=[_BEFORE_RELU])

    def replacement(self, match_layer: transforms.LayerNode) -> transforms.LayerNode:
        before = match_layer.input_layers[0]
        if before.layer["class_name"] == "Add":
            return super().replacement(match_layer)
        if before.layer["config"]["activation"] == "linear":
            before.layer["config"]["activation"] = quantize_utils.serialize_activation(
                quantize_aware_activation.NoOpActivation(), use_legacy_format=True
            )
        return match_layer

    def custom_objects(self) -> dict:
        no_activation = quantize_aware_activation.NoOpActivation
        return {**super().custom_objects(), "NoOpActivation": no_activation}


class FuseReluActivation(FuseRelu):
    """The same for an Activation layer."""

    def pattern(self) -> transforms.LayerPattern:
        config = {"activation": "relu"}
        return transforms.LayerPattern("Activation", config=config, inputs=[_BEFORE_RELU])


_BEFORE_RELU = transforms.LayerPattern("Add$|Conv2D$|DepthwiseConv2D$|Dense$")


class TernaryLayout(QuantizeLayoutTransform):
    """tfmot's layout transforms, without those whose layers `rewrite` replaces beforehand."""

    def apply(self, model: tf_keras.Model, layer_quantize_map: dict) -> tuple[tf_keras.Model, dict]:
        steps = [
            default_8bit_transforms.InputLayerQuantize(),
            default_8bit_transforms.Conv2DBatchNormReLUQuantize(),
            default_8bit_transforms.Conv2DBatchNormActivationQuantize(),
            default_8bit_transforms.Conv2DBatchNormQuantize(),
            default_8bit_transforms.ConcatTransform6Inputs(),
            default_8bit_transforms.ConcatTransform5Inputs(),
            default_8bit_transforms.ConcatTransform4Inputs(),
            default_8bit_transforms.ConcatTransform3Inputs(),
            default_8bit_transforms.ConcatTransform(),
            FuseRelu(),
            FuseReluActivation(),
        ]
        names = set(layer_quantize_map)
        return model_transformer.ModelTransformer(
            model, steps, names, layer_quantize_map
        ).transform()


class TernaryScheme(default_8bit_quantize_scheme.Default8BitQuantizeScheme):
    def __init__(self, ternary: dict[str, TernaryQuantizeConfig]) -> None:
        super().__init__()
        self._ternary = ternary

    def get_layout_transformer(self) -> TernaryLayout:
        return TernaryLayout()

    def get_quantize_registry(self) -> TernaryRegistry:
        return TernaryRegistry(self._ternary)


def plain_model(model: tf_keras.Model) -> tf_keras.Model:
    """The model without tfmot's layers, holding the latent weights."""
    config = model.get_config()
    with _loading():
        plain = type(model).from_config({**config, **_plain_config(config)})
    sources = {wrapped(layer).name: layer for layer in model.layers}
    for layer in plain.layers:
        values = {_last_name(variable): variable for variable in sources[layer.name].weights}
        for variable in layer.weights:
            variable.assign(values[_last_name(variable)])
    return plain


def _plain_config(config: dict) -> dict:
    """Config of a Sequential or Functional model with every wrapper taken off."""
    renamed: dict[str, str] = {}  # tfmot's layer name -> the layer that gives its output now
    kept = []
    for entry in config["layers"]:
        if entry["class_name"] == "QuantizeInput":
            if entry.get("inbound_nodes"):
                renamed[entry["name"]] = entry["inbound_nodes"][0][0][0]
            continue
        if entry["class_name"] == "QuantizeWrapper":
            inner = dict(entry["config"]["layer"])
            inner["config"] = {**inner["config"]}
            if "activation" in inner["config"]:
                inner["config"]["activation"] = _plain_activation(inner["config"]["activation"])
            inner.pop("build_config", None)
            if "name" in entry:
                inner["name"] = renamed[entry["name"]] = inner["config"]["name"]
                inner["inbound_nodes"] = entry["inbound_nodes"]
            entry = inner
        kept.append(entry)
    if not any("inbound_nodes" in entry for entry in kept):
        return {"layers": kept}

    def follow(node: object) -> object:
        if isinstance(node, str):
            return renamed.get(node, node)
        if isinstance(node, list | tuple):
            return [follow(item) for item in node]
        return node

    for entry in kept:
        entry["inbound_nodes"] = follow(entry["inbound_nodes"])
    ends = {key: follow(config[key]) for key in ("input_layers", "output_layers")}
    return {"layers": kept, **ends}


def _plain_activation(activation: object) -> object:
    """What tfmot's activation wrapper holds; a convolution before a batch norm has none."""
    while isinstance(activation, dict) and "activation" in activation.get("config", {}):
        activation = activation["config"]["activation"]
    if isinstance(activation, dict) and activation["class_name"] == "NoOpActivation":
        return "linear"
    return activation


def has_int8_rule(layer: layers.Layer) -> bool:
    """Whether tfmot can train this layer with int8 weights and activations."""
    return TernaryRegistry().supports(layer)


def quantise(
    model: tf_keras.Model,
    ternary: Mapping[str, TernaryMethod],
    *,
    untouched: Collection[str] = (),
) -> tf_keras.Model:
    """A copy of `model` for quantize-aware training: weights copied, `model` unchanged.

    Args:
      model: built Sequential or Functional model.
      ternary: the method for each layer that gets one, by the layer's name.
      untouched: names of the layers that stay float.
    """
    by_name = {layer.name: layer for layer in model.layers}
    sizes = {
        name: getattr(by_name[name], TERNARY_KERNELS[type(by_name[name])][0]).shape.num_elements()
        for name in ternary
    }
    configs = {}
    for name, method in ternary.items():
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
    return _canonical(quantize.quantize_apply(annotated, TernaryScheme(configs)))


def _canonical(model: tf_keras.Model) -> tf_keras.Model:
    """The same model as loading its config would build it.

    tfmot's wrapper lists its weights in another order when it wraps a layer that is built already,
    which is why stock tfmot cannot load the `.keras` and `.h5` files that it saved.
    """
    with _loading():
        rebuilt = type(model).from_config(model.get_config())
    for source, target in zip(model.layers, rebuilt.layers, strict=True):
        values = {_last_name(variable): variable for variable in source.weights}
        names = [_last_name(variable) for variable in target.weights]
        if len(values) != len(source.weights) or sorted(values) != sorted(names):
            raise RuntimeError(
                f"Layer '{source.name}' has other weights after a round trip of its config: "
                f"{sorted(values)} became {sorted(names)}. Check its get_config."
            )
        for name, variable in zip(names, target.weights, strict=True):
            variable.assign(values[name])
    return rebuilt


def _last_name(variable: tf.Variable) -> str:
    """`quant_conv1/kernel_centroids:0` -> `kernel_centroids`: scopes differ, layers do not."""
    return variable.name.split("/")[-1].split(":")[0]


def load(path: str) -> tf_keras.Model:
    """A saved model of ours, with tfmot's classes and ours known to Keras."""
    with _loading():
        model = tf_keras.models.load_model(path)
    connect(model)
    return model


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """Keras knows tfmot's classes and ours inside."""
    with (
        quantize.quantize_scope(),
        tf_keras.saving.custom_object_scope(
            {"QuantizeLayer": QuantizeInput, "QuantizeWrapperV2": QuantizeWrapper}
        ),
    ):
        yield


def wrapped(layer: layers.Layer) -> layers.Layer:
    """The layer inside tfmot's wrapper, or the layer itself."""
    return layer.layer if isinstance(layer, quantize_wrapper.QuantizeWrapper) else layer


def left_float(model: tf_keras.Model) -> list[str]:
    """Names of the layers that `apply` left as they were; empty for a model it did not make."""
    if not is_quantised(model):
        return []
    ours = (quantize_wrapper.QuantizeWrapper, quantize_layer.QuantizeLayer, layers.InputLayer)
    return [layer.name for layer in model.layers if not isinstance(layer, ours)]


def quantised_weights(wrapper: quantize_wrapper.QuantizeWrapper) -> list[tf.Variable]:
    """The variables that tfmot's wrapper quantises before each call: the kernel, if any."""
    return [variable for variable, _, _ in wrapper._weight_vars]


def is_quantise_layer(layer: layers.Layer) -> bool:
    """Whether tfmot put this layer in to quantise the input."""
    return isinstance(layer, quantize_layer.QuantizeLayer)


def is_quantised(model: tf_keras.Model) -> bool:
    """Whether the model is one for quantize-aware training."""
    return any(isinstance(layer, quantize_wrapper.QuantizeWrapper) for layer in model.layers)
