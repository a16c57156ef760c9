"""Our classes are known to Keras 3 as soon as both packages are imported, in whichever order.

So `keras.saving.load_model` opens what `apply` made, while `import ec2t_tf` alone loads neither
Keras nor a backend.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType


def install() -> None:
    """Register the classes now if Keras is loaded, else right after it will have been."""
    if not any(isinstance(finder, _AfterKeras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterKeras())
    settle()


def settle() -> None:
    """Register the classes if Keras is loaded and none of our modules is half loaded.

    Called after Keras, and after each of our modules, which may be what imported it.
    """
    waiting = [finder for finder in sys.meta_path if isinstance(finder, _AfterKeras)]
    if waiting and "keras" in sys.modules and not _half_loaded():
        sys.meta_path.remove(waiting[0])
        importlib.import_module("ec2t_tf.quantisation")


def _half_loaded() -> bool:
    """Whether Keras is being imported, or by one of our modules: theirs would see half of it."""
    return any(
        getattr(module.__spec__, "_initializing", False)
        for name, module in list(sys.modules.items())
        if (name == "keras" or name.startswith("ec2t_tf.")) and hasattr(module, "__spec__")
    )


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Finds Keras as the others do, and has the classes registered when it has been loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "keras":
            return None
        place = sys.meta_path.index(self)
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(place, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """The loader of Keras, and what follows it."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        spec = module.__spec__
        assert spec is not None
        spec._initializing = False  # type: ignore[attr-defined]  # nothing of it is missing now
        settle()
