"""The figures of docs/runtime.md: kept in docs/runtime.json, written into the page by marks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.pages import between

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load() -> dict[str, Any]:
    return json.loads((DOCS / "runtime.json").read_text())


def update(section: str, rows: Mapping[str, Any]) -> None:
    """Replace the rows of nets that were measured; others stay. `section`: of `RENDERED`."""
    table = load()
    table[section] = {**table[section], **rows}
    (DOCS / "runtime.json").write_text(json.dumps(table, indent=1) + "\n")
    page = DOCS / "runtime.md"
    page.write_text(filled(page.read_text(), table))


def filled(page: str, table: Mapping[str, Any]) -> str:
    """The page with its tables made anew from the figures."""
    for section, render in RENDERED.items():
        page = between(page, section, render(table[section]))
    return page


def x86(rows: Mapping[str, Any]) -> str:
    lines = [
        "| net | XNNPACK | int8 | packed | memory of XNNPACK's | int8 | packed |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for net, row in rows.items():
        shares = " | ".join(f"{row[f]['shortest']:.3f} ({row[f]['median']:.3f})" for f in FILES)
        memory = " | ".join(f"{row[f]['memory']:.2f}" for f in FILES)
        stock = row["xnnpack"]
        lines.append(
            f"| {net} | {stock['microseconds']:.0f} us | {shares} "
            f"| {stock['kibibytes']:.0f} KiB | {memory} |"
        )
    return "\n".join(lines) + "\n"


def opening(rows: Mapping[str, Any]) -> str:
    lines = [
        "| net | XNNPACK | int8 | packed, in place | packed, compact | bytes: int8 | in place "
        "| compact |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for net, row in rows.items():
        shares = " | ".join(f"{row[f]['shortest']:.2f} ({row[f]['median']:.2f})" for f in OPENED)
        sizes = " | ".join(f"{row[f]['bytes']:,}" for f in OPENED)
        lines.append(f"| {net} | {row['xnnpack']['milliseconds']:.2f} ms | {shares} | {sizes} |")
    return "\n".join(lines) + "\n"


def aarch64(rows: Mapping[str, Any]) -> str:
    lines = ["| net | core | XNNPACK | int8 | packed |", "|---|---|---:|---:|---:|"]
    for net, cores in rows.items():
        for core, row in cores.items():
            shares = " | ".join(f"{row[f]:.3f}" for f in FILES)
            lines.append(f"| {net} | {core} | {row['xnnpack']:,} | {shares} |")
    return "\n".join(lines) + "\n"


FILES = ("int8", "packed")
OPENED = ("int8", "in place", "compact")
RENDERED = {"x86": x86, "opening": opening, "aarch64": aarch64}
