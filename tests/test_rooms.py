"""Imports point one way between `ec2t_tf/`, `export/` and `train/`; within export/ see
`test_room_imports.py`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OF_THE_PACKAGE = {"files", "lazy", "quiet"}  # what export/ takes from ec2t_tf/
THE_GRAPH = ["ec2t_tf", "export", "graph"]  # knows nobody, and what is ternary
FROM_A_MODEL = ["lower"]  # the room that starts from a trained model, and knows it


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
