"""The optimizer step on the interval of a bucket that this rank updates.

Neighbouring parameters with equal settings are updated by one call of an elementwise
rule: the number of calls follows the settings, not the number of parameters. Rules that
see whole matrices, or that need sums over whole parameters, are called per parameter.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

import numpy as np

from parallel_params.optim.kinds import (
    is_evaluated_rule,
    is_pair_rule,
    is_plain_rule,
    is_round_rule,
)
from parallel_params.optim.optimizer import Settings
from parallel_params.optim.rule import AnyRule, Moves, Part
from parallel_params.plan.bucket import Extent
from parallel_params.plan.leaves import leaf_edges
from parallel_params.plan.spec import MASTER_WEIGHT
from parallel_params.runtime.arena import Arena
from parallel_params.runtime.runs import Run, make_runs
from parallel_params.runtime.summing import BLOCK, RowSum, Scratch
from parallel_params.tensor.tape import Array

ScaleOf = Callable[[str, Settings], float]
"""By parameter name and settings: the factor on the gradient of this step."""


class Stepper:
    """Applies a rule to the updated interval of one arena.

    Args:
        arena: weights and state, changed in place.
        rule: the update.
        settings: of every parameter of the bucket, by name.
        alignment: of the plan; where sums over parameters are cut.
        is_by_parameter: whether every parameter has a gradient scale of its own.
        rows: [updated numel] each, what the reduced gradient is the sum of, in the
            order of the tree; none if nothing is to be added here.

    Attributes:
        is_in_rounds: whether the rule needs sums over whole parameters.
        is_adding: whether the sum of `rows` and the update are one pass.
    """

    def __init__(
        self,
        arena: Arena,
        rule: AnyRule,
        settings: Mapping[str, Settings],
        *,
        alignment: int,
        is_by_parameter: bool = False,
        rows: Sequence[Array] = (),
    ) -> None:
        self.arena = arena
        self._rule = rule
        self.is_in_rounds = is_round_rule(rule)
        self._rows, self._scratch = tuple(rows), Scratch()
        is_element = is_plain_rule(rule) and rule.structure == "element"
        self.is_adding = len(rows) > 1 and is_element
        self._alignment = alignment
        bucket = arena.bucket
        self._shapes = {
            extent.name: parameter.shape
            for extent, parameter in zip(bucket.extents, arena.parameters, strict=True)
        }
        self._settings = settings
        self._runs = [
            self._bind(run)
            for run in make_runs(
                bucket,
                arena.updated,
                settings,
                is_by_parameter=is_by_parameter or bucket.structure != "element",
            )
        ]

    @property
    def has_evaluation(self) -> bool:
        """Whether the rule has other weights to evaluate with."""
        return is_evaluated_rule(self._rule)

    def show_evaluation(self) -> None:
        """Put the weights to evaluate with in the place of the weights."""
        rule = self._rule
        if not is_evaluated_rule(rule):
            return
        for _, (weight, _, state, rounded) in self._runs:
            values = rule.evaluation(weight, state)
            target = weight if rounded is None else rounded
            np.copyto(target, values, casting="unsafe")

    def apply(
        self,
        *,
        step: int,
        rates: Sequence[float],
        scale_of: ScaleOf,
        is_reduced: bool = True,
    ) -> None:
        """Update weights and state from the arena's reduced gradient.

        Args:
            step: 1 for the first step.
            rates: learning rate per group of the optimizer.
            scale_of: the gradient meant is this factor times the reduced one.
            is_reduced: False if the rows are to be added on the way.
        """
        rule = self._rule
        assert is_plain_rule(rule)
        for run, arrays in self._runs:
            weight, gradient, state, rounded = arrays
            settings = run.settings
            numbers: _Numbers = {
                "step": step - settings.since,
                "learning_rate": rates[settings.group],
                "weight_decay": settings.weight_decay,
                "gradient_scale": scale_of(run.extent.name, settings),
            }
            if is_reduced:
                # Said one by one: `**` would be as dear as the update of a small run.
                rule.update(
                    weight,
                    gradient,
                    state,
                    step=numbers["step"],
                    learning_rate=numbers["learning_rate"],
                    weight_decay=numbers["weight_decay"],
                    gradient_scale=numbers["gradient_scale"],
                )
            else:
                self._add_and_update(run, arrays, numbers)
            if rounded is not None:
                np.copyto(rounded, weight, casting="unsafe")

    def _add_and_update(self, run: Run, arrays: "_Arrays", numbers: "_Numbers") -> None:
        rule = self._rule
        weight, gradient, state, _ = arrays
        part = run.interval.shift(-self.arena.updated.start).as_slice()
        rows = RowSum([row[part] for row in self._rows], gradient, self._scratch)
        for place, left, right in rows.halves():
            own, cut = weight[place], _cut(state, place)
            if is_pair_rule(rule):
                rule.update_pair(own, left, right, cut, **numbers)
                continue
            assert is_plain_rule(rule)
            # Block by block, so that the rule finds the sum in cache.
            sums = np.empty(min(BLOCK, own.size), left.dtype)
            for start in range(0, own.size, BLOCK):
                block = slice(start, min(start + BLOCK, own.size))
                total = sums[: block.stop - start]
                np.add(left[block], right[block], total)
                rule.update(own[block], total, _cut(cut, block), **numbers)

    def moves(
        self,
        *,
        step: int,
        rates: Sequence[float],
        scale_of: ScaleOf,
        nodes: Mapping[str, Sequence[range]],
    ) -> list[Moves]:
        """Begin the update of every parameter of the bucket by a rule in rounds.

        Args:
            step: 1 for the first step.
            rates: learning rate per group of the optimizer.
            scale_of: the gradient meant is this factor times the reduced one.
            nodes: by parameter name, see `Part.nodes`; none hands out leaves.

        Returns:
            One generator per extent, also for those this rank has nothing of.
        """
        rule = self._rule
        assert is_round_rule(rule)
        bound = {run.extent.name: arrays for run, arrays in self._runs}
        return [
            rule.moves(
                self._part(extent, bound.get(extent.name), nodes.get(extent.name)),
                step=step - self._settings[extent.name].since,
                learning_rate=rates[self._settings[extent.name].group],
                weight_decay=self._settings[extent.name].weight_decay,
                gradient_scale=scale_of(extent.name, self._settings[extent.name]),
            )
            for extent in self.arena.bucket.extents
        ]

    def round_off(self) -> None:
        """Round the weights of low precision from those that a rule in rounds moved."""
        for _, (weight, _, _, rounded) in self._runs:
            if rounded is not None:
                np.copyto(rounded, weight, casting="unsafe")

    def _bind(self, run: Run) -> "tuple[Run, _Arrays]":
        arena = self.arena
        part = run.interval.shift(-arena.updated.start).as_slice()
        weight, gradient = arena.updated_weight[part], arena.reduced[part]
        state = {
            slot: values[part]
            for slot, values in arena.state.items()
            if slot != MASTER_WEIGHT
        }
        state |= arena.extra_state.get(run.extent.name, {})
        rounded: Array | None = None
        if MASTER_WEIGHT in arena.state:
            rounded, weight = weight, arena.state[MASTER_WEIGHT][part]
        if arena.bucket.structure == "matrix":
            shape = self._shapes[run.extent.name]
            weight, gradient = weight.reshape(shape), gradient.reshape(shape)
            state = {slot: values.reshape(shape) for slot, values in state.items()}
            rounded = None if rounded is None else rounded.reshape(shape)
        return run, (weight, gradient, state, rounded)

    def _part(
        self,
        extent: Extent,
        arrays: "_Arrays | None",
        nodes: Sequence[range] | None,
    ) -> Part:
        arena = self.arena
        part = extent.interval.intersect(arena.updated)
        edges = leaf_edges(arena.bucket, extent, part, self._alignment)
        if arrays is None:
            nothing = np.empty(0, arena.dtype)
            slots = arena.bucket.state_slots + arena.bucket.row_slots
            state = {slot: nothing for slot in slots if slot != MASTER_WEIGHT}
            state |= {
                slot: np.zeros(max(1, extent.row_numel), np.float32)
                for slot in arena.bucket.column_slots
            }
            arrays = (nothing, nothing, state, None)
        weight, gradient, state, _ = arrays
        return Part(
            weight=weight,
            gradient=gradient,
            state=state,
            shape=self._shapes[extent.name],
            edges=np.asarray(edges, np.int64),
            nodes=nodes,
            is_adapted=self._settings[extent.name].is_adapted,
        )


def _cut(state: Mapping[str, Array], place: slice) -> dict[str, Array]:
    return {slot: values[place] for slot, values in state.items()}


class _Numbers(TypedDict):
    """What a rule is given beside arrays."""

    step: int
    learning_rate: float
    weight_decay: float
    gradient_scale: float


_Arrays = tuple[Array, Array, dict[str, Array], Array | None]
