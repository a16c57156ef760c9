"""Between which layers nothing is rounded."""

from __future__ import annotations

from collections.abc import Callable, Collection

import tensorflow as tf
import tf_keras
from tf_keras import layers

from ec2t_tf.tfmot import graph
from ec2t_tf.tfmot.quantize_config import (
    TERNARY_KERNELS,
)
from ec2t_tf.tfmot.registry import SAME_RANGE, TernaryRegistry, moves, role_of


class Fusion:
    """Between which layers no fake quantisation may be: the converter makes one operator of them.

    Attributes:
      without_activation: layers whose weights are quantised, but neither their output nor what
        they compute before a batch normalisation or an activation.
      without_output: layers whose weights are quantised, but not their output.
      passed_on: layers of which nothing is quantised.
      known_ranges: layers whose operator prescribes the range of its output: the role of each in
        `KnownRange`.
    """

    def __init__(self, model: tf_keras.Model, untouched: Collection[str] = ()) -> None:
        self.without_activation: set[layers.Layer] = set()
        self.without_output: set[layers.Layer] = set()
        self.passed_on: set[layers.Layer] = set()
        self.known_ranges: dict[layers.Layer, str] = {}
        self._registry = TernaryRegistry()
        self._followers: dict[layers.Layer, list[list[layers.Layer | None]]] = {}
        consumers = graph.consumers(model)
        for node in graph.nodes(model):
            uses = [consumers.get(id(tensor), []) for tensor in tf.nest.flatten(node.outputs)]
            self._followers.setdefault(node.layer, []).extend(uses)
        # A layer that stays float ends every fusion.
        quantised = [layer for layer in self._followers if layer.name not in untouched]
        self._quantised = set(quantised)
        self._any_concatenation = any(type(layer) is layers.Concatenate for layer in quantised)
        for layer in quantised:
            self._decide(layer)
            role = self._role(layer)
            if role is not None:
                self.known_ranges[layer] = role

    def _decide(self, layer: layers.Layer) -> None:
        kind = type(layer)
        activation = getattr(getattr(layer, "activation", None), "__name__", "")
        if kind in TERNARY_KERNELS:
            fused = [_is_relu] if kind is layers.Dense else [_is_relu, _is_normalisation]
            follows = kind is not layers.Conv2DTranspose and self._only_before(layer, *fused)
            if activation == "linear" and follows:
                self.without_activation.add(layer)
            elif activation in ("linear", "relu") and self._only_concatenated(layer):
                self.without_output.add(layer)
        else:
            before_relu = kind in (layers.Add, layers.BatchNormalization)
            before_relu = before_relu and self._only_before(layer, _is_relu)
            if before_relu or (self._has_output_range(layer) and self._only_concatenated(layer)):
                self.passed_on.add(layer)

    def _role(self, layer: layers.Layer) -> str | None:
        """In `KnownRange`; None for a layer whose output has a range that is learnt, or none."""
        if moves(layer):
            return "move" if self._any_concatenation else None
        if type(layer) in SAME_RANGE:
            return role_of(layer)
        return None

    def _has_output_range(self, layer: layers.Layer) -> bool:
        """Whether the layer's operator gives its output a range of its own."""
        if self._role(layer) is not None or not self._registry.supports(layer):
            return False
        return bool(self._registry.get_quantize_config(layer).get_output_quantizers(layer))

    def _only_concatenated(self, layer: layers.Layer) -> bool:
        """Whether each output of the layer only ends in a concatenation, which gives it its range.

        Its values may be moved before. Rounded here, they would be rounded twice: the converter
        gives the operator the range of the concatenation.
        """
        return self._only_before(layer, self._concatenates)

    def _concatenates(self, layer: layers.Layer) -> bool:
        return type(layer) is layers.Concatenate or (
            moves(layer) and self._only_concatenated(layer)
        )

    def _only_before(self, layer: layers.Layer, *kinds: Callable[[layers.Layer], bool]) -> bool:
        """Whether each output of the layer has one use, all of them by layers of one kind."""
        uses = self._followers[layer]
        if any(len(use) != 1 or use[0] not in self._quantised for use in uses):
            return False
        return any(all(kind(use[0]) for use in uses) for kind in kinds)


def _is_normalisation(layer: layers.Layer) -> bool:
    return type(layer) is layers.BatchNormalization


def _is_relu(layer: layers.Layer) -> bool:
    is_activation = isinstance(layer, layers.Activation)
    return type(layer) is layers.ReLU or (
        is_activation and getattr(layer.activation, "__name__", "") == "relu"
    )
