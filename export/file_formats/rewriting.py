"""A file in another format."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from ec2t_tf import files

from .registry import FORMATS, plain


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """What `rewrite` wrote.

    Attributes:
      content: the file.
      format: its format.
      bytes_before, bytes_after: sizes of the two files.
      notes: what a reader should know: nothing to pack, not smaller.
    """

    content: bytes = dataclasses.field(repr=False)
    format: str
    bytes_before: int
    bytes_after: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        size = f"{self.bytes_after:,} bytes ({self.format}; before: {self.bytes_before:,})"
        return "; ".join([size, *self.notes])


def rewrite(
    file: bytes | str | os.PathLike,
    *,
    format: str,
    output: str | os.PathLike | None = None,
    **options: Any,
) -> Rewritten:
    """Stores an int8 .tflite file in another format.

    Args:
      file: the bytes or the path of an int8 .tflite file, or of a file of any of the formats.
      format: a name of `ec2t_tf.export.file_formats.FORMATS`.
      output: where to write it; nowhere if None.
      options: of the format, see `to_tflite`; of "int8", "packed" and "download" also
        `io_dtype="int8"`, for a file that quantises its inputs and dequantises its outputs: it
        leaves that to whoever runs it.

    Raises:
      FileError: the file is damaged, or holds nothing that the format could store.
      ValueError: `format` is unknown, or an option of another format.
      OSError: the file cannot be read or written.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}. Received: {format!r}.")
    FORMATS[format].require_options(options)
    content = files.content(file, needed_by="rewrite")
    source = plain(content)
    written, notes = FORMATS[format].write(source, **options)
    if format != "int8" and len(written) >= len(source):
        notes = [*notes, "not smaller than the file it is made of"]
    if output is not None:
        files.write_bytes(output, written)
    return Rewritten(written, format, len(content), len(written), tuple(notes))
