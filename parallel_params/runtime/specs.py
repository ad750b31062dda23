"""From parameters and an optimizer to the specs a plan is made of.

The two parallel flags are carried over here and judged in the plan alone.
"""

from collections.abc import Iterable, Mapping, Sequence

from parallel_params.errors import PlanError
from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.nn.statistic import Statistic
from parallel_params.optim.kinds import round_widths, slots_of
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rule import Slots
from parallel_params.plan.spec import ParamSpec


def check_optimizers(given: object) -> tuple[Optimizer, ...]:
    """Return the optimizers, if each is one that nobody has adopted.

    Raises:
        TypeError: something is none of ours.
        ManagedOptimizerError: one has an owner already.
        PlanError: there is none, or two would move one parameter.
    """
    optimizers = tuple(given) if isinstance(given, list | tuple) else (given,)
    for optimizer in optimizers:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                "a ParameterManager takes an optimizer of parallel_params.nn, or a "
                f"list of them, not {type(optimizer).__name__}"
            )
        optimizer.check_adoptable()
    if not optimizers:
        raise PlanError("a ParameterManager needs an optimizer, and the list is empty")
    check_disjoint(optimizers)
    return optimizers


def check_disjoint(optimizers: Sequence[Optimizer]) -> None:
    """Refuse optimizers of which two would move one parameter.

    Raises:
        PlanError: it names the parameter and both.
    """
    moved: dict[int, int] = {}
    for number, optimizer in enumerate(optimizers):
        for parameter in optimizer.parameters:
            other = moved.setdefault(id(parameter), number)
            if other != number:
                raise PlanError(
                    f"parameter {parameter.name!r} was given to optimizers {other} and "
                    f"{number}; a parameter is moved by one"
                )


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


def check_free(parameters: dict[str, Parameter]) -> dict[str, Parameter]:
    """Return the parameters, if none has a manager already.

    Raises:
        PlanError: it names the first.
    """
    for name, parameter in parameters.items():
        if parameter.is_managed:
            raise PlanError(
                f"parameter {name!r} lives in the arena of another ParameterManager; "
                "close that one first"
            )
    return parameters


def collect_aliases(net: Cell | Iterable[Parameter]) -> dict[str, tuple[str, ...]]:
    """Return the further names of tied parameters, by their own name."""
    if not isinstance(net, Cell):
        return {}
    paths: dict[int, tuple[str, list[str]]] = {}
    for path, cell in net.cells_and_names():
        for key, member in cell._params.items():
            if member is not None:
                place = f"{path}.{key}" if path else key
                paths.setdefault(id(member), (member.name, []))[1].append(place)
    return {
        name: tuple(place for place in places if place != name)
        for name, places in paths.values()
        if len(places) > 1
    }


def make_specs(
    parameters: Mapping[str, Parameter],
    optimizers: Sequence[Optimizer],
    aliases: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[ParamSpec, ...]:
    """Describe every parameter to the plan.

    A parameter is trained if it requires a gradient and an optimizer was given it.

    Args:
        parameters: by name, in order of declaration.
        optimizers: over disjoint parameters.
        aliases: further names of tied parameters.

    Raises:
        PlanError: an optimizer moves a parameter that the net does not have.
    """
    managed = {id(p) for p in parameters.values()}
    movers = {
        id(p): number
        for number, optimizer in enumerate(optimizers)
        for p in optimizer.parameters
    }
    foreign = [
        p.name
        for optimizer in optimizers
        for p in optimizer.parameters
        if id(p) not in managed
    ]
    if foreign:
        raise PlanError(
            f"the optimizer was given parameters which the net does not have: "
            f"{', '.join(foreign)}; build it on the net's trainable_params()"
        )
    return tuple(
        _spec(name, p, movers.get(id(p)), optimizers, (aliases or {}).get(name, ()))
        for name, p in parameters.items()
    )


def _spec(
    name: str,
    parameter: Parameter,
    mover: int | None,
    optimizers: Sequence[Optimizer],
    aliases: tuple[str, ...],
) -> ParamSpec:
    is_trained = parameter.requires_grad and mover is not None
    rule = optimizers[mover or 0].rule
    slots = slots_of(rule, parameter.shape) if is_trained else Slots()
    return ParamSpec(
        name=name,
        shape=parameter.shape,
        dtype=parameter.dtype.name,
        requires_grad=is_trained,
        layerwise_parallel=parameter.layerwise_parallel,
        parallel_optimizer=parameter.parallel_optimizer,
        comm_fusion=parameter.comm_fusion,
        structure=rule.structure if is_trained else "element",
        state_slots=slots.element,
        row_slots=slots.row,
        column_slots=slots.column,
        rounds=round_widths(rule, parameter.shape) if is_trained else (),
        is_statistic=isinstance(parameter, Statistic) and not is_trained,
        optimizer=mover if is_trained and mover is not None else 0,
        aliases=aliases,
        slice_dim=parameter.slice_dim,
    )
