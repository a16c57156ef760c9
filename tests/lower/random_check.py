"""What becomes of a random model: refused by name, or a file that is exact and near to Keras."""

from __future__ import annotations

import dataclasses
import traceback
from typing import Any

import keras
import numpy as np

import ec2t_tf
from ec2t_tf.export.graph import check as check_graph
from ec2t_tf.export.integer import Interpreter, NotExactError
from ec2t_tf.export.lower import graph_of
from ec2t_tf.export.tflite import write

from .models import trained
from .nets import ROUNDINGS, in_litert
from .random_doors import Door
from .random_models import RandomModel

EXAMPLES = 4


@dataclasses.dataclass
class Outcome:
    """Of one model.

    Attributes:
      fault: what is wrong; empty if nothing is.
      refused: the message of `apply`, if it refused; or of a file, because training diverged.
      floats: the layers that it left float by name.
      steps: of int8, the mean difference between the file and the model that trained.
      spread: of the model's outputs, in the same steps.
    """

    fault: str = ""
    refused: str = ""
    floats: tuple[str, ...] = ()
    steps: float = 0.0
    spread: float = 0.0


def outcome(seed: int, door: Door) -> Outcome:
    """Make, train, write, run: never raises."""
    keras.utils.set_random_seed(seed)
    found = Outcome()
    try:
        _follow(seed, door, found)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        found.fault = f"{type(error).__name__} in {place.name}: {str(error)[:300]}"
    return found


def _follow(seed: int, door: Door, found: Outcome) -> None:
    model = RandomModel(seed, door).make()
    # Every layer that can be ternary, or one beside the defaults.
    policy = ec2t_tf.Policy([ec2t_tf.Rule("ternary", name=None if seed % 2 else "middle")])
    try:
        made, inputs = trained(
            model, steps=1, policy=policy, optimizer=door.keras.optimizers.SGD(1e-3)
        )
    except ec2t_tf.UnsupportedLayerError as refused:
        found.refused = str(refused)
        found.fault = "" if "Received: '" in found.refused else f"no name in: {refused}"
        return
    # What was zero before the step has no range yet.
    made(keras.tree.pack_sequence_as(made.input, inputs), training=True)
    found.floats = tuple(made.ec2t_report.of("float"))
    try:
        compare(made, inputs, found)
    except ValueError as error:
        if "training diverged" not in str(error):
            raise
        found.refused = str(error)


def compare(made: Any, inputs: list[np.ndarray], found: Outcome) -> None:
    """The file of a trained model of either door beside the exact integers and the model.

    Raises:
      AssertionError: it does not compute what the integers say.
    """
    graph = graph_of(made)
    check_graph(graph)
    content = write(graph)
    given = {x.name: v[:EXAMPLES] for x, v in zip(made.inputs, inputs, strict=True)}
    ordered = [given[graph.tensors[index].name] for index in graph.inputs]
    expected = made(keras.tree.pack_sequence_as(made.input, list(given.values())), training=False)
    flat = [np.asarray(x) for x in keras.tree.flatten(expected)]
    steps = [_step(graph, index, x) for index, x in zip(graph.outputs, flat, strict=True)]
    for rounding in ROUNDINGS:
        file = in_litert(content, given, rounding)
        near = [np.abs(a - b) / step for a, b, step in zip(file, flat, steps, strict=True)]
        found.steps = max(found.steps, *(float(x.mean()) for x in near))
        found.spread = max(float(x.std() / step) for x, step in zip(flat, steps, strict=True))
        try:
            exact: Any = Interpreter(graph, rounding=rounding)(*ordered)
        except NotExactError:
            if not found.floats:
                raise
            continue
        exact = exact if isinstance(exact, list) else [exact]
        for one, other in zip(exact, file, strict=True):
            off = np.count_nonzero(np.asarray(one) != other)
            assert not off, f"{rounding}: {off} of {other.size} values differ from the integers"


def _step(graph: Any, output: int, values: np.ndarray) -> float:
    """Of int8 codes of this output; of a float one, a 255th of its range."""
    for operator in graph.operators:
        if operator.outputs[0] == output:
            scale = graph.tensors[operator.inputs[0]].scale
            if operator.kind == "DEQUANTIZE" and len(scale):
                return float(scale[0])
    return max(float(np.ptp(values)), 1e-6) / 255
