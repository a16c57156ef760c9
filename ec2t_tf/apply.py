"""`apply`: a float model in, a model for ternary quantize-aware training out."""

from __future__ import annotations

import numpy as np
import tf_keras

from ec2t_tf import methods, scheme
from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.policy import Policy, Treatment, has_kernel
from ec2t_tf.quantize_config import ternary_layers


class UnsupportedLayerError(ValueError):
    """`strict=True` and a layer could not be treated; the message names it."""


def apply(
    model: tf_keras.Model,
    method: str | TernaryMethod = "ec2t",
    *,
    policy: Policy | None = None,
    strict: bool = False,
) -> tf_keras.Model:
    """A copy of `model` that trains into a sparse ternary network.

    Nothing else is needed: `compile` and `fit` as usual, with any optimiser. During training the
    float weights stay inside as latent weights; every forward pass computes with ternary weights and
    int8 activations.

    Args:
      model: built tf_keras Sequential or Functional model, trained or not. It is not changed.
      method: name of a ternary method or a `TernaryMethod` object, e.g. `methods.EC2T(...)`.
      policy: which layer gets which treatment; None for the defaults (see `Policy`).
      strict: raise where a layer cannot be treated as wanted, instead of leaving it out.

    Returns:
      A new uncompiled model. `model.ec2t_report` is the `ApplyReport` that was printed.

    Raises:
      TypeError: not a Sequential or Functional tf_keras model.
      ValueError: the model is not built, has no layer that can be ternary, holds NaN or infinite
        weights, or was treated before; or the method is unknown.
      UnsupportedLayerError: `strict` and a layer cannot be treated.
    """
    method = methods.get(method)
    check(model)
    report = (policy or Policy()).decide(model)
    ternary = report.of(Treatment.TERNARY)
    if strict and report.refused:
        reasons = "; ".join(f"'{d.layer}': {d.reason}" for d in report.refused)
        raise UnsupportedLayerError(
            f"With strict=True every layer must be treatable. Received a model with {reasons}. "
            "Replace these layers, or pass strict=False to leave them out."
        )
    if not ternary:
        raise ValueError(
            "apply requires at least one layer that can be ternary (Conv2D or Dense, neither the "
            f"first nor the last layer with weights). Received a model with none:\n{report}"
        )
    without_rule = [layer.name for layer in model.layers if not scheme.has_int8_rule(layer)]
    quantised = scheme.quantise(model, method, ternary=ternary, untouched=without_rule)
    for layer in ternary_layers(quantised):
        layer.initialise()
    quantised.ec2t_report = report
    print(report)
    return quantised


def check(model: tf_keras.Model) -> None:
    """Raise what `apply` says it raises about the model itself."""
    if not isinstance(model, tf_keras.Model):
        raise TypeError(
            "apply requires a Sequential or Functional tf_keras model. "
            f"Received: {type(model).__module__}.{type(model).__name__}."
        )
    if not isinstance(model, tf_keras.Sequential) and not model._is_graph_network:
        raise TypeError(
            "apply requires a Sequential or Functional tf_keras model, because it rewires the "
            f"graph of layers. Received the subclassed model {type(model).__name__}. Rebuild it with "
            "tf_keras.Model(inputs, outputs)."
        )
    if not model.built or not model.inputs:
        raise ValueError(
            f"apply requires a built model. Received: '{model.name}', which is not. Call "
            "model.build(input_shape) or start it with an Input layer."
        )
    nested = [layer.name for layer in model.layers if isinstance(layer, tf_keras.Model)]
    if nested:
        raise ValueError(
            "apply requires a model whose layers are not models themselves. "
            f"Received: '{model.name}' with nested models {nested}. Call their layers directly."
        )
    if scheme.is_quantised(model):
        raise ValueError(
            f"apply requires a float model. Received: '{model.name}', which apply or tfmot has "
            "treated already."
        )
    if not any(has_kernel(layer) for layer in model.layers):
        raise ValueError(
            "apply requires a model with weights. "
            f"Received: '{model.name}', in which no layer has any."
        )
    for layer in model.layers:
        for weight in layer.weights:
            if weight.dtype.is_floating and not np.all(np.isfinite(weight.numpy())):
                raise ValueError(
                    "apply requires finite weights. Received NaN or infinity in "
                    f"'{weight.name}' of layer '{layer.name}'. Train again from a good checkpoint."
                )
