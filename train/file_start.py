"""Ternary training that begins at an exported file: int8, packed or a download.

A file holds codes, scales, biases and ranges; training needs latent weights, centroids, batch
normalisation and ranges that give the same net. What is not in the file comes from the float net
that `apply` was given: the size of the weights, and which of them are near a threshold.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from ec2t_tf import export
from ec2t_tf.export.graph import Graph, Operator
from ec2t_tf.export.lower.trained import graph_of
from ec2t_tf.export.tflite import read
from ec2t_tf.methods import EC2T
from ec2t_tf.methods.ecp import ECP
from ec2t_tf.quantisation.fake_quant import FakeQuant
from ec2t_tf.quantisation.quantised import Quantised, networks, ternary_layers
from ec2t_tf.train.kept_shares import adapt

Array = npt.NDArray[Any]
# Axes of a kernel in the file, so that channels of the output come last, as in Keras.
ORDERS = {
    "CONV_2D": (1, 2, 3, 0),
    "DEPTHWISE_CONV_2D": (0, 1, 2, 3),
    "FULLY_CONNECTED": (1, 0),
}
# Latent weights as shares of their centroid. Weights of one code differ, or one step of the
# optimiser would take all of them over a threshold.
OF_ZEROS = (0.0, 0.45)
OF_OTHERS = (0.75, 1.25)


def begin_from_file(model: keras.Model, path: Path, inputs: Array) -> None:
    """Make `model` compute what a file computes, but for roundings.

    Args:
      model: from `ec2t_tf.apply`, by `EC2T`, of the architecture that the file was exported from:
        convolutions and Dense layers with batch normalisation or without. Of Keras 3.
      path: what `to_tflite`, `rewrite` or a trained net's folder holds, in any format.
      inputs: some hundred examples, float32 (count, ...), which batch normalisation has the means
        and variances of.

    Raises:
      ValueError: another architecture, method or door, or a layer that has no rule here.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            "--ternary_start takes a .tflite file with --door=keras only. Received: "
            f"'{path}' for a model of tf_keras. Name the folder of a run, or leave --door out."
        )
    theirs = read(export.rewrite(path.read_bytes(), format="int8").content)
    ranges = [layer for layer in model.layers if isinstance(layer, FakeQuant)]
    free = [layer for layer in ranges if layer.kind != "fixed"]
    for number, layer in enumerate(free):
        _set_range(layer, -(number + 2.0), number + 2.0)  # tells whose a tensor is
    mine = graph_of(model)
    _require_same(mine, theirs, path)
    normalised, zeros = [], {}
    for own, other in zip(mine.operators, theirs.operators, strict=True):
        for a, b in zip(own.outputs, other.outputs, strict=True):
            marked, tensor = mine.tensors[a], theirs.tensors[b]
            if marked.scale.size == 1 and marked.dtype == "int8":
                number = round(float(marked.scale[0]) * 255 / 2) - 2
                scale, zero = float(tensor.scale[0]), int(tensor.zero_point[0])
                if 0 <= number < len(free):
                    _set_range(free[number], (-128 - zero) * scale, (127 - zero) * scale)
        if own.kind in ORDERS:
            layer = model.get_layer(mine.tensors[own.inputs[1]].name.rpartition("/")[0])
            given = _given(theirs, other)
            zeros[layer.name] = float((given.codes == 0).mean())
            normalisation = _set_weights(layer, given)
            if normalisation is not None:
                normalised.append(normalisation)
    trained = ternary_layers(model)
    adapt(trained, [zeros[layer.name] for layer in trained])
    _set_gains(model)
    _set_statistics(model, normalised, inputs)


@dataclasses.dataclass(frozen=True)
class _Given:
    """A layer in the file: int8 codes (..., channels), a scale or one a channel, real biases."""

    codes: Array
    scales: Array
    bias: Array


