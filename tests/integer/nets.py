"""Random nets of one operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ec2t_tf.export.graph import Graph

Make = Callable[[np.random.Generator], Graph]
CASES: dict[str, Make] = {}
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")


def case(name: str) -> Callable[[Make], Make]:
    def enter(make: Make) -> Make:
        CASES[name] = make
        return make

    return enter


class Net:
    """A graph that grows by one operator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.graph = rng, Graph()

    def scale(self, low: float = -8, high: float = 0) -> float:
        """2^low to 2^high; often a power of two, which has ties."""
        power = self.rng.uniform(low, high)
        whole = self.rng.integers(4) == 0
        return float(np.float32(2.0 ** (np.rint(power) if whole else power)))

    def zero(self, dtype: str = "int8") -> int:
        info = np.iinfo(dtype)
        return 0 if dtype == "int16" else int(self.rng.integers(info.min, info.max + 1))

    def size(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def entry(self, shape: Any, dtype: str = "int8", **quantisation: Any) -> int:
        """An input of the net; batch 1 is added."""
        index = self.tensor((1, *shape), dtype, **quantisation)
        self.graph.inputs += (index,)
        return index

    def tensor(
        self,
        shape: Any,
        dtype: str = "int8",
        scale: float | None = None,
        zero: int | None = None,
        data: np.ndarray | None = None,
    ) -> int:
        quantised = dtype in ("int8", "uint8", "int16")
        return self.graph.add(
            f"t{len(self.graph.tensors)}",
            shape,
            dtype,
            scale=() if not quantised else self.scale() if scale is None else scale,
            zero_point=() if not quantised else self.zero(dtype) if zero is None else zero,
            data=data,
        )

    def whole(self, values: Any, dtype: str = "int32") -> int:
        """A constant without scale."""
        data = np.asarray(values, dtype)
        return self.graph.add(f"t{len(self.graph.tensors)}", data.shape, dtype, data=data)

    def codes(self, shape: Any, dtype: str = "int8", **quantisation: Any) -> int:
        """A constant with random codes."""
        info = np.iinfo(dtype)
        data = self.rng.integers(info.min, info.max + 1, shape).astype(dtype)
        return self.tensor(shape, dtype, data=data, **quantisation)

    def scale_of(self, index: int) -> float:
        return float(self.graph.tensors[index].scale[0])

    def done(self, kind: str, inputs: Any, output: int | tuple[int, ...], **options: Any) -> Graph:
        outputs = output if isinstance(output, tuple) else (output,)
        self.graph.call(kind, inputs, outputs[0], **options)
        self.graph.operators[-1].outputs = outputs
        self.graph.outputs = outputs
        return self.graph

    def kernel(self, shape: Any, entry: int, axis: int, channels: int) -> tuple[int, int]:
        """A kernel, one scale or one a channel, and its bias."""
        rng = self.rng
        count = channels if rng.integers(2) else 1
        scale = np.float32(2.0) ** rng.uniform(-9, -6, count).astype(np.float32)
        kernel = self.graph.add(
            "kernel",
            shape,
            "int8",
            scale=scale,
            zero_point=np.zeros(count, np.int64),
            axis=axis,
            data=rng.integers(-127, 128, shape).astype(np.int8),
        )
        bias = self.graph.add(
            "bias",
            (channels,),
            "int32",
            scale=np.float32(self.scale_of(entry)) * scale,
            zero_point=np.zeros(count, np.int64),
            data=rng.integers(-2000, 2000, channels).astype(np.int32),
        )
        return kernel, bias

    def sum_scale(self, entry: int, kernel: int, products: int) -> float:
        """A scale that lets sums of so many random products use the codes."""
        mean = float(self.graph.tensors[kernel].scale.mean())
        return self.scale_of(entry) * mean * 40 * products**0.5 * self.scale(-1, 2)


def inputs_of(graph: Graph, rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Random values of every input, (count, *shape[1:])."""
    found = []
    for index in graph.inputs:
        tensor = graph.tensors[index]
        shape = (count, *(tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape))
        if tensor.dtype == "float32":
            out = graph.tensors[graph.operators[0].outputs[0]]
            steps = out.scale[0] * rng.integers(-300, 301, shape) if out.scale.size else 1.0
            values = steps + rng.choice([0.0, 0.5, 0.25], shape) * (
                out.scale[0] if out.scale.size else 1
            )
            found.append(np.asarray(values, np.float32))
        else:
            info = np.iinfo(tensor.dtype)
            most = min(info.max, (1 << 20) - 1)  # sums of two are exact in float32
            found.append(
                rng.integers(max(info.min, -most - 1), most + 1, shape).astype(tensor.dtype)
            )
    return found
