"""The house: imports point one way, the file side loads nothing heavy, no module is long."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OF_THE_PACKAGE = {
    "files",
    "lazy",
    "progress",
    "quiet",
    "tables",
}  # what export/ takes from ec2t_tf/
THE_GRAPH = ["ec2t_tf", "export", "graph"]  # knows nobody, and what is ternary
FROM_A_MODEL = ["lower"]  # the room that starts from a trained model, and knows it
# Each room of export/ may import those before it; rooms not named here, and modules that lie in
# export/ itself, may know all. Functions may import from behind: what they load is lazy.
ORDER = (
    "graph",
    "lower",
    "tflite",
    "integer",
    "formats",
    "kernels",
    "tflm",
    "file_formats",
    "litert",
    "mcu",
)
HEAVY = {"tensorflow", "tf_keras", "tensorflow_model_optimization", "keras", "jax", "torch"}
# Modules and rooms of export/ that are only loaded by who has Keras already.
MAY_NEED = {
    "ec2t_tf.export.lower": {"keras"},
    "ec2t_tf.export.integer.keras_arrays": {"keras"},
    "ec2t_tf.export.integer.keras_layer": {"keras"},
}
FLATBUFFERS = {"flatbuffers", "schema_py_generated"}
# Small truths that once stood in several rooms: by function its module in export/graph.
TRUTHS = {
    "entropy": "ternary",
    "is_ternary": "ternary",
    "macs": "macs",
    "multiply_accumulates": "macs",
    "quantised_multiplier": "multipliers",
    "same_padding": "padding",
}
SOURCE_ROOMS = ("ec2t_tf", "export", "train", "tests")
SOURCES = {".py", ".c", ".cc", ".h"}
MOST_LINES = 500


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for room in ("ec2t_tf", "export", "train"):
        for path in ROOT.joinpath(room).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join(parts if room == "ec2t_tf" else ("ec2t_tf", *parts))] = path
    return found


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield other
                yield from _executed(other)
            continue
        yield child
        yield from _executed(child)


@cache
def imports(module: str) -> frozenset[str]:
    """Names of modules, of the package and others, that a module imports at its top.

    A name taken from one of our modules stands for that module.
    """
    path = modules()[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found: set[str] = set()
    for node in _executed(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                ours = base.split(".")[0] == "ec2t_tf"
                found.add(base if ours and full not in modules() else full)
    return frozenset(found - {module})


def of_export() -> Iterator[tuple[str, str]]:
    """Modules of export/, each with the room it lies in ("" for export/ itself)."""
    for module, path in modules().items():
        parts = module.split(".")
        if parts[1:2] == ["export"]:
            is_room = len(parts) > 3 or path.name == "__init__.py"
            yield module, ".".join(parts[2:3]) if is_room else ""


def test_no_circles() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " imports ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in sorted(imports(module) & modules().keys()):
                visit(other, (*path, module))
            done.add(module)

    for module in modules():
        visit(module, ())


def test_nothing_points_back_up() -> None:
    for module in modules():
        parts = module.split(".")
        room = parts[1] if len(parts) > 1 and parts[1] in ("export", "train") else ""
        for other in sorted(imports(module)):
            theirs = [*other.split("."), ""]
            if theirs[0] != "ec2t_tf":
                continue
            if room == "export" and theirs[1] != "export" and parts[2:3] != FROM_A_MODEL:
                assert theirs[1] in OF_THE_PACKAGE or other == "ec2t_tf", f"{module}: {other}"
            if not room and other.split(".")[:3] != THE_GRAPH:
                assert theirs[1] not in ("export", "train"), f"{module} imports {other}"


def test_rooms_of_export_know_only_those_before() -> None:
    rooms = dict(of_export())
    assert set(ORDER) <= set(rooms.values())
    for module, room in rooms.items():
        if room not in ORDER:
            continue
        for other in sorted(imports(module) & rooms.keys()):
            theirs = rooms[other]
            assert theirs in ORDER, f"{module} imports {other}, which knows all rooms"
            assert ORDER.index(theirs) <= ORDER.index(room), f"{module} imports {other}"


def test_nothing_heavy_is_imported_on_the_file_side() -> None:
    for module, room in of_export():
        needed = {name.partition(".")[0] for name in imports(module)} & HEAVY
        may = MAY_NEED.get(module, set()) | MAY_NEED.get(f"ec2t_tf.export.{room}", set())
        assert needed <= may, f"{module} imports {needed - may}"


def test_flatbuffers_are_known_in_one_room() -> None:
    for module, path in modules().items():
        if not module.startswith("ec2t_tf.export.tflite"):
            found = FLATBUFFERS & set(re.findall(r"\w+", path.read_text()))
            assert not found, f"{module} knows {found}"


@pytest.mark.parametrize("name", TRUTHS)
def test_a_truth_stands_once(name: str) -> None:
    found = [
        module
        for module, path in modules().items()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    assert found == [f"ec2t_tf.export.graph.{TRUTHS[name]}"]


def test_the_walk_sees_what_it_must() -> None:
    """That a wrong import would be found: the reader knows the schema, and its neighbours."""
    reader = imports("ec2t_tf.export.tflite.reader")
    assert "ai_edge_litert.schema_py_generated" in reader
    assert "ec2t_tf.export.tflite.budget" in reader
    assert "ec2t_tf.export.graph" in reader
    assert "tensorflow" not in {name.partition(".")[0] for name in reader}
    assert "keras.ops" in imports("ec2t_tf.methods.ec2t")


def test_no_module_is_long() -> None:
    paths = [path for room in SOURCE_ROOMS for path in ROOT.joinpath(room).rglob("*")]
    sources = [path for path in paths if path.suffix in SOURCES]
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in sources
    }
    assert len(lines) > 300
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}
