"""What a model's layers hold and cost: a table to read and the same as data."""

from __future__ import annotations

import dataclasses
import functools
import math

import tensorflow as tf
import tf_keras
from tf_keras import layers

from ec2t_tf import scheme
from ec2t_tf.policy import Treatment
from ec2t_tf.quantize_config import ternary_layers
from ec2t_tf.tfmot.decide import has_kernel


@dataclasses.dataclass(frozen=True)
class LayerSummary:
    """One layer with a kernel.

    Attributes:
      shape: of the kernel.
      zeros: share of zero weights, 0 to 1; None unless ternary or pruned.
      entropy: first-order entropy, bits per weight; None unless ternary or pruned.
      w_n, w_p: magnitudes of the negative and positive level; None unless ternary.
      macs: dense-equivalent multiply-accumulates per inference of one input.
      size: bytes of the weights and biases as the int8 file stores them (float: 4 each).
    """

    layer: str
    treatment: Treatment
    shape: tuple[int, ...]
    zeros: float | None
    entropy: float | None
    w_n: float | None
    w_p: float | None
    macs: int
    size: int

    @property
    def weights(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Summary:
    """Rows in the order of the layers; `str()` is the table."""

    rows: tuple[LayerSummary, ...]

    @property
    def ternary(self) -> list[LayerSummary]:
        return [row for row in self.rows if row.treatment == Treatment.TERNARY]

    @property
    def zeros(self) -> float:
        """Share of zero weights inside all ternary layers together; 0 without any."""
        weights = sum(row.weights for row in self.ternary)
        return sum((row.zeros or 0) * row.weights for row in self.ternary) / max(weights, 1)

    @property
    def entropy_bytes(self) -> float:
        """Lower bound of the ternary layers' codes under first-order coding, bytes."""
        return sum((row.entropy or 0) * row.weights for row in self.ternary) / 8

    def __str__(self) -> str:
        head = (
            "layer",
            "treatment",
            "shape",
            "zeros %",
            "bits/weight",
            "w_n",
            "w_p",
            "MACs",
            "bytes",
        )
        table: list[tuple[str, ...]] = [head]
        for r in self.rows:
            cells = [r.layer, r.treatment.value, "x".join(map(str, r.shape))]
            if r.zeros is None:
                cells += ["-"] * 4
            else:
                cells += [f"{100 * r.zeros:.1f}", f"{r.entropy:.3f}"]
                cells += ["-" if w is None else f"{w:.4f}" for w in (r.w_n, r.w_p)]
            table.append((*cells, f"{r.macs:,}", f"{r.size:,}"))
        total = ("total", "", f"{sum(r.weights for r in self.rows):,} weights")
        zeros = f"{100 * self.zeros:.1f}" if self.ternary else "-"
        macs, size = sum(r.macs for r in self.rows), sum(r.size for r in self.rows)
        table.append((*total, zeros, "", "", "", f"{macs:,}", f"{size:,}"))
        widths = [max(len(row[column]) for row in table) for column in range(len(head))]

        def line(row: tuple[str, ...]) -> str:
            cells = zip(row, widths, range(len(row)), strict=True)
            return "  ".join(t.ljust(w) if i < 3 else t.rjust(w) for t, w, i in cells).rstrip()

        rule = "  ".join("-" * width for width in widths)
        return "\n".join([line(head), rule, *map(line, table[1:-1]), rule, line(table[-1])])


def kernel_of(layer: layers.Layer) -> tf.Variable | None:
    """The weight that multiplies the input, also inside tfmot's wrapper; None if there is none."""
    inner = scheme.wrapped(layer)
    if inner is not layer:
        return next(iter(scheme.quantised_weights(layer)), None)
    if not has_kernel(layer) or scheme.is_quantise_layer(layer):
        return None
    for name in ("depthwise_kernel", "kernel"):
        if hasattr(layer, name):
            return getattr(layer, name)
    return max(layer.weights, key=lambda weight: weight.shape.num_elements())


def multiply_accumulates(layer: layers.Layer, shape: tuple[int, ...], output: tuple) -> int:
    """Dense-equivalent MACs for one input; `output` is the layer's output shape with the batch."""
    if isinstance(layer, layers.Dense):
        return math.prod(shape) * math.prod(output[1:-1])
    if isinstance(layer, layers.Conv2DTranspose):
        return math.prod(shape) * math.prod(layer.input_shape[1:-1])
    return math.prod(shape) * math.prod(output[1:-1])


def summary(model: tf_keras.Model) -> Summary:
    """Summarise a model: one that `apply` made, or any float model.

    Raises:
      TypeError: not a built tf_keras model.
    """
    if not isinstance(model, tf_keras.Model) or not model.built:
        raise TypeError(
            f"summary requires a built tf_keras model. Received: {type(model).__name__}."
        )
    quantised = scheme.is_quantised(model)
    ternary = {layer.name: layer for layer in ternary_layers(model)}
    rows = []
    for outer in model.layers:
        layer = scheme.wrapped(outer)
        kernel = kernel_of(outer)
        if kernel is None:
            continue
        macs_of = functools.partial(multiply_accumulates, layer, output=outer.output_shape)
        if layer.name in ternary:
            assignment = ternary[layer.name].assign()
            is_ternary = ternary[layer.name].method.is_ternary
            treatment = Treatment.TERNARY if is_ternary else Treatment.PRUNE
            shape = assignment.codes.shape
            rows.append(
                LayerSummary(
                    layer=layer.name,
                    treatment=treatment,
                    shape=shape,
                    zeros=assignment.sparsity,
                    entropy=assignment.entropy,
                    w_n=assignment.scale_neg if is_ternary else None,
                    w_p=assignment.scale_pos if is_ternary else None,
                    macs=macs_of(shape),
                    size=_bytes(layer, math.prod(shape), treatment),
                )
            )
            continue
        treatment = Treatment.INT8 if quantised and outer is not layer else Treatment.FLOAT
        shape = tuple(kernel.shape)
        size = _bytes(layer, math.prod(shape), treatment)
        rows.append(
            LayerSummary(layer.name, treatment, shape, None, None, None, None, macs_of(shape), size)
        )
    return Summary(tuple(rows))


def _bytes(layer: layers.Layer, weights: int, treatment: Treatment) -> int:
    bias = getattr(layer, "bias", None)
    biases = 0 if bias is None else bias.shape.num_elements()
    return 4 * (weights + biases) if treatment == Treatment.FLOAT else weights + 4 * biases
