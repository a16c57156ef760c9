"""The file formats: one list that `to_tflite`, `rewrite`, `sizes`, `verify`, the command line and
the docs read."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ec2t_tf import files

from ..graph import FileError, Graph, Operator
from ..tflite.reader import read
from ..tflite.writer import write
from ..tflm import to_tflm
from . import rounding
from .download import from_download, header_goal, is_download, to_download
from .ends import int8_ends
from .int4 import align_to_int4, to_int4
from .layers import find_layers, summary
from .packed import is_packed, packable_layers, to_packed
from .plain import to_plain
from .sparse import to_sparse


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """One way to store an int8 net.

    Attributes:
      name: what `format=` takes.
      summary: one line for people.
      runtimes: which run its files: "LiteRT" (any TensorFlow Lite), "ec2t_tf" (our `Interpreter`)
        and "TFLM" (TensorFlow Lite Micro); none for a file that must be turned back first.
      exact: whether its files compute what the int8 file computes, bit for bit; with
        `round_within` what the int8 file of the same numbers computes.
      write: an int8 .tflite file -> the format's file and notes for people; keyword options.
      options: of `write`, by name.
      suffix: of the file's name.
      recognise: of a format that is no .tflite file: whether bytes are a file of it.
      unpack: of such a format: its file -> the .tflite file that it was given.
    """

    name: str
    summary: str
    runtimes: tuple[str, ...]
    exact: bool
    write: Callable[..., tuple[bytes, list[str]]]
    options: tuple[str, ...] = ()
    suffix: str = ".tflite"
    recognise: Callable[[bytes], bool] | None = None
    unpack: Callable[[bytes], bytes] | None = None

    def read(self, file: bytes) -> bytes:
        """The format's file as plain int8, see `plain`."""
        return plain(file)

    def require_options(self, names: Iterable[str]) -> None:
        """Refuses options of other formats.

        Raises:
          ValueError: one of the names is no option of this format.
        """
        for name in set(names) - set(self.options):
            others = [form.name for form in FORMATS.values() if name in form.options]
            raise ValueError(
                f"{name} is an option of {', '.join(others) or 'no format'}. "
                f"Received: format={self.name!r}, which takes {', '.join(self.options) or 'none'}."
            )


def _graph_to_graph(change: Callable[[Graph], Graph]) -> Callable[..., tuple[bytes, list[str]]]:
    return lambda content: (write(change(read(content))), [])


def _int8(content: bytes, **changes: Any) -> tuple[bytes, list[str]]:
    source, notes = _changed(content, **changes)
    written, others = _smaller(source, write(read(source)))
    return written, [*notes, *others]


def _changed(
    content: bytes, *, io_dtype: str | None = None, round_within: float | None = None
) -> tuple[bytes, list[str]]:
    """The file with what is asked for: int8 ends, numbers in fewer digits."""
    if io_dtype not in (None, "int8"):
        raise ValueError(
            'io_dtype of a file that exists must be "int8", or left out for its inputs and outputs '
            f"as they are. Received: {io_dtype!r}."
        )
    if io_dtype == "int8":
        content = write(int8_ends(read(content)))
    if round_within is None:
        return content, []
    graph, layers = rounding.rounded(read(content), round_within)
    return (write(graph) if layers else content), [rounding.note(layers, round_within)]


def _smaller(content: bytes, written: bytes) -> tuple[bytes, list[str]]:
    """What is written, or the file as it was where that is larger."""
    return (written, []) if len(written) <= len(content) else (content, [])


def _packed(
    content: bytes, *, optimize: Any = "size", names: bool = True, **changes: Any
) -> tuple[bytes, list[str]]:
    content, notes = _changed(content, **changes)
    graph = read(content)
    written = _write_packed(to_packed(graph, optimize=optimize, names=names))
    packable, others = packable_layers(graph)
    if packable:
        return written, notes
    if len(written) >= len(content):
        raise FileError(
            f'format="packed" would not make this file smaller. Received: {summary(others)}.'
        )
    return written, [
        *notes,
        f"nothing to pack; names, notes and what the file held twice went: {summary(others)}",
    ]


def _write_packed(net: Graph) -> bytes:
    """A packed net; of one without names the shortest file, whether they went now or before."""
    named = net.signatures or any(tensor.name for tensor in net.tensors)
    return write(net, shortest=not named)


def _download(
    content: bytes, *, optimize: Any = "size", names: bool = True, **changes: Any
) -> tuple[bytes, list[str]]:
    content, notes = _changed(content, **changes)
    ternary, others = find_layers(read(content))
    if not ternary:
        notes = [*notes, f"compressed as it is: {summary(others)}"]
    return to_download(content, optimize=optimize, names=names), notes


