"""Shapes of what operators compute, and TensorFlow's paddings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .graph import Graph, Operator

Shape = tuple[int, ...]


class ShapeError(ValueError):
    """The inputs of an operator do not fit each other or its options."""


def window_count(size: int, kernel: int, *, padding: str, stride: int, dilation: int = 1) -> int:
    """How many windows of a convolution or a pool lie along an axis of `size` elements.

    Raises:
      ShapeError: `padding` is neither "same" nor "valid".
    """
    if padding == "same":
        return -(-size // stride)
    if padding == "valid":
        return max(0, -(-(size - (kernel - 1) * dilation) // stride))
    raise ShapeError(f"padding must be 'same' or 'valid'. Received: {padding!r}.")


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape of an element-wise operator's output.

    Raises:
      ShapeError: two sizes differ and neither is 1.
    """
    rank = max(map(len, shapes))
    result = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            if size != 1 and result[axis] not in (1, size):
                raise ShapeError(f"shapes {' and '.join(map(str, shapes))} do not broadcast")
            result[axis] = size if result[axis] == 1 else result[axis]
    return tuple(result)


def output_shapes(graph: Graph, operator: Operator) -> list[Shape] | None:
    """Shapes of an operator's outputs, from its inputs' shapes, constants and options.

    Returns:
      One shape an output; None where they cannot be told: an operator that is not known here, or a
      shape that is computed while the net runs.

    Raises:
      ShapeError: the inputs do not fit.
    """
    rule = _RULES.get(operator.kind)
    if rule is None or operator.custom is not None:
        return None
    return rule(_View(graph, operator))


class _View:
    """The inputs of one operator: their shapes and constants."""

    def __init__(self, graph: Graph, operator: Operator) -> None:
        self.graph, self.operator, self.options = graph, operator, operator.options

    def __len__(self) -> int:
        return len(self.operator.inputs)

    def shape(self, position: int, rank: int | None = None) -> Shape:
        shape = self.graph.tensors[self._index(position)].shape
        if rank is not None and len(shape) != rank:
            raise ShapeError(f"input {position} must have {rank} axes. Received: shape {shape}")
        return shape

    def has(self, position: int) -> bool:
        return position < len(self) and self.operator.inputs[position] >= 0

    def whole_numbers(self, position: int) -> list[int] | None:
        """A constant of whole numbers, flat; None for a tensor that is computed."""
        tensor = self.graph.tensors[self._index(position)]
        if tensor.data is None:
            return None
        if tensor.data.dtype.kind not in "iu":
            raise ShapeError(f"input {position} must hold whole numbers. Received: {tensor.dtype}")
        return [int(value) for value in tensor.data.reshape(-1)]

    def pair(self, option: str) -> tuple[int, int]:
        first, second = self.options[option]
        return int(first), int(second)

    def _index(self, position: int) -> int:
        if not self.has(position):
            raise ShapeError(f"input {position} is required. Received: {len(self)} inputs")
        return self.operator.inputs[position]


def _same(view: _View) -> list[Shape]:
    return [view.shape(0)] * len(view.operator.outputs)


def _broadcast(view: _View) -> list[Shape]:
    return [broadcast([view.shape(position) for position in range(len(view))])]


def _windows(view: _View, kernel: Sequence[int], dilation: tuple[int, int]) -> tuple[int, int]:
    source, stride = view.shape(0, 4), view.pair("stride")
    rows, columns = (
        window_count(
            source[axis + 1],
            kernel[axis],
            padding=view.options["padding"],
            stride=stride[axis],
            dilation=dilation[axis],
        )
        for axis in range(2)
    )
    if not rows or not columns:
        raise ShapeError(f"its window {tuple(kernel)} is larger than its input {source}")
    return rows, columns


def _bias(view: _View, channels: int, position: int = 2) -> None:
    if view.has(position) and math.prod(view.shape(position)) != channels:
        raise ShapeError(
            f"a bias of {channels} values is required. Received: shape {view.shape(position)}"
        )


def _conv(view: _View) -> list[Shape]:
    source, kernel = view.shape(0, 4), view.shape(1, 4)
    groups = source[3] // kernel[3] if kernel[3] else 0
    if groups < 1 or groups * kernel[3] != source[3] or kernel[0] % groups:
        raise ShapeError(f"weights {kernel} do not fit {source[3]} input channels")
    _bias(view, kernel[0])
    windows = _windows(view, kernel[1:3], view.pair("dilation"))
    return [(source[0], *windows, kernel[0])]


def _depthwise(view: _View) -> list[Shape]:
    source, kernel = view.shape(0, 4), view.shape(1, 4)
    if kernel[0] != 1 or not source[3] or kernel[3] % source[3]:
        raise ShapeError(f"weights {kernel} do not fit {source[3]} input channels")
    _bias(view, kernel[3])
    windows = _windows(view, kernel[1:3], view.pair("dilation"))
    return [(source[0], *windows, kernel[3])]


