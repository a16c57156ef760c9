"""Activations: limits that are fused, operators of TensorFlow Lite, and tables of 256 codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ec2t_tf.quantisation import kinds
from ec2t_tf.quantisation.opened import closed_by

from ..calls import Call, kind_of
from ..net import Net
from ..pending import CODES, RULES, NoRuleError, Pending, TensorIndex, Value, rule
from .movement import later
from .ranges import array

# What TensorFlow Lite prescribes for int8.
UNIT, SIGNED, SIXTEENTHS = (1 / 256, -128), (1 / 128, 0), (1 / 16, 127)
# The least step of a softmax's input: the runtimes hold it with 26 bits of fraction.
SMALLEST_EXPONENT = 2.0**-26
LARGEST_ENTRY = 1e30  # of a table, before it has codes
Activation = Callable[[Net, str, Value], Value]


def table(net: Net, name: str, given: Value, function: Callable[[np.ndarray], Any]) -> Value:
    """Any function of one value, as a table of its 256 codes. It needs an int8 input."""
    index = net.settled(given)
    if not net.is_int8(index):
        raise NoRuleError(f"'{name}': this function has no float operator.")
    tensor = net.tensor(index)

    def in_int8(scale: float, zero: int) -> int:
        steps = np.arange(CODES[0], CODES[1] + 1) - tensor.zero_point[0]
        real = array(function((steps * tensor.scale[0]).astype(np.float32))).astype(np.float64)
        if real.shape != steps.shape:
            raise NoRuleError(f"'{name}' must be a function of single values.")
        real = np.clip(np.nan_to_num(real), -LARGEST_ENTRY, LARGEST_ENTRY)
        codes = np.clip(np.rint(real / np.float32(scale)) + zero, *CODES)
        entries = net.graph.add(
            f"{name}/table",
            (256,),
            "int8",
            scale=scale,
            zero_point=zero,
            data=codes.astype(np.int8),
        )
        wide = net.graph.add(f"{name}/code", tensor.shape, "int32")
        place = net.graph.add(f"{name}/place", tensor.shape, "int32")
        net.graph.call("CAST", (index,), wide)
        offset = net.constant(f"{name}/offset", np.array([128]))
        net.graph.call("ADD", (wide, offset), place, activation="none")
        made = net.int8(name, tensor.shape, scale, zero)
        return net.graph.call("GATHER", (entries, place), made, axis=0, batch_dims=0)

    def in_float() -> int:
        raise NoRuleError(f"'{name}': this function has no float operator.")

    return Pending(name, "", (), tensor.shape, in_int8=in_int8, in_float=in_float)


def operator(
    net: Net,
    kind: str,
    name: str,
    given: Value,
    prescribed: tuple[float, int] | None = None,
    **options: Any,
) -> Pending:
    index = net.settled(given)
    shape = net.shape(index)
    return Pending(name, kind, (index,), shape, options, prescribed=prescribed)


def limited(net: Net, name: str, given: Value, least: float | None, most: float | None) -> Value:
    """max(min(x, most), least): fused into what makes x, or of x's own scale."""
    if isinstance(given, Pending) and not given.is_limited and given.prescribed is None:
        return given.with_limits(least, most)
    index = net.settled(given)
    if net.is_int8(index) and least == 0.0:
        kind, most = ("RELU6", None) if most == 6.0 else ("RELU", most)
        return Pending(name, kind, (index,), net.shape(index), most=most)
    if net.is_int8(index):
        return table(net, name, index, lambda x: np.clip(x, least, most))
    return net.limited(index, least, most, name)


# -- functions ---------------------------------------------------------------------------------


def _relu(
    net: Net,
    name: str,
    given: Value,
    slope: float = 0.0,
    most: float | None = None,
    threshold: float = 0.0,
) -> Value:
    if not slope and not threshold:
        return limited(net, name, given, 0.0, most)
    if slope and not threshold and most is None and 0 < slope <= 1:
        return operator(net, "LEAKY_RELU", name, given, alpha=float(slope))

    def function(x: np.ndarray) -> Any:
        return keras.ops.convert_to_numpy(
            keras.activations.relu(x, negative_slope=slope, max_value=most, threshold=threshold)
        )

    return table(net, name, given, function)


def _tabled(function: Callable) -> Activation:
    return lambda net, name, given: table(net, name, given, lambda x: function(x))


def _silu(net: Net, name: str, given: Value) -> Value:
    index = net.settled(given)
    gate = operator(net, "LOGISTIC", f"{name}/sigmoid", index, UNIT)
    inner = net.with_range(gate, *UNIT, gate.name) if net.is_int8(index) else net.settled(gate)
    return Pending(name, "MUL", (index, inner), net.shape(index), {"activation": "none"})


def _elu(net: Net, name: str, given: Value, alpha: float = 1.0) -> Value:
    # LiteRT's reference kernels have no ELU.
    return table(net, name, given, lambda x: keras.activations.elu(x, alpha))


