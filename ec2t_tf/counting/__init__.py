"""What a net costs: the score of a challenge, and a plain count beside it.

Both take any built Sequential or functional model of Keras 3 or tf_keras, one made by
`ec2t_tf.apply` included.
"""

from ec2t_tf.counting.micronet import (
    LayerScore,
    MicroNetScore,
    micronet_score,
    ternary_formats,
    tree_adder_bits,
)
from ec2t_tf.counting.operations import counts_as_ternary
from ec2t_tf.counting.plain import (
    ENERGY_TABLES,
    EnergyTable,
    LayerCount,
    PlainCount,
    plain_count,
)

__all__ = [
    "ENERGY_TABLES",
    "EnergyTable",
    "LayerCount",
    "LayerScore",
    "MicroNetScore",
    "PlainCount",
    "counts_as_ternary",
    "micronet_score",
    "plain_count",
    "ternary_formats",
    "tree_adder_bits",
]