def _given(graph: Graph, op: Operator) -> _Given:
    kernel, *biases = (graph.tensors[index] for index in op.inputs[1:] if index >= 0)
    if kernel.data is None or not biases or biases[0].data is None:
        raise ValueError(
            "--ternary_start takes a file whose kernels and biases are constants. Received: "
            f"{op.kind} without. Name the folder of a run."
        )
    codes = kernel.data.transpose(ORDERS[op.kind]).astype(np.float32)
    return _Given(codes, kernel.scale, biases[0].data * biases[0].scale)


def _set_range(layer: FakeQuant, low: float, high: float) -> None:
    layer.smallest.assign(low)
    layer.largest.assign(high)


def _require_same(mine: Graph, theirs: Graph, path: Path) -> None:
    """Raise ValueError unless both have the same operators on tensors of the same shapes."""
    pictures = [
        [
            (op.kind, *(graph.tensors[i].shape for i in (*op.inputs, *op.outputs)))
            for op in graph.operators
        ]
        for graph in (mine, theirs)
    ]
    if pictures[0] != pictures[1]:
        place = next(
            (i for i, (a, b) in enumerate(zip(*pictures, strict=False)) if a != b),
            min(map(len, pictures)),
        )
        here = [str(one[place]) if place < len(one) else "no more" for one in pictures]
        raise ValueError(
            "--ternary_start must be a file of the same architecture. Received: "
            f"'{path}', whose operator {place} is {here[1]} where {here[0]} is needed."
        )
    for op in mine.operators:
        held = [i for i in op.inputs if mine.tensors[i].data is not None]
        if any(mine.tensors[i].dtype == "int8" for i in held) and op.kind not in ORDERS:
            raise ValueError(
                "--ternary_start takes a file of convolutions and Dense layers, with batch "
                f"normalisation that is folded into them. Received: '{path}' for a net whose "
                f"{op.kind} has weights. Name the folder of a run."
            )


def _set_weights(layer: Quantised, given: _Given) -> tuple[Any, Array, Array] | None:
    """Kernel, centroids and codes of a layer.

    Returns:
      Its batch normalisation with the factor and the summand of each channel; None without any, and
      the layer has its bias.
    """
    codes, scales, bias = given.codes, np.broadcast_to(given.scales, given.bias.shape), given.bias
    after = _normalisation_after(layer)
    if layer.method is None or isinstance(layer.method, ECP):
        layer.latent.assign((codes * scales).reshape(layer.latent.shape))
        factors = np.ones_like(bias)
        if layer.method is not None:
            layer.initialise()
    elif isinstance(layer.method, EC2T):
        factors = _set_ternary(layer, layer.method, given, normalised=after is not None)
    else:
        raise ValueError(
            "--ternary_start takes a .tflite file with --method=ec2t only. Received: "
            f"'{layer.name}' with {layer.method.name}. Name the folder of a run."
        )
    inner = layer.layer
    if inner.use_bias:
        inner.bias.assign(np.zeros_like(bias) if after is not None else bias)
    return None if after is None else (after, factors, bias)


