"""The plain count: whole additions and multiplications, bits of weights, estimated energy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ec2t_tf.counting.operations import SCALINGS, Operation, counts_as_ternary, operations
from ec2t_tf.export.graph.macs import multiply_accumulates


@dataclass(frozen=True)
class EnergyTable:
    """Energy of one operation, in picojoule.

    Attributes:
      add, multiply: of two numbers.
      weight_bit: reading one bit of a weight.
      source: where the figures come from.
    """

    add: float
    multiply: float
    weight_bit: float
    source: str


_HOROWITZ = "M. Horowitz, Computing's energy problem, ISSCC 2014 (45 nm, 0.9 V)"
# Weights are read from a 1 MB SRAM: 100 pJ for 64 bits.
ENERGY_TABLES = {
    8: EnergyTable(0.1, 0.2, 100 / 64, f"{_HOROWITZ}: int8 multiply, int32 add, 1 MB SRAM"),
    16: EnergyTable(0.4, 1.1, 100 / 64, f"{_HOROWITZ}: float16 multiply and add, 1 MB SRAM"),
    32: EnergyTable(0.9, 3.7, 100 / 64, f"{_HOROWITZ}: float32 multiply and add, 1 MB SRAM"),
}


@dataclass(frozen=True)
class LayerCount:
    """One line of a `PlainCount`.

    Attributes:
      name: the layer's name.
      treatment: "ternary", "sparse" or "dense"; "-" for a layer without weights.
      macs: multiply-accumulates of the dense layer, zeros counted too.
      additions, multiplications: whole operations, those with a zero weight left out.
      weights, nonzeros: numbers in the kernel.
      weight_bits: bits of kernel and bias.
    """

    name: str
    treatment: str = "-"
    macs: int = 0
    additions: int = 0
    multiplications: int = 0
    weights: int = 0
    nonzeros: int = 0
    weight_bits: int = 0


@dataclass(frozen=True)
class PlainCount:
    """Operations of one inference and bits of the weights, without any challenge's rules.

    Attributes:
      layers: what each layer contributes, in the order they run.
      value_bits: bits of an activation and of a weight that is not ternary.
      energy_table: what the energies are computed with.
    """

    layers: tuple[LayerCount, ...]
    value_bits: int
    energy_table: EnergyTable

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense net."""
        return sum(layer.macs for layer in self.layers)

    @property
    def additions(self) -> int:
        return sum(layer.additions for layer in self.layers)

    @property
    def multiplications(self) -> int:
        return sum(layer.multiplications for layer in self.layers)

    @property
    def weight_bits(self) -> int:
        return sum(layer.weight_bits for layer in self.layers)

    @property
    def compute_energy(self) -> float:
        """Joule of all additions and multiplications of one inference: an estimate."""
        table = self.energy_table
        return 1e-12 * (self.additions * table.add + self.multiplications * table.multiply)

    @property
    def weight_energy(self) -> float:
        """Joule for reading every weight once: an estimate."""
        return 1e-12 * self.weight_bits * self.energy_table.weight_bit

    def table(self) -> str:
        """The count as text, one line for each layer that contributes."""
        width = max(len("total"), *(len(layer.name) for layer in self.layers))
        lines = [
            f"{'layer':{width}}  treatment          MACs     additions  multiplications"
            "  weight bits"
        ]
        total = LayerCount(
            "total",
            macs=self.macs,
            additions=self.additions,
            multiplications=self.multiplications,
            weight_bits=self.weight_bits,
        )
        for layer in (*self.layers, total):
            if layer.additions or layer.multiplications or layer.weight_bits:
                lines.append(
                    f"{layer.name:{width}}  {layer.treatment:9}{layer.macs:14,}"
                    f"{layer.additions:14,}{layer.multiplications:17,}{layer.weight_bits:13,}"
                )
        lines.append(
            f"energy, estimated: {1e6 * self.compute_energy:.3g} uJ to compute, "
            f"{1e6 * self.weight_energy:.3g} uJ to read the weights once "
            f"({self.energy_table.source})"
        )
        return "\n".join(lines)


