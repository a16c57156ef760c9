"""Layer, group, RMS and unit normalisation: one kernel call for all that a file has of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import FileError, Operator, Tensor
from ec2t_tf.export.graph.inverse_roots import CODES, LARGEST
from ec2t_tf.export.graph.multipliers import multiplied

from .. import walks
from ..arithmetic import Multiplier, mean_multiplier, quantised_multiplier, requantised
from ..code import Code, Names, array, initialiser, struct
from ..normalisations import FINER, Parts, common_runs
from ..plan import Layout
from ..roots import FIRST, root_of, twice_middles
from ..step import Step
from ..walks import Axis

if TYPE_CHECKING:
    from ..lowering import Lowering

Factor = tuple[int, int]
Array = tuple[str, Sequence[int]]  # type in C, values
MIDDLES = "middles"  # an array that all layers share
STRUCT = 168  # bytes of one in C
LEFT = 15  # bits of fraction that SUB of int16 gives its inputs


def _scale(tensor: Tensor) -> np.float32:
    return np.float32(tensor.scale[0])


def _ratio(a: Tensor, b: Tensor) -> float:
    return float(_scale(a)) / float(_scale(b))


def _product(a: Tensor, b: Tensor, out: Tensor) -> Factor:
    """Of a MUL."""
    return quantised_multiplier(float(_scale(a) * _scale(b) / _scale(out)))


def _of_elements(parts: Parts, out: Tensor) -> dict[str, Factor]:
    """Factors that every element is multiplied by."""
    found = {
        "square": _product(parts.wide, parts.wide, parts.square),
        "standard": _product(parts.wide, parts.roots, parts.standard),
    }
    if parts.centred and parts.size == 1:  # nothing is left of it, on whatever scale
        found["standard"] = (0, -1)
    last = parts.standard
    if parts.gamma is not None and parts.scaled is not None:
        found["scaled"] = _product(last, parts.gamma, parts.scaled)
        last = parts.scaled
    if parts.beta is not None and parts.moved is not None:
        twice = _twice(last, parts.beta)
        found["term"] = quantised_multiplier(float(_scale(last)) / twice)
        real = twice / ((1 << LEFT) * float(_scale(parts.moved)))
        found["moved"] = quantised_multiplier(real)
        last = parts.moved
    found["last"] = quantised_multiplier(_ratio(last, out))
    return found


def _twice(a: Tensor, b: Tensor) -> float:
    return 2 * max(float(_scale(a)), float(_scale(b)))


def _members(parts: Parts, zero_point: int, out: Tensor) -> dict[str, object]:
    """Of the C structure, but for its addresses.

    Raises:
      FileError: A factor is so large that 32 bits might not hold a product; a square that 16 bits
        might not hold.
    """
    factors = _of_elements(parts, out)
    reach = CODES if parts.centred else max(127 - zero_point, zero_point + 128)
    most = requantised((reach * FINER) ** 2, Multiplier(*factors["square"]))
    small = {"term": (-30, 0), "last": (-20, -1)}
    ends = {name: small.get(name, (-30, -1)) for name in factors}
    if most > LARGEST or any(not ends[k][0] <= f[1] <= ends[k][1] for k, f in factors.items()):
        raise FileError(
            f"normalisation {out.name!r} must have an output of a wider range. Received: scale "
            f"{out.scale[0]}, factors {factors}. Calibrate it with data that vary."
        )
    members: dict[str, object] = {
        "bias": -zero_point * parts.size,
        "zero_point": zero_point,
        "variance": _pair(mean_multiplier(_ratio(parts.square, parts.variance), parts.size)),
    }
    if parts.centred:
        members["mean"] = _pair(mean_multiplier(1.0, parts.size))
    tiers = [_pair(quantised_multiplier(_ratio(parts.variance, tier))) for tier in parts.tiers]
    members["tiers"] = "{" + ", ".join(tiers) + "}"
    return members | {name: _pair(factor) for name, factor in factors.items()}


def _pair(factor: Factor) -> str:
    return initialiser(dict(zip(("multiplier", "shift"), factor, strict=True)))


def _offsets(parts: Parts) -> list[int]:
    """What beta adds, in the fixed point of the sum."""
    assert parts.beta is not None
    before = parts.standard if parts.scaled is None else parts.scaled
    real = float(_scale(parts.beta)) / _twice(before, parts.beta)
    codes = np.array(_data(parts.beta), np.int64)
    return (-multiplied(codes << LEFT, *quantised_multiplier(real))).tolist()


def _strides(shape: Sequence[int]) -> list[int]:
    """Elements from one index to the next, 0 along what is repeated."""
    return [0 if n == 1 else math.prod(shape[i + 1 :]) for i, n in enumerate(shape)]


def _walks(
    parts: Parts, source: tuple[Sequence[int], Layout], target: tuple[Sequence[int], Layout]
) -> tuple[list[Axis], list[Axis]]:
    """Over the rows, and over the elements of one, of a tensor of some shape to another's."""
    cuts = common_runs(source[0], parts.view, target[0])
    assert cuts is not None
    along = [i in parts.axes for i in range(len(parts.view))]
    inside = walks.spread_over(cuts, parts.view, along)
    (a, la), (b, lb) = source, target
    steps = zip(
        walks.spread_over(cuts, a, walks.steps(la, a)),
        walks.spread_over(cuts, b, walks.steps(lb, b)),
        walks.spread_over(cuts, parts.view, _strides(parts.parameters)),
        strict=True,
    )
    found: tuple[list[Axis], list[Axis]] = [], []
    for size, step, row in zip(cuts, steps, inside, strict=True):
        found[bool(row)].append(Axis(size, step))
    outer, inner = (walks.merged(axes or [Axis(1, (0, 0, 0))]) for axes in found)
    return outer, inner


