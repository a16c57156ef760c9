"""Sparse ternary networks for Keras.

>>> model = ec2t_tf.apply(float_model)  # then compile and fit as usual
"""

from ec2t_tf import methods
from ec2t_tf.apply import UnsupportedLayerError, apply
from ec2t_tf.policy import ApplyReport, Policy

__all__ = ["ApplyReport", "Policy", "UnsupportedLayerError", "apply", "methods"]
