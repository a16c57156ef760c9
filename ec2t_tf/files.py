"""Files appear whole or not at all: a full disk, an error or a kill leaves what was there."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# What NumPy and zipfile raise for bytes that are no archive, or for one that was cut.
_OF_DAMAGED_ARRAYS = (
    *(EOFError, KeyError, MemoryError, OSError, RuntimeError, ValueError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


def content(file: bytes | str | os.PathLike, *, needed_by: str) -> bytes:
    """The bytes of a file of which a user gave the path, or the bytes themselves.

    Args:
      needed_by: the function that he called.

    Raises:
      TypeError: something else was given, such as the model itself.
      OSError: the file cannot be read.
    """
    if isinstance(file, bytes | bytearray):
        return bytes(file)
    if not isinstance(file, str | os.PathLike):
        raise TypeError(
            f"{needed_by} requires a file, its path or its bytes. Received: "
            f"{type(file).__name__}. Write a model with export.to_tflite(model, path) first."
        )
    return Path(file).read_bytes()


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A name in the same folder to write to; what was written there becomes `path` at the end.

    The name has the suffix of `path`. If the body raises, nothing of it stays. A device or a pipe
    is written to directly.

    Raises:
      FileNotFoundError: the folder does not exist.
      OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))  # a link stays, what it names is replaced
    if target.exists() and not target.is_file():
        if target.is_dir():
            raise IsADirectoryError(f"A file to write is required. Received: '{path}', a folder.")
        yield target
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"A file in an existing folder is required. Received: '{path}'. "
            f"Create '{target.parent}'."
        )
    suffix = "".join(target.suffixes[-2:])[-100:]  # Keras asks for .weights.h5
    stem = target.name.removesuffix(suffix)[:100]
    fresh = target.with_name(f".{stem}-{secrets.token_hex(4)}{suffix}")
    try:
        yield fresh
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            fresh.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(fresh, target)
    finally:
        fresh.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """`Path.write_bytes`, whole or not at all."""
    with replacing(path) as fresh:
        fresh.write_bytes(content)


def write_text(path: str | os.PathLike, text: str) -> None:
    """`Path.write_text` in UTF-8 without translation of newlines, whole or not at all."""
    write_bytes(path, text.encode())


def read_json(path: str | os.PathLike) -> Any:
    """A JSON file.

    Raises:
      OSError: it cannot be read.
      ValueError: it is damaged.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"A whole JSON file is required. Received: '{path}', which is damaged ({error}). "
            "Delete it, or put back the one that was there."
        ) from error


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` archive by name; of a `.npy` file its array, named "".

    Raises:
      OSError: it cannot be read.
      ValueError: it is damaged, or holds Python objects.
    """
    import numpy as np

    with Path(path).open("rb") as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            return {name: loaded[name] for name in loaded.files}
        except _OF_DAMAGED_ARRAYS as error:
            raise ValueError(
                f"A whole .npz or .npy file of numbers is required. Received: '{path}', which "
                f"cannot be read ({error or type(error).__name__})."
            ) from error


@contextlib.contextmanager
def folder(path: str | os.PathLike) -> Iterator[Path]:
    """A scratch folder; its files appear in the folder `path` at the end, and none if it raises.

    Files of the same name are replaced, each in one step; others stay. A new folder appears in one
    step.

    Raises:
      NotADirectoryError: `path` is a file, or a file stands where a folder is needed.
      OSError: a file cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"A folder to write is required. Received: '{path}', a file.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        staged = Path(scratch, "files")
        staged.mkdir()
        yield staged
        for source in staged.rglob("*"):
            if source.is_file():
                with source.open("rb+") as file:
                    os.fsync(file.fileno())
        if not target.exists():
            staged.rename(target)
        else:
            _merge(staged, target)


def _merge(staged: Path, target: Path) -> None:
    found = sorted(staged.rglob("*"))
    pairs = [(source, target / source.relative_to(staged)) for source in found]
    for source, place in pairs:
        if place.exists() and place.is_dir() != source.is_dir():
            raise NotADirectoryError(
                f"A {'folder' if source.is_dir() else 'file'} is written to '{place}'. "
                "Received: something else of that name. Move it away."
            )
    for source, place in pairs:
        if source.is_dir():
            place.mkdir(exist_ok=True)
        else:
            os.replace(source, place)
