"""An int8 net as data: what is written to a file, compiled to C and computed in exact integers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class Sparsity:
    """How a sparse tensor is laid out (TensorFlow Lite's SparsityParameters).

    Attributes:
      order: the axes as they are stored, those of blocks (counted from the rank) among them.
      compressed: for each stored axis, whether it is compressed (CSR) or dense.
      block_map: which axis each axis of blocks divides.
      block_sizes: sizes of the axes of blocks.
    """

    order: tuple[int, ...]
    compressed: tuple[bool, ...]
    block_map: tuple[int, ...] = ()
    block_sizes: tuple[int, ...] = ()


@dataclasses.dataclass
class Tensor:
    """One tensor of a net.

    Attributes:
      name: as in the file; need not be unique.
      shape: sizes, the batch first; every size is fixed.
      dtype: "int8", "uint8", "int16", "int32", "int64", "float32", "bool", "resource", ...
      scale: float32 [n]: none for a tensor without quantisation, one, or one a slice of `axis`.
      zero_point: int64 [n], as many as scales.
      axis: which axis the scales count.
      data: the values of a constant, in `shape`; None for a tensor that is computed. 4-bit weights
        are held as int8.
      variable: state that is kept from one run to the next; it begins at its zero point.
      storage: how a file holds `data`: "dense", "sparse", "int4" or "int2".
      sparsity: how a sparse tensor is laid out; None for the smallest layout.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int = 0
    data: npt.NDArray[Any] | None = None
    variable: bool = False
    storage: str = "dense"
    sparsity: Sparsity | None = None

    @property
    def is_constant(self) -> bool:
        return self.data is not None


@dataclasses.dataclass
class Operator:
    """One operator.

    Attributes:
      kind: TensorFlow Lite's builtin name, such as "CONV_2D"; the name of a custom operator.
      inputs, outputs: indices of tensors; -1 is an optional input left out.
      options: in words: {"padding": "same", "stride": (2, 2), "activation": "relu"}. Pairs are
        (height, width). An option that is not listed here has the schema's name in snake case.
      intermediates: tensors that only hold the ranges of values inside (LSTM).
      custom: the options of a custom operator, as bytes; None for a builtin one.
      version: of the builtin operator in the file; None for what int8 files usually have.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    intermediates: tuple[int, ...] = ()
    custom: bytes | None = None
    version: int | None = None


@dataclasses.dataclass
class Signature:
    """A name for a way to call the net: the user's names of inputs and outputs -> tensors."""

    key: str
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclasses.dataclass
class Graph:
    """A net: operators in the order in which they run, on tensors that they name by index.

    Attributes:
      inputs, outputs: tensors of the net, in the model's order.
      signatures: perhaps none.
      metadata: name -> bytes, carried from file to file.
      initial: what runs once before the first run (it sets state), or None; CALL_ONCE calls it.
      description: of the file.
    """

    tensors: list[Tensor] = dataclasses.field(default_factory=list)
    operators: list[Operator] = dataclasses.field(default_factory=list)
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    name: str = "main"
    signatures: list[Signature] = dataclasses.field(default_factory=list)
    metadata: dict[str, bytes] = dataclasses.field(default_factory=dict)
    initial: Graph | None = None
    description: str = ""

    def add(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        *,
        scale: npt.ArrayLike = (),
        zero_point: npt.ArrayLike = (),
        axis: int = 0,
        data: npt.NDArray[Any] | None = None,
        variable: bool = False,
    ) -> int:
        """Appends a tensor. Returns its index."""
        self.tensors.append(
            Tensor(
                name,
                tuple(int(size) for size in shape),
                dtype,
                np.atleast_1d(np.asarray(scale, np.float32)),
                np.atleast_1d(np.asarray(zero_point, np.int64)),
                axis,
                data,
                variable,
            )
        )
        return len(self.tensors) - 1

    def call(self, kind: str, inputs: Sequence[int], output: int, **options: Any) -> int:
        """Appends an operator with one output. Returns that output."""
        self.operators.append(Operator(kind, tuple(inputs), (output,), options))
        return output
