"""Equivalent graphs that tfmot and the TensorFlow Lite converter get right.

Both know fewer layers than Keras has, and some combinations end as float operators without a word.
`rewrite` replaces those, layer by layer, with others that compute the same:

| in the model                              | instead                                             |
|-------------------------------------------|-----------------------------------------------------|
| a model inside the model                  | its layers                                          |
| an activation inside a layer (not relu)   | a layer of its own                                  |
| SeparableConv1D, SeparableConv2D          | DepthwiseConv2D, then a 1x1 Conv2D                  |
| Conv1D, DepthwiseConv1D, 1-D pooling, ... | the same in two dimensions, (T, C) seen as (1, T, C)|
| Dense + BatchNormalization                | a 1x1 Conv2D + BatchNormalization, on (1, 1, C)     |
| Dense on images or sequences              | a 1x1 Conv2D                                        |
| BatchNormalization after anything else    | a depthwise convolution by 1 in front of it         |
| Conv2DTranspose + BatchNormalization      | the normalisation folded into kernel and bias       |
| Rescaling, Normalization                  | a 1x1 depthwise convolution that is not trained     |
| x + y, x * 2, ... written in Python       | Add, Subtract, Multiply, such convolutions          |
| hard sigmoid                              | relu6(x + 3) / 6 in such convolutions               |
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from ec2t_tf.tfmot.rewriting import Rewriting
from ec2t_tf.tfmot.twins import HALF_PRECISION_TOLERANCE, largest_difference

# Rounding differs between a layer and its replacement; deep nets add that up.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """An equivalent model and where its layers come from.

    Attributes:
      model: the new model, or the given one where nothing had to change.
      origin: new layer name -> the layer of the given model that it computes (a part of).
      notes: one sentence for each layer that was replaced.
    """

    model: tf_keras.Model
    origin: dict[str, layers.Layer]
    notes: tuple[str, ...]


def rewrite(model: tf_keras.Model) -> Rewritten:
    """Replaces what tfmot or the converter gets wrong by equivalent layers.

    Args:
      model: built tf_keras `Sequential` or functional model; it is not changed.

    Returns:
      The new model with its weights. Layer names are kept; what a layer is split into is called
      after it.

    Raises:
      ValueError: the new model does not compute what the given one does, to 1e-4 of the largest
        output (a defect of this package).
    """
    rewriting = Rewriting(model)
    new_model = rewriting.run()
    if not rewriting.notes:
        return Rewritten(model, {layer.name: layer for layer in model.layers}, ())
    arrays = [_random(tensor) for tensor in model.inputs]
    feed = tf.nest.pack_sequence_as(model._nested_inputs, arrays)
    difference = largest_difference(model(feed, training=False), new_model(feed, training=False))
    half = any("16" in str(layer.compute_dtype) for layer in new_model.layers)
    if difference > (HALF_PRECISION_TOLERANCE if half else TOLERANCE):
        raise ValueError(
            f"A rewritten model must compute the same. Received: '{model.name}', which differs by "
            f"{difference:.3g} of its largest output after: {'; '.join(rewriting.notes)}. "
            f"Please report this model."
        )
    return Rewritten(new_model, rewriting.origin, tuple(rewriting.notes))


def _random(tensor: Any) -> np.ndarray:
    random = np.random.default_rng(0)
    shape = [2 if tensor.shape[0] is None else tensor.shape[0]]
    shape += [64 if size is None else size for size in tensor.shape[1:]]
    if tensor.dtype.is_floating:
        return random.standard_normal(shape).astype(tensor.dtype.as_numpy_dtype)
    return random.integers(0, 2, shape).astype(tensor.dtype.as_numpy_dtype)
