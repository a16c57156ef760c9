"""Where the bytes of a `.tflite` file go, and what they would need at least."""

from __future__ import annotations

import dataclasses
import os
import zlib
from pathlib import Path

from ec2t_tf.export.tflite_file import TFLiteFile


@dataclasses.dataclass(frozen=True)
class KernelReport:
    """One kernel.

    Attributes:
      operator: TensorFlow Lite's name.
      shape: of the stored tensor (output channels first, but depthwise last).
      ternary: at most three codes in each output channel, zero among them.
      zeros: share of zero weights, 0 to 1.
      entropy: bits per weight, first order.
      weights_bytes: as stored.
      bias_bytes: as stored; 0 without a bias.
      table_bytes: scales and zero points of weights and bias, 12 bytes a channel each.
      zipped_bytes: the stored weights deflated on their own.
      bound_bytes: weights at their first-order entropy, rounded up.
    """

    name: str
    operator: str
    shape: tuple[int, ...]
    ternary: bool
    zeros: float
    entropy: float
    weights_bytes: int
    bias_bytes: int
    table_bytes: int
    zipped_bytes: int
    bound_bytes: int


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
        weights = sum(kernel.weights_bytes for kernel in self.ternary)
        return sum(k.zeros * k.weights_bytes for k in self.ternary) / max(weights, 1)

    def __str__(self) -> str:
        head: tuple[str, ...] = ("kernel", "operator", "shape", "codes", "zeros %", "bits/weight")
        head += ("weights", "bias", "tables", "zipped", "entropy bound")
        table: list[tuple[str, ...]] = [head]
        for k in self.kernels:
            label = "ternary" if k.ternary else "int8"
            shares = (f"{100 * k.zeros:.1f}", f"{k.entropy:.3f}")
            sizes = (k.weights_bytes, k.bias_bytes, k.table_bytes, k.zipped_bytes, k.bound_bytes)
            shape = "x".join(map(str, k.shape))
            table.append((k.name, k.operator, shape, label, *shares, *(f"{s:,}" for s in sizes)))
        names = ("weights_bytes", "bias_bytes", "table_bytes", "zipped_bytes", "bound_bytes")
        totals = [sum(getattr(k, name) for k in self.kernels) for name in names]
        table.append(("all kernels", "", "", "", "", "", *(f"{total:,}" for total in totals)))
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]

        def line(row: tuple[str, ...]) -> str:
            cells = zip(row, widths, range(len(row)), strict=True)
            return "  ".join(t.ljust(w) if i < 4 else t.rjust(w) for t, w, i in cells).rstrip()

        kernels = sum(totals[:3])
        return "\n".join(
            [
                *map(line, table),
                "",
                f"kernels {kernels:,} + other constants {self.other_bytes:,} + structure "
                f"{self.structure_bytes:,} = {self.file_bytes:,} bytes on disk, "
                f"{self.zipped_bytes:,} zipped",
                f"zeros in ternary kernels: {100 * self.zeros:.2f} %; their weights at first-order "
                f"entropy: {sum(k.bound_bytes for k in self.ternary):,} bytes",
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
    content = Path(path).read_bytes()
    file = TFLiteFile(content)
    rows, counted = [], set()

    def count(buffer: int, size: int) -> int:
        """Bytes of a buffer the first time it is met: tensors may share one."""
        if buffer in counted:
            return 0
        counted.add(buffer)
        return size

    for kernel in file.kernels:
        assert kernel.tensor.data is not None
        bias = kernel.operator.inputs[2] if len(kernel.operator.inputs) > 2 else None
        tensors = [kernel.tensor] + ([bias] if bias is not None else [])
        tables = sum(t.scales.nbytes + t.zero_points.nbytes for t in tensors)
        rows.append(
            KernelReport(
                name=layer_name(kernel.tensor.name),
                operator=kernel.operator.name,
                shape=kernel.tensor.shape,
                ternary=kernel.is_ternary,
                zeros=kernel.zeros,
                entropy=kernel.entropy,
                weights_bytes=count(kernel.tensor.buffer, kernel.tensor.buffer_bytes),
                bias_bytes=count(bias.buffer, bias.buffer_bytes) if bias is not None else 0,
                table_bytes=tables,
                zipped_bytes=len(zlib.compress(kernel.tensor.data.tobytes(), 9)),
                bound_bytes=-int(-kernel.entropy * kernel.codes.size // 8),
            )
        )
    other = sum(count(t.buffer, t.buffer_bytes) for t in file.tensors)
    known = sum(r.weights_bytes + r.bias_bytes + r.table_bytes for r in rows) + other
    return Report(
        file=str(path),
        kernels=tuple(rows),
        other_bytes=other,
        structure_bytes=len(content) - known,
        file_bytes=len(content),
        zipped_bytes=len(zlib.compress(content, 9)),
    )
