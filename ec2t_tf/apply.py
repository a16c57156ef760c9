"""`apply`: a float model in, a model for ternary quantize-aware training out."""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import keras

from ec2t_tf import methods, onednn
from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.policy import Policy, Treatment
from ec2t_tf.treatments import UnsupportedLayerError

__all__ = ["UnsupportedLayerError", "apply"]

# What a class of a model can have of its own, and a model of another class does not.
TRAINING = (
    *("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics", "compile"),
    *("fit", "evaluate", "predict"),
)
KERAS = ("keras", "tf_keras", "tensorflow", "builtins", "ec2t_tf")


def apply(
    model: Any,
    method: str | TernaryMethod = "ec2t",
    *,
    policy: Policy | Mapping[str, str | Treatment] | str | os.PathLike | None = None,
    strict: bool = False,
    verbose: int = 1,
    custom_layers: Mapping[Any, Any] | None = None,
) -> Any:
    """A copy of `model` that trains into a sparse ternary network; of the library of `model`.

    Nothing else is needed: `compile` and `fit` as usual, with any optimiser, on any backend of
    Keras. During training the float weights stay inside as latent weights; every forward pass
    computes with ternary weights and int8 activations.

    Args:
      model: built Sequential or functional model of Keras 3 or tf_keras, trained or not. It is not
        changed.
      method: name of a ternary method or a `TernaryMethod` object, e.g. `methods.EC2T(...)`.
      policy: which layer gets which treatment: a `Policy`, `{"layer name": "ternary"}`, or the path
        of a JSON file that holds what `Policy.to_json` returns; None for the defaults (see
        `Policy`). Names in a dictionary that decide about no layer are warned about.
      strict: raise where a layer cannot be treated as wanted, instead of leaving it out.
      verbose: 0 prints nothing; 1 the table of what happened to each layer.
      custom_layers: deprecated; `{Keras3Layer: TfKerasLayer}` rebuilds a Keras 3 model in tf_keras,
        which now needs `ec2t_tf.tfmot.to_tf_keras`.

    Returns:
      A new uncompiled model: of Keras 3 (`TernaryModel`) for a model of Keras 3, of tf_keras with
      tfmot's wrappers for one of tf_keras. `model.ec2t_report` is the `ApplyReport`. It makes its
      own zeros: do not give it to tfmot's `prune_low_magnitude`, which answers a `TernaryModel`
      with "can only prune an object of the following types"; say `EC2T(target_sparsity=...)`.

    Raises:
      TypeError: not a Sequential or functional model.
      ValueError: the model is not built, has no layer that can be ternary, holds NaN or infinite
        weights, or was treated before; or the method is unknown.
      UnsupportedLayerError: a layer that a file can hold neither in int8 nor in float; with
        `strict`, each that is not treated as wanted.

    Warns:
      UserWarning: the class of `model` trains in a way of its own, which is not taken along; or
        TensorFlow would train one of its layers wrongly on this processor (`onednn`).
    """
    method = methods.get(method)
    names = dict(policy) if isinstance(policy, Mapping) else {}
    policy = Policy.of(policy)
    if custom_layers is not None:
        warnings.warn(
            "custom_layers goes with the next release: apply keeps a Keras 3 model in Keras 3. "
            "For a tf_keras model pass ec2t_tf.tfmot.to_tf_keras(model, custom_layers=...).",
            DeprecationWarning,
            stacklevel=2,
        )
        from ec2t_tf.tfmot import to_tf_keras

        model = to_tf_keras(model, custom_layers=custom_layers)
    if isinstance(model, keras.Model):
        from ec2t_tf.quantisation.apply import quantised
    elif _is_tf_keras(model):
        from ec2t_tf.tfmot.apply import quantised
    else:
        raise TypeError(
            "apply requires a Sequential or functional model of Keras 3 or tf_keras. "
            f"Received: {type(model).__module__}.{type(model).__name__}."
        )
    trained, report = quantised(model, method, policy, strict=strict)
    onednn.warn_of_wrong_gradients(trained, stacklevel=2)
    trained.ec2t_report = report
    own = _own_training(model)
    if own:
        warnings.warn(
            "apply returns a model that trains as Keras' own do. Received: a "
            f"{type(model).__name__}, whose {', '.join(own)} {'is' if len(own) == 1 else 'are'} "
            "not taken along. Write a keras.Model that calls what apply returns, and give that one "
            "your methods: docs/what_apply_does.md shows how.",
            stacklevel=2,
        )
    if names and report.unused_rules:
        warnings.warn(
            "The names of a policy must be those of layers with weights. Received: "
            f"{', '.join(map(repr, names))}, of which {len(report.unused_rules)} decided about no "
            f"layer. There are {', '.join(repr(d.layer) for d in report.decisions)}.",
            stacklevel=2,
        )
    if verbose:
        print(report)
    return trained


def _own_training(model: Any) -> list[str]:
    """Methods by which the class of a model trains otherwise than Keras' models."""
    # Up to Keras' class: behind it come its backend's, torch.nn.Module's `compile` too.
    users = list(
        itertools.takewhile(
            lambda one: one.__module__.split(".")[0] not in KERAS, type(model).__mro__
        )
    )
    return [name for name in TRAINING if any(name in vars(one) for one in users)]


def _is_tf_keras(model: Any) -> bool:
    tf_keras = sys.modules.get("tf_keras")
    return tf_keras is not None and isinstance(model, tf_keras.Model)
