"""Paths that modules had in v0.1.0: importing one gives the module of today, with a warning.

They go with the next release, and this module with them.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Sequence
from importlib import abc, machinery
from typing import Any

# By former path: the module of today; and by name, where a name went elsewhere or has another one.
PATHS: dict[str, tuple[str, dict[str, str]]] = {
    "ec2t_tf.activations": ("ec2t_tf.tfmot.activations", {}),
    "ec2t_tf.graph": ("ec2t_tf.tfmot.graph", {}),
    "ec2t_tf.keras_compat": (
        "ec2t_tf.tfmot",
        {"is_keras_3": "ec2t_tf.doors.is_keras_3", "is_tf_keras": "ec2t_tf.doors.is_tf_keras"},
    ),
    "ec2t_tf.operations": ("ec2t_tf.counting.operations", {}),
    "ec2t_tf.quantize_config": (
        "ec2t_tf.tfmot.quantize_config",
        {"TernaryQuantizer": "ec2t_tf.tfmot.quantizers.TernaryQuantizer"},
    ),
    "ec2t_tf.rewrite": ("ec2t_tf.tfmot.rewrite", {}),
    "ec2t_tf.scheme": (
        "ec2t_tf.tfmot.scheme",
        {
            name: f"ec2t_tf.tfmot.wrapper.{name}"
            for name in ("QuantizeWrapper", "is_quantised", "loading", "wrapped")
        },
    ),
    "ec2t_tf.scoring": ("ec2t_tf.counting", {}),
    "ec2t_tf.two_pass": ("ec2t_tf.tfmot.two_pass", {}),
    "ec2t_tf.export.c": ("ec2t_tf.export.mcu", {}),
    "ec2t_tf.export.c.emit": ("ec2t_tf.export.mcu.emit", {}),
    "ec2t_tf.export.c.graph": (
        "ec2t_tf.export.tflite",
        {"ModelError": "ec2t_tf.export.graph.FileError"},
    ),
    "ec2t_tf.export.report": ("ec2t_tf.export.reports", {}),
    "ec2t_tf.export.tflite.download": (
        "ec2t_tf.export.file_formats.download",
        {
            "DownloadError": "ec2t_tf.export.graph.FileError",
            "download": "ec2t_tf.export.tflite.download",
            "unpack": "ec2t_tf.export.file_formats.unpack",
        },
    ),
    "ec2t_tf.export.tflite.int4": (
        "ec2t_tf.export.file_formats.int4",
        {
            "align_to_int4": "ec2t_tf.export.tflite.align_to_int4",
            "int4": "ec2t_tf.export.tflite.int4",
        },
    ),
    "ec2t_tf.export.tflite.layers": ("ec2t_tf.export.file_formats.layers", {}),
    "ec2t_tf.export.tflite.packed": (
        "ec2t_tf.export.file_formats.packed",
        {"packed": "ec2t_tf.export.tflite.packed"},
    ),
    "ec2t_tf.export.tflite.sparse": (
        "ec2t_tf.export.file_formats.sparse",
        {"sparse": "ec2t_tf.export.tflite.sparse"},
    ),
    "ec2t_tf.export.tflite_file": (
        "ec2t_tf.export.tflite",
        {
            "ConversionError": "ec2t_tf.export.lower.ConversionError",
            "FileError": "ec2t_tf.export.graph.FileError",
        },
    ),
    "ec2t_tf.export.verify": ("ec2t_tf.export.verification", {}),
    "ec2t_tf.train.data": ("ec2t_tf.train.tasks", {"ImageData": "ec2t_tf.train.tasks.TaskData"}),
}


class _Former(types.ModuleType):
    """A module of today under its former path."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        home, elsewhere = PATHS[self.__name__]
        where, _, today = elsewhere.get(name, f"{home}.{name}").rpartition(".")
        warnings.warn(
            f"{self.__name__}.{name} is now {where}.{today}; the old path goes with the next "
            "release.",
            DeprecationWarning,
            stacklevel=2,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module = importlib.import_module(where)
            if isinstance(vars(module).get(today), _Former):
                return module.__getattr__(today)
            return getattr(module, today)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """The function of the same name: importing a former path hides it in its package."""
        return getattr(self, self.__name__.rpartition(".")[2])(*arguments, **options)


class _Loader(abc.Loader):
    def create_module(self, spec: machinery.ModuleSpec) -> types.ModuleType:
        module = _Former(spec.name)
        module.__path__ = []  # it may have held others
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class _Finder(abc.MetaPathFinder):
    """Behind all others: a path that a file has is that file's."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> machinery.ModuleSpec | None:
        return machinery.ModuleSpec(name, _Loader()) if name in PATHS else None


def install() -> None:
    """Makes the former paths importable, once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
