"""Names of a package that load their module when first used, and advice where that fails.

A firmware engineer who reports on a file must not wait for TensorFlow, nor need to install it.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

# Of setup.py: what must be installed for a module that may be missing.
EXTRAS = {
    "keras": "keras",
    "matplotlib": "report",
    "PIL": "train",
    "sklearn": "train",
    "tensorflow": "tfmot",
    "tensorflow_datasets": "train",
    "tensorflow_model_optimization": "tfmot",
    "tf_keras": "tfmot",
}


@contextlib.contextmanager
def needed_by(name: str) -> Iterator[None]:
    """Around imports: a missing package becomes an ImportError that says how to get it.

    Args:
      name: what the user asked for, such as "ec2t_tf.apply".
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        raise ImportError(
            f"{name} requires the package {missing}, which is not installed. "
            f"Run: pip install 'ec2t_tf[{EXTRAS[missing]}]'",
            name=missing,
        ) from error


class _LazyPackage(types.ModuleType):
    """A package whose public names are looked up on first use."""

    _homes: Mapping[str, str]
    _rooms: Collection[str]
    _afterwards: Callable[[], None] | None

    def __getattr__(self, name: str) -> Any:
        full = f"{self.__name__}.{name}"
        if name not in self._homes and name not in self._rooms:
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        with needed_by(full):
            module = importlib.import_module(self._homes.get(name, full))
        value = getattr(module, name) if name in self._homes else module
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds a submodule in its package: `apply`, the function, would become
        # the module `ec2t_tf.apply` that holds it.
        is_module = isinstance(value, types.ModuleType)
        if name not in self._homes or not is_module:
            super().__setattr__(name, value)
        if is_module and self._afterwards is not None:
            self._afterwards()

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._homes, *self._rooms})


def names(
    package: str,
    homes: Mapping[str, str],
    *,
    rooms: Collection[str] = (),
    afterwards: Callable[[], None] | None = None,
) -> None:
    """Make public names of a package lazy.

    Args:
      package: its `__name__`.
      homes: by name the module that holds it: `{"apply": "ec2t_tf.apply"}`.
      rooms: names of submodules that are public themselves.
      afterwards: called whenever a submodule has been loaded.
    """
    module = sys.modules[package]
    module.__dict__.update(_homes=dict(homes), _rooms=tuple(rooms), _afterwards=afterwards)
    module.__class__ = _LazyPackage
