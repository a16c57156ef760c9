"""What is exact, as a table: `python -m ec2t_tf.export.integer.support` prints it."""

from __future__ import annotations

from . import RULES
from .node import ROUNDINGS


def table() -> str:
    """Operators in rows, roundings in columns, types of the output in the cells; Markdown."""
    rows = [("operator", *ROUNDINGS), ("---",) * (len(ROUNDINGS) + 1)]
    for kind in sorted(RULES):
        types = RULES[kind].types
        rows.append((kind, *(cell(types[rounding]) for rounding in ROUNDINGS)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def cell(types: tuple[str, ...]) -> str:
    """Types of a rule in words."""
    if {"int8", "int16", "int32", "float32"} <= set(types):
        return "any"
    return ", ".join(name for name in types if name not in ("none", "resource")) or (
        "state" if types else "-"
    )


if __name__ == "__main__":
    print(table(), end="")
