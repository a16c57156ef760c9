"""Features of sound as C: log_mel.c, log_mel.h and the tables of one net."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ec2t_tf import files

from .fixed_point import LEAST_PEAK, Tables, radices, tables
from .log_mel import LogMel

SOURCES = ("log_mel.c", "log_mel.h")


def to_c(
    features: LogMel,
    folder: str | Path,
    *,
    mean: float,
    std: float,
    scale: float,
    zero_point: int,
) -> None:
    """Writes log_mel.c, log_mel.h and log_mel_tables.h into a folder, which is made if missing.

    The C is freestanding C11 in whole numbers, keeps nothing and allocates nothing; its codes are
    those of `fixed_point.codes`, bit for bit.

    Args:
      features: rate, window, hop, bands and frames.
      mean, std: of the features, by which the training normalised.
      scale, zero_point: of the net's input, as `MODEL_INPUT_SCALE` and `MODEL_INPUT_ZERO_POINT`.

    Raises:
      ValueError: there is no C for such features.
    """
    folder = Path(folder)
    made = tables(features, mean=mean, std=std, scale=scale, zero_point=zero_point)
    folder.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        files.write_text(folder / name, Path(__file__).with_name(name).read_text())
    files.write_text(folder / "log_mel_tables.h", header(made))


def header(made: Tables) -> str:
    """log_mel_tables.h."""
    features = made.features
    sizes = {
        "SAMPLES": features.samples,
        "WINDOW": features.window,
        "HOP": features.hop,
        "FFT": features.fft,
        "BANDS": features.bands,
        "FRAMES": features.frames,
    }
    two = int(radices(features.fft // 2)[0] == 2)
    lines = [
        f"/* {features}. Written by ec2t_tf.export.features. */",
        "#ifndef EC2T_LOG_MEL_TABLES_H",
        "#define EC2T_LOG_MEL_TABLES_H",
        "#include <stdint.h>",
        *(f"#define EC2T_LOG_MEL_{name} {value}u" for name, value in sizes.items()),
        f"#define EC2T_LOG_MEL_LEAST_PEAK {LEAST_PEAK}",
        f"#define EC2T_LOG_MEL_TWO {two}",
        *(f"#define EC2T_LOG_MEL_{name} INT64_C({v})" for name, v in made.constants.items()),
    ]
    for name, (kind, values) in made.arrays.items():
        lines += [f"static const {kind} ec2t_log_mel_{name}[] = {{"]
        for row in np.array_split(values, -(-len(values) // 12)):
            lines.append("    " + " ".join(f"{value}," for value in row))
        lines.append("};")
    return "\n".join([*lines, "#endif", ""])
