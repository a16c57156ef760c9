"""Constants of a net's C: what several kernel calls have alike stands there once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .channels import WHOLE
from .code import Code

_DECLARATION = re.compile(r"static const ((?:_Alignas\(\d+\) )?)(\w+) (\w+)(\[\])? = (.*)", re.S)
_BYTES = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4, "uint32_t": 4}
# Of a table, for each of its braces with names: a pair of channels has three.
_ROWS = {"ec2t_mcu_channel": WHOLE, "ec2t_mcu_axis": 16, "ec2t_mcu_dot_pair": 16}


@dataclass
class Constants:
    """The constants so far, by type and value: their names."""

    names: dict[tuple[str, str], str] = field(default_factory=dict)

    def share(self, code: Code) -> int:
        """Takes declarations out of `code` that are there already, and names those. Returns the
        bytes that this saves of what `code.flash` counts."""
        kept: list[str] = []
        others: dict[str, str] = {}
        saved = 0
        for declaration in _whole(code.declarations):
            text = _renamed(declaration, others)
            found = _DECLARATION.fullmatch(text)
            if found is None:
                kept.append(text)
                continue
            aligned, kind, name, array, value = found.groups()
            first = self.names.setdefault((aligned + kind + (array or ""), value), name)
            if first == name:
                kept.append(text)
            else:
                others[name] = first
                saved += _size(kind, value, is_array=array is not None)
        whole = bool(code.declarations) and not kept
        code.declarations = kept
        code.statements = [_renamed(line, others) for line in code.statements]
        return code.flash if whole else min(saved, code.flash)


def _whole(declarations: list[str]) -> list[str]:
    """Each in one piece: some are written in lines."""
    found: list[str] = []
    for line in declarations:
        if found and not found[-1].endswith((";", "*/")):
            found[-1] += "\n" + line
        else:
            found.append(line)
    return found


def _renamed(text: str, others: dict[str, str]) -> str:
    for name, first in others.items():
        text = re.sub(rf"\b{name}\b", first, text)
    return text


def _size(kind: str, value: str, *, is_array: bool) -> int:
    """Bytes, of what a layer's flash counts: structures with pointers are not among it."""
    if kind in _BYTES:
        return _BYTES[kind] * (value.count(",") if is_array else 1)
    if kind == "ec2t_mcu_planar":
        return 16
    if is_array and kind in _ROWS:
        return _ROWS[kind] * value.count("{.")
    return 0
