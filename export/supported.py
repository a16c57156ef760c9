"""Which operators each runtime computes and which layers a file can hold, off the code's tables."""

from __future__ import annotations

from ec2t_tf.tables import Table

from .file_formats.packed import CUSTOM_CODES
from .integer import ROUNDINGS, RULES
from .integer.support import cell
from .mcu import CORES, limits
from .mcu import supported as in_c

# What rounds as each of `integer.ROUNDINGS`.
RUNTIMES = {
    "reference": "LiteRT's reference kernels",
    "xnnpack": "LiteRT as it is installed",
    "builtin": "LiteRT without its delegate",
    "micro": "TensorFlow Lite Micro",
}


def operators() -> Table:
    """A row an operator: types that are exact in each rounding, whether C is written, packed."""
    packed = set(CUSTOM_CODES)
    c = set(in_c())
    rows = []
    for kind in sorted({*RULES, *c}):
        rule = RULES.get(kind)
        types = [cell(rule.types[r]) if rule else "-" for r in ROUNDINGS]
        marks = ("yes" if kind in c else "-", "yes" if kind in packed else "-")
        rows.append((kind, *types, *marks))
    return Table(("operator", *ROUNDINGS, "C", "packed"), rows)


def legend() -> str:
    """What the columns of `operators` are."""
    lines = ["types: of the output, where ec2t_tf.export.integer computes the very bits of"]
    lines += [f"  {name}: {RUNTIMES[name]}" for name in ROUNDINGS]
    lines += [
        f"C: int8, --format=c, on every core ({', '.join(CORES)})",
        "packed: ternary weights run packed in ec2t_tf.export.Interpreter; it runs all else as "
        "LiteRT does",
        "C needs:",
    ]
    lines += [f"  {kind or 'activations'}: {needs}" for kind, needs in limits().items()]
    return "\n".join(lines)


def layers() -> Table:
    """A row a layer of Keras 3 or operation of `keras.ops`; needs Keras."""
    from .lower.table import supported

    rows = [(one.name, "layer" if one.is_layer else "operation", one.how) for one in supported()]
    return Table(("name", "kind", "least bits"), rows)
