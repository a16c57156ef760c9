"""The oracles: LiteRT with each of its kernels, and TensorFlow Lite Micro's wheel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import interpreter as litert

from ec2t_tf.export.integer import Interpreter

_RESOLVERS = {
    "reference": litert.OpResolverType.BUILTIN_REF,
    "xnnpack": litert.OpResolverType.AUTO,
    "builtin": litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


def run(content: bytes, rounding: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs (n, *shape of the tensor) of n samples, state kept between them."""
    if rounding == "micro":
        return _micro(content, inputs)
    net: Any = litert.Interpreter(
        model_content=content, experimental_op_resolver_type=_RESOLVERS[rounding], num_threads=1
    )
    net.allocate_tensors()
    entries, exits = net.get_input_details(), net.get_output_details()
    found = []
    for sample in range(len(inputs[0])):
        for entry, x in zip(entries, inputs, strict=True):
            net.set_tensor(entry["index"], x[sample].reshape(entry["shape"]))
        net.invoke()
        found.append([net.get_tensor(exit["index"]).copy() for exit in exits])
    return [np.stack(one) for one in zip(*found, strict=True)]


def compute(net: Interpreter, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The same in exact integers: outputs (n, ...), one sample after the other if it has state."""
    if not net.keeps_state:
        found = net(*inputs)
        return found if isinstance(found, list) else [found]
    rows = [net(*(x[sample : sample + 1] for x in inputs)) for sample in range(len(inputs[0]))]
    rows = [row if isinstance(row, list) else [row] for row in rows]
    return [np.concatenate(one) for one in zip(*rows, strict=True)]


def _micro(content: bytes, inputs: list[np.ndarray]) -> list[np.ndarray]:
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    net = runtime.Interpreter.from_bytes(content, arena_size=8 << 20)
    outputs = len(_exits(content))
    found = []
    for sample in range(len(inputs[0])):
        for place, x in enumerate(inputs):
            shape = tuple(net.get_input_details(place)["shape"])
            net.set_input(np.ascontiguousarray(x[sample].reshape(shape)), place)
        net.invoke()
        found.append([np.array(net.get_output(place)) for place in range(outputs)])
    return [np.stack(one) for one in zip(*found, strict=True)]


def _exits(content: bytes) -> tuple[int, ...]:
    from ec2t_tf.export import tflite

    return tflite.read(content).outputs
