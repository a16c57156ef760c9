"""What a saved Keras model would run when it is loaded, found before anything is.

A model's configuration names classes and functions, and may hold Python bytecode (Lambda layers).
Keras itself looks for bytecode in `.keras` files only, and imports any module that any file names.
"""

from __future__ import annotations

import builtins
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Packages whose classes a configuration may name; others must be registered with Keras.
TRUSTED = ("ec2t_tf", "keras", "tensorflow_model_optimization", "tf_keras")
# Parts of Keras whose functions do more than compute: they fetch, write, load and unpack files.
NOT_FUNCTIONS_OF = ("config", "models", "saving", "utils")
LARGEST_CONFIG = 1 << 26  # bytes
DEEPEST_CONFIG = 200


Registered = Callable[[str], Any]
"""A class or function that is registered with Keras, by its name; None for another name."""


def require_nothing_to_run(path: str | os.PathLike, registered: Registered) -> None:
    """Raise ValueError where loading the model would run what the file brings or names.

    Args:
      path: `.keras` or `.h5` file, or SavedModel folder, that exists.
      registered: `saving.get_registered_object` of the Keras that will load it.

    Raises:
      ValueError: the model has a Lambda layer or names a class or function that is neither Keras's
        nor registered with it; or its configuration is damaged, too large or too deep.
      OSError: the file cannot be read.
    """
    for config in _configs(Path(path)):
        for entry in _entries(config, str(path)):
            reason = _reason(entry, registered)
            if reason:
                raise ValueError(
                    "load_model runs no code that a file brings. "
                    f"Received: '{path}', whose model {reason}. If you trust the file, load it "
                    "with safe_mode=False."
                )


def _configs(path: Path) -> Iterator[Any]:
    """The JSON texts that describe the model, parsed."""
    if path.is_dir():
        yield from _of_saved_model(path)
    elif path.suffix == ".keras" and zipfile.is_zipfile(path):
        yield _of_archive(path)
    else:
        yield from _of_hdf5(path)


def _of_archive(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo("config.json").file_size
            if size > LARGEST_CONFIG:
                raise ValueError(
                    f"A configuration of at most {LARGEST_CONFIG:,} bytes is required. "
                    f"Received: '{path}' with {size:,}."
                )
            text = archive.read("config.json")
    except KeyError as error:
        raise ValueError(
            "A .keras file must hold config.json. "
            f"Received: '{path}', which does not. Save the model again with model.save."
        ) from error
    # What the archive's methods of compression raise for damaged bytes.
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise ValueError(f"A whole .keras file is required. Received: '{path}': {error}") from error
    return _parsed(text, path)


def _of_hdf5(path: Path) -> Iterator[Any]:
    import h5py

    with h5py.File(path, "r") as file:
        for name in ("model_config", "training_config"):
            text = file.attrs.get(name)
            if text is not None:
                yield _parsed(text, path)


def _of_saved_model(path: Path) -> Iterator[Any]:
    from google.protobuf.message import DecodeError
    from tf_keras.protobuf import saved_metadata_pb2

    file = path / "keras_metadata.pb"
    if not file.is_file():
        raise ValueError(
            "A SavedModel folder that Keras wrote is required: it holds keras_metadata.pb. "
            f"Received: '{path}', which holds none. Save the model again with model.save."
        )
    metadata = saved_metadata_pb2.SavedMetadata()
    try:
        metadata.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise ValueError(f"'{file}' is damaged ({error}). Save the model again.") from error
    for node in metadata.nodes:
        yield _parsed(node.metadata, path)


def _parsed(text: str | bytes, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise ValueError(
            f"A model's configuration must be JSON. Received: '{path}', where it is not: {error}"
        ) from error


def _entries(config: Any, path: str) -> Iterator[dict]:
    """Every object of a configuration."""
    level = [config]
    for _ in range(DEEPEST_CONFIG):
        yield from (value for value in level if isinstance(value, dict))
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError(
        f"A configuration of at most {DEEPEST_CONFIG} levels is required. "
        f"Received: '{path}' with more."
    )


def _reason(entry: dict, registered: Registered) -> str:
    """Why an object of a configuration is not made; empty if it may be."""
    kind = entry.get("class_name")
    config = entry.get("config")
    of_bytecode = any(key.endswith("_type") and entry[key] == "lambda" for key in entry)
    if kind == "__lambda__" or of_bytecode:
        return "has a Lambda layer, or another one, that holds Python bytecode"
    if kind == "Lambda" and registered("Lambda") is None:
        function = config.get("function") if isinstance(config, dict) else None
        name = function.get("config") if isinstance(function, dict) else function
        if not isinstance(name, str) or registered(name) is None:
            return "has a Lambda layer"
    module = entry.get("module")
    if not isinstance(kind, str) or not isinstance(module, str):
        return ""
    # As Keras looks them up: functions by their name, classes by the name they registered.
    if kind == "function":
        name = looked_up = str(config)
    else:
        name = str(entry.get("spec_name", kind))
        looked_up = str(entry.get("registered_name", kind))
    if registered(looked_up) is not None:
        return ""
    parts = module.split(".")
    if module == "builtins":
        trusted = not hasattr(builtins, name)
    elif kind == "function":
        trusted = parts[0] in TRUSTED and not set(parts) & set(NOT_FUNCTIONS_OF)
    else:
        trusted = parts[0] in TRUSTED
    if trusted:
        return ""
    return (
        f"names '{module}.{name}'. Register a class of your own with Keras "
        "(saving.register_keras_serializable) and import its module before loading"
    )