def _places(parts: Parts) -> npt.NDArray[np.int64]:
    """All that a variance can have."""
    variances = np.arange(LARGEST + 1)
    factors = [quantised_multiplier(_ratio(parts.variance, tier)) for tier in parts.tiers]
    codes = [np.minimum(multiplied(variances, *factor), CODES) for factor in factors]
    return np.unique(np.sum(codes, axis=0))


def _roots(net: Lowering, parts: Parts) -> tuple[dict[str, Array], dict[str, object]]:
    """Arrays and members of the table; what all layers share is an array of the first."""
    table = _data(parts.roots)
    root = root_of(np.array(table, np.int64), _places(parts))
    if root is None:
        return {"roots": ("int16_t", table)}, {}
    arrays: dict[str, Array] = {"roots": ("int16_t", table[:FIRST])}
    if MIDDLES not in net.shared:
        net.shared.add(MIDDLES)
        arrays[MIDDLES] = ("uint16_t", twice_middles().tolist())
    return arrays, {
        "middles": MIDDLES,
        "slope": f"{root.slope}u",
        "offset": f"{root.offset}u",
        "limit": f"{root.limit}ull",
    }


def normalise(net: Lowering, op: Operator) -> None:
    parts: Parts = op.options["parts"]
    tensors, target = net.graph.tensors, op.outputs[0]
    source = net.plain(net.activation(op, 0))
    shape, sizes = tensors[source].shape, tensors[target].shape
    _, zero_point = net.quantisation(tensors[source])
    members = _members(parts, zero_point, tensors[target])
    members["clamp"] = net.clamp(op, tensors[target])
    layout, out = net.layouts[source], net.define(target)
    arrays, more = _roots(net, parts)
    if parts.gamma is not None:
        arrays["gamma"] = ("int16_t", _data(parts.gamma))
    if parts.beta is not None:
        arrays["beta"] = ("int32_t", _offsets(parts))

    def emit(names: Names) -> Code:
        n = names.index
        outer, inner = _walks(parts, (shape, layout), (sizes, out))
        declarations = [walks.as_c(f"outer_{n}", outer), walks.as_c(f"inner_{n}", inner)]
        given: dict[str, object] = {
            "outer": f"outer_{n}",
            "inner": f"inner_{n}",
            "outer_count": len(outer),
            "inner_count": len(inner),
        }
        for name, (type_name, values) in arrays.items():
            given[name] = name if name == MIDDLES else f"{name}_{n}"
            declarations.append(array(type_name, str(given[name]), values))
        declarations.append(struct("normalise", f"layer_{n}", given | members | more))
        code = Code(
            declarations,
            [f"ec2t_mcu_normalise_run(&layer_{n}, {names.inputs[0]}, {names.output});"],
            STRUCT
            + 16 * (len(outer) + len(inner))
            + sum(len(v) * (4 if t == "int32_t" else 2) for t, v in arrays.values()),
        )
        net.frame(code, out, names)
        return code

    name = f"normalisation of {parts.size}"
    files = ("normalise.c", "layout.c")
    alike = walks.dimensions(shape) == walks.dimensions(sizes)
    net.steps.append(Step(name, files, (source,), target, emit, in_place=alike))


def _data(tensor: Tensor) -> list[int]:
    assert tensor.data is not None
    return tensor.data.reshape(-1).tolist()
