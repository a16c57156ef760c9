"""A graph under construction: what the rules of all layers are written with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ec2t_tf.export.graph import Graph, Tensor

from .pending import CODES, ONE_SCALE, Kernel, NoRuleError, Pending, Value, along

LARGEST_BIAS = float(1 << 30)  # leaves room for the sums in int32
# Multipliers below this are zero in the runtimes' 32-bit fixed point, or refused by XNNPACK.
SMALLEST_MULTIPLIER = 2.0**-30
LARGEST_MULTIPLIER = 255.0  # XNNPACK refuses a net with a larger one
# Of the larger step of two summands, doubled, to that of the sum: LiteRT ends the whole program
# from 2^20 on.
LARGEST_SUM = 2.0**20 * 0.99
LARGEST_FLOAT = float(np.finfo(np.float32).max)
LARGEST_RATIO = 2.0**20  # of a scale to the one it is turned into


class Net:
    """A graph under construction.

    Args:
      dry: weights and ranges do not matter.
      trained: some range is known, so that an empty one is that of zeros.
    """

    def __init__(self, *, dry: bool = False, trained: bool = True) -> None:
        self.dry, self.trained = dry, trained
        self.graph = Graph()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], int] = {}
        self._before: dict[int, int] = {}  # of a RESHAPE's output: the tensor before it
        self._real: dict[int, int] = {}
        self._settled: dict[int, tuple[Pending, int]] = {}
        self._requantised: dict[tuple[int, float, int], int] = {}

    # -- tensors -------------------------------------------------------------------------------

    def tensor(self, index: int) -> Tensor:
        return self.graph.tensors[index]

    def shape(self, value: Value) -> tuple[int, ...]:
        if isinstance(value, Pending):
            return value.final or value.shape
        return self.tensor(value).shape

    def is_float(self, value: Value) -> bool:
        return not isinstance(value, Pending) and self.tensor(value).dtype == "float32"

    def is_int8(self, value: Value) -> bool:
        return not isinstance(value, Pending) and self.tensor(value).dtype == "int8"

    def int8(self, name: str, shape: Sequence[int], scale: float, zero_point: int) -> int:
        _require_float(scale, name)
        return self.graph.add(name, shape, "int8", scale=scale, zero_point=zero_point)

    def like(self, index: int, name: str, shape: Sequence[int]) -> int:
        """A new tensor with the type, scale and zero point of another."""
        tensor = self.tensor(index)
        return self.graph.add(
            name, shape, tensor.dtype, scale=tensor.scale, zero_point=tensor.zero_point
        )

    def constant(self, name: str, values: Any, dtype: str = "int32") -> int:
        """A constant without quantisation; equal ones are one tensor."""
        data = np.asarray(values, dtype)
        key = (dtype, data.shape, data.tobytes())
        if key not in self._constants:
            self._constants[key] = self.graph.add(name, data.shape, dtype, data=data)
        return self._constants[key]

    def codes(self, name: str, values: Any, scale: float, zero_point: int = 0) -> int:
        """An int8 constant: the codes of real numbers on a given scale."""
        data = np.clip(np.rint(np.asarray(values, np.float64) / scale) + zero_point, *CODES)
        return self.graph.add(
            name, data.shape, "int8", scale=scale, zero_point=zero_point, data=data.astype(np.int8)
        )

    # -- settling ------------------------------------------------------------------------------

    def settled(self, value: Value) -> int:
        """A tensor. An operator without a range was trained in float, and is written so."""
        if not isinstance(value, Pending):
            return value
        if id(value) not in self._settled:
            self._settled[id(value)] = value, self._in_float(value)
        return self._settled[id(value)][1]

    def real(self, value: Value) -> int:
        """The value as float32."""
        index = self.settled(value)
        tensor = self.tensor(index)
        if tensor.dtype == "float32":
            return index
        if index not in self._real:
            output = self.graph.add(f"{tensor.name}/float", tensor.shape, "float32")
            kind = "DEQUANTIZE" if tensor.scale.size else "CAST"
            self._real[index] = self.graph.call(kind, (index,), output)
        return self._real[index]

    def with_range(
        self, value: Value, scale: float, zero_point: int, name: str, *, most: float | None = None
    ) -> int:
        """The value as int8 codes of this scale."""
        if isinstance(value, Pending):
            return self._in_int8(value, scale, zero_point)
        tensor = self.tensor(value)
        if tensor.dtype == "int8" and _same(tensor, scale, zero_point):
            return value
        key = (value, scale, zero_point)
        if key not in self._requantised and tensor.dtype == "int8" and tensor.data is not None:
            real = (tensor.data.astype(np.float64) - tensor.zero_point) * tensor.scale
            self._requantised[key] = self.codes(name, real, scale, zero_point)
        if key not in self._requantised:
            if tensor.dtype == "int8" and tensor.scale[0] > LARGEST_RATIO * scale:
                # In steps that cut off the same: a larger factor leaves the int32 of the runtimes.
                between = float(tensor.scale[0]) / LARGEST_RATIO
                value = self.with_range(value, between, zero_point, f"{name}/between")
                return self.with_range(value, scale, zero_point, name)
            output = self.int8(name, tensor.shape, scale, zero_point)
            self._requantised[key] = self.graph.call("QUANTIZE", (value,), output)
        return self._requantised[key]

    def _in_int8(self, p: Pending, scale: float, zero: int) -> int:
        if p.in_int8 is not None:
            return self.limited(p.in_int8(scale, zero), p.least, p.most, p.name)
        if p.prescribed is not None:
            made = self.int8(p.name, p.shape, *p.prescribed)
            self.graph.call(p.kind, p.inputs, made, **p.options)
            made = self.with_range(made, scale, zero, f"{p.name}/rescaled")
            return self.reshaped(made, p.final or p.shape)
        inputs = tuple(self._input(p, x, scale, zero, i) for i, x in enumerate(p.inputs))
        self._require_real(p, inputs)
        stays_float = p.kernel is not None and p.kernel.is_float
        if stays_float or any(self.is_float(x) for x in inputs if _is_data(self, x)):
            return self.with_range(self._in_float(p), scale, zero, f"{p.name}/quantised")
        least = self._least_scale(p, inputs, scale)
        if scale < least:  # of an output that is noise beside its inputs
            made = self._in_int8(p, least, zero)
            return self.with_range(made, scale, zero, f"{p.name}/finer")
        if p.kernel is not None:
            inputs = self._with_kernel(p, inputs, scale)
        activation, ceiling, floor = _activation(p, scale, zero)
        options = dict(p.options)
        if "activation" in options:
            options["activation"] = activation
        elif activation == "relu" and zero != CODES[0]:
            floor = 0.0
        made = self.graph.call(p.kind, inputs, self.int8(p.name, p.shape, scale, zero), **options)
        made = self.limited(made, floor, ceiling, p.name)
        return self.reshaped(made, p.final or p.shape)

    @staticmethod
    def is_real(tensor: Tensor) -> bool:
        return tensor.dtype.startswith(("float", "bfloat"))

    def _require_real(self, p: Pending, inputs: tuple[int, ...]) -> None:
        """Raises NoRuleError for an input of whole numbers that is computed with."""
        for tensor in (self.tensor(x) for x in inputs):
            if tensor.data is None and not tensor.scale.size and not self.is_real(tensor):
                raise NoRuleError(
                    f"'{p.name}' computes with '{tensor.name}', whole numbers ({tensor.dtype}), "
                    "which only tables (an Embedding) take. Make it an Input of float32: arrays of "
                    f"{tensor.dtype} may be given to it as they are."
                )

    def _least_scale(self, p: Pending, inputs: tuple[int, ...], scale: float) -> float:
        """Of an output that the runtimes can compute."""
        steps = [float(self.tensor(x).scale[0]) for x in inputs if self.is_int8(x)]
        if p.kind in ("ADD", "SUB") and steps:
            return 2.0 * max(steps) / LARGEST_SUM
        if p.kernel is not None:
            steps = [steps[0], float(_in_reach(p.kernel, steps[0], scale).scale.max())]
        elif p.kind not in ("BATCH_MATMUL", "MEAN"):
            return 0.0
        return math.prod(steps) / LARGEST_MULTIPLIER

    def _input(self, p: Pending, value: Value, scale: float, zero: int, number: int) -> int:
        if p.kind in ONE_SCALE:
            return self.with_range(value, scale, zero, f"{p.name}/input_{number}")
        return self.settled(value)

    def limited(self, index: int, least: float | None, most: float | None, name: str) -> int:
        """A tensor between two real numbers: MAXIMUM and MINIMUM, where they change anything."""
        tensor = self.tensor(index)
        if tensor.dtype != "float32" and not len(tensor.scale):
            raise NoRuleError(
                f"'{name}' of whole numbers ({tensor.dtype}) has no rule: limit them in front "
                "of the net."
            )
        for kind, limit, end in (("MAXIMUM", least, CODES[0]), ("MINIMUM", most, CODES[1])):
            if limit is None:
                continue
            tail = f"{name}/{kind.lower()}"
            if tensor.dtype == "float32":
                other = self.constant(tail, np.float32(limit), "float32")
            else:
                scale, zero = float(tensor.scale[0]), int(tensor.zero_point[0])
                code = int(np.clip(np.rint(limit / scale) + zero, *CODES))
                if code == end:
                    continue
                other = self.codes(f"{tail}/limit", np.float64((code - zero) * scale), scale, zero)
            index = self.graph.call(kind, (index, other), self.like(index, tail, tensor.shape))
        return index

    def _with_kernel(self, p: Pending, inputs: tuple[int, ...], s_out: float) -> tuple[int, ...]:
        assert p.kernel is not None
        kernel, s_in = p.kernel, float(self.tensor(inputs[0]).scale[0])
        kernel = _in_reach(kernel, s_in, s_out)
        _check_that_weights_are_kept(p.name, p.kernel, kernel, s_in, s_out)
        per = kernel.scale
        if p.kind == "FULLY_CONNECTED" and np.all(per == per[0]):
            per = per[:1]
        zeros = np.zeros(len(per), np.int64)
        _require_float(float(np.max(s_in * per)), p.name)
        wanted = np.abs(kernel.bias.astype(np.float64)) / (s_in * per)
        bias = np.floor(wanted + 0.5) * np.sign(kernel.bias)
        weights = self.graph.add(
            f"{p.name}/kernel",
            kernel.codes.shape,
            "int8",
            scale=per,
            zero_point=zeros,
            axis=kernel.axis,
            data=kernel.codes,
        )
        biases = self.graph.add(
            f"{p.name}/bias",
            bias.shape,
            "int32",
            scale=s_in * per,
            zero_point=zeros,
            data=bias.astype(np.int32),
        )
        return self._arranged(p, inputs[0], weights, biases)

    def _arranged(self, p: Pending, given: int, weights: int, bias: int) -> tuple[int, ...]:
        if p.kind == "TRANSPOSE_CONV":
            return self.constant(f"{p.name}/shape", p.shape), weights, given, bias
        return given, weights, bias

    def _in_float(self, p: Pending) -> int:
        if p.in_float is not None:
            return self.limited(p.in_float(), p.least, p.most, p.name)
        if p.kernel is not None and not p.kernel.is_float:
            # Nothing that apply called ternary or int8 becomes float without a word.
            raise NoRuleError(
                f"every layer that is ternary or int8 needs the range of its output. Received: "
                f"'{p.name}' without one, before a layer that rounds nothing. Please report the "
                "model; a rule Rule('float', name=...) for the layer works around it. Where you "
                "annotated layers yourself, annotate those around it too."
            )
        inputs = tuple(self.real(x) if _is_data(self, x) else x for x in p.inputs)
        if p.kernel is not None:
            weights = self.constant(f"{p.name}/kernel", p.kernel.values, "float32")
            bias = self.constant(f"{p.name}/bias", p.kernel.bias, "float32")
            inputs = self._arranged(p, inputs[0], weights, bias)
        options, least, most = dict(p.options), p.least, p.most
        word = _FUSED.get((least, most))
        if word is not None and "activation" in options:
            options["activation"], least, most = word, None, None
        made = self.graph.call(
            p.kind, inputs, self.graph.add(p.name, p.shape, "float32"), **options
        )
        return self.reshaped(self.limited(made, least, most, p.name), p.final or p.shape)

    # -- shapes --------------------------------------------------------------------------------

    def reshaped(self, index: int, shape: Sequence[int]) -> int:
        """The tensor in another shape; two changes of shape in a row are one, or none."""
        shape = tuple(int(n) for n in shape)
        if self.tensor(index).shape == shape:
            return index
        index = self._before.get(index, index)
        tensor = self.tensor(index)
        if tensor.shape == shape:
            return index
        if math.prod(shape) != math.prod(tensor.shape):
            raise NoRuleError(f"'{tensor.name}' of shape {tensor.shape} cannot become {shape}.")
        target = self.constant(f"{tensor.name}/shape", shape)
        made = self.like(index, f"{tensor.name}/reshaped", shape)
        self._before[made] = index
        return self.graph.call("RESHAPE", (index, target), made, new_shape=list(shape))

    def transposed(self, index: int, order: Sequence[int], name: str) -> int:
        if list(order) == list(range(len(order))):
            return index
        shape = [self.tensor(index).shape[axis] for axis in order]
        made = self.like(index, name, shape)
        return self.graph.call("TRANSPOSE", (index, self.constant(f"{name}/order", order)), made)

    def pruned(self) -> Graph:
        """The graph without operators and tensors that nothing needs."""
        graph, needed = self.graph, set(self.graph.outputs)
        kept = []
        for operator in reversed(graph.operators):
            if needed.intersection(operator.outputs):
                kept.append(operator)
                needed.update(operator.inputs)
        kept.reverse()
        used = {*graph.inputs, *graph.outputs}
        for operator in kept:
            used.update((*operator.inputs, *operator.outputs, *operator.intermediates))
        order = sorted(used - {-1})
        place = {old: new for new, old in enumerate(order)} | {-1: -1}

        def there(indices: Sequence[int]) -> tuple[int, ...]:
            return tuple(place[i] for i in indices)

        operators = [
            dataclasses.replace(
                one,
                inputs=there(one.inputs),
                outputs=there(one.outputs),
                intermediates=there(one.intermediates),
            )
            for one in kept
        ]
        return Graph(
            [graph.tensors[i] for i in order],
            operators,
            there(graph.inputs),
            there(graph.outputs),
        )


def _require_float(scale: float, name: str) -> None:
    if not scale <= LARGEST_FLOAT:
        raise ValueError(
            "A model of values that int8 can step through is required. Received: "
            f"'{name}' with steps of {scale:.3g}, because training diverged: kernels or "
            "normalisations have grown without bounds. Train again with a smaller rate."
        )


def _is_data(net: Net, value: Value) -> bool:
    """Whether it is a value of the net, not an operator's list of axes or sizes."""
    if isinstance(value, Pending):
        return True
    tensor = net.tensor(value)
    return tensor.dtype in ("int8", "float32") or tensor.data is None


