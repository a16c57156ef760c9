"""The table in docs/integer.md is the one in the code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export.graph import Graph
from ec2t_tf.export.integer import RULES, Interpreter, NotExactError
from ec2t_tf.export.integer.support import table

from .operators import CASES


def test_the_documents_have_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "integer.md").read_text()
    found = text.split("<!-- table: begin -->\n")[1].split("<!-- table: end -->")[0]
    assert found == table(), "print it with python -m ec2t_tf.export.integer.support"


def test_every_rule_is_tried_on_random_operators() -> None:
    tried = {make(np.random.default_rng(0)).operators[0].kind for make in CASES.values()}
    # Tried by the public files (variables) and by random graphs.
    elsewhere = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE", "BROADCAST_TO"}
    elsewhere |= {"FILL", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"}
    assert set(RULES) - tried == elsewhere


def test_what_is_not_known_is_refused_by_name() -> None:
    graph = Graph()
    graph.inputs = (graph.add("x", (1, 4), "int8", scale=1.0, zero_point=0),)
    output = graph.add("y", (1, 4), "int8", scale=1.0, zero_point=0)
    graph.outputs = (graph.call("COS", graph.inputs, output),)
    with pytest.raises(NotExactError, match=r"COS \(operator 0, output 'y'\)"):
        Interpreter(graph)
    with pytest.raises(ValueError, match="rounding must be among"):
        Interpreter(graph, rounding="float")


def test_inputs_must_be_the_nets() -> None:
    graph = CASES["LOGISTIC"](np.random.default_rng(0))
    net = Interpreter(graph)
    with pytest.raises(ValueError, match=r"must have the shape \(n, 300\)"):
        net(np.zeros((2, 299), np.int8))
    with pytest.raises(ValueError, match="must be int8"):
        net(np.zeros((2, 300), np.float32))
    with pytest.raises(ValueError, match="the net has 1 inputs"):
        net()
