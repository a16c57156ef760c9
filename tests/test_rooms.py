"""Imports point one way: what a module imports when it is imported, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The rooms of export/, each of which may import those before it.
ORDER = (
    *("graph", "tflite", "formats", "lower", "integer", "kernels", "tflm", "file_formats"),
    *("litert", "c", "mcu", "running", "reports", "page", "sizes", "verification", "benchmark"),
    "convert",
    *("commands", "__main__"),
)
FORMER = {"report", "verify", "tflite_file"}  # names of before, which forward
OF_THE_PACKAGE = {"files", "lazy", "quiet"}  # what export/ takes from ec2t_tf/
FROM_A_MODEL = ("lower",)  # rooms that start from a trained model, and know it
HEAVY = {"keras", "tensorflow", "tensorflow_model_optimization", "tf_keras"}
ON_KERAS = ("export/integer/keras_", "export/lower/")


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
            continue
        yield child
        yield from _executed(child)


@cache
def imports(module: str) -> frozenset[str]:
    """Names of modules, of the package and others, that a module imports."""
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


def room_of(module: str) -> str:
    """The room of export/ that a module is in; "" for others and for export itself."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["ec2t_tf", "export"] and len(parts) > 2 else ""


def test_rooms_of_export_have_an_order() -> None:
    rooms = {room_of(module) for module in modules()} - {""}
    assert rooms - FORMER <= set(ORDER), "give the new room its place in ORDER"
    for module in modules():
        mine = room_of(module)
        if mine in FORMER or not mine:
            continue
        for other in sorted(imports(module)):
            theirs = room_of(other)
            if theirs and theirs != mine:
                assert ORDER.index(theirs) < ORDER.index(mine), f"{module} imports {other}"


def test_nothing_points_back_up() -> None:
    for module in modules():
        parts = module.split(".")
        room = parts[1] if len(parts) > 1 and parts[1] in ("export", "train") else ""
        for other in sorted(imports(module)):
            theirs = [*other.split("."), ""]
            if theirs[0] != "ec2t_tf":
                continue
            if room == "export" and theirs[1] != "export" and room_of(module) not in FROM_A_MODEL:
                assert theirs[1] in OF_THE_PACKAGE or other == "ec2t_tf", f"{module}: {other}"
            if not room:
                assert theirs[1] not in ("export", "train"), f"{module} imports {other}"


def test_export_imports_no_tensorflow() -> None:
    for module, path in modules().items():
        place = path.relative_to(ROOT).as_posix()
        if place.startswith("export/"):
            heavy = {name.split(".")[0] for name in imports(module)} & HEAVY
            if place.startswith(ON_KERAS):
                heavy -= {"keras"}
            assert not heavy, f"{place} imports {heavy}"


def test_one_room_knows_flatbuffers() -> None:
    for module, path in modules().items():
        names = {name.split(".")[0] for name in imports(module)}
        schema = any("schema_py_generated" in name for name in imports(module))
        if "flatbuffers" in names or schema:
            assert room_of(module) == "tflite", path
