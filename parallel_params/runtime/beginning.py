"""What a manager begins with: parameters, optimizers, and one plan of all ranks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from parallel_params.comm.agree import agree_ok
from parallel_params.comm.protocol import Communicator
from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Policy
from parallel_params.runtime.nodes import mesh_on_nodes
from parallel_params.runtime.opening import plan_for
from parallel_params.runtime.specs import (
    check_free,
    check_optimizers,
    collect_aliases,
    collect_parameters,
    make_specs,
)
from parallel_params.runtime.start import (
    agree_on_kernels,
    agree_on_optimizers,
    agree_on_plan,
)

T = TypeVar("T")


class Beginning(NamedTuple):
    """What was planned, and for whom.

    Attributes:
        plan: the same on all ranks.
        parameters: by name, in order of declaration.
        aliases: further names of tied ones.
        optimizers: over disjoint parameters; not adopted yet.
    """

    plan: Plan
    parameters: dict[str, Parameter]
    aliases: Mapping[str, tuple[str, ...]]
    optimizers: tuple[Optimizer, ...]


def first_plan(
    comm: Communicator,
    net: Cell | Iterable[Parameter],
    optimizer: Optimizer | Sequence[Optimizer],
    policy: Policy,
    mesh: Mesh | None,
) -> Beginning:
    """Plan for parameters and optimizers, and make sure that all ranks did alike.

    Raises:
        PlanError, TypeError, ManagedOptimizerError: they cannot be planned for.
        PlanMismatch: the ranks planned differently, or will move weights differently.
        RankFailed: another rank could not plan.

    Collective: all ranks.
    """
    error: Exception | None = None
    real = mesh_on_nodes(mesh if isinstance(mesh, Mesh) else None, comm)
    try:
        checked(policy, Policy, "a ParameterManager")
        checked(real if mesh is None else mesh, Mesh, "a ParameterManager")
        optimizers = check_optimizers(optimizer)
        parameters = check_free(collect_parameters(net))
        aliases = collect_aliases(net)
        specs = make_specs(parameters, optimizers, aliases)
        plan = plan_for(specs, policy, real, comm.size)
    except Exception as raised:
        error = raised
    agree_ok(comm, error)
    agree_on_plan(comm, plan)
    agree_on_kernels(comm)
    agree_on_optimizers(comm, optimizers, plan)
    return Beginning(plan, parameters, aliases, optimizers)


def checked(value: object, kind: type[T], who: str) -> T:
    """Return the value, which has to be of a kind.

    Raises:
        TypeError: it is not, said of who takes it.
    """
    if not isinstance(value, kind):
        raise TypeError(
            f"{who} takes a {kind.__name__} or None, not {type(value).__name__}"
        )
    return value
