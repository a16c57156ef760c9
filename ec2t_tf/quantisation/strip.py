"""`strip` of a Keras 3 model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ec2t_tf.layer_config import give_weights
from ec2t_tf.quantisation.computed import OfComputed
from ec2t_tf.quantisation.fake_quant import FakeQuant
from ec2t_tf.quantisation.graph import Call, read
from ec2t_tf.quantisation.masks import Masked
from ec2t_tf.quantisation.normalisation import BatchNormalization
from ec2t_tf.quantisation.quantised import Quantised
from ec2t_tf.quantisation.recurrent import Recurrent
from ec2t_tf.quantisation.slopes import FiniteSlope
from ec2t_tf.quantisation.split import copy_layer, copy_operation, inputs_like


def is_treated(model: keras.Model) -> bool:
    """Whether a layer in it has a quantised kernel."""
    return any(isinstance(layer, Quantised) for layer in model._flatten_layers())


def plain(model: keras.Model) -> keras.Model:
    """The float model, with the weights that the ternary layers compute with."""
    graph = read(model)
    twins: dict[str, Any] = {}

    def compute(call: Call, args: tuple, kwargs: dict) -> Any:
        layer: Any = call.operation
        if isinstance(layer, FakeQuant | FiniteSlope):
            return args[0]
        if isinstance(layer, Masked):
            return layer.chosen(args[0])
        if call.name not in twins:
            twins[call.name] = _twin(call)
        if isinstance(layer, BatchNormalization) and layer.frozen:
            kwargs = {**kwargs, "training": False}
        return twins[call.name](*args, **kwargs)

    inputs = inputs_like(graph)
    copy = keras.Model(inputs, graph.run(inputs, compute), name=graph.name)
    for call in graph.calls:
        if call.is_layer and call.name in twins:
            _copy_weights(call.operation, twins[call.name])
    return copy


def _twin(call: Call) -> Any:
    layer: Any = call.operation
    if not call.is_layer:
        return copy_operation(layer)
    if isinstance(layer, Quantised) and isinstance(layer.layer, OfComputed):
        return layer.layer.plain(call.name)
    if isinstance(layer, Quantised | Recurrent):
        return copy_layer(layer.layer, call.name)
    if isinstance(layer, BatchNormalization):
        config = {**layer.get_config(), "name": call.name}
        del config["frozen"]
        return keras.layers.BatchNormalization.from_config(config)
    return copy_layer(layer, call.name)


def _copy_weights(layer: Any, twin: Any) -> None:
    if isinstance(layer, Recurrent):
        twin.set_weights(layer.plain_weights())
        return
    if not isinstance(layer, Quantised):
        give_weights(twin, layer.get_weights()[: len(twin.weights)])
        return
    if isinstance(layer.layer, OfComputed):
        twin.set_weights([np.asarray(layer.latent), *layer.layer.get_own_weights()])
    else:
        twin.set_weights(layer.layer.get_weights())
    if layer.method is not None:
        getattr(twin, layer.kernel_name).assign(layer.assign().dequantise())