def _tflm(content: bytes, **options: Any) -> tuple[bytes, list[str]]:
    written, report = to_tflm(content, **options)
    if any(layer.kind != "int8" for layer in report.layers):
        return written, []
    return _smaller(content, written)[0], ["no weights of few values: nothing to pack for DECODE"]


_CHANGES = ("io_dtype", "round_within")  # options of `_changed`
_STOCK = ("LiteRT", "ec2t_tf", "TFLM")
FORMATS: dict[str, FileFormat] = {
    form.name: form
    for form in (
        FileFormat(
            "int8",
            "plain int8, equal tables of the file shared",
            _STOCK,
            True,
            _int8,
            _CHANGES,
        ),
        FileFormat(
            "sparse",
            "TensorFlow Lite's sparse tensors behind DENSIFY",
            ("LiteRT", "ec2t_tf"),
            True,
            _graph_to_graph(to_sparse),
        ),
        FileFormat(
            "int4",
            "weights of 4 bits; needs levels whose ratio is k/7",
            ("LiteRT", "ec2t_tf"),
            False,
            _graph_to_graph(to_int4),
        ),
        FileFormat(
            "int8_on_int4_levels",
            "plain int8, moved onto the levels of int4",
            _STOCK,
            False,
            _graph_to_graph(align_to_int4),
        ),
        FileFormat(
            "packed",
            "ternary layers as operators of `ec2t_tf.export.Interpreter`",
            ("ec2t_tf",),
            True,
            _packed,
            ("optimize", "names", *_CHANGES),
        ),
        FileFormat(
            "download",
            "the smallest file; `unpack` turns it back into packed or int8",
            (),
            True,
            _download,
            ("optimize", "names", *_CHANGES),
            ".ec2d",
            is_download,
            from_download,
        ),
        FileFormat(
            "tflm",
            "weights behind TensorFlow Lite Micro's DECODE operators",
            ("TFLM",),
            True,
            _tflm,
            ("streams", "negative_scales"),
        ),
    )
}


def plain(file: bytes | str | os.PathLike) -> bytes:
    """A file of any format, or its path, as a plain int8 .tflite file, which every runtime takes.

    Plain files are returned as they are, and download files come back bit for bit. Of the others
    what they compute comes back: of "int4" what the reference kernels make of it.

    Raises:
      FileError: the file is damaged, or a packed layer has no builtin twin.
    """
    if not isinstance(file, bytes):
        file = Path(file).read_bytes()
    if is_plain(file):
        return file
    form = _container(file)
    return write(to_plain(read(file))) if form is None else _unpacked(form, file)


def _container(file: bytes) -> FileFormat | None:
    """The format of a file that is no .tflite file."""
    for form in FORMATS.values():
        if form.recognise is not None and form.recognise(file):
            return form
    return None


def _unpacked(form: FileFormat, file: bytes) -> bytes:
    assert form.unpack is not None, f"{form.name} recognises files that it cannot unpack"
    return form.unpack(file)


def is_plain(file: bytes) -> bool:
    """Whether a file holds weights as they are: no custom operators, nothing sparse or narrow.

    Raises:
      FileError: the file is damaged.
    """
    if _container(file) is not None:
        return False
    graph = read(file)
    stored = {tensor.storage for tensor in graph.tensors}
    custom = any(_is_ours(operator) for operator in graph.operators)
    return stored <= {"dense"} and not custom


def _is_ours(operator: Operator) -> bool:
    return is_packed(operator) or (operator.custom is not None and operator.kind == "TFLM_DECODE")


def runtimes_of(content: bytes) -> tuple[str, ...]:
    """Which runtimes take a file of whatever format.

    Raises:
      FileError: the file is damaged.
    """
    form = _container(content)
    if form is not None:
        return form.runtimes
    operators = read(content).operators
    if any(is_packed(operator) for operator in operators):
        return FORMATS["packed"].runtimes
    kinds = {operator.kind for operator in operators if operator.custom is not None}
    return FORMATS["tflm"].runtimes if "TFLM_DECODE" in kinds else FORMATS["sparse"].runtimes


def unpacked(file: bytes | str | os.PathLike, *, to: str = "packed") -> bytes:
    """A download file as a .tflite file.

    Args:
      file: what `to_download` returned, or the path of such a file.
      to: "int8" for the file that it was given, bit for bit; "packed" for that file packed.

    Raises:
      FileError: the file is damaged, or written by a newer version.
      ValueError: `to` is another word.
    """
    if to not in ("packed", "int8"):
        raise ValueError(f'to must be "packed" or "int8". Received: to={to!r}')
    file = files.content(file, needed_by="unpack")
    content = from_download(file)
    if to == "int8":
        return content
    packed = _write_packed(to_packed(read(content), optimize=header_goal(file)))
    return _smaller(content, packed)[0]