def _softmax(net: Net, name: str, given: Value) -> Pending:
    return operator(net, "SOFTMAX", name, _coarser(net, name, given), UNIT, beta=1.0)


def _log_softmax(net: Net, name: str, given: Value) -> Pending:
    return operator(net, "LOG_SOFTMAX", name, _coarser(net, name, given), SIXTEENTHS)


def _coarser(net: Net, name: str, given: Value) -> int:
    """The input of a softmax, of a step that the runtimes can hold: LiteRT would abort."""
    index = net.settled(given)
    if not net.is_int8(index) or net.tensor(index).scale[0] > SMALLEST_EXPONENT:
        return index
    zero = int(net.tensor(index).zero_point[0])  # all inputs are as good as equal
    return net.with_range(index, 2 * SMALLEST_EXPONENT, zero, f"{name}/coarser")


# Functions of Keras, compared by identity: a user's own that has such a name is not among them.
FUNCTIONS: dict[Any, Activation] = {
    keras.activations.linear: lambda net, name, given: given,
    keras.activations.relu: _relu,
    keras.activations.relu6: lambda net, name, given: limited(net, name, given, 0.0, 6.0),
    keras.activations.hard_tanh: lambda net, name, given: limited(net, name, given, -1.0, 1.0),
    keras.activations.leaky_relu: lambda net, name, given: _relu(net, name, given, 0.2),
    keras.activations.sigmoid: lambda net, name, given: operator(
        net, "LOGISTIC", name, given, UNIT
    ),
    keras.activations.tanh: lambda net, name, given: operator(net, "TANH", name, given, SIGNED),
    keras.activations.softmax: _softmax,
    keras.activations.log_softmax: _log_softmax,
    keras.activations.silu: _silu,
    keras.activations.elu: _elu,
    keras.activations.gelu: lambda net, name, given: operator(
        net, "GELU", name, given, approximate=False
    ),
    keras.activations.hard_silu: lambda net, name, given: operator(net, "HARD_SWISH", name, given),
}
# Computed for each of the 256 codes.
TABLED = tuple(
    getattr(keras.activations, name)
    for name in (
        *("celu", "exponential", "hard_shrink", "hard_sigmoid", "log_sigmoid", "mish"),
        *("selu", "soft_shrink", "softplus", "softsign", "sparse_plus", "sparse_sigmoid"),
        *("squareplus", "tanh_shrink", "threshold"),
    )
    if hasattr(keras.activations, name)
)
FUNCTIONS.update({function: _tabled(function) for function in TABLED})


def activated(net: Net, call: Call, value: Value, function: Any, layer: Any) -> Value:
    """The activation that a layer carries itself."""
    if function is None or function is keras.activations.linear:
        return value
    if isinstance(function, keras.Layer):
        return _layer(net, call, function, value)
    if function not in FUNCTIONS:
        return _of_users(net, f"{call.key}/activation", value, function)
    return FUNCTIONS[function](net, f"{call.key}/activation", value)


def _layer(net: Net, call: Call, layer: Any, value: Value) -> Value:
    """A layer object as an activation."""
    writer = _LAYERS.get(kind_of(layer))
    if writer is None:
        raise NoRuleError(f"'{call.name}': the activation {kind_of(layer)} has no rule.")
    return writer(net, f"{call.key}/activation", value, layer)


# -- layers ------------------------------------------------------------------------------------


def _relu_layer(net: Net, name: str, given: Value, layer: Any) -> Value:
    return _relu(
        net,
        name,
        given,
        float(layer.negative_slope),
        None if layer.max_value is None else float(layer.max_value),
        float(layer.threshold),
    )


def _prelu(net: Net, name: str, given: Value, layer: Any) -> Value:
    index, alpha = net.settled(given), array(layer.alpha).astype(np.float32)
    shape = net.shape(index)
    if net.is_float(index):
        slopes = net.constant(f"{name}/alpha", alpha, "float32")
    else:
        slopes = net.codes(f"{name}/alpha", alpha, max(float(np.abs(alpha).max()), 1e-8) / 127)
    return Pending(name, "PRELU", (index, slopes), shape)


def _softmax_layer(net: Net, name: str, given: Value, layer: Any) -> Value:
    rank = len(net.shape(given))
    if not isinstance(layer.axis, int):
        raise NoRuleError(f"'{name}': a softmax needs one axis.")
    return _along(net, name, given, layer.axis % rank, _softmax)


def _along(
    net: Net, name: str, given: Value, axis: int, function: Callable[[Net, str, Value], Pending]
) -> Value:
    """A function of the last axis, of another one."""
    rank = len(net.shape(given))
    if axis == rank - 1:
        return function(net, name, given)
    order = [i for i in range(rank) if i != axis] + [axis]
    index = net.transposed(net.settled(given), order, f"{name}/moved")
    back = [order.index(i) for i in range(rank)]
    made = function(net, f"{name}/softmax", index)
    return later(
        net, made, net.shape(given), lambda value: net.transposed(value, back, f"{name}/back")
    )