def _transpose_conv(view: _View) -> list[Shape] | None:
    kernel, source = view.shape(1, 4), view.shape(2, 4)
    if kernel[3] != source[3]:
        raise ShapeError(f"weights {kernel} do not fit {source[3]} input channels")
    _bias(view, kernel[0], 3)
    shape = view.whole_numbers(0)
    if shape is None:
        return None
    if len(shape) != 4 or shape[0] != source[0] or shape[3] != kernel[0] or min(shape) < 1:
        raise ShapeError(f"an output of shape {shape} does not fit weights {kernel}")
    for axis, stride in enumerate(view.pair("stride")):
        back = window_count(
            shape[axis + 1], kernel[axis + 1], padding=view.options["padding"], stride=stride
        )
        if back != source[axis + 1]:
            raise ShapeError(f"an output of shape {shape} does not follow from input {source}")
    return [tuple(shape)]


def _pool(view: _View) -> list[Shape]:
    source = view.shape(0, 4)
    return [(source[0], *_windows(view, view.pair("size"), (1, 1)), source[3])]


def _fully_connected(view: _View) -> list[Shape]:
    source, kernel = view.shape(0), view.shape(1, 2)
    if not kernel[1] or math.prod(source) % kernel[1]:
        raise ShapeError(f"weights {kernel} do not fit an input of shape {source}")
    _bias(view, kernel[0])
    if view.options.get("keep_num_dims"):
        if not source or source[-1] != kernel[1]:
            raise ShapeError(f"weights {kernel} do not fit an input of shape {source}")
        return [(*source[:-1], kernel[0])]
    return [(math.prod(source) // kernel[1], kernel[0])]


def _filled(shape: Sequence[int], elements: int) -> Shape:
    """A shape in which at most one -1 stands for what is left."""
    if sum(size < 0 for size in shape) > 1 or any(size < -1 for size in shape):
        raise ShapeError(f"a shape must have at most one -1. Received: {list(shape)}")
    known = math.prod(size for size in shape if size >= 0)
    if -1 in shape and known:
        return tuple(elements // known if size == -1 else size for size in shape)
    return tuple(shape)


def _reshape(view: _View) -> list[Shape] | None:
    elements = math.prod(view.shape(0))
    wanted = view.whole_numbers(1) if view.has(1) else view.options.get("new_shape")
    if wanted is None:
        return None
    shape = _filled([int(size) for size in wanted], elements)
    if math.prod(shape) != elements or -1 in shape:
        raise ShapeError(f"{view.shape(0)} cannot become {tuple(wanted)}")
    return [shape]


def _axis(value: int, rank: int) -> int:
    if not -rank <= value < rank:
        raise ShapeError(f"an axis must lie in {-rank} to {rank - 1}. Received: {value}")
    return value % rank


def _concatenation(view: _View) -> list[Shape]:
    shapes = [view.shape(position) for position in range(len(view))]
    axis = _axis(int(view.options["axis"]), len(shapes[0]))
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(others) != 1 or any(len(shape) != len(shapes[0]) for shape in shapes):
        raise ShapeError(f"shapes {' and '.join(map(str, shapes))} do not join along axis {axis}")
    total = sum(shape[axis] for shape in shapes)
    return [(*shapes[0][:axis], total, *shapes[0][axis + 1 :])]


def _reduce(view: _View) -> list[Shape] | None:
    source, given = view.shape(0), view.whole_numbers(1)
    if given is None:
        return None
    axes = {_axis(axis, len(source)) for axis in given}
    if view.options.get("keep_dims"):
        return [tuple(1 if axis in axes else size for axis, size in enumerate(source))]
    return [tuple(size for axis, size in enumerate(source) if axis not in axes)]


def _pad(view: _View) -> list[Shape] | None:
    source, given = view.shape(0), view.whole_numbers(1)
    if given is None:
        return None
    if len(given) != 2 * len(source) or min(given, default=0) < 0:
        raise ShapeError(f"{len(source)} pairs of at least 0 are required. Received: {given}")
    pairs = zip(given[::2], given[1::2], strict=True)
    return [tuple(size + sum(pair) for size, pair in zip(source, pairs, strict=True))]


def _transpose(view: _View) -> list[Shape] | None:
    source, order = view.shape(0), view.whole_numbers(1)
    if order is None:
        return None
    order = [_axis(axis, len(source)) for axis in order]
    if sorted(order) != list(range(len(source))):
        raise ShapeError(f"an order of {len(source)} axes is required. Received: {order}")
    return [tuple(source[axis] for axis in order)]


def strided_slices(
    begin: Sequence[int], end: Sequence[int], step: Sequence[int], masks: Sequence[int]
) -> tuple[slice | int | None, ...]:
    """STRIDED_SLICE's numbers and masks as what NumPy indexes with.

    Raises:
      ShapeError: the numbers do not fit each other, a step is 0, or a mask is one that is not
        supported (ellipsis, new axis).
    """
    if not len(begin) == len(end) == len(step) or 0 in step:
        raise ShapeError("begins, ends and non-zero steps of one length are required")
    begin_mask, end_mask, ellipsis, new_axis, shrink = masks
    if ellipsis or new_axis:
        raise ShapeError("ellipsis and new-axis masks are not supported")
    found: list[slice | int | None] = []
    for axis, (first, last, stride) in enumerate(zip(begin, end, step, strict=True)):
        if shrink >> axis & 1:
            found.append(first)
            continue
        start = None if begin_mask >> axis & 1 else first
        found.append(slice(start, None if end_mask >> axis & 1 else last, stride))
    return tuple(found)


def _strided_slice(view: _View) -> list[Shape] | None:
    numbers = [view.whole_numbers(position) for position in (1, 2, 3)]
    begin, end, step = numbers
    if begin is None or end is None or step is None:
        return None
    shape = view.shape(0)
    masks = view.options["masks"]
    if masks[2] or masks[3]:
        return None
    slices = strided_slices(begin, end, step, masks)
    if len(slices) > len(shape):
        raise ShapeError(f"{len(slices)} slices do not fit an input of shape {shape}")
    result: list[int] = []
    for axis, size in enumerate(shape):
        one = slices[axis] if axis < len(slices) else slice(None)
        if isinstance(one, slice):
            result.append(len(range(*one.indices(size))))
        elif one is None or not -size <= one < size:
            raise ShapeError(f"index {one} does not exist in an axis of {size}")
    return [tuple(result)]


def _pack(view: _View) -> list[Shape]:
    shapes = {view.shape(position) for position in range(len(view))}
    if len(shapes) != 1:
        raise ShapeError(f"inputs of one shape are required. Received: {sorted(shapes)}")
    (shape,) = shapes
    axis = _axis(int(view.options.get("axis", 0)), len(shape) + 1)
    return [(*shape[:axis], len(view), *shape[axis:])]


def _shape(view: _View) -> list[Shape]:
    return [(len(view.shape(0)),)]


def _resize(view: _View) -> list[Shape] | None:
    source, size = view.shape(0, 4), view.whole_numbers(1)
    if size is None:
        return None
    if len(size) != 2 or min(size) < 1:
        raise ShapeError(f"a new height and width are required. Received: {size}")
    return [(source[0], *size, source[3])]


def _squeeze(view: _View) -> list[Shape]:
    source = view.shape(0)
    given = view.options.get("squeeze_dims")
    axes = [_axis(int(axis), len(source)) for axis in (() if given is None else given)]
    if any(source[axis] != 1 for axis in axes):
        raise ShapeError(f"axes {axes} of size 1 are required. Received: shape {source}")
    gone = set(axes) or {axis for axis, size in enumerate(source) if size == 1}
    return [tuple(size for axis, size in enumerate(source) if axis not in gone)]


def _expand_dims(view: _View) -> list[Shape] | None:
    source, axes = view.shape(0), view.whole_numbers(1)
    if axes is None or len(axes) != 1:
        return None
    axis = _axis(axes[0], len(source) + 1)
    return [(*source[:axis], 1, *source[axis:])]


def _batch_matmul(view: _View) -> list[Shape]:
    first, second = list(view.shape(0)), list(view.shape(1))
    if min(len(first), len(second)) < 2:
        raise ShapeError(f"two matrices are required. Received: {first} and {second}")
    for shape, turned in zip((first, second), view.pair("adjoint"), strict=True):
        if turned:
            shape[-2:] = shape[:-3:-1]
    if first[-1] != second[-2]:
        raise ShapeError(f"matrices {first} and {second} do not fit each other")
    outer = (
        broadcast([tuple(first[:-2]), tuple(second[:-2])]) if len(first) + len(second) > 4 else ()
    )
    return [(*outer, first[-2], second[-1])]


_Rule = Callable[[_View], "list[Shape] | None"]
_RULES: dict[str, _Rule] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transpose_conv,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "RESHAPE": _reshape,
    "CONCATENATION": _concatenation,
    "PACK": _pack,
    "SHAPE": _shape,
    "PAD": _pad,
    "PADV2": _pad,
    "MIRROR_PAD": _pad,
    "TRANSPOSE": _transpose,
    "STRIDED_SLICE": _strided_slice,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "RESIZE_BILINEAR": _resize,
    "SQUEEZE": _squeeze,
    "EXPAND_DIMS": _expand_dims,
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), _reduce),
    **dict.fromkeys(
        ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"), _broadcast
    ),
    **dict.fromkeys(
        (
            *("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "LOGISTIC", "TANH"),
            *("SOFTMAX", "LOG_SOFTMAX", "HARD_SWISH", "ELU", "GELU", "RSQRT", "SQRT", "ABS", "NEG"),
            *("EXP", "QUANTIZE", "DEQUANTIZE", "CAST", "L2_NORMALIZATION", "DENSIFY"),
        ),
        _same,
    ),
}
