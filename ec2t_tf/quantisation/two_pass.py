"""Training in which a method's own variables step first, then all others on a new gradient.

TGA's authors train so: thresholds, then weights, on the same batch. `TernaryModel` does it in `fit`
for methods that ask for it (`TernaryMethod.updates_twice`), on every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras

from ec2t_tf.quantisation.quantised import Quantised, ternary_layers


def twice_updated(model: keras.Model) -> list[Quantised]:
    """The layers whose method asks for it."""
    return [x for x in ternary_layers(model) if x.method is not None and x.method.updates_twice]


def train_step(model: keras.Model, step: Callable[..., Any], arguments: tuple) -> Any:
    """What `step`, the model's `train_step` of Keras, returns for one batch in two passes.

    The optimiser counts one step. Statistics (batch normalisation, activation ranges) and metrics
    see the batch once, in the second pass.
    """
    own = [v for layer in twice_updated(model) for v in layer.state.values()]
    ours = {id(variable) for variable in own}
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    others = [v for v in model.trainable_variables if id(v) not in ours]
    try:
        model.optimizer = _Subset(model, optimizer, own, counts=False)
        arguments = _first_pass(model, step, arguments, ours)
        model.optimizer = _Subset(model, optimizer, others, counts=True)
        return step(*arguments)
    finally:
        model.optimizer = optimizer


def _first_pass(
    model: keras.Model, step: Callable[..., Any], arguments: tuple, ours: set[int]
) -> tuple:
    """Runs it; the arguments of the second one."""
    if keras.backend.backend() == "jax":
        state, data = arguments
        _, new = step(*arguments)
        statistics = [
            after if id(variable) in ours else before
            for variable, before, after in zip(
                model.non_trainable_variables, state[1], new[1], strict=True
            )
        ]
        return (new[0], statistics, new[2], state[3]), data
    kept = [v for v in model.non_trainable_variables if id(v) not in ours]
    kept += model.metrics_variables
    before = [keras.ops.copy(keras.ops.convert_to_tensor(v)) for v in kept]
    step(*arguments)
    for variable, value in zip(kept, before, strict=True):
        variable.assign(value)
    return arguments


class _Subset:
    """The optimiser, for some of the variables that it was built for."""

    def __init__(
        self, model: keras.Model, optimizer: Any, variables: Iterable[Any], *, counts: bool
    ) -> None:
        self._model, self._optimizer, self._counts = model, optimizer, counts
        self._chosen = {id(variable) for variable in variables}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optimizer, name)

    def apply(self, gradients: Iterable[Any], variables: Iterable[Any]) -> None:
        self.apply_gradients(zip(gradients, variables, strict=True))

    def apply_gradients(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        chosen = [(g, v) for g, v in pairs if id(v) in self._chosen]
        self._optimizer.apply([g for g, _ in chosen], [v for _, v in chosen])
        if not self._counts:
            self._optimizer.iterations.assign_sub(1)

    def stateless_apply(
        self, optimizer_values: list[Any], gradients: list[Any], values: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        trained, own = self._model.trainable_variables, self._optimizer.variables
        mapping = [*zip(trained, values, strict=True), *zip(own, optimizer_values, strict=True)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            self.apply(gradients, trained)
        return (
            [scope.get_current_value(variable) for variable in trained],
            [scope.get_current_value(variable) for variable in own],
        )
