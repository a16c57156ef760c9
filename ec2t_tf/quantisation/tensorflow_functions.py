"""Functions of TensorFlow in a model of either Keras, as operations of keras.ops."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np


def _key(slice_spec: Any) -> Any:
    """The key of `x[key]`; tf_keras records each slice in it as a dictionary."""
    if isinstance(slice_spec, (tuple, list)):
        return tuple(_key(part) for part in slice_spec)
    if isinstance(slice_spec, Mapping):
        return slice(slice_spec["start"], slice_spec["stop"], slice_spec["step"])
    return slice_spec


def _keys(slice_spec: Any) -> Any:
    """The same, a lone slice as one of several, as keras.ops wants it."""
    key = _key(slice_spec)
    return (key,) if isinstance(key, slice) else key


def _parts(split: Any) -> Any:
    """Equal parts as their number, others as the places between them; as keras.ops wants them."""
    if isinstance(split, int):
        return split
    sizes = [int(size) for size in split]
    return [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]


def _plain(numbers: Any) -> Any:
    """Numbers or tensors of them, as numbers and tuples."""
    found = np.asarray(numbers).tolist()
    return tuple(found) if isinstance(found, list) else found


def _depth_to_space(ops: Any, input: Any, block_size: int, data_format: str = "NHWC") -> Any:
    _, rows, columns, channels = _channels_last(input, data_format)
    x = ops.reshape(input, (-1, rows, columns, block_size, block_size, channels // block_size**2))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * block_size, columns * block_size, x.shape[-1]))


def _space_to_depth(ops: Any, input: Any, block_size: int, data_format: str = "NHWC") -> Any:
    _, rows, columns, channels = _channels_last(input, data_format)
    rows, columns = rows // block_size, columns // block_size
    x = ops.reshape(input, (-1, rows, block_size, columns, block_size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows, columns, channels * block_size**2))


def _channels_last(x: Any, data_format: str) -> tuple[int, ...]:
    if data_format != "NHWC":
        raise ValueError(f"data_format must be 'NHWC'. Received: {data_format!r}.")
    return tuple(x.shape)


def are_known(padding: Any, data_format: Any) -> bool:
    """Whether windows lie as those of Keras can."""
    return isinstance(padding, str) and data_format in (None, "NHWC", "NWC")


def _windows(x: Any, padding: Any, data_format: Any, *numbers: Any) -> list[Any]:
    """Sizes, strides or dilations, those of the batch and of the channels left out."""
    if not are_known(padding, data_format):
        raise ValueError(f"windows with padding={padding}, data_format={data_format} inside")
    return [of_places(one, len(x.shape) - 2) for one in numbers]


def _conv(
    ops: Any,
    kind: str,
    x: Any,
    kernel: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: Any = None,
    dilations: Any = None,
) -> Any:
    steps, dilation = _windows(x, padding, data_format, strides, dilations)
    return getattr(ops, kind)(x, kernel, steps, padding.lower(), "channels_last", dilation)


def _pool(
    ops: Any,
    kind: str,
    x: Any,
    ksize: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: Any = None,
) -> Any:
    size, steps = _windows(x, padding, data_format, ksize, strides)
    return getattr(ops, kind)(x, size, steps, padding.lower(), "channels_last")


def _bias_add(ops: Any, value: Any, bias: Any, data_format: str | None = None) -> Any:
    if data_format is not None and not data_format.endswith("C"):
        raise ValueError(f"a bias with data_format={data_format} inside")
    return ops.add(value, bias)


def _axes(axes: Any) -> Any:
    """Of both sides, as lists; a number alone is how many."""
    found = _plain(axes)
    if not isinstance(found, tuple):
        return found
    return [list(one) if isinstance(one, tuple | list) else [one] for one in found]


def of_places(numbers: Any, places: int) -> Any:
    """Numbers of a window, without those of the batch and of the channels."""
    numbers = 1 if numbers is None else _plain(numbers)
    several = isinstance(numbers, tuple) and len(numbers) == places + 2
    return numbers[1:-1] if several else numbers


# Up to which l2_normalize is Keras' with its 1e-12: less than the rounding of a file.
UNIT_EPSILON = 1e-6


def _l2_normalize(ops: Any, x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    if epsilon <= UNIT_EPSILON:
        return ops.normalize(x, axis)
    total = ops.sum(ops.square(x), axis, keepdims=True)
    return ops.multiply(x, ops.rsqrt(ops.maximum(total, epsilon)))


def _reduced(name: str) -> Callable[..., Any]:
    def reduced(ops: Any, input_tensor: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return getattr(ops, name)(input_tensor, axis, keepdims)

    return reduced


# TensorFlow functions that tf_keras records in a graph, by the end of the name it gives them.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda ops, x, y: ops.add(x, y),
    "subtract": lambda ops, x, y: ops.subtract(x, y),
    "multiply": lambda ops, x, y: ops.multiply(x, y),
    "divide": lambda ops, x, y: ops.divide(x, y),
    "truediv": lambda ops, x, y: ops.divide(x, y),
    "maximum": lambda ops, x, y: ops.maximum(x, y),
    "minimum": lambda ops, x, y: ops.minimum(x, y),
    "pow": lambda ops, x, y: ops.power(x, y),
    "negative": lambda ops, x: ops.negative(x),
    "identity": lambda ops, input: keras.layers.Identity()(input),
    "matmul": lambda ops, a, b, transpose_a=False, transpose_b=False: ops.matmul(
        ops.swapaxes(a, -2, -1) if transpose_a else a, ops.swapaxes(b, -2, -1) if transpose_b else b
    ),
    "einsum": lambda ops, equation, *inputs: ops.einsum(equation, *inputs),
    "relu": lambda ops, features: ops.relu(features),
    "relu6": lambda ops, features: ops.relu6(features),
    "silu": lambda ops, features: ops.silu(features),
    "gelu": lambda ops, features, approximate=False: ops.gelu(features, approximate),
    "softmax": lambda ops, logits, axis=-1: ops.softmax(logits, axis),
    "log_softmax": lambda ops, logits, axis=None: ops.log_softmax(
        logits, -1 if axis is None else axis
    ),
    "sigmoid": lambda ops, x: ops.sigmoid(x),
    "tanh": lambda ops, x: ops.tanh(x),
    "abs": lambda ops, x: ops.abs(x),
    "square": lambda ops, x: ops.square(x),
    "sqrt": lambda ops, x: ops.sqrt(x),
    "rsqrt": lambda ops, x: ops.rsqrt(x),
    "exp": lambda ops, x: ops.exp(x),
    "log": lambda ops, x: ops.log(x),
    "reduce_mean": _reduced("mean"),
    "reduce_sum": _reduced("sum"),
    "reduce_max": _reduced("max"),
    "reduce_min": _reduced("min"),
    "reduce_std": _reduced("std"),
    "reduce_variance": _reduced("var"),
    "reduce_logsumexp": _reduced("logsumexp"),
    "norm": lambda ops, tensor, ord="euclidean", axis=None, keepdims=False: ops.norm(
        tensor, None if ord == "euclidean" else ord, axis, keepdims
    ),
    "l2_normalize": _l2_normalize,
    "moments": lambda ops, x, axes, shift=None, keepdims=False: ops.moments(x, axes, keepdims),
    "reshape": lambda ops, tensor, shape: ops.reshape(tensor, tuple(int(n) for n in shape)),
    "concat": lambda ops, values, axis: ops.concatenate(list(values), axis),
    "stack": lambda ops, values, axis=0: ops.stack(list(values), axis),
    "expand_dims": lambda ops, input, axis: ops.expand_dims(input, axis),
    "squeeze": lambda ops, input, axis=None: ops.squeeze(input, axis),
    "transpose": lambda ops, a, perm=None: ops.transpose(a, perm),
    "pad": lambda ops, tensor, paddings, mode="CONSTANT", name=None, constant_values=0: ops.pad(
        tensor,
        paddings,
        mode.lower(),
        **({"constant_values": constant_values} if mode == "CONSTANT" else {}),
    ),
    "clip_by_value": lambda ops, t, clip_value_min, clip_value_max: ops.clip(
        t, clip_value_min, clip_value_max
    ),
    "cast": lambda ops, x, dtype: ops.cast(x, getattr(dtype, "name", dtype)),
    "getitem": lambda ops, tensor, slice_spec: tensor[_keys(slice_spec)],
    "zeros_like": lambda ops, input: ops.zeros_like(input),
    "leaky_relu": lambda ops, features, alpha=0.2: ops.leaky_relu(features, alpha),
    **{
        name: lambda ops, x, name=name: getattr(ops, name)(x)
        for name in (
            *("sin", "cos", "erf", "floor", "ceil", "round", "sign", "expm1", "log1p"),
            *("tan", "sinh", "cosh", "erfc", "erfinv"),
        )
    },
    **{
        f"a{name}": lambda ops, x, name=name: getattr(ops, f"arc{name}")(x)
        for name in ("sin", "cos", "tan", "sinh", "tanh")
    },
    "reciprocal": lambda ops, x: ops.reciprocal(x),
    "log_sigmoid": lambda ops, x: ops.log_sigmoid(x),
    "elu": lambda ops, features: ops.elu(features),
    "selu": lambda ops, features: ops.selu(features),
    "softplus": lambda ops, features: ops.softplus(features),
    "split": lambda ops, value, num_or_size_splits, axis=0: ops.split(
        value, _parts(num_or_size_splits), axis
    ),
    "depth_to_space": _depth_to_space,
    "space_to_depth": _space_to_depth,
    "unstack": lambda ops, value, num=None, axis=0: ops.unstack(value, num, axis),
    "reverse": lambda ops, tensor, axis: ops.flip(tensor, axis),
    "repeat": lambda ops, input, repeats, axis=None: ops.repeat(input, repeats, axis),
    "roll": lambda ops, input, shift, axis: ops.roll(input, _plain(shift), _plain(axis)),
    **{
        name: lambda ops, input, filters, *given, **options: _conv(
            ops, "conv", input, filters, *given, **options
        )
        for name in ("conv2d", "convolution")
    },
    "conv1d": lambda ops, input, filters, stride, *given, **options: _conv(
        ops, "conv", input, filters, stride, *given, **options
    ),
    "depthwise_conv2d": lambda ops, input, filter, *given, **options: _conv(
        ops, "depthwise_conv", input, filter, *given, **options
    ),
    **{
        name: lambda ops, input, *given, kind=kind, **options: _pool(
            ops, kind, input, *given, **options
        )
        for kind, names in {
            "max_pool": ("max_pool", "max_pool2d", "max_pool1d"),
            "average_pool": ("avg_pool", "avg_pool2d", "avg_pool1d"),
        }.items()
        for name in names
    },
    "tensordot": lambda ops, a, b, axes: ops.tensordot(a, b, _axes(axes)),
    "bias_add": _bias_add,
    "where": lambda ops, condition, x=None, y=None: ops.where(condition, x, y),
    "broadcast_to": lambda ops, input, shape: ops.broadcast_to(input, _plain(shape)),
    "tile": lambda ops, input, multiples: ops.tile(input, _plain(multiples)),
    "gather": lambda ops, params, indices, axis=None: ops.take(
        params,
        indices if keras.utils.is_keras_tensor(indices) else np.asarray(indices),
        0 if axis is None else axis,
    ),
    "resize": lambda ops, images, size, method="bilinear", antialias=False: ops.image.resize(
        images, _plain(size), method, antialias
    ),
    "extract_patches": lambda ops, images, sizes, strides, rates, padding: (
        ops.image.extract_patches(
            images, tuple(sizes[1:3]), tuple(strides[1:3]), rates[1], padding.lower()
        )
    ),
}


# Of values and numbers alike; a saved model has lists where it had arrays.
_OF_NUMBERS = (
    *("add", "subtract", "multiply", "divide", "truediv", "maximum", "minimum", "pow", "matmul"),
    "einsum",
)


def _array(x: Any) -> Any:
    if not isinstance(x, list | tuple):
        return x
    found = np.asarray(x)
    return found.astype(np.float32 if found.dtype.kind == "f" else np.int32)


def in_keras_ops(function: str) -> Callable[..., Any] | None:
    """What computes a function of TensorFlow, by its name; None if keras.ops has nothing of it."""
    last = function.split(".")[-1]
    found = FUNCTIONS.get(last)
    if found is None:
        return None
    known = inspect.signature(found).parameters

    def compute(*arguments: Any, **options: Any) -> Any:
        while arguments and arguments[-1] is None:  # a name that was not given
            arguments = arguments[:-1]
        unsaid = ("name", *(key for key in options if key not in known and not options[key]))
        wanted = {key: value for key, value in options.items() if key not in unsaid}
        if last in _OF_NUMBERS:
            arguments = tuple(map(_array, arguments))
            wanted = {key: _array(value) for key, value in wanted.items()}
        return found(keras.ops, *arguments, **wanted)

    return compute


@contextlib.contextmanager
def recorded() -> Iterator[None]:
    """Inside, functions of TensorFlow that are given symbolic values of Keras 3 are the operations
    of keras.ops that they are like, where otherwise they refuse them.

    Raises:
      ValueError: naming a function that keras.ops has nothing of.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    recorder = _recorder()
    recorder.depth += 1
    try:
        yield
    finally:
        recorder.depth -= 1


@functools.cache
def _recorder() -> Any:
    import tensorflow as tf
    from tensorflow.python.util import tf_export

    class Recorder(tf.__internal__.dispatch.GlobalOpDispatcher):
        """TensorFlow asks it about a call that failed."""

        depth = 0

        def handle(self, op: Any, args: tuple, kwargs: dict) -> Any:
            given = keras.tree.flatten((args, kwargs))
            if not self.depth or not any(map(keras.utils.is_keras_tensor, given)):
                return self.NOT_SUPPORTED
            name = tf_export.get_canonical_name_for_symbol(op, add_prefix_to_v1_names=True) or ""
            if name.split(".")[-1] == "shape":
                return tuple(given[0].shape)
            compute = in_keras_ops(name)
            if compute is None:
                raise ValueError(f"tf.{name} inside")
            return compute(*args, **kwargs)

    recorder = Recorder()
    recorder.register()
    return recorder
