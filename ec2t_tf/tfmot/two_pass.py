"""Training in which a method's own variables step first, then all others on a new gradient.

TGA's authors train so: thresholds, then weights, on the same batch. `apply` and `load_model` give
it to `fit` for methods that ask for it (`TernaryMethod.updates_twice`).
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from ec2t_tf.tfmot.quantize_config import TernaryLayer, ternary_layers


def train_step(model: tf_keras.Model, data: object) -> dict[str, tf.Tensor]:
    """One batch of `fit` in two passes; what `Model.train_step` returns.

    The optimiser counts one step. Moving statistics (batch normalisation, activation ranges) see
    the batch once. The reported loss is the mean of both passes.
    """
    x, y, sample_weight = tf_keras.utils.unpack_x_y_sample_weight(data)
    with tf.init_scope():
        model.optimizer.build(model.trainable_variables)
    layers = [layer for layer in ternary_layers(model) if layer.method.updates_twice]
    first = [variable for layer in layers for variable in trained_state(layer)]
    own = {variable.ref() for layer in layers for variable in layer.state.values()}
    second = [variable for variable in model.trainable_variables if variable.ref() not in own]
    statistics = [v for v in model.non_trainable_variables if v.ref() not in own]
    before = [tf.identity(variable) for variable in statistics]

    _pass(model, x, y, sample_weight, first)
    for variable, value in zip(statistics, before, strict=True):
        variable.assign(value)
    model.optimizer.iterations.assign_sub(1)
    predicted = _pass(model, x, y, sample_weight, second)
    return model.compute_metrics(x, y, predicted, sample_weight)


def trained_state(layer: TernaryLayer) -> list[tf.Variable]:
    """The method's own variables of a layer that the optimiser steps."""
    return [variable for variable in layer.state.values() if variable.trainable]


def _pass(
    model: tf_keras.Model, x: object, y: object, sample_weight: object, trained: list[tf.Variable]
) -> tf.Tensor:
    with tf.GradientTape() as tape:
        predicted = model(x, training=True)
        loss = model.compute_loss(x, y, predicted, sample_weight)
    model.optimizer.minimize(loss, trained, tape=tape)
    return predicted
