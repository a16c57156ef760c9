"""Which layers are first and last."""

from __future__ import annotations

from ec2t_tf.ends import Step, ends


def net(*steps: tuple[str, str, str], outputs: str) -> dict[str, str]:
    """Steps as (name, inputs, output); capitals have a kernel."""
    made = [Step(n, n[0].isupper(), list(i), [o]) for n, i, o in steps]
    return ends(made, list(outputs))


def test_a_chain() -> None:
    chain = [("A", "x", "a"), ("relu", "a", "b"), ("B", "b", "c"), ("C", "c", "d")]
    assert net(*chain, outputs="d") == {"A": "first", "C": "last"}
    assert net(*chain, ("softmax", "d", "e"), outputs="e") == {"A": "first", "C": "last"}
    assert net(chain[0], outputs="a") == {"A": "first"}
    assert net(("relu", "x", "a"), outputs="a") == {}


def test_each_head_and_each_input() -> None:
    trunk = [("A", "x", "a"), ("B", "y", "b"), ("cat", "ab", "c"), ("C", "c", "d")]
    heads = [("D", "d", "e"), ("E", "d", "f"), ("F", "f", "g")]
    found = {"A": "first", "B": "first", "D": "last", "F": "last"}
    assert net(*trunk, *heads, outputs="eg") == found
    joined = net(*trunk, *heads, ("cat2", "eg", "h"), outputs="h")
    assert joined == {"A": "first", "B": "first", "F": "last"}
    # An output that others read on is an output all the same.
    assert net(*trunk, *heads, outputs="deg") == {**found, "C": "last"}


def test_dense_blocks_end_once() -> None:
    """Concatenations of concatenations, as in a DenseNet without its head."""
    steps = [("A", "x", "a"), ("cat1", "xa", "b"), ("B", "b", "c"), ("cat2", "bc", "d")]
    assert net(*steps, outputs="d") == {"A": "first", "B": "last"}


def test_residual_chains_end_once() -> None:
    """x + A(x), then + B(.), then + C(.): without a head after them only C is last."""
    steps = [("A", "x", "a"), ("add1", "xa", "b"), ("B", "b", "c"), ("add2", "bc", "d")]
    steps += [("C", "d", "e"), ("add3", "de", "f"), ("pool", "f", "g")]
    assert net(*steps, outputs="g") == {"A": "first", "C": "last"}


def test_a_layer_called_twice() -> None:
    """It is first where one of its calls is."""
    steps = [("A", "x", "a"), ("B", "a", "b"), ("A", "b", "c"), ("C", "c", "d")]
    assert net(*steps, outputs="d") == {"A": "first", "C": "last"}
