"""What a net costs: the MicroNet-2019 score, and a plain count beside it.

`micronet_score` counts parameters and operations by the rules of the NeurIPS 2019 MicroNet
challenge (a 32-bit number is 1 parameter, an operation on b-bit inputs is b/32 operations) in the
way the authors of EC2T filled them in (ec2t.md section 5). It reproduces their published figures:
ResNet-20 has 269K parameters and 81.3M operations in float, 11.8K and 8.5M at 64 % zeros.

`plain_count` counts whole additions and multiplications and the bits of the weights, and estimates
energy from a stated table.

Both take any built tf_keras Sequential or Functional model, one made by `ec2t_tf.apply` included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ec2t_tf.export.graph.ternary import is_ternary
from ec2t_tf.operations import CHANNELWISE, SCALINGS, Operation, WeightTensor, operations

Accounting = Literal["published", "sound"]

CENTROID_BITS = 16
INDEX_BITS = 16


def counts_as_ternary(weights: np.ndarray) -> bool:
    """Whether the rules of sparse formats apply: one pair of values for the tensor, and zeros."""
    return bool(is_ternary(weights.reshape(1, -1)) and (weights == 0).any() and weights.any())


# ------------------------------------------------------------------------------------------------
# The MicroNet-2019 score


def ternary_formats(*, weights: int, nonzeros: int, rows: int) -> dict[str, int]:
    """Bits of a ternary tensor in each of the formats counted (ec2t.md section 5.2).

    Args:
      weights: numbers in the tensor.
      nonzeros: those that are not zero.
      rows: output channels.
    """
    return {
        "mask+values": weights + CENTROID_BITS * nonzeros,
        "CSR": (INDEX_BITS + 1) * nonzeros + INDEX_BITS * (rows + 1) + 2 * CENTROID_BITS,
        "CER": INDEX_BITS * nonzeros + 2 * INDEX_BITS * (rows + 1) + 2 * CENTROID_BITS,
        "two masks": 2 * weights + 2 * CENTROID_BITS,
        "mask+signs": weights + nonzeros + 2 * CENTROID_BITS,
    }


def tree_adder_bits(summands: float, *, first_bits: int = 16, most_bits: int = 32) -> float:
    """Bits of the additions in a balanced tree (ec2t.md section 5.3).

    Each level adds the operands in pairs, and its sums are one bit wider. As in the authors' count
    the tree starts with one operand less than there are summands. `summands` may be a fraction: it
    is an average over the filters of a layer.
    """
    operands, bits, total = summands - 1, first_bits, 0
    while operands > 1:
        total += math.floor(operands / 2) * bits
        operands = math.ceil(operands / 2)
        bits = min(bits + 1, most_bits)
    return total


# Multiplications and additions for one value (ec2t.md section 5.3; softmax is not counted there).
_ACTIVATION_COST = {
    "elu": (2, 1),
    "gelu": (3, 1),
    "hard_sigmoid": (2, 1),
    "relu": (1, 0),
    "relu6": (1, 0),
    "sigmoid": (2, 1),
    "silu": (3, 1),
    "swish": (3, 1),
    "tanh": (2, 1),
}


@dataclass(frozen=True)
class LayerScore:
    """One line of a `MicroNetScore`.

    Attributes:
      name: the layer's name.
      treatment: "ternary", "sparse" or "dense"; "-" for a layer without weights.
      format: how its weights are counted.
      weights, nonzeros: numbers left after dead channels were taken out.
      dead_inputs, dead_outputs: channels taken out.
      parameters: in 32-bit numbers.
      additions, multiplications: in 32-bit operations.
    """

    name: str
    treatment: str = "-"
    format: str = "-"
    weights: int = 0
    nonzeros: int = 0
    dead_inputs: int = 0
    dead_outputs: int = 0
    parameters: float = 0.0
    additions: float = 0.0
    multiplications: float = 0.0


@dataclass(frozen=True)
class MicroNetScore:
    """Parameters and operations by the MicroNet-2019 rules.

    Attributes:
      layers: what each layer contributes, in the order they run.
      accounting: "published" or "sound", see `micronet_score`.
      float_bits: bits of every number that is not ternary.
    """

    layers: tuple[LayerScore, ...]
    accounting: Accounting
    float_bits: int

    @property
    def parameters(self) -> float:
        """Storage, in 32-bit numbers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def additions(self) -> float:
        return sum(layer.additions for layer in self.layers)

    @property
    def multiplications(self) -> float:
        return sum(layer.multiplications for layer in self.layers)

    @property
    def operations(self) -> float:
        """Additions and multiplications, in 32-bit operations."""
        return self.additions + self.multiplications

    def relative_to(self, *, parameters: float, operations: float) -> float:
        """The challenge's score against a baseline; smaller is better.

        ImageNet: parameters=6.9e6, operations=1170e6 (MobileNetV2-1.4). CIFAR-100:
        parameters=36.5e6, operations=10.49e9 (WideResNet-28-10).
        """
        return self.parameters / parameters + self.operations / operations

    def table(self) -> str:
        """The score as text, one line for each layer that contributes."""
        names = [layer.name for layer in self.layers]
        width = max(len("total"), *map(len, names))
        lines = [
            f"{'layer':{width}}  treatment  format       parameters     additions  multiplications"
        ]
        total = LayerScore(
            "total",
            parameters=self.parameters,
            additions=self.additions,
            multiplications=self.multiplications,
        )
        for layer in (*self.layers, total):
            if layer.parameters or layer.additions or layer.multiplications:
                lines.append(
                    f"{layer.name:{width}}  {layer.treatment:9}  {layer.format:11}"
                    f"{layer.parameters:12,.1f}{layer.additions:14,.0f}"
                    f"{layer.multiplications:17,.0f}"
                )
        lines.append(
            f"MicroNet 2019 ({self.accounting} accounting, float{self.float_bits}): "
            f"{self.parameters:,.0f} parameters, {self.operations / 1e6:,.2f} M operations"
        )
        return "\n".join(lines)


