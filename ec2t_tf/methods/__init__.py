"""Ternary methods, one file a method, under the interface of `base.py`.

A new one is its line of import here, and in its file everything else (docs/methods.md). `as` makes
a name public.
"""

from __future__ import annotations

from ec2t_tf.methods.abs_mean import AbsMean as AbsMean
from ec2t_tf.methods.base import Assignment as Assignment
from ec2t_tf.methods.base import TernaryMethod as TernaryMethod
from ec2t_tf.methods.ec2t import EC2T as EC2T
from ec2t_tf.methods.ecp import ECP as ECP
from ec2t_tf.methods.generalized_ternary_connect import (
    GeneralizedTernaryConnect as GeneralizedTernaryConnect,
)
from ec2t_tf.methods.sparsity_regularized import SparsityRegularized as SparsityRegularized
from ec2t_tf.methods.tga import TGA as TGA
from ec2t_tf.methods.ttq import TTQ as TTQ
from ec2t_tf.methods.twn import TWN as TWN

# By their names on the command line and in saved models.
METHODS: dict[str, type[TernaryMethod]] = {
    kind.name: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, TernaryMethod) and kind is not TernaryMethod
}


def get(method: str | TernaryMethod) -> TernaryMethod:
    """A method by name (with its default options), or the object itself.

    Raises:
      ValueError: the name is unknown.
      TypeError: neither a name nor a method.
    """
    if isinstance(method, TernaryMethod):
        return method
    if not isinstance(method, str):
        raise TypeError(
            "method must be a name or a TernaryMethod object. "
            f"Received: method={method!r} of type {type(method).__name__}."
        )
    if method not in METHODS:
        raise ValueError(f"method must be one of {sorted(METHODS)}. Received: method='{method}'.")
    return METHODS[method]()


def serialize(method: TernaryMethod) -> dict:
    return {"name": method.name, "config": method.get_config()}


def deserialize(config: dict) -> TernaryMethod:
    if config.get("name") not in METHODS:
        raise ValueError(
            f"A saved method must be one of {sorted(METHODS)}. Received: {config.get('name')!r}."
        )
    options = dict(config["config"])
    if config["name"] in ("ec2t", "ecp"):
        options.setdefault("start", "published")  # what v0.1.0, which has no such option, did
    return METHODS[config["name"]](**options)
