"""Random normalisations of our writer, each a net by itself."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import layers

from ec2t_tf.export.graph import Graph
from ec2t_tf.export.lower.net import Net
from ec2t_tf.export.lower.pending import RULES
from ec2t_tf.export.tflite import read, write
from tests.mcu import many_nets

KINDS = ("layer", "layer of axes", "group", "rms", "unit")


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A net of one normalisation, and what it is."""

    about: str
    graph: Graph


def _layer(random: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Any:
    """One with random weights, or without."""
    epsilon = float(10.0 ** random.uniform(-6, -2))
    gamma, beta = (bool(random.integers(0, 2)) for _ in range(2))
    axes: Any = -1
    if kind == "layer of axes":
        count = int(random.integers(1, len(shape)))
        axes = sorted(int(a) for a in random.choice(np.arange(1, len(shape)), count, replace=False))
    if kind == "group":
        groups = [g for g in (1, 2, 3, 4, -1) if g < 0 or shape[-1] % g == 0]
        made = layers.GroupNormalization(
            int(random.choice(groups)), epsilon=epsilon, center=beta, scale=gamma
        )
    elif kind == "rms":
        made = layers.RMSNormalization(axis=axes, epsilon=epsilon)
    elif kind == "unit":
        made = layers.UnitNormalization(axis=axes)
    else:
        made = layers.LayerNormalization(axes, epsilon=epsilon, center=beta, scale=gamma)
    made.build(shape)
    for weight in made.weights:
        spread = float(random.choice([0.01, 0.3, 2.0]))
        start = 0.0 if "beta" in weight.path else 1.0
        weight.assign(random.normal(start, spread, weight.shape))
    return made


def _shape(random: np.random.Generator, kind: str) -> tuple[int, ...]:
    rank = int(random.integers(3 if kind == "group" else 2, 5))
    sizes = [int(n) for n in random.choice([1, 2, 3, 5, 8, 12, 17], rank - 1)]
    if random.integers(0, 8) == 0:
        sizes[-1] = int(random.integers(100, 300))
    batch = 1 if random.integers(0, 4) else int(random.integers(2, 4))
    return (batch, *sizes)


def _range(values: npt.NDArray[Any]) -> tuple[float, int]:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = float(np.float32(max(high - low, 1e-2) / 255))
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))


def draw(seed: int) -> Drawn:
    """Input and output on random scales; the output's covers most values."""
    random = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    shape = _shape(random, kind)
    layer = _layer(random, kind, shape)
    net = Net()
    scale, zero = float(np.float32(2.0 ** random.uniform(-9, 2))), int(random.integers(-128, 128))
    x = net.int8("x", shape, scale, zero)
    net.graph.inputs = (x,)
    samples = (random.integers(-128, 128, (20, *shape)) - zero) * scale
    real = np.asarray(layer(samples.reshape(-1, *shape[1:]).astype(np.float32)))
    call = types.SimpleNamespace(key="norm", name="norm", operation=layer, shape=shape)
    pending: Any = RULES[type(layer).__name__](net, call, x)
    out_scale, out_zero = _range(real * float(random.choice([0.5, 1.0, 1.5])))
    out = net.with_range(pending, out_scale, out_zero, "norm")
    net.graph.outputs = (out,)
    if seed % 8 == 7:  # a table that is no formula's
        (table,) = [t for t in net.graph.tensors if t.name == "norm/table"]
        assert table.data is not None
        table.data = table.data - random.integers(0, 3, table.shape).astype(np.int16)
    return Drawn(f"{seed}: {kind} {shape} {layer.get_config()}", net.graph)


def behind(model: bytes, seed: int) -> bytes:
    """A file with a random normalisation of its first output in that place, where one fits."""
    random = np.random.default_rng(seed)
    graph = read(model)
    index = graph.outputs[0]
    tensor = graph.tensors[index]
    kind = str(random.choice(KINDS))
    shape = tensor.shape
    if tensor.dtype != "int8" or not (3 if kind == "group" else 2) <= len(shape) <= 4:
        return model
    net = Net()
    net.graph = graph
    call = types.SimpleNamespace(
        key="norm", name="norm", operation=_layer(random, kind, shape), shape=shape
    )
    pending: Any = RULES[type(call.operation).__name__](net, call, index)
    reach = 1.0 if kind == "unit" else 3.0
    out = net.with_range(pending, *_range(np.array([-reach, reach])), "norm")
    graph.outputs = (out, *graph.outputs[1:])
    return write(graph)


def values_of(graph: Graph, seed: int, runs: int = 6) -> many_nets.Codes:
    """Random codes: extreme ones, ones close to each other, rows of one value."""
    random = np.random.default_rng(seed)
    shape = graph.tensors[graph.inputs[0]].shape
    values = random.integers(-128, 128, (runs, *shape))
    values[0], values[1] = -128, np.where(random.integers(0, 2, shape), 127, -128)
    values[2] = random.integers(-3, 4, shape)
    values[3, ..., 0] = 127
    return values.astype(np.int8).reshape(runs, -1)
