"""What LiteRT requires of a file and does not check."""

from __future__ import annotations

from ..graph import Graph


def require_biases(graph: Graph) -> None:
    """Raises for a convolution in int8 without a bias, which LiteRT's kernels read all the same.

    CONV_2D is refused by LiteRT itself; DEPTHWISE_CONV_2D ends the process (LiteRT 2.3.0).

    Raises:
      ValueError: naming the operator.
    """
    for number, operator in enumerate(graph.operators):
        if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            continue
        has_bias = len(operator.inputs) > 2 and operator.inputs[2] >= 0
        if not has_bias and graph.tensors[operator.inputs[0]].dtype == "int8":
            raise ValueError(
                "LiteRT requires a convolution in int8 to have a bias. Received: operator "
                f"{number} ({operator.kind}) without one. Export the net with biases, of zeros "
                "say; C for microcontrollers and exact integers do without."
            )
