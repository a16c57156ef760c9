"""`apply` for a Keras 3 model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np

from ec2t_tf.methods import plain
from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.policy import ApplyReport, Policy, Treatment
from ec2t_tf.quantisation.convert import quantise
from ec2t_tf.quantisation.decide import decide
from ec2t_tf.quantisation.graph import read
from ec2t_tf.quantisation.model import TernaryModel
from ec2t_tf.quantisation.quantised import Quantised
from ec2t_tf.quantisation.split import split


def prepare(
    model: keras.Model, method: TernaryMethod, policy: Policy
) -> tuple[keras.Model, ApplyReport, Mapping[str, TernaryMethod]]:
    """A copy in which each layer is one operator, what happens to each layer, and the methods."""
    check(model)
    late = methods_of.late_pruning(method)
    copy, origin = split(model)
    report = decide(read(copy), policy, origin, prune_int8=late is not None)
    return copy, report, {}
