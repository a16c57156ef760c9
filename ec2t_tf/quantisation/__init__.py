"""Quantize-aware training of Keras 3 models, on every backend.

What a trained model consists of, for who reads it (lowering, reports):

- `TernaryModel`: an ordinary functional model; `graph.read` gives its calls one after the other.
- `Quantised` wraps each layer with a kernel: `layer`, `codes_and_scale()`, `scale_axis`, `method`.
- `FakeQuant` stands where an operator of the file rounds: `limits`, `kind`. Between two of them
  there is what one operator computes (`fusion`).
- `BatchNormalization` is Keras' with a momentum that grows.
"""

from ec2t_tf.quantisation import calls, strip, summary
from ec2t_tf.quantisation.fake_quant import FakeQuant
from ec2t_tf.quantisation.model import TernaryModel
from ec2t_tf.quantisation.normalisation import BatchNormalization
from ec2t_tf.quantisation.quantised import (
    Quantised,
    connect,
    initialise,
    quantised_layers,
    ternary_layers,
)

__all__ = [
    "BatchNormalization",
    "FakeQuant",
    "Quantised",
    "TernaryModel",
    "calls",
    "connect",
    "initialise",
    "quantised_layers",
    "strip",
    "summary",
    "ternary_layers",
]
