"""Sparse ternary networks for Keras.

>>> model = ec2t_tf.apply(float_model)  # then compile and fit as usual
"""

from ec2t_tf import callbacks, methods
from ec2t_tf.apply import UnsupportedLayerError, apply
from ec2t_tf.policy import ApplyReport, Policy, Rule, Treatment
from ec2t_tf.saving import load_model
from ec2t_tf.strip import strip
from ec2t_tf.summary import LayerSummary, Summary, summary

__all__ = [
    "ApplyReport",
    "LayerSummary",
    "Policy",
    "Rule",
    "Summary",
    "Treatment",
    "UnsupportedLayerError",
    "apply",
    "callbacks",
    "load_model",
    "methods",
    "strip",
    "summary",
]