def _set_ternary(layer: Quantised, method: EC2T, given: _Given, *, normalised: bool) -> Array:
    """Latent weights, centroids and codes; returns the factor of each channel."""
    codes, scales = given.codes, np.broadcast_to(given.scales, given.bias.shape)
    axes = tuple(range(codes.ndim - 1))
    positive, negative = codes.max(axes, initial=0), -codes.min(axes, initial=0)
    latent = keras.ops.convert_to_numpy(layer.latent).reshape(codes.shape)
    start = keras.ops.convert_to_numpy(method.centroids(layer.latent, layer.state))
    signs = np.ones_like(scales)
    if normalised:
        both = (positive > 0) & (negative > 0)
        logs = np.log(negative[both] / positive[both])
        # A channel that batch normalisation multiplies with less than zero has the two exchanged.
        usual = float(np.median(np.abs(logs))) if logs.size else 0.0
        usual *= -1.0 if logs.size and np.median(logs) < 0 else 1.0
        signs[both] = np.where(np.abs(logs + usual) < np.abs(logs - usual), -1.0, 1.0)
        ratio = np.exp(usual)
        w_p = float(start.mean()) * 2 / (1 + ratio)
        w_n = ratio * w_p
        larger = np.where(signs > 0, positive, negative)
        smaller = np.where(signs > 0, negative, positive)
        factors = signs * scales * np.where(larger > 0, larger / w_p, smaller / w_n)
    else:
        if np.unique(scales).size > 1:
            raise ValueError(
                f"One scale is required of '{layer.name}', which has no batch normalisation. "
                f"Received: a file with {np.unique(scales).size}. Name the folder of a run."
            )
        w_p, w_n = positive.max() * scales[0], negative.max() * scales[0]
        w_p, w_n = (float(w or start.mean()) for w in (w_p, w_n))
        factors = np.ones_like(scales)
    ternary = np.sign(codes) * signs
    centroid = np.where(ternary > 0, w_p, w_n)
    shape = layer.latent.shape
    layer.latent.assign(_spread(ternary, centroid, latent).reshape(shape))
    layer.state["centroids"].assign(np.array([w_n, w_p], np.float32))
    if "codes" in layer.state:
        layer.state["codes"].assign(ternary.astype(np.int8).reshape(shape))
    return factors


def _set_gains(model: keras.Model) -> None:
    """The entropy gains that give these latent weights their zeros, as each step finds them."""
    for network in networks(model):
        method = network.leader.method
        if isinstance(method, EC2T) and method.is_ternary and method.target_sparsity is not None:
            still = {"frozen_from": None, "prune_int8_from": None}  # counts no step
            EC2T(**{**method.get_config(), **still}).before_pass(network.members)


def _spread(codes: Array, centroid: Array, latent: Array) -> Array:
    """Latent weights of these codes, each the farther out the larger the float net had it."""
    values = np.zeros(codes.shape, np.float32)
    signs = np.where(latent < 0, -1.0, 1.0)
    for inside, (low, high) in ((codes == 0, OF_ZEROS), (codes != 0, OF_OTHERS)):
        order = np.abs(latent[inside]).argsort().argsort()
        shares = low + (high - low) * (order + 0.5) / max(1, order.size)
        values[inside] = shares * centroid[inside]
    return np.where(codes == 0, signs, codes) * values


def _normalisation_after(layer: Quantised) -> Any:
    """The batch normalisation that reads the layer and is folded into it; None without one."""
    readers = [node.operation for node in layer._outbound_nodes]
    found = [one for one in readers if isinstance(one, keras.layers.BatchNormalization)]
    return found[0] if len(readers) == 1 and found else None


def _set_statistics(
    model: keras.Model, normalised: list[tuple[Any, Array, Array]], inputs: Array
) -> None:
    """Means and variances of the examples; gamma and beta with which these change nothing."""
    if not normalised:
        return
    for layer, factors, bias in normalised:
        _set_normalisation(layer, factors, bias, np.zeros_like(bias), 1 - layer.epsilon)
    before = keras.Model(model.inputs, [layer.input for layer, _, _ in normalised])
    values = before.predict(inputs, batch_size=64, verbose=0)
    for (layer, factors, bias), seen in zip(
        normalised, values if isinstance(values, list) else [values], strict=True
    ):
        axes = tuple(range(seen.ndim - 1))
        _set_normalisation(layer, factors, bias, seen.mean(axes), seen.var(axes))


def _set_normalisation(
    layer: Any, factors: Array, bias: Array, mean: Array, variance: Array | float
) -> None:
    deviation = np.sqrt(variance + layer.epsilon) * np.ones_like(mean)
    if not (layer.scale and layer.center):
        raise ValueError(
            "--ternary_start takes a .tflite file where batch normalisation has gamma and beta. "
            f"Received: '{layer.name}' without. Name the folder of a run."
        )
    layer.gamma.assign(factors * deviation)
    layer.beta.assign(bias + factors * mean)
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance * np.ones_like(mean))
