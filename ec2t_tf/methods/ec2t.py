"""EC2T: entropy-constrained trained ternarization (Marban, Becking, Wiedemann, Samek, CVPRW 2020).

A latent weight w goes to the cluster c in {n, 0, p}, with values (-w_n, 0, +w_p), that minimises

    (w - q_c)^2 + lambda I_c,        I_c = -log2 P_c,

where P comes from the nearest-neighbour assignment of the current weights. The zero cluster is the
most probable, so lambda moves weights into it: pruning and ternarization at once. How the minimum
is found: `entropy_constraint.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from keras import ops

from ec2t_tf import schedule as schedules
from ec2t_tf.methods.base import (
    INT8_LARGEST_CODE,
    SMALLEST_CENTROID,
    AddWeight,
    Assignment,
    Member,
    Quantised,
    State,
    Tensor,
    TernaryMethod,
    int8_levels,
    straight_through,
)
from ec2t_tf.methods.centroids import deviation, on_grid, outliers_from, spread
from ec2t_tf.methods.checks import (
    optimiser_step,
    require_at_most_one,
    require_moment,
    require_one_of,
    require_order,
    require_range,
    require_total_steps,
)
from ec2t_tf.methods.entropy_constraint import (
    UNDECIDED,
    Thresholds,
    held_codes,
    straight_slope,
    thresholds,
    with_margin,
    zeroing_gains,
)
from ec2t_tf.methods.network_start import Start, measured, traced, warn_out_of_reach
from ec2t_tf.methods.own_rate import OwnRate
from ec2t_tf.schedule import Schedule, StepCounter

# Lets a small layer be constrained too: delta = (N/N_largest + sigma) / (1 + sigma).
SIZE_SIGMA = 0.05
# Half of a Gaussian lies within 0.675 standard deviations; keeps centroids from collapsing.
CENTROID_FLOOR = 0.675
# The published s, and where nothing is said, the published gamma.
DEFAULT_CENTROID_SCALE = 0.3
DEFAULT_ENTROPY_GAIN = 0.1
# Published for the pruning of the layers that stay int8 (EfficientNet-B1, docs/specification.md).
PRUNING_CENTROID_SCALE = 0.25
PRUNING_ENTROPY_GAIN = 0.15
LARGEST_HYSTERESIS = 0.99  # of a threshold: at 1 no code would ever return to zero
CENTROID_SCALES = tuple(0.05 * 1.3**step for step in range(14))  # with a target sparsity


class EC2T(TernaryMethod):
    """Entropy-constrained trained ternarization.

    The strength of the entropy constraint, gamma, comes from one of three places: `entropy_gain`
    fixes it, as the paper does; `target_sparsity` finds it at each step, one gain for the whole
    network, so that this share of the ternary weights is zero; `schedule` varies either of them
    over the optimiser's steps.

    Args:
      centroid_scale: s in (0, 2); w_n = s |min(W)|, w_p = s |max(W)| to begin with. Larger is
        sparser. None means 0.3, or with a target sparsity the s whose ternary net is nearest to the
        float net at that sparsity.
      entropy_gain: gamma in [0, 1). 0 is nearest neighbour. None means 0.1.
      target_sparsity: share of zeros in all ternary layers together, in (0, 1). Where nearest
        neighbour alone gives more zeros, gamma becomes negative: entropy is rewarded. Weights
        below a quarter of the centroid stay zero all the same.
      layer_shares: with a sparsity of the network, "free" lets its zeros move between layers as it
        trains, under one gain, like the paper's lambda; "kept" gives each layer a gain of its own,
        so that it stays at its share of zeros at the start: in long trainings the largest layer is
        else left with next to no weights.
      hysteresis: 0 to 0.99; how far beyond a threshold, as a share of it, a weight must be before
        its code changes. Weights near a threshold flip at every other step else, and what the
        network learns, batch normalisation's averages too, is of codes that are no more. 0 is the
        published assignment.
      schedule: a `tfmot.sparsity.keras.PruningSchedule`. As in tfmot the last value holds outside
        its pruning steps; before the first, EC2T is nearest neighbour.
      schedule_of: what the schedule gives, "sparsity" or "entropy_gain".
      frozen_from: optimiser step from which on the assignment does not change any more, while
        centroids and all other weights go on training; or a share of `total_steps`, between 0 and
        1. None trains the assignment to the end.
      prune_int8_from: optimiser step, or share of `total_steps`, from which on the layers that the
        policy's defaults keep int8 (the first, the last, depthwise) are pruned too: `ECP` with the
        paper's s and gamma for such layers (docs/specification.md). `frozen_from` freezes them
        with the others. None leaves them int8.
      total_steps: optimiser steps of the whole training; needed where a moment is a share.
      centroid_learning_rate: learning rate of the centroids relative to the optimiser's, under
        optimisers that do not depend on the gradient's scale (Adam and its family); its square
        under plain SGD. The reference uses 0.1.
      level_grid: number of levels of which the larger centroid of a layer is the last and the
        smaller one is one too. 7 is the grid of INT4, for `to_tflite(format="int4")`. The
        optimiser moves both freely; the network, its assignment included, computes with the
        nearest levels. None leaves the ratio free.
      start: "robust" does not let a few outliers decide for a layer: |min(W)| and |max(W)| count up
        to 6.7 spreads, in the start and in lambda's limit, and the centroid floor is 0.675 spreads,
        where the spread is 1.25 mean|W|, the standard deviation of a Gaussian. "published" takes
        the extreme weights as they are, and the floor from the standard deviation.
      reference_sign: gradient of w_n with the published code's sign, which ascends the loss
        (docs/specification.md, Gradients). For replication only.
      reference_floor: the published code's slip in the floor of P_0 (docs/specification.md,
        Probabilities). For replication only.

    Any optimiser gives the centroids their own learning rate, and no weight decay (`OwnRate`).
    """

    name = "ec2t"

    def __init__(
        self,
        *,
        centroid_scale: float | None = None,
        entropy_gain: float | None = None,
        target_sparsity: float | None = None,
        layer_shares: Literal["free", "kept"] = "free",
        hysteresis: float = 0.0,
        schedule: Schedule | dict | None = None,
        schedule_of: Literal["sparsity", "entropy_gain"] = "sparsity",
        frozen_from: float | None = None,
        prune_int8_from: float | None = None,
        total_steps: int | None = None,
        centroid_learning_rate: float = 0.1,
        level_grid: int | None = None,
        start: Literal["robust", "published"] = "robust",
        reference_sign: bool = False,
        reference_floor: bool = False,
    ) -> None:
        if centroid_scale is not None and not 0.0 < centroid_scale < 2.0:
            raise ValueError(
                "centroid_scale must lie between 0 and 2 (exclusive): at 2 no weight is nearer to "
                f"a centroid than to zero. Received: centroid_scale={centroid_scale}."
            )
        if entropy_gain is not None and not 0.0 <= entropy_gain < 1.0:
            raise ValueError(
                "entropy_gain must be at least 0 and less than 1: at 1 a layer loses all its "
                f"weights. Received: entropy_gain={entropy_gain}."
            )
        if target_sparsity is not None and not 0.0 < target_sparsity < 1.0:
            raise ValueError(
                "target_sparsity must lie between 0 and 1 (exclusive), 0.8 for 80 % zeros. "
                f"Received: target_sparsity={target_sparsity}."
            )
        sources = {
            "entropy_gain": entropy_gain,
            "target_sparsity": target_sparsity,
            "schedule": schedule,
        }
        require_at_most_one(sources, "how strong the entropy constraint is")
        if not centroid_learning_rate >= 0.0:
            raise ValueError(
                "centroid_learning_rate must be 0 (fixed centroids) or positive. "
                f"Received: centroid_learning_rate={centroid_learning_rate}."
            )
        if level_grid is not None and level_grid not in range(1, INT8_LARGEST_CODE + 1):
            raise ValueError(
                "level_grid must be a whole number from 1 to 127, 7 for INT4, or None. "
                f"Received: level_grid={level_grid}."
            )
        self.centroid_scale = centroid_scale
        self.entropy_gain = entropy_gain
        self.target_sparsity = target_sparsity
        self.layer_shares = require_one_of("layer_shares", layer_shares, ("free", "kept"))
        self.hysteresis = require_range("hysteresis", hysteresis, 0.0, LARGEST_HYSTERESIS)
        self.schedule = None if schedule is None else schedules.check(schedule)
        self.schedule_of = require_one_of("schedule_of", schedule_of, ("sparsity", "entropy_gain"))
        self.frozen_from = require_moment("frozen_from", frozen_from)
        self.prune_int8_from = require_moment("prune_int8_from", prune_int8_from)
        self.total_steps = require_total_steps(total_steps)
        require_order(prune_int8_from=prune_int8_from, frozen_from=frozen_from)
        self.centroid_learning_rate = float(centroid_learning_rate)
        self.level_grid = None if level_grid is None else int(level_grid)
        self.start = require_one_of("start", start, ("robust", "published"))
        self.reference_sign = bool(reference_sign)
        self.reference_floor = bool(reference_floor)
        self._centroids = OwnRate(
            "centroids", (2,), rate=self.centroid_learning_rate, step="centroid_step"
        )

    def get_config(self) -> dict:
        return {
            "centroid_scale": self.centroid_scale,
            "entropy_gain": self.entropy_gain,
            "target_sparsity": self.target_sparsity,
            "layer_shares": self.layer_shares,
            "hysteresis": self.hysteresis,
            "schedule": schedules.serialize(self.schedule),
            "schedule_of": self.schedule_of,
            "frozen_from": self.frozen_from,
            "prune_int8_from": self.prune_int8_from,
            "total_steps": self.total_steps,
            "centroid_learning_rate": self.centroid_learning_rate,
            "level_grid": self.level_grid,
            "start": self.start,
            "reference_sign": self.reference_sign,
            "reference_floor": self.reference_floor,
        }

    @property
    def controls_network(self) -> bool:
        """Whether the entropy gain is found from a sparsity of the whole network."""
        scheduled = self.schedule is not None and self.schedule_of == "sparsity"
        return scheduled or self.target_sparsity is not None

    @property
    def final_sparsity(self) -> float | None:
        """That of the whole network at the end of training; None if none is asked for."""
        if self.schedule is None or not self.controls_network:
            return self.target_sparsity
        return schedules.final_value(self.schedule)

    @property
    def freezing_step(self) -> int | None:
        """The optimiser step from which on the assignment is frozen; None for never.

        Raises:
          ValueError: it is a share of a number of steps that is not known.
        """
        return optimiser_step("frozen_from", self.frozen_from, self.total_steps)

    @property
    def _counts_steps(self) -> bool:
        return self.schedule is not None or self.freezing_step is not None

    def build(self, add_weight: AddWeight) -> State:
        state = self._centroids.build(add_weight)
        if self.controls_network or self.schedule is not None:
            state["entropy_gain"] = add_weight("entropy_gain", (), False)
        if self.controls_network and self.schedule is not None:
            state["target_sparsity"] = add_weight("target_sparsity", (), False)
        if self.controls_network and self.layer_shares == "kept":
            state["layer_share"] = add_weight("layer_share", (), False)
        if self._counts_steps:
            state |= StepCounter.build(add_weight)
        if self.freezing_step is not None or self.hysteresis:
            state["codes"] = add_weight("codes", None, False, "int8")
        if self.freezing_step is not None:
            state["frozen"] = add_weight("frozen", (), False, "bool")
        return state

    def initialise(self, latent: Tensor, state: State) -> None:
        scale = DEFAULT_CENTROID_SCALE if self.centroid_scale is None else self.centroid_scale
        for variable in state.values():
            variable.assign(ops.zeros_like(ops.convert_to_tensor(variable)))
        if self.hysteresis:
            state["codes"].assign(ops.full_like(ops.convert_to_tensor(state["codes"]), UNDECIDED))
        self._place_centroids(latent, state, scale)

    def _place_centroids(self, latent: Tensor, state: State, scale: float | Tensor) -> None:
        extremes = ops.abs(ops.stack([ops.min(latent), ops.max(latent)]))
        reach = self._reach(latent)
        if reach is not None:
            extremes = ops.minimum(extremes, reach)
        self._centroids.set(state, ops.maximum(scale * extremes, SMALLEST_CENTROID))

    def _reach(self, latent: Tensor) -> Tensor | None:
        """Magnitude from which on a weight is an outlier, float32 scalar; None for no such."""
        return outliers_from(latent) if self.start == "robust" else None

    def initialise_network(self, members: Sequence[Member]) -> None:
        """Choose s where a sparsity is wanted and no s was given, and the gain to begin with."""
        if not self.controls_network:
            return
        final = self.final_sparsity or 0.0
        if self.centroid_scale is None:

            def tried(scale: Tensor) -> Tensor:
                self._place_all_centroids(members, scale)
                return self._start(members, final)

            trial = traced(tried)
            scales = ops.unstack(ops.convert_to_tensor(CENTROID_SCALES, "float32"))
            starts = [Start.of(trial(scale), final) for scale in scales]
            best = min(range(len(starts)), key=lambda at: starts[at].rank)
            self._place_all_centroids(members, CENTROID_SCALES[best])
        warn_out_of_reach(Start.of(self._start(members, final), final), final)
        if self.layer_shares == "kept":
            for member in members:
                latent = member.weights
                zeros = self.assign(latent, member.state, relative_size=member.relative_size)
                member.state["layer_share"].assign(zeros.sparsity / final)
            self._control_each(members, ops.convert_to_tensor(final, "float32"))
        if self.schedule is not None:
            self._control_each(members, ops.zeros(()))

    def _place_all_centroids(self, members: Sequence[Member], scale: float | Tensor) -> None:
        for member in members:
            self._place_centroids(member.weights, member.state, scale)

    def _start(self, members: Sequence[Member], sparsity: float) -> Tensor:
        """`network_start.measured` of the ternary net at a sparsity, centroids as they are."""
        self._control(members, ops.convert_to_tensor(sparsity, "float32"))
        nets = [(m.weights, self._quantised(m.weights, m.state, m.relative_size)) for m in members]
        return measured(nets)

    def before_pass(self, members: Sequence[Member]) -> None:
        """Find the entropy gain that gives the whole network its sparsity."""
        state = members[0].state
        target = ops.convert_to_tensor(self.target_sparsity or 0.0, "float32")
        learns: bool | Tensor = True
        if self._counts_steps:
            steps = StepCounter.read(state, training=True)
            if self.freezing_step is not None:
                learns = steps < self.freezing_step
        if self.schedule is not None:
            target = schedules.scheduled(self.schedule, steps, state["target_sparsity"])
            state["target_sparsity"].assign(target)
        self._control_each(members, target, learns)

    def _control_each(
        self, members: Sequence[Member], sparsity: Tensor, learns: bool | Tensor = True
    ) -> None:
        """The same with a gain for each layer where layers keep their shares."""
        if self.layer_shares == "free":
            self._control(members, sparsity, learns)
            return
        for member in members:
            share = ops.convert_to_tensor(member.state["layer_share"])
            self._control([member], sparsity, learns, share=share)

    def _control(
        self,
        members: Sequence[Member],
        sparsity: Tensor,
        learns: bool | Tensor = True,
        *,
        share: Tensor | float = 1.0,
    ) -> None:
        """Set the gain that gives these layers `share` of this sparsity; kept unless it learns.

        A schedule that rises to its final value does so from nearest neighbour: the gain is below
        zero only where the final value needs it.
        """
        gains = []
        for member in members:
            latent = ops.stop_gradient(member.weights)
            centroids = ops.stop_gradient(self.levels(self.centroids(latent, member.state)))
            size = _size(member.relative_size, member.state)
            largest = self.thresholds(latent, centroids, relative_size=size, entropy_gain=1.0)
            seen = with_margin(latent, member.state, self.hysteresis)
            gains.append(zeroing_gains(seen, centroids, largest=largest))
        wanted = share * ops.stack([sparsity, self.final_sparsity or 0.0])
        now, final = ops.unstack(schedules.gain_for_sparsity(gains, wanted))
        gain = ops.maximum(now, ops.minimum(final, 0.0))
        if learns is not True:
            held = ops.convert_to_tensor(members[0].state["entropy_gain"])
            gain = ops.where(learns, gain, held)
        for member in members:
            member.state["entropy_gain"].assign(gain)

    @property
    def _fixed_gain(self) -> float:
        return DEFAULT_ENTROPY_GAIN if self.entropy_gain is None else self.entropy_gain

    def gain(
        self, relative_size: float | Tensor, entropy_gain: Tensor | None = None
    ) -> Tensor | float:
        """gamma * delta of a layer (docs/specification.md, Lambda); by default of the fixed one."""
        size_factor = (relative_size + SIZE_SIGMA) / (1 + SIZE_SIGMA)
        return (self._fixed_gain if entropy_gain is None else entropy_gain) * size_factor

    def current_gain(self, state: State) -> Tensor:
        """gamma in force, float32 scalar: the one fixed, or the last one found or scheduled."""
        return ops.convert_to_tensor(state.get("entropy_gain", self._fixed_gain), "float32")

    def centroids(self, latent: Tensor, state: State, *, training: bool = False) -> Tensor:
        """(w_n, w_p), float32 (2,): with the optimiser's last step, not below the floor.

        With `training` the step is taken into the state.
        """
        fixed = ops.stop_gradient(latent)
        width = spread(fixed) if self.start == "robust" else deviation(fixed)
        floor = ops.maximum(CENTROID_FLOOR * width, SMALLEST_CENTROID)
        return self._centroids.read(
            state, training=training, limited=lambda moved: ops.maximum(moved, floor)
        )

    def levels(self, centroids: Tensor) -> Tensor:
        """(w_n, w_p) the network computes with: on the grid, if there is one."""
        if self.level_grid is None:
            return centroids
        return on_grid(centroids[0], centroids[1], self.level_grid)

    @property
    def _largest_code(self) -> int:
        """The int8 code of the larger centroid: each level of a grid has a whole code."""
        grid = self.level_grid or 1
        return grid * (INT8_LARGEST_CODE // grid)

    def thresholds(
        self,
        latent: Tensor,
        centroids: Tensor,
        *,
        relative_size: float | Tensor,
        entropy_gain: Tensor,
    ) -> Thresholds:
        """The layer's two thresholds at an entropy gain of the network."""
        return thresholds(
            latent,
            centroids[0],
            centroids[1],
            gain=self.gain(relative_size, entropy_gain),
            reference_floor=self.reference_floor,
            reach=self._reach(latent),
        )

    def quantise(
        self, latent: Tensor, state: State, *, relative_size: float, training: bool
    ) -> Tensor:
        fixed = ops.stop_gradient(latent)
        moving = self.centroids(fixed, state, training=training)
        centroids = self.levels(ops.stop_gradient(moving))
        if self._counts_steps:
            steps = StepCounter.read(state, training=training)
        if training and self.schedule is not None and self.schedule_of == "entropy_gain":
            gain = schedules.scheduled(self.schedule, steps, state["entropy_gain"])
            state["entropy_gain"].assign(gain)
        size, gain = _size(relative_size, state), self.current_gain(state)
        boundary = self.thresholds(fixed, centroids, relative_size=size, entropy_gain=gain)
        seen = with_margin(fixed, state, self.hysteresis)
        negative, positive = seen < -boundary.negative, seen > boundary.positive
        learns: bool | Tensor = True
        if "codes" in state:
            codes = held_codes(negative, positive, state)
            negative, positive = codes < 0, codes > 0
            if training:
                state["codes"].assign(codes)
        if self.freezing_step is not None:
            learns = steps < self.freezing_step
            if training:
                state["frozen"].assign(ops.logical_not(learns))
        weights = self._ternary_weights(latent, moving, centroids, negative, positive, learns)
        return StepCounter.attach(weights, state) if self._counts_steps else weights

    def _ternary_weights(
        self,
        latent: Tensor,
        moving: Tensor,
        centroids: Tensor,
        negative: Tensor,
        positive: Tensor,
        learns: bool | Tensor,
    ) -> Tensor:
        """The weights with EC2T's gradient (docs/specification.md, Gradients).

        Args:
          moving: (w_n, w_p) through which the optimiser's step gets its gradient.
          centroids: (w_n, w_p) as the network computes with them.
        """
        low, _, high = ops.unstack(
            int8_levels(centroids[0], centroids[1], largest_code=self._largest_code)
        )
        value = ops.where(positive, high, ops.where(negative, low, 0.0))
        # Scaled straight-through for the latents, sums over each cluster for the centroids.
        surrogate = straight_slope(centroids, negative, positive, learns) * latent
        # The value is -w_n, so the true derivative by w_n is minus the sum.
        w_n = moving[0] if self.reference_sign else -moving[0]
        surrogate += ops.where(positive, moving[1], ops.where(negative, w_n, 0.0))
        return straight_through(value, surrogate)

    def assign(self, latent: Tensor, state: State, *, relative_size: float) -> Assignment:
        return self._quantised(ops.convert_to_tensor(latent), state, relative_size).assignment

    def _quantised(self, latent: Tensor, state: State, relative_size: float) -> Quantised:
        w_n, w_p = ops.unstack(self.levels(self.centroids(latent, state)))
        codes = self._codes(latent, state, relative_size)
        levels = int8_levels(w_n, w_p, largest_code=self._largest_code)
        return Quantised(codes, levels, largest_code=self._largest_code)

    def _codes(self, latent: Tensor, state: State, relative_size: float) -> Tensor:
        """Codes -1, 0, +1 of the state as it is: int8, shape of `latent`."""
        centroids = self.levels(self.centroids(latent, state))
        size, gain = _size(relative_size, state), self.current_gain(state)
        boundary = self.thresholds(latent, centroids, relative_size=size, entropy_gain=gain)
        seen = with_margin(latent, state, self.hysteresis)
        return held_codes(seen < -boundary.negative, seen > boundary.positive, state)


def _size(relative_size: float, state: State) -> float | Tensor:
    """A layer's size beside the largest one's; 1 where its gain is its own."""
    if "layer_share" not in state:
        return relative_size
    return ops.where(ops.convert_to_tensor(state["layer_share"]) > 0.0, 1.0, relative_size)
