"""From parameters and an optimizer to the specs a plan is made of.

The two parallel flags are carried over here and judged in the plan alone.
"""

from collections.abc import Iterable

from parallel_params.errors import PlanError
from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.spec import ParamSpec


def check_optimizer(optimizer: object) -> None:
    """Check that this is an optimizer which nobody has adopted.

    Raises:
        TypeError: it is none of ours.
        ManagedOptimizerError: it has an owner already.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            "a ParameterManager takes an optimizer of parallel_params.nn, "
            f"not {type(optimizer).__name__}"
        )
    optimizer.check_adoptable()


def collect_parameters(net: Cell | Iterable[Parameter]) -> dict[str, Parameter]:
    """Return the parameters of `net` by name, in order of declaration.

    Raises:
        PlanError: two parameters have one name, or there is none.
        TypeError: something in `net` is no Parameter.
    """
    if isinstance(net, Cell):
        pairs = [*net.parameters_and_names()]
    elif not isinstance(net, Iterable):
        raise TypeError(
            f"a ParameterManager takes a Cell or Parameters, not {type(net).__name__}"
        )
    else:
        pairs = [(f"number {i}", member) for i, member in enumerate(net)]
    found: dict[str, Parameter] = {}
    paths: dict[str, str] = {}
    for path, member in pairs:
        if not isinstance(member, Parameter):
            raise TypeError(
                f"a ParameterManager takes a Cell or Parameters, "
                f"not {type(member).__name__}"
            )
        other = paths.setdefault(member.name, path)
        if found.setdefault(member.name, member) is not member:
            raise PlanError(
                f"two parameters, {other} and {path}, are called {member.name!r}; "
                "give each a name= of its own"
            )
    if not found:
        raise PlanError("there is no parameter to manage: the net has none")
    return found


def make_specs(
    parameters: dict[str, Parameter], optimizer: Optimizer
) -> tuple[ParamSpec, ...]:
    """Describe every parameter to the plan.

    A parameter is trained if it requires a gradient and the optimizer was given it.

    Raises:
        PlanError: the optimizer moves a parameter that the net does not have, or a
            parameter has a manager already.
    """
    managed_elsewhere = [name for name, p in parameters.items() if p.is_managed]
    if managed_elsewhere:
        raise PlanError(
            f"parameter {managed_elsewhere[0]!r} lives in the arena of another "
            "ParameterManager; close that one first"
        )
    managed = {id(p) for p in parameters.values()}
    foreign = [p.name for p in optimizer.parameters if id(p) not in managed]
    if foreign:
        raise PlanError(
            f"the optimizer was given parameters which the net does not have: "
            f"{', '.join(foreign)}; build it on the net's trainable_params()"
        )
    moved = {id(p) for p in optimizer.parameters}
    rule = optimizer.rule
    return tuple(
        ParamSpec(
            name=name,
            shape=p.shape,
            dtype=p.dtype.name,
            requires_grad=p.requires_grad and id(p) in moved,
            layerwise_parallel=p.layerwise_parallel,
            parallel_optimizer=p.parallel_optimizer,
            comm_fusion=p.comm_fusion,
            structure=rule.structure,
            state_slots=rule.slots if p.requires_grad and id(p) in moved else (),
        )
        for name, p in parameters.items()
    )