def micronet_score(
    model: Any,
    *,
    accounting: Accounting = "published",
    float_bits: int = 16,
    shortcuts: tuple[str, ...] = ("shortcut", "downsample"),
) -> MicroNetScore:
    """Count a model by the rules of the MicroNet challenge 2019.

    A weight tensor of {-w_n, 0, +w_p} counts as ternary: the smallest of five sparse formats,
    additions in a tree, two multiplications for an output. Any other counts `float_bits` a weight
    and a mask bit if it has zeros. A batch normalisation counts as one bias for each channel, its
    scale being folded. Softmax is free.

    Args:
      model: built tf_keras Sequential or Functional model.
      accounting: "published" is the authors' count, which their tables need. It flatters: outputs
        that are all zero in one convolution are taken from the inputs of the next one in the list,
        be there a skip connection in between or not; only the last skip addition counts; shortcut
        convolutions and average pooling do not. "sound" takes out inputs only where the graph shows
        that nothing but dead channels reaches them, and counts everything. Neither charges for
        the constant that batch normalisation leaves in a dead channel (it can be folded into the
        next layer's bias).
      float_bits: 16, which the challenge allows for free, or 32 (float baselines) or 8.
      shortcuts: parts of the names of shortcut layers, which "published" leaves out.

    Raises:
      TypeError, ValueError: an option is unknown, or the model cannot be counted.
    """
    if accounting not in ("published", "sound"):
        raise ValueError(
            f"accounting must be 'published' or 'sound'. Received: accounting={accounting!r}."
        )
    if float_bits not in (8, 16, 32):
        raise ValueError(f"float_bits must be 8, 16 or 32. Received: float_bits={float_bits}.")
    counter = _MicroNetCounter(accounting == "published", float_bits / 32)
    todo = operations(model)
    adds = [index for index, operation in enumerate(todo) if operation.kind == "Add"]
    for index, operation in enumerate(todo):
        is_shortcut = any(part in operation.name for part in shortcuts)
        if not (counter.published and is_shortcut):
            counter.count(index, operation, is_last_add=index == max(adds, default=-1))
    return MicroNetScore(tuple(counter.lines), accounting, float_bits)


