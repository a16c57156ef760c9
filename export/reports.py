"""Where the bytes of a `.tflite` file go, and what they would need at least."""

from __future__ import annotations

import dataclasses
import math
import os
import zlib
from typing import Any

import numpy as np

from ec2t_tf import files
from ec2t_tf.tables import Table

from .graph.checking import check_structure
from .graph.ternary import entropy, is_ternary
from .stored_kernels import StoredKernel, stored_kernels
from .tflite.reader import Layout, layout

HEAD = (
    *("kernel", "operator", "shape", "codes", "zeros", "bits/weight", "MACs"),
    *("weights", "bias", "tables", "zipped", "entropy bound"),
)
FORMATS = ("", "", "", "", "{:.1%}", "{:.3f}", *["{:,}"] * 6)


@dataclasses.dataclass(frozen=True)
class KernelReport:
    """One kernel.

    Attributes:
      operator: TensorFlow Lite's name, or a packed layer's.
      shape: of the stored tensor (output channels first, but depthwise last).
      codes: "ternary", or the type: "int8", "float32", ...
      storage: how the file holds them: "dense", "sparse", "int4", "packed" or "decode" (streams of
        TensorFlow Lite Micro's DECODE).
      zeros: share of zero weights, 0 to 1.
      entropy: bits per weight, first order; of the signs, where the codes are ternary; of a float
        kernel the bits that a weight takes.
      macs: multiply-accumulates of one inference, zeros counted too, by all who use the kernel.
      weights_bytes: as stored; a packed layer's blob with its bias and scales.
      bias_bytes: as stored; 0 without a bias.
      table_bytes: scales and zero points of weights and bias, 12 bytes a channel each.
      zipped_bytes: the codes deflated on their own.
      bound_bytes: weights at their first-order entropy, rounded up.
    """

    name: str
    operator: str
    shape: tuple[int, ...]
    codes: str
    storage: str
    zeros: float
    entropy: float
    macs: int
    weights_bytes: int
    bias_bytes: int
    table_bytes: int
    zipped_bytes: int
    bound_bytes: int

    @property
    def ternary(self) -> bool:
        return self.codes == "ternary"

    @property
    def is_float(self) -> bool:
        return "float" in self.codes

    @property
    def weights(self) -> int:
        """How many."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Report:
    """`kernels`, `other_bytes` and `structure_bytes` add up to `file_bytes`.

    Attributes:
      other_bytes: constants that belong to no kernel (shapes, paddings).
      structure_bytes: operators, names, tables of activations, alignment.
      zipped_bytes: the whole file deflated.
    """

    file: str
    kernels: tuple[KernelReport, ...]
    other_bytes: int
    structure_bytes: int
    file_bytes: int
    zipped_bytes: int

    @property
    def ternary(self) -> list[KernelReport]:
        return [kernel for kernel in self.kernels if kernel.ternary]

    @property
    def zeros(self) -> float:
        """Share of zero weights inside the ternary kernels; 0 without any."""
        weights = sum(kernel.weights for kernel in self.ternary)
        return sum(k.zeros * k.weights for k in self.ternary) / max(weights, 1)

    def table(self) -> Table:
        """A row a kernel, with a total; sizes in bytes."""
        rows = [
            (
                *(k.name, k.operator, "x".join(map(str, k.shape))),
                k.codes + ("" if k.storage == "dense" else f" ({k.storage})"),
                *(k.zeros, k.entropy, k.macs),
                *(k.weights_bytes, k.bias_bytes, k.table_bytes, k.zipped_bytes, k.bound_bytes),
            )
            for k in self.kernels
        ]
        names = ("weights_bytes", "bias_bytes", "table_bytes", "zipped_bytes", "bound_bytes")
        totals = [sum(getattr(k, name) for k in self.kernels) for name in ("macs", *names)]
        return Table(HEAD, rows, FORMATS, total=("all kernels", *[None] * 5, *totals))

    def as_dict(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        return dataclasses.asdict(self) | {"zeros": self.zeros}

    def __str__(self) -> str:
        kernels = sum(k.weights_bytes + k.bias_bytes + k.table_bytes for k in self.kernels)
        ternary = (
            f"zeros in ternary kernels: {100 * self.zeros:.2f} %; their weights at first-order "
            f"entropy: {sum(k.bound_bytes for k in self.ternary):,} bytes"
            if self.ternary
            else "no kernel is ternary"
        )
        floats = sum(k.is_float for k in self.kernels)
        if floats:
            ternary += f"; {floats} of {len(self.kernels)} kernels are float, as stored"
        return "\n".join(
            [
                self.table().text(),
                "",
                f"kernels {kernels:,} + other constants {self.other_bytes:,} + structure "
                f"{self.structure_bytes:,} = {self.file_bytes:,} bytes on disk, "
                f"{self.zipped_bytes:,} zipped",
                ternary,
                f"{sum(k.macs for k in self.kernels):,} multiply-accumulates in one inference",
            ]
        )


def layer_name(tensor_name: str) -> str:
    """`net/quant_conv1/FakeQuant...` -> `conv1`: the Keras layer behind a tensor's name."""
    parts = tensor_name.split(";")[0].split("/")
    wrapped = [part.removeprefix("quant_") for part in parts if part.startswith("quant_")]
    return wrapped[-1] if wrapped else parts[-2] if len(parts) > 1 else parts[0]