def _same(tensor: Tensor, scale: float, zero_point: int) -> bool:
    return (tensor.scale[0], tensor.zero_point[0]) == (np.float32(scale), zero_point)


def _in_reach(kernel: Kernel, s_in: float, s_out: float) -> Kernel:
    """Scales that the runtimes can express: neither does a bias overflow 32 bits, nor vanish the
    multiplier. A channel that needs a coarser scale has weights that hardly matter beside its bias
    or its output's step."""
    least = np.maximum(
        np.abs(kernel.bias.astype(np.float64)) / (s_in * LARGEST_BIAS),
        s_out * SMALLEST_MULTIPLIER / s_in,
    )
    if np.all(kernel.scale >= least):
        return kernel
    scale = np.maximum(kernel.scale, least)
    if np.all(kernel.scale == kernel.scale[0]):  # one scale stays one
        scale = np.full_like(scale, scale.max())
    ratio = along(kernel.scale / scale, kernel.codes.ndim, kernel.axis)
    return dataclasses.replace(
        kernel, codes=np.rint(kernel.codes * ratio).astype(np.int8), scale=scale
    )


def _check_that_weights_are_kept(
    name: str, given: Kernel, kernel: Kernel, s_in: float, s_out: float
) -> None:
    """One large bias makes the one scale of a kernel coarser for every channel: the outputs of
    those whose bias would fit must stay within about a step (root mean square, inputs of half
    their range)."""
    if kernel is given:
        return
    reach = given.scale * s_in * LARGEST_BIAS
    change = np.abs(
        given.codes * along(given.scale, given.codes.ndim, given.axis)
        - kernel.codes * along(kernel.scale, kernel.codes.ndim, kernel.axis)
    )
    axes = tuple(i for i in range(change.ndim) if i != given.axis % change.ndim)
    steps = np.sqrt(np.square(change).sum(axes)) * s_in * CODES[1] / s_out
    bias = np.abs(given.bias)
    if np.any(steps[bias <= reach] > 1):
        raise ValueError(
            f"The bias of '{name}' does not fit: required at most {reach.min():.3g} in every "
            f"channel, received {bias.max():.3g} in channel {int(bias.argmax())}. A larger one "
            "leaves nothing of the other channels' weights, which share its scale. Train with a "
            "smaller learning rate, or set the layer to 'float' by a Policy rule."
        )


_FUSED: dict[tuple[float | None, float | None], str] = {
    (0.0, None): "relu",
    (0.0, 6.0): "relu6",
    (-1.0, 1.0): "relu_n1_to_1",
}


def _activation(p: Pending, scale: float, zero: int) -> tuple[str, float | None, float | None]:
    """The fused activation, and the limits (most, least) that it leaves to be done."""
    if not p.is_limited:
        return "none", None, None
    most = p.most
    if most is not None and most / scale + zero >= CODES[1] - 0.5:
        most = None  # int8 ends there
    if "activation" not in p.options:
        return "relu" if p.least == 0 else "none", most, p.least
    word = _FUSED.get((p.least, most))
    if word is not None:
        return word, None, None
    return ("relu", most, None) if p.least == 0 else ("none", most, p.least)
