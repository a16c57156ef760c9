"""Small native models around one layer, their files in LiteRT, and the exact integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ec2t_tf.export.graph import Graph
from ec2t_tf.export.integer import Interpreter
from ec2t_tf.export.lower import lower
from ec2t_tf.export.tflite import write
from ec2t_tf.quantisation.fake_quant import FakeQuant
from ec2t_tf.quantisation.quantised import Quantised

ROUNDINGS = ("reference", "xnnpack")


def in_litert(content: bytes, inputs: dict[str, np.ndarray], rounding: str) -> list[np.ndarray]:
    """Outputs (n, ...) of a file, one input after the other, state reset between."""
    from ai_edge_litert import interpreter as litert

    kind = litert.OpResolverType.BUILTIN_REF
    if rounding == "xnnpack":
        kind = litert.OpResolverType.AUTO
    runtime = litert.Interpreter(
        model_content=content, experimental_op_resolver_type=kind, num_threads=1
    )
    runtime.allocate_tensors()
    entries = {entry["name"]: entry["index"] for entry in runtime.get_input_details()}
    ends = [end["index"] for end in runtime.get_output_details()]
    found = []
    for number in range(len(next(iter(inputs.values())))):
        runtime.reset_all_variables()
        for name, values in inputs.items():
            runtime.set_tensor(entries[name], values[number : number + 1])
        runtime.invoke()
        found.append([runtime.get_tensor(index)[0].copy() for index in ends])
    return [np.stack(values) for values in zip(*found, strict=True)]


def output_steps(graph: Graph) -> list[float]:
    """Size of one code of each output."""
    makers = {operator.outputs[0]: operator for operator in graph.operators}
    return [float(graph.tensors[makers[index].inputs[0]].scale[0]) for index in graph.outputs]


def differences(
    model: keras.Model, inputs: dict[str, np.ndarray], *, graph: Graph | None = None
) -> dict[str, tuple[float, float]]:
    """Largest differences in steps, for each rounding: the file in LiteRT against the exact
    integers, and against the fake-quantised Keras model."""
    graph = lower(model) if graph is None else graph
    content, steps = write(graph), output_steps(graph)
    names = [graph.tensors[index].name for index in graph.inputs]
    given = [inputs[name] for name in names]
    expected = model(keras.tree.pack_sequence_as(model.input, given), training=False)
    flat = [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(expected)]
    found = {}
    for rounding in ROUNDINGS:
        file = in_litert(content, inputs, rounding)
        exact = Interpreter(graph, rounding=rounding)(*given)
        exact = exact if isinstance(exact, list) else [exact]
        found[rounding] = (
            max(_steps(*pair) for pair in zip(exact, file, steps, strict=True)),
            max(_steps(*pair) for pair in zip(flat, file, steps, strict=True)),
        )
    return found


def _steps(a: np.ndarray, b: np.ndarray, step: float) -> float:
    return float(np.rint(np.abs(np.asarray(a) - b) / step).max())


class Around:
    """A model of one layer between fake quantisations, with ranges as its data need."""

    def __init__(self) -> None:
        self.count = 0

    def rounded(self, x: Any, kind: Any = "moving", limits: Any = None) -> Any:
        self.count += 1
        return FakeQuant(kind, limits, name=f"range_{self.count}")(x)

    def kernel(self, layer: keras.layers.Layer) -> Callable[[Any], Any]:
        return Quantised(layer, name=f"{layer.name}_quantised")

    def model(
        self, shape: tuple[int, ...], make: Callable[[Around, Any], Any], data: np.ndarray
    ) -> keras.Model:
        source = keras.Input(shape, name="x")
        made = make(self, self.rounded(source, "widest"))
        model = keras.Model(source, self.rounded(made))
        random = np.random.default_rng(1)
        for layer in model.layers:
            for variable in getattr(layer, "layer", layer).weights:
                if variable.name in ("bias", "beta", "gamma", "moving_mean"):
                    variable.assign(random.normal(0, 0.5, variable.shape))
        for layer in model.layers:
            if isinstance(layer, FakeQuant) and layer.kind != "fixed":
                seen = keras.ops.convert_to_numpy(keras.Model(source, layer.input)(data))
                layer.smallest.assign(min(seen.min(), 0.0))
                layer.largest.assign(max(seen.max(), 0.0))
        return model
