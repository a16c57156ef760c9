"""Whether a tf_keras model computes each example by itself, as `quantisation.unchanged` asks."""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from ec2t_tf.quantisation.unchanged import ALONE, ALONE_IN_HALF, depends, mixes
from ec2t_tf.tfmot import graph
from ec2t_tf.tfmot.in_keras_3 import largest_difference, random_input


def require_one_by_one(model: tf_keras.Model) -> None:
    """Raises where an example comes out otherwise with another beside it.

    A model that cannot be run on random numbers, or makes others each time, is not looked at.

    Raises:
      UnsupportedLayerError: naming the first layer that does so.
    """
    if any(tensor.shape[0] is not None for tensor in model.inputs):
        return
    try:
        feed = random_input(model.inputs, model._nested_inputs)
        first = tf.nest.map_structure(lambda x: x[:1], feed)
        together = model(feed, training=False)
        half = any("16" in str(layer.compute_dtype) for layer in model._flatten_layers())
        least = ALONE_IN_HALF if half else ALONE
        is_mixed = mixes(together, model(first, training=False), least)
        if not is_mixed or largest_difference(together, model(feed, training=False)) > ALONE:
            return
    except Exception:  # tokens that are not in a table, say
        return
    calls = list(graph.nodes(model))
    inside = tf_keras.Model(model.inputs, [tf.nest.flatten(node.outputs) for node in calls])
    values = (inside(tf.nest.flatten(x), training=False) for x in (feed, first))
    pairs = zip(calls, *values, strict=True)
    mixing = next((node for node, two, one in pairs if mixes(two, one, least)), calls[-1])
    raise depends(mixing.layer.name, type(mixing.layer).__name__)
