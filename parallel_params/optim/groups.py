"""What a user gives an optimizer as `params`: read once, checked, in order.

Either parameters, or groups: dicts with the keys of `_KEYS`. What a learning rate may
be is not judged here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from parallel_params.nn.parameter import Parameter, ParameterTuple
from parallel_params.optim.checks import check_flag, check_not_negative
from parallel_params.tensor.tensor import Tensor

_KEYS = ("params", "lr", "weight_decay", "order_params", "grad_centralization")


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The parameters of an optimizer and what they share, in the order of gradients."""

    parameters: ParameterTuple
    group_of: tuple[int, ...]
    """Group of each parameter."""
    weight_decays: tuple[float, ...]
    """Weight decay of each parameter."""
    num_groups: int
    rates: Mapping[int, object]
    """What the user gave as learning rate, for the groups that have their own."""


def read_groups(params: object, *, weight_decay: float) -> Groups:
    """Check `params` and put it in order.

    Args:
        params: an iterable of parameters, or of dicts that each describe a group.
        weight_decay: of parameters without groups, and of groups without their own.
            Without groups it leaves out parameters with `beta` or `gamma` in the name.

    Raises:
        TypeError: not an iterable, a bare dict or Parameter, or with other members than
            parameters, or groups and parameters together.
        ValueError: empty; or two parameters of one name; or `order_params` does not
            list the parameters of the groups.
        KeyError: a group without `params`, or with an unknown key.
        RuntimeError: one parameter in two groups, or `grad_centralization` asked for.
    """
    if params is None:
        raise ValueError("an optimizer needs parameters, not None")
    members = _list_members(params, "an optimizer")
    if any(isinstance(member, Mapping) for member in members):
        return _read_dicts(members, weight_decay)
    parameters = _read_parameters(members, "an optimizer")
    return Groups(
        parameters=parameters,
        group_of=(0,) * len(parameters),
        weight_decays=tuple(
            0.0 if is_of_a_norm(p.name) else weight_decay for p in parameters
        ),
        num_groups=1,
        rates={},
    )


def _read_dicts(members: list[object], weight_decay: float) -> Groups:
    groups: list[Mapping[str, object]] = []
    order: list[Parameter] | None = None
    for index, member in enumerate(members):
        if not isinstance(member, Mapping):
            raise TypeError(
                f"an optimizer takes parameters or groups, not both: member {index} is "
                f"a {type(member).__name__} among dicts; put it in a group"
            )
        if "order_params" in member:
            order = _read_order(member, order)
        else:
            groups.append(_check_keys(member, f"group {index}"))
    return _join(groups, order, weight_decay)


def _join(
    groups: list[Mapping[str, object]],
    order: list[Parameter] | None,
    weight_decay: float,
) -> Groups:
    """Line up the parameters of all groups, or put them in the order asked for."""
    members: list[Parameter] = []
    group_of: dict[int, int] = {}
    decays: list[float] = []
    for index, group in enumerate(groups):
        what = f"group {index}"
        decay = group.get("weight_decay", weight_decay)
        decays.append(check_not_negative(f"weight_decay of {what}", decay))
        for p in _read_parameters(_list_members(group["params"], what), what):
            if id(p) in group_of:
                raise RuntimeError(
                    f"parameter {p.name!r} is in group {group_of[id(p)]} and in {what};"
                    " it can be updated once per step only"
                )
            group_of[id(p)] = index
            members.append(p)
    if order is not None:
        members = _reorder(members, order)
    parameters = _read_parameters(members, "an optimizer")
    return Groups(
        parameters=parameters,
        group_of=tuple(group_of[id(p)] for p in parameters),
        weight_decays=tuple(decays[group_of[id(p)]] for p in parameters),
        num_groups=len(groups),
        rates={i: group["lr"] for i, group in enumerate(groups) if "lr" in group},
    )


def _check_keys(group: Mapping[str, object], what: str) -> Mapping[str, object]:
    unknown = [key for key in group if key not in _KEYS]
    if unknown:
        raise KeyError(f"{what} has the key {unknown[0]!r}; a group has {list(_KEYS)}")
    if "params" not in group:
        raise KeyError(f"{what} has no 'params': it says nothing of any parameter")
    name = f"grad_centralization of {what}"
    if check_flag(name, group.get("grad_centralization", False)):
        raise RuntimeError(
            f"{name} cannot be True: it needs the mean over whole rows, and rules that "
            "cut parameters anywhere do not see those; centre the gradients first"
        )
    return group


def _read_order(
    group: Mapping[str, object], earlier: list[Parameter] | None
) -> list[Parameter]:
    if earlier is not None:
        raise ValueError("there are two groups with order_params; one order is enough")
    if len(group) > 1:
        others = sorted(key for key in group if key != "order_params")
        raise ValueError(
            f"the group with order_params must have no other key, and has {others}"
        )
    what = "order_params"
    return list(_read_parameters(_list_members(group[what], what), what))


def _reorder(members: list[Parameter], order: list[Parameter]) -> list[Parameter]:
    if len(order) != len(members):
        raise ValueError(
            f"order_params lists {len(order)} parameters, the groups {len(members)}; "
            "list every one once"
        )
    known = {id(p) for p in members}
    foreign = [p.name for p in order if id(p) not in known]
    if foreign:
        raise ValueError(
            f"order_params lists {foreign[0]!r}, which is in none of the groups"
        )
    return order


def _list_members(params: object, what: str) -> list[object]:
    """Return the members of an iterable, generators too: they can be read only once."""
    if isinstance(params, Tensor | Mapping | str | bytes) or not isinstance(
        params, Iterable
    ):
        raise TypeError(
            f"{what} takes a list of parameters, not a {type(params).__name__}; "
            "one alone goes into a list too"
        )
    members = list(params)
    if not members:
        raise ValueError(
            f"{what} was given no parameters; a generator can be read only once, "
            "and trainable_params() leaves out the frozen ones"
        )
    return members


def _read_parameters(members: Iterable[object], what: str) -> ParameterTuple:
    found: list[Parameter] = []
    for index, member in enumerate(members):
        if not isinstance(member, Parameter):
            raise TypeError(
                f"{what} takes Parameters, and member {index} is a "
                f"{type(member).__name__}; a Tensor becomes one by Parameter(tensor)"
            )
        if not member.dtype.is_float:
            raise TypeError(
                f"parameter {member.name!r} holds {member.dtype}; an optimizer moves "
                "floating-point weights only"
            )
        found.append(member)
    if len({id(p) for p in found}) < len(found):
        names = [p.name for p in found]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{what} was given parameter {twice!r} twice; list it once")
    return ParameterTuple(found)


def is_of_a_norm(name: str) -> bool:
    """Whether MindSpore leaves a parameter of this name out of weight decay."""
    return "beta" in name or "gamma" in name
