"""Imports between the rooms point one way, and what starts from files needs no TensorFlow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXPORT = ROOT / "export"
# Each room may import those before it. Functions may import from behind: what they load is lazy.
ORDER = (
    "graph",
    "lower",
    "tflite",
    "integer",
    "formats",
    "blob",
    "kernels",
    "tflm",
    "file_formats",
    "litert",
    "c",
    "mcu",
)
HEAVY = {"tensorflow", "tf_keras", "tensorflow_model_optimization", "keras", "jax", "torch"}
# Modules and rooms that are only loaded by who has Keras already.
MAY_NEED = {
    "export/lower": {"keras"},
    "export/integer/keras_arrays.py": {"keras"},
    "export/integer/keras_layer.py": {"keras"},
}
ONLY_HERE = {
    "schema_py_generated": {"export/tflite"},
    "flatbuffers": {"export/tflite"},
}


def modules() -> list[Path]:
    return sorted(file for file in EXPORT.rglob("*.py"))


def at_import(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements that run when the module is imported."""
    todo: list[ast.stmt] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If):
            guarded = "TYPE_CHECKING" in ast.unparse(node.test)
            todo += node.orelse + ([] if guarded else node.body)
        elif isinstance(node, ast.Try):
            todo += node.body + node.orelse + [one for h in node.handlers for one in h.body]
        elif isinstance(node, ast.With | ast.ClassDef):
            todo += node.body


def imported(file: Path) -> set[str]:
    """Full names of what a module of `export` imports at its top."""
    package = ["ec2t_tf", *file.relative_to(ROOT).parent.parts]
    found = set()
    for node in at_import(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        stem = ".".join([*base, *(node.module or "").split(".")]).strip(".")
        found |= {f"{stem}.{alias.name}" for alias in node.names}
    return found


def room_of(name: str) -> str | None:
    """The room of `ec2t_tf.export` that a full name is in."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["ec2t_tf", "export"] and len(parts) > 2 else None


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_heavy_is_imported(file: Path) -> None:
    needed = {name.partition(".")[0] for name in imported(file)} & HEAVY
    path = file.relative_to(ROOT).as_posix()
    may = MAY_NEED.get(path, set()) | MAY_NEED.get("/".join(path.split("/")[:2]), set())
    assert needed <= may


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file: Path) -> None:
    parts = file.relative_to(EXPORT).parts
    if len(parts) == 1 or parts[0] not in ORDER:
        return  # modules of the room itself may know all
    for name in imported(file):
        room = room_of(name)
        if room in ORDER and room != parts[0]:
            assert ORDER.index(room) < ORDER.index(parts[0]), f"{file} imports {name}"
        else:
            assert room is None or room == parts[0], f"{file} imports {name}, which knows all rooms"


def test_flatbuffers_are_known_in_one_room() -> None:
    for file in modules():
        for name in imported(file):
            for part, rooms in ONLY_HERE.items():
                if part in name.split("."):
                    assert str(file.relative_to(ROOT).parent) in rooms, f"{file} imports {name}"


def test_there_is_no_circle() -> None:
    names = {}
    for file in modules():
        parts = file.relative_to(ROOT).with_suffix("").parts
        names[".".join(["ec2t_tf", *parts]).removesuffix(".__init__")] = file
    edges = {}
    for module, file in names.items():
        found = set()
        for name in imported(file):
            found |= {one for one in (name, name.rpartition(".")[0]) if one in names}
        # A package's own modules import each other, not the package that is being imported.
        edges[module] = {one for one in found if not f"{module}.".startswith(f"{one}.")}
    done: set[str] = set()
    path: list[str] = []

    def walk(module: str) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for other in sorted(edges[module]):
            walk(other)
        path.pop()
        done.add(module)

    for module in names:
        walk(module)


def test_the_walk_sees_what_it_must() -> None:
    """That a wrong import would be found: the reader knows the schema, the registry its room."""
    reader = imported(EXPORT / "tflite" / "reader.py")
    assert "ai_edge_litert.schema_py_generated" in reader
    assert "ec2t_tf.export.tflite.budget.Budget" in reader
    assert "ec2t_tf.export.graph.FileError" in reader
    assert "tensorflow" not in {name.partition(".")[0] for name in reader}