def _activation_layer(net: Net, name: str, given: Value, layer: Any) -> Value:
    function = layer.activation
    if isinstance(function, keras.Layer):
        return _LAYERS[kind_of(function)](net, name, given, function)
    if function in FUNCTIONS:
        return FUNCTIONS[function](net, name, given)
    return _of_users(net, name, given, function)


def _of_users(net: Net, name: str, given: Value, function: Any) -> Value:
    """A function of the user's, if it treats each value by itself."""
    if not kinds.is_elementwise(function):
        raise NoRuleError(f"'{name}': the activation {function} is not of single values.")
    return table(net, name, given, lambda x: function(keras.ops.convert_to_tensor(x)))


@rule("Lambda")
def _lambda(net: Net, call: Call, given: Value, *_: Any) -> Value:
    layer = call.operation
    options = layer.arguments or {}

    def function(x: Any) -> Any:
        return layer.function(x, **options)

    if not kinds.is_elementwise(function):
        lacks = closed_by(layer, call.arguments, call.options)
        because = f" ({' and '.join(lacks)})" if lacks else ""
        raise NoRuleError(
            f"'{call.key}' (Lambda) has no rule that writes it: its function treats several values "
            f"at once, and calls more than operations with rules{because}. docs/layers.md has "
            "those; functions of TensorFlow that are like them are, too."
        )
    return _of_users(net, call.key, given, function)


_LAYERS: dict[str, Callable[[Net, str, Value, Any], Value]] = {
    "Activation": _activation_layer,
    "ReLU": _relu_layer,
    "LeakyReLU": lambda net, name, given, layer: _relu(
        net, name, given, float(layer.negative_slope)
    ),
    "PReLU": _prelu,
    "ELU": lambda net, name, given, layer: _elu(net, name, given, float(layer.alpha)),
    "Softmax": _softmax_layer,
}


def _register(kind: str, writer: Callable[[Net, str, Value, Any], Value]) -> None:
    def written(net: Net, call: Call, given: Value, *_: Any) -> Value:
        return writer(net, call.key, given, call.operation)

    rule(kind)(written)


for _kind, _writer in _LAYERS.items():
    _register(_kind, _writer)


# -- operations of keras.ops -------------------------------------------------------------------

# Name of the operation's class -> function of Keras that it is.
_OPERATIONS = {
    "Relu": keras.activations.relu,
    "Relu6": keras.activations.relu6,
    "Sigmoid": keras.activations.sigmoid,
    "Tanh": keras.activations.tanh,
    "Silu": keras.activations.silu,
    "HardSilu": keras.activations.hard_silu,
    "HardTanh": keras.activations.hard_tanh,
    "HardSigmoid": keras.activations.hard_sigmoid,
}


def _register_function(kind: str, function: Any) -> None:
    def written(net: Net, call: Call, given: Value, *_: Any) -> Value:
        return FUNCTIONS[function](net, call.key, given)

    rule(kind)(written)


for _kind, _function in _OPERATIONS.items():
    _register_function(_kind, _function)


@rule("LogSoftmax")
def _log_softmax_along(net: Net, call: Call, given: Value, *_: Any) -> Value:
    axis = call.operation.axis % len(net.shape(given))
    return _along(net, call.key, given, axis, _log_softmax)


@rule("LeakyRelu")
def _leaky_relu(net: Net, call: Call, given: Value, *_: Any) -> Value:
    return _relu(net, call.key, given, float(call.operation.negative_slope))


@rule("Gelu")
def _gelu(net: Net, call: Call, given: Value, *_: Any) -> Value:
    return operator(net, "GELU", call.key, given, approximate=bool(call.operation.approximate))


@rule("Power")
def _power(net: Net, call: Call, base: Any, exponent: Any, *_: Any) -> Value:
    """Of a value by a number, or of a number by a value."""
    values = [x for x in (base, exponent) if isinstance(x, Pending | TensorIndex)]
    numbers = [x for x in (base, exponent) if not isinstance(x, Pending | TensorIndex)]
    if len(values) != 1 or any(array(x).size != 1 for x in numbers):
        raise NoRuleError(f"'{call.name}': only a power by one number has a rule.")
    (number,) = (array(x).astype(np.float32).reshape(()) for x in numbers)
    by_number = values[0] is base
    return table(
        net,
        call.key,
        values[0],
        lambda x: keras.ops.power(*((x, number) if by_number else (number, x))),
    )


@rule("Clip")
def _clip(net: Net, call: Call, given: Value, *_: Any) -> Value:
    return limited(net, call.key, given, float(call.operation.x_min), float(call.operation.x_max))


@rule("Elu", *(name for name in kinds.OF_ONE_VALUE if name not in RULES))
def _elementwise(net: Net, call: Call, given: Value, *_: Any) -> Value:
    return table(net, call.key, given, lambda x: call.operation(keras.ops.convert_to_tensor(x)))
