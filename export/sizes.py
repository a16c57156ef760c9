"""One net in every file format: bytes on disk, zipped, and of the weight streams."""

from __future__ import annotations

import dataclasses
import gzip
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ec2t_tf import files, progress

from . import formats
from .file_formats import FORMATS, rewrite
from .file_formats.download import stream_bytes
from .file_formats.layers import find_layers
from .file_formats.packed import COMPACT_CODE, is_packed, layer_of
from .formats.compact import range_stream
from .graph.ternary import channels_of, is_ternary
from .tflite.reader import read

# Formats of a table: the others are steps on the way to one of them, or for microcontrollers.
SHOWN = ("int8", "sparse", "int4", "packed", "download")
_STREAM_SIZE = slice(64, 68)  # of a blob's header, formats/FORMAT.md


@dataclasses.dataclass(frozen=True)
class FormatSize:
    """One file. Sizes are those of files that were written.

    Attributes:
        file_bytes: the file; None where the format refused the net.
        gzip_bytes: the same through `gzip -9`.
        stream_bytes: the ternary layers' weights inside it, where they are streams of their own.
        note: why the format refused.
    """

    file_bytes: int | None
    gzip_bytes: int | None = None
    stream_bytes: int | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A net in all formats.

    Attributes:
        net: its name.
        weights: number of weights in the ternary layers.
        zeros: share of zeros among them.
        entropy_bytes: their size at first-order entropy, layer by layer.
        formats: by name, "int8" first.
    """

    net: str
    weights: int
    zeros: float
    entropy_bytes: float
    formats: dict[str, FormatSize]


def _packed_stream_bytes(file: bytes) -> int:
    """Bytes of the ternary weights' streams in the blobs of a packed file; in compact ones, where
    they are part of another stream, what they take by themselves."""
    graph = read(file)
    packed = [operator for operator in graph.operators if is_packed(operator)]
    blobs = {one.inputs[1] for one in packed if one.kind != COMPACT_CODE}
    found = [graph.tensors[index].data for index in blobs]
    layers = {one.custom: layer_of(graph, one) for one in packed if one.kind == COMPACT_CODE}
    compact = [one.weights for one in layers.values() if is_ternary(channels_of(one.weights, 0))]
    return sum(len(range_stream(weights)) for weights in compact) + sum(
        int.from_bytes(blob.tobytes()[_STREAM_SIZE], "little") for blob in found if blob is not None
    )


def _written(folder: Path, name: str, content: bytes) -> tuple[int, int]:
    """Bytes on disk of a file, and of it through gzip."""
    path, zipped = folder / name, folder / f"{name}.gz"
    files.write_bytes(path, content)
    files.write_bytes(zipped, gzip.compress(content, 9, mtime=0))
    return path.stat().st_size, zipped.stat().st_size


def sizes(
    int8: str | os.PathLike[str],
    *,
    name: str | None = None,
    output_dir: str | os.PathLike[str] | None = None,
) -> Sizes:
    """Write an int8 .tflite file in every format and measure the files.

    Args:
        int8: an int8 .tflite file.
        name: the net's name in the table; by default the file's.
        output_dir: folder to keep the files in; by default they are deleted.

    Raises:
        FileError: the file is damaged.
        OSError: the file cannot be read, or the folder not be written to.
    """
    content = Path(int8).read_bytes()
    layers, _ = find_layers(read(content))
    codes = [formats.ternary_codes(layer.rows).symbols for layer in layers]
    weights = sum(symbols.size for symbols in codes)
    found: dict[str, FormatSize] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch if output_dir is None else output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for form in progress.bar(SHOWN, "writing formats"):
            try:
                file = content if form == "int8" else rewrite(content, format=form).content
            except ValueError as error:
                found[form] = FormatSize(None, note=str(error))
                continue
            streams = {"packed": _packed_stream_bytes, "download": stream_bytes}.get(form)
            found[form] = FormatSize(
                *_written(folder, f"{form}{FORMATS[form].suffix}", file),
                None if streams is None else streams(file),
            )
    return Sizes(
        net=name or Path(int8).stem,
        weights=weights,
        zeros=sum(int((symbols == 0).sum()) for symbols in codes) / max(weights, 1),
        entropy_bytes=sum(formats.first_order_entropy_bytes(symbols) for symbols in codes),
        formats=found,
    )


def table(rows: Iterable[Sizes]) -> str:
    """Markdown: a line for each net and format."""
    lines = [
        "| net | format | file | share of int8 | gzip -9 | weight streams | of entropy |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for net in rows:
        title = f"{net.net}, {net.weights:,} ternary weights, {net.zeros:.2%} zeros"
        int8 = net.formats["int8"].file_bytes
        assert int8 is not None
        for form, size in net.formats.items():
            if size.file_bytes is None:
                cells = ["refused", "", "", "", ""]
            else:
                cells = [f"{size.file_bytes:,}", f"{size.file_bytes / int8:.3f}"]
                cells += [f"{size.gzip_bytes:,}", "", ""]
                if size.stream_bytes:
                    share = size.stream_bytes / net.entropy_bytes
                    cells[3:] = [f"{size.stream_bytes:,}", f"{share:.3f}"]
            lines.append(f"| {title} | {form} | " + " | ".join(cells) + " |")
            title = ""
        lines.append(f"| | first-order entropy | | | | {net.entropy_bytes:,.0f} | 1.000 |")
    return "\n".join(lines)
