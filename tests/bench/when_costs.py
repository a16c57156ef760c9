"""What a width and a share of zeros cost: docs/when_costs.json, and a table of docs/when.md.

    python -m tests.bench.when_costs --write

Nets of random weights: bytes and instructions do not ask how a net was trained. Instructions are
estimates (docs/boards.md says how far off). For each ternary net stands the width of the int8 net
that has as many bytes, or takes as many instructions: what it must beat in accuracy to be worth it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ec2t_tf.export.file_formats import rewrite
from ec2t_tf.export.mcu import to_c
from tests import nets
from tests.net_builder import NetBuilder
from tests.pages import between

DOCS = Path(__file__).resolve().parents[2] / "docs"
CORES = ("m4", "m0", "m55")
WIDTHS = (0.1875, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.25, 1.5)  # of int8 nets
TERNARY = [(1.0, zeros) for zeros in (0.5, 0.8, 0.9, 0.93)] + [(1.5, 0.8), (1.5, 0.9)]
MEASURES = ("packed", "flash", *CORES)


def resnet8(width: float, zeros: float | None) -> bytes:
    """MLPerf Tiny's image net."""
    return nets.resnet8(zeros=zeros, seed=1, width=width)


def ds_cnn(width: float, zeros: float | None) -> bytes:
    """MLPerf Tiny's keyword net; depthwise layers stay int8 too."""
    channels = round(64 * width)
    net = NetBuilder((1, 49, 10, 1), seed=1)
    x = net.conv(net.input, channels, (10, 4), (2, 2), zeros=None)
    for _ in range(4):
        x = net.conv(x, channels, zeros=None, depthwise=True)
        x = net.conv(x, channels, (1, 1), zeros=zeros)
    x = net.pool(x, (25, 5), (25, 5), maximum=False)
    return net.finish(net.dense(net.reshape(x, (1, channels)), 12, zeros=None))


NETS: dict[str, Callable[[float, float | None], bytes]] = {"resnet8": resnet8, "ds_cnn": ds_cnn}


def costs(int8: bytes) -> dict[str, int]:
    """Bytes of the smaller of the int8 and the packed file, of constants and code on M4; estimated
    instructions of a call by core."""
    packed = rewrite(int8, format="packed").content
    found = {"packed": min(len(int8), len(packed))}
    for core in CORES:
        with tempfile.TemporaryDirectory() as folder:
            report = to_c(int8, folder, core=core)
        known = [layer.estimate for layer in report.layers if layer.estimate is not None]
        assert len(known) == len(report.layers), f"a layer without an estimate on {core}"
        found[core] = round(sum(estimate.instructions for estimate in known))
        if core == "m4":
            found["flash"] = report.flash
    return found


def measure() -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, make in NETS.items():
        rows[name] = {
            "int8": {str(width): costs(make(width, None)) for width in WIDTHS},
            "ternary": {
                f"{width}, {zeros:.0%}": costs(make(width, zeros)) for width, zeros in TERNARY
            },
        }
    return rows


def width_of(net: Mapping[str, Any], measure: str, value: float) -> float | None:
    """Width of the int8 net that has this value, between those that were measured; None outside."""
    widths = [float(width) for width in net["int8"]]
    values = [row[measure] for row in net["int8"].values()]
    if not values[0] <= value <= values[-1]:
        return None
    return float(np.interp(value, values, widths))


def table(rows: Mapping[str, Any]) -> str:
    """Markdown: each net's bytes and instructions, and behind them the width of an int8 net of
    as many."""
    lines = [
        "| net | packed or int8 file | constants, M4 | instructions, M4 | M0 | M55 |",
        "|---|" + "---:|" * 5,
    ]
    for name, net in rows.items():
        for width in ("0.5", "0.75", "1.0", "1.5"):
            cells = [f"{net['int8'][width][measure]:,}" for measure in MEASURES]
            lines.append(f"| {name}, int8, width {float(width):g} | {' | '.join(cells)} |")
        for point, row in net["ternary"].items():
            width, zeros = point.split(", ")
            cells = []
            for measure in MEASURES:
                same = width_of(net, measure, row[measure])
                cells.append(f"{row[measure]:,} ({'—' if same is None else f'{same:.2f}'})")
            title = f"{name}, width {float(width):g}, {zeros.replace('%', ' %')} zeros"
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def filled(page: str, rows: Mapping[str, Any]) -> str:
    """The page with its table made anew from the figures."""
    return between(page, "costs", table(rows))


def load() -> dict[str, Any]:
    return json.loads((DOCS / "when_costs.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/")
    given = parser.parse_args()
    rows = measure()
    print(table(rows))
    if given.write:
        (DOCS / "when_costs.json").write_text(json.dumps(rows, indent=1) + "\n")
        page = DOCS / "when.md"
        page.write_text(filled(page.read_text(), rows))


if __name__ == "__main__":
    main()
