"""Whether a copy of a tf_keras model computes what the model does, on random inputs.

Copies are made from configs and weights, which do not say what else was set on a layer.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from ec2t_tf.built_in import is_of_keras
from ec2t_tf.tfmot import graph
from ec2t_tf.tfmot.in_keras_3 import HALF_PRECISION_TOLERANCE, largest_difference, random_input
from ec2t_tf.treatments import UnsupportedLayerError

# Rounding differs between a layer and its replacement; deep nets add that up.
TOLERANCE = 1e-4


def require_unchanged(model: tf_keras.Model, copy: tf_keras.Model) -> None:
    """Raises what `apply` says of a model whose copy computes something else.

    A model that cannot be run on random numbers is not looked at.

    Raises:
      UnsupportedLayerError: naming the first layer that does so.
      ValueError: the model makes other outputs of the same inputs each time.
    """
    half = any("16" in str(layer.compute_dtype) for layer in copy.layers)
    tolerance = HALF_PRECISION_TOLERANCE if half else TOLERANCE
    try:
        feed = random_input(model.inputs, model._nested_inputs)
        try:
            wanted = model(feed, training=False)
        except tf.errors.OpError:  # places in a table, say
            feed = tf.nest.map_structure(tf.abs, feed)
            wanted = model(feed, training=False)
    except Exception:  # the user's layers may do anything
        return
    if largest_difference(wanted, copy(feed, training=False)) <= tolerance:
        return
    if largest_difference(wanted, model(feed, training=False)) > TOLERANCE:
        raise ValueError(
            "apply requires a model that makes the same outputs of the same inputs when it "
            f"does not train. Received: '{model.name}', which does not (random numbers in a "
            "layer of yours or a Lambda?)."
        )
    called = [x for x in model._flatten_layers() if not is_of_keras(type(x).__call__)]
    if called:
        raise UnsupportedLayerError(
            "apply requires layers that compute in call: what a __call__ computes is in the "
            "graph already, and comes twice where the layer is called anew. Received: "
            f"'{called[0].name}' ({type(called[0]).__name__}) with a __call__ of its own. Move "
            "what it computes into call, or in front of the layer."
        )
    raise UnsupportedLayerError(
        "apply requires layers that compute what their config says. Received: "
        f"{_first_changed(model, copy, feed, tolerance)}, which computes something else than a "
        "layer made from its config: an attribute was set after it was made, or its get_config "
        "leaves something out. Give it to __init__ and get_config; if that is not it, please "
        "report this model."
    )


def _first_changed(model: tf_keras.Model, copy: tf_keras.Model, feed: Any, least: float) -> str:
    """The first layer whose values differ; or that the copy has otherwise, in front of that one."""
    by_name = {node.layer.name: node for node in graph.nodes(copy)}
    calls = list(graph.nodes(model))
    pairs = [(node, by_name[node.layer.name]) for node in calls if node.layer.name in by_name]
    values = (
        tf_keras.Model(one.inputs, [tf.nest.flatten(pair[i].outputs) for pair in pairs])(
            tf.nest.flatten(feed), training=False
        )
        for i, one in enumerate((model, copy))
    )
    same = {
        id(node): largest_difference(wanted, found) <= least
        for (node, _), wanted, found in zip(pairs, *values, strict=True)
    }
    suspect = None
    for node in calls:
        if same.get(id(node)):
            suspect = None
            continue
        suspect = suspect or node.layer
        if id(node) in same:
            break
    suspect = suspect or model
    return f"'{suspect.name}' ({type(suspect).__name__})"