class _MicroNetCounter:
    """Goes through the operations and remembers which channels are dead on the way."""

    def __init__(self, published: bool, cost: float) -> None:
        self.published = published
        self.cost = cost  # of a number, or of a multiplication, that is not ternary
        self.lines: list[LayerScore] = []
        # Operation -> which channels are alive; absent: all.
        self._alive: dict[int, np.ndarray] = {}
        self._alive_in_list: np.ndarray | None = None

    def count(self, index: int, operation: Operation, *, is_last_add: bool) -> None:
        alive = self._alive.get(operation.inputs[0]) if operation.inputs else None
        line = LayerScore(operation.name)
        for tensor in operation.weights:
            if self.published and tensor.kind == "convolution":
                alive = self._alive_in_list
            elif self.published and tensor.kind == "dense":
                alive = None
            line, alive = self._weights(line, tensor, alive)
            if tensor.kind == "convolution":
                self._alive_in_list = alive
        if operation.kind == "Add":
            # The authors count the ReLU after a block with the block's last convolution.
            alive = self._alive_in_list if self.published else self._alive_in_any(operation.inputs)
        if alive is not None and (operation.weights or operation.kind in (*CHANNELWISE, "Add")):
            self._alive[index] = alive
        self.lines.append(self._values(line, operation, alive, is_last_add))

    def _alive_in_any(self, sources: tuple[int, ...]) -> np.ndarray | None:
        known = [self._alive[source] for source in sources if source in self._alive]
        return np.any(known, axis=0) if len(known) == len(sources) else None

    def _weights(
        self, line: LayerScore, tensor: WeightTensor, alive: np.ndarray | None
    ) -> tuple[LayerScore, np.ndarray | None]:
        """`line` with a weight tensor added, and which of its outputs are alive (None: all)."""
        matrix, ternary = tensor.matrix, counts_as_ternary(tensor.matrix)
        inputs, _, outputs = matrix.shape
        alive_outputs = None
        if ternary:
            alive_outputs = np.any(matrix != 0, axis=(0, 1))
        if tensor.kind == "depthwise":
            if alive is not None:
                reached = np.repeat(alive, outputs // len(alive))
                alive_outputs = reached if alive_outputs is None else alive_outputs & reached
        elif alive is not None and len(alive) == inputs:  # grouped convolutions see fewer inputs
            matrix = matrix[alive]
        if alive_outputs is not None:
            matrix = matrix[:, :, alive_outputs]
        weights, nonzeros, rows = matrix.size, int(np.count_nonzero(matrix)), matrix.shape[2]
        summands = nonzeros / rows if rows else 0.0
        applied = rows * tensor.positions

        if ternary:
            treatment = "ternary"
            formats = ternary_formats(weights=weights, nonzeros=nonzeros, rows=rows)
            chosen = min(formats, key=lambda name: formats[name])
            parameters = formats[chosen] / 32
            if chosen != "mask+values":
                parameters = math.ceil(parameters)
            additions = applied * tree_adder_bits(summands) / 32
            multiplications = applied * 2 * CENTROID_BITS / 32
        else:
            treatment = "sparse" if nonzeros < weights else "dense"
            float_formats = {
                "values": weights * self.cost,
                "mask+values": weights / 32 + nonzeros * self.cost,
            }
            chosen = min(float_formats, key=lambda name: float_formats[name])
            parameters = float_formats[chosen]
            additions = applied * max(summands - 1, 0)
            multiplications = applied * summands * self.cost
        if tensor.bias:
            parameters += rows * self.cost
            additions += applied
        line = replace(
            line,
            treatment=treatment,
            format=chosen,
            weights=line.weights + weights,
            nonzeros=line.nonzeros + nonzeros,
            dead_inputs=line.dead_inputs + (inputs - matrix.shape[0]),
            dead_outputs=line.dead_outputs + (outputs - rows),
            parameters=line.parameters + (parameters if tensor.first_use else 0),
            additions=line.additions + additions,
            multiplications=line.multiplications + multiplications,
        )
        return line, alive_outputs

    def _values(
        self, line: LayerScore, operation: Operation, alive: np.ndarray | None, is_last_add: bool
    ) -> LayerScore:
        """`line` with what is done to each value: normalisation, activation, pooling, addition."""
        share = 1.0 if alive is None else float(alive.mean())
        elements = operation.elements * share
        per_multiplication, per_addition = _ACTIVATION_COST.get(operation.activation, (0, 0))
        multiplications, additions = elements * per_multiplication, elements * per_addition
        parameters = 0.0
        if operation.kind == "BatchNormalization":
            parameters += operation.channels * share * self.cost if operation.first_use else 0
            additions += elements
        elif operation.kind in ("Add", "Subtract", "Average", "Maximum", "Minimum"):
            if is_last_add or not self.published:
                additions += elements * (len(operation.inputs) - 1)
        elif operation.kind == "Multiply":
            multiplications += elements * (len(operation.inputs) - 1)
        elif operation.kind in SCALINGS:
            multiplications += elements
            additions += elements
        elif operation.window and not self.published:
            additions += elements * (operation.window - 1)
            multiplications += elements
        return replace(
            line,
            parameters=line.parameters + parameters,
            additions=line.additions + additions,
            multiplications=line.multiplications + multiplications * self.cost,
        )


# ------------------------------------------------------------------------------------------------
# The plain count


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
      model: built tf_keras Sequential or Functional model.
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
            macs=line.macs + weights * tensor.positions,
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
