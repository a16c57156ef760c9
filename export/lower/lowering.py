"""A trained Keras 3 model to the integer graph: folded, fused, on the scales of its training."""

from __future__ import annotations

from typing import Any

import keras

from ec2t_tf.export.graph import Graph, Signature
from ec2t_tf.quantisation import graph as training_graph
from ec2t_tf.quantisation.opened import closed_by

from . import rules as _rules  # noqa: F401  (fills RULES)
from .calls import Call, calls_of, kind_of, shape_of
from .folding import folded
from .net import Net
from .pending import RULES, NoRuleError, Pending, TensorIndex, Value
from .rules.activations import table
from .rules.movement import moved
from .rules.ranges import knows_ranges

Values = dict[training_graph.Value, Value]


def lower(model: keras.Model, *, io_dtype: str = "float32", dry: bool = False) -> Graph:
    """The net that a trained model is, as integer operators.

    Args:
      model: what `ec2t_tf.apply` returned for a Keras 3 model, trained.
      io_dtype: "float32" (the net quantises its inputs and dequantises its outputs) or "int8".
      dry: only whether it can be done: weights are zeros, unknown ranges anything.

    Raises:
      NoRuleError: naming a layer that no rule can write.
      ValueError: an input has no fixed size, or the model has seen no batch of training.
    """
    network = training_graph.read(model, batch=1)
    net = Net(dry=dry, trained=knows_ranges(call.operation for call in network.calls))
    values: Values = {}
    entries = keras.tree.flatten(network.inputs)
    for name, value in zip(network.input_names, entries, strict=True):
        values[value] = net.graph.add(name, shape_of(value), value.dtype)
    net.graph.inputs = tuple(int(net.settled(values[value])) for value in entries)
    for call in calls_of(network):
        values.update(zip(call.results, _made(net, call, values), strict=True))
    outputs = [net.settled(values[value]) for value in keras.tree.flatten(network.outputs)]
    if io_dtype == "float32":
        outputs = [net.real(index) for index in outputs]
    net.graph.outputs = tuple(outputs)
    if io_dtype == "int8":
        _without_quantise(net.graph)
    folded(net.graph)
    graph = net.pruned()
    names = _output_names(network)
    for name, index in zip(names, graph.outputs, strict=True):
        graph.tensors[index].name = name
    graph.signatures = [_signature(graph, network.input_names, names)]
    return graph


def _made(net: Net, call: Call, values: Values) -> tuple[Value, ...]:
    """What the rule of a call makes of it."""
    given: list[Any] = []
    for x in call.given:
        if isinstance(x, training_graph.Value):
            x = values[x]
            x = x if isinstance(x, Pending) else TensorIndex(x)
        given.append(x)
    try:
        made = _rule_of(call)(net, call, *given)
    except NoRuleError as error:
        error.layer = error.layer or call.name
        raise
    made = made if isinstance(made, tuple) else (made,)
    shapes = [tuple(net.shape(value)) for value in made]
    if shapes != list(call.shapes):
        raise NoRuleError(
            f"The rule of '{call.name}' ({call.kind}) must give the shapes {list(call.shapes)}. "
            f"Received: {shapes}."
        )
    return made


# What to do about layers and operations of Keras that no rule writes.
INSTEAD = {
    **dict.fromkeys(
        ("MelSpectrogram", "STFTSpectrogram", "STFT", "TextVectorization", "StringLookup"),
        "Compute it in front of the model,",
    ),
    **dict.fromkeys(
        ("CategoryEncoding", "IntegerLookup", "Hashing", "Discretization", "OneHot", "MultiHot"),
        "Compute it in front of the model, or use an Embedding,",
    ),
}


def _rule_of(call: Call) -> Any:
    operation = call.operation
    if call.kind in RULES:
        return RULES[call.kind]
    if getattr(operation, "elementwise", False):
        return lambda net, call, given, *_: table(net, call.key, given, operation)
    if getattr(operation, "moves_values_only", False):
        return lambda net, call, given, *_: moved(net, call, given)
    lacks = closed_by(operation, call.arguments, call.options)
    because = f", as it is here with {' and '.join(lacks)}" if lacks else ""
    advice = INSTEAD.get(call.kind, "Replace it by what has one (docs/layers.md),")
    if "." in call.kind:  # of the user's
        advice = (
            "Replace it, write it in keras.ops, give its class elementwise = True or "
            "moves_values_only = True if that is so,"
        )
    raise NoRuleError(
        f"'{call.name}' ({call.kind}) has no rule that writes it{because}. {advice} "
        "or register a rule for it with ec2t_tf.export.lower.rule."
    )


def _output_names(network: training_graph.Graph) -> list[str]:
    """Of a net's outputs, the layers that make them; with a number where one makes two."""
    names: list[str] = []
    for value in keras.tree.flatten(network.outputs):
        while value.maker >= 0:
            call = network.calls[value.maker]
            if kind_of(call.operation) != "FakeQuant":
                break
            value = call.inputs[0]
        name = call.name if value.maker >= 0 else network.input_names[value.index]
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def _without_quantise(graph: Graph) -> None:
    """Inputs that are only quantised become int8 themselves."""
    inputs = list(graph.inputs)
    for place, index in enumerate(inputs):
        users = [one for one in graph.operators if index in one.inputs]
        if len(users) == 1 and users[0].kind == "QUANTIZE":
            (inputs[place],) = users[0].outputs
            graph.tensors[inputs[place]].name = graph.tensors[index].name
            graph.operators.remove(users[0])
    graph.inputs = tuple(inputs)


def _signature(graph: Graph, inputs: tuple[str, ...], outputs: list[str]) -> Signature:
    return Signature(
        "serving_default",
        dict(zip(inputs, graph.inputs, strict=True)),
        dict(zip(outputs, graph.outputs, strict=True)),
    )
