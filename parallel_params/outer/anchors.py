"""The anchor: what all workers start a round from, and what the outer step moves.

Anchors are ordinary parameters with an ordinary optimizer; nothing here communicates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.sgd import SGD
from parallel_params.plan.outer import (
    OuterPlan,
    check_levels,
    make_outer_plan,
    outer_mesh,
    shared_names,
)
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Policy
from parallel_params.runtime.specs import make_specs
from parallel_params.tensor.tape import Array

MakeOptimizer: TypeAlias = Callable[[Sequence[Parameter]], Optimizer]


def diloco(learning_rate: float = 0.7, momentum: float = 0.9) -> MakeOptimizer:
    """Return what makes DiLoCo's outer optimizer: SGD with Nesterov's momentum.

    Args:
        learning_rate: of the outer step.
        momentum: what is kept of the last outer step.

    Source: Douillard et al., DiLoCo (2023), section 2.1 and table 5.
    """
    return lambda anchors: SGD(
        anchors, learning_rate, momentum=momentum, nesterov=momentum > 0
    )


def averaging() -> MakeOptimizer:
    """Return what makes LocalSGD of an outer loop: the anchor becomes the mean.

    Source: Stich, Local SGD converges fast and communicates little (2019), algorithm 1.
    """
    return lambda anchors: SGD(anchors, 1.0)


def make_anchors(
    parameters: Mapping[str, Parameter], plan: Plan
) -> tuple[list[Parameter], list[Parameter]]:
    """Return anchors of the parameters that are trained, and of the statistics.

    They have the parameters' names, values and flags.

    Args:
        parameters: by name.
        plan: the inner one.
    """
    trained, statistics = shared_names(plan)
    return (
        [_anchor(parameters[name]) for name in trained],
        [_anchor(parameters[name]) for name in statistics],
    )


def _anchor(parameter: Parameter) -> Parameter:
    twin = parameter.clone()
    twin.requires_grad = True
    return twin


def make_optimizers(
    anchors: tuple[list[Parameter], list[Parameter]], outer: MakeOptimizer
) -> tuple[Optimizer, ...]:
    """Return the outer optimizer, and if need be one that averages statistics."""
    trained, statistics = anchors
    found = (outer(trained),)
    return (*found, SGD(statistics, 1.0)) if statistics else found


def plan_outer(
    anchors: tuple[list[Parameter], list[Parameter]],
    optimizers: Sequence[Optimizer],
    inner: Plan,
    *,
    every: int,
    policy: Policy,
    num_workers: int,
    ranks_per_node: int,
) -> OuterPlan:
    """Plan a round without any communication.

    Raises:
        PlanError: choices contradict each other.
    """
    check_levels(inner, "inner")
    specs = make_specs({p.name: p for group in anchors for p in group}, optimizers)
    mesh = outer_mesh(inner.mesh, num_workers, ranks_per_node)
    plan = make_plan(specs, mesh, policy)
    check_levels(plan, "outer")
    return make_outer_plan(inner, plan, every)


def differences(
    anchors: Sequence[Parameter], parameters: Mapping[str, Parameter]
) -> dict[str, Array]:
    """Return anchor - weight of each: the direction in which a gradient points.

    Source: Douillard et al., DiLoCo (2023), algorithm 1, line 12.
    """
    return {
        anchor.name: np.subtract(anchor.asnumpy(), parameters[anchor.name].asnumpy())
        for anchor in anchors
    }


class NoDifferences(Mapping[str, Array]):
    """The differences of a rank that has none to give: it raised.

    Passed to an update, they tell all ranks so by the message that it sends anyway.

    Args:
        error: what it raised.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getitem__(self, name: str) -> Array:
        raise self._error

    def __iter__(self) -> Iterator[str]:
        raise self._error

    def __len__(self) -> int:
        raise self._error