def report(path: str | os.PathLike) -> Report:
    """Account for every byte of a `.tflite` file.

    Raises:
      OSError: the file cannot be read.
      ec2t_tf.export.FileError: it is no TensorFlow Lite file, or a damaged one.
    """
    return report_of(files.content(path, needed_by="report"), str(path))


def report_of(content: bytes, name: str) -> Report:
    """`report` of the bytes of a file, and what to call it.

    Raises:
      ec2t_tf.export.FileError: it is no TensorFlow Lite file, or a damaged one.
    """
    places = layout(content)
    graph = places.graph
    check_structure(graph)
    account = _Account(places)
    rows = [_row(account, kernel) for kernel in stored_kernels(graph)]
    other = sum(account.take("data", index) for index in places.data)
    known = sum(r.weights_bytes + r.bias_bytes + r.table_bytes for r in rows) + other
    return Report(
        file=name,
        kernels=tuple(rows),
        other_bytes=other,
        structure_bytes=len(content) - known,
        file_bytes=len(content),
        zipped_bytes=len(zlib.compress(content, 9)),
    )


class _Account:
    """Counts the bytes of a file, each the first time that it is met: tensors may share them."""

    def __init__(self, places: Layout) -> None:
        self._places: dict[str, tuple[dict[int, tuple[int, int]], int]] = {
            "data": (places.data, 1),
            "scales": (places.scales, 4),
            "zero points": (places.zero_points, 8),
        }
        self._counted: set[int] = set()

    def take(self, what: str, index: int) -> int:
        """Bytes of a tensor's "data", "scales" or "zero points"; 0 if they are counted."""
        places, size = self._places[what]
        start, count = places.get(index, (0, 0))
        if not count or start in self._counted:
            return 0
        self._counted.add(start)
        return count * size


def _row(account: _Account, kernel: StoredKernel) -> KernelReport:
    rows = kernel.weights
    ternary = rows.dtype == np.int8 and is_ternary(rows)
    if rows.dtype.kind == "f":  # its values are hardly ever equal: to count them says nothing
        bits = 8.0 * rows.dtype.itemsize
    else:
        bits = entropy(np.sign(rows) if ternary else rows)
    of_bias = (kernel.bias,) if kernel.bias >= 0 else ()
    tables = ("scales", "zero points")
    name = layer_name(kernel.tensor.name) or f"operator {kernel.number} {kernel.operator}"
    return KernelReport(
        name=f"{name} {kernel.part}".rstrip(),
        operator=kernel.operator,
        shape=kernel.shape,
        codes="ternary" if ternary else str(rows.dtype),
        storage=kernel.storage,
        zeros=float((rows == 0).mean()) if rows.size else 0.0,
        entropy=bits,
        macs=kernel.macs,
        weights_bytes=kernel.blob_bytes
        + sum(account.take("data", index) for index in kernel.stored),
        bias_bytes=sum(account.take("data", index) for index in of_bias),
        table_bytes=sum(
            account.take(table, i) for table in tables for i in (kernel.read, *of_bias)
        ),
        zipped_bytes=len(zlib.compress(rows.tobytes(), 9)),
        bound_bytes=math.ceil(bits * rows.size / 8),
    )