def plain_count(
    model: Any, *, value_bits: int = 8, energy_table: EnergyTable | None = None
) -> PlainCount:
    """Count additions, multiplications and weight bits of one inference.

    An output of a ternary layer costs its non-zero weights in additions and one multiplication for
    each of the two centroids; an output of another layer one addition and one multiplication for
    each non-zero weight. A batch normalisation right after a layer with weights is folded into it.
    A ternary tensor takes a mask bit for each weight, a sign bit for each non-zero, and two
    32-bit centroids. Comparisons (ReLU, max pooling) and functions kept in tables (sigmoid,
    softmax) are not arithmetic and cost nothing.

    Args:
      model: built Sequential or functional model, of Keras 3 or tf_keras.
      value_bits: bits of an activation and of a weight that is not ternary: 8, 16 or 32. Biases
        have 32 bits.
      energy_table: energies of an operation; None for the row of `ENERGY_TABLES` of `value_bits`.

    Raises:
      TypeError, ValueError: an option is unknown, or the model cannot be counted.
    """
    if value_bits not in ENERGY_TABLES:
        raise ValueError(f"value_bits must be 8, 16 or 32. Received: value_bits={value_bits}.")
    todo = operations(model)
    readers = [0] * len(todo)
    for operation in todo:
        for source in operation.inputs:
            readers[source] += 1
    lines = []
    for operation in todo:
        folded = (
            operation.kind == "BatchNormalization"
            and bool(todo[operation.inputs[0]].weights)
            and todo[operation.inputs[0]].activation == "linear"
            and readers[operation.inputs[0]] == 1
        )
        before = todo[operation.inputs[0]] if folded else None
        lines.append(_plain_layer(operation, value_bits, folded_into=before))
    return PlainCount(tuple(lines), value_bits, energy_table or ENERGY_TABLES[value_bits])


def _plain_layer(
    operation: Operation, value_bits: int, *, folded_into: Operation | None
) -> LayerCount:
    line = LayerCount(operation.name)
    for tensor in operation.weights:
        matrix, ternary = tensor.matrix, counts_as_ternary(tensor.matrix)
        weights, nonzeros, outputs = matrix.size, int(np.count_nonzero(matrix)), matrix.shape[2]
        live_outputs = int(np.any(matrix != 0, axis=(0, 1)).sum())
        if ternary:
            centroids = int(np.any(matrix < 0, axis=(0, 1)).sum())
            centroids += int(np.any(matrix > 0, axis=(0, 1)).sum())
            multiplications, bits = centroids, weights + nonzeros + 2 * 32
        else:
            multiplications = nonzeros
            bits = min(weights * value_bits, weights + nonzeros * value_bits)
        additions = nonzeros - live_outputs + (outputs if tensor.bias else 0)
        line = replace(
            line,
            treatment="ternary" if ternary else "sparse" if nonzeros < weights else "dense",
            macs=line.macs + multiply_accumulates(matrix.shape, tensor.places),
            additions=line.additions + additions * tensor.positions,
            multiplications=line.multiplications + multiplications * tensor.positions,
            weights=line.weights + weights,
            nonzeros=line.nonzeros + nonzeros,
            weight_bits=line.weight_bits
            + (bits + (32 * outputs if tensor.bias else 0)) * tensor.first_use,
        )
    elements = operation.elements
    additions = multiplications = bits = 0
    if operation.kind == "BatchNormalization":
        if folded_into is None:
            additions, multiplications, bits = elements, elements, 64 * operation.channels
        elif not folded_into.weights[-1].bias:
            additions, bits = elements, 32 * operation.channels
    elif operation.kind in ("Add", "Subtract", "Average"):
        additions = elements * (len(operation.inputs) - 1)
        multiplications = elements if operation.kind == "Average" else 0
    elif operation.kind == "Multiply":
        multiplications = elements * (len(operation.inputs) - 1)
    elif operation.kind in SCALINGS:
        additions, multiplications = elements, elements
    elif operation.window:
        additions, multiplications = elements * (operation.window - 1), elements
    return replace(
        line,
        additions=line.additions + additions,
        multiplications=line.multiplications + multiplications,
        weight_bits=line.weight_bits + bits * operation.first_use,
    )
