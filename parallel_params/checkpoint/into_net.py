"""`load_param_into_net`: named parameters into a net, all that fit or none of them."""

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from parallel_params.checkpoint.names import rename
from parallel_params.errors import ParametersDoNotFit
from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.nn.settings import agreement_of, checked_bool
from parallel_params.plan.text import did_you_mean, name_some
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

_log = logging.getLogger(__name__)


def load_param_into_net(
    net: Cell,
    parameter_dict: Mapping[str, Parameter | str],
    strict_load: bool = False,
    remove_redundancy: bool = False,
    *,
    renames: Mapping[str, str] | None = None,
) -> tuple[list[str], list[str]]:
    """Copy parameters into those of a net that have their names; flags stay the net's.

    Names have to be equal. Where none is, one beginning that all names of the dict have
    (`backbone.`) is dropped if every one of them is then a name of the net. Floats are
    rounded to the net's floats, ints to its ints, unless `strict_load`.

    Args:
        net: a Cell, optimizers too.
        parameter_dict: what `load_checkpoint` gave; its keys count, not the names of
            the parameters.
        strict_load: refuse other types, and raise unless all names are on both sides.
        remove_redundancy: False, see `load_checkpoint`.
        renames: beginnings of names in the dict, and what they become.

    Returns:
        Names of the net that were not loaded, and names of the dict that were not used;
        both are logged with the nearest names.

    Raises:
        TypeError: an argument is none of these.
        ParametersDoNotFit: another shape or type, or, strictly, names that are missing.
            Nothing was written.
        RankFailed: a manager has the net, and this is what another rank met.
        PlanMismatch: a manager has the net, and the ranks give it different names.

    Collective: if a manager has the net, its ranks, with the same values.
    """
    if not isinstance(net, Cell):
        raise TypeError(f"net is a Cell, not {type(net).__name__}")
    error: Exception | None = None
    fitted = _Fitted({}, [], [])
    try:
        _check_arguments(parameter_dict, strict_load, remove_redundancy)
        fitted = _fit(net, parameter_dict, renames or {}, is_strict=strict_load)
    except Exception as raised:
        error = raised
    _agree(net, error, fitted)
    for parameter, values in fitted.values.values():
        parameter.set_data(Tensor.wrap(values), bool(parameter.sliced))
    for line in fitted.remarks(net, parameter_dict):
        _log.warning("load_param_into_net: %s", line)
    return fitted.missing, fitted.unused


class _Fitted(NamedTuple):
    """What goes where, nothing of it done yet.

    Attributes:
        values: by name of the net, a parameter and what it gets.
        missing: names of the net that get nothing.
        unused: names of the dict that go nowhere.
    """

    values: dict[str, tuple[Parameter, Array]]
    missing: list[str]
    unused: list[str]

    def remarks(self, net: Cell, given: Iterable[str]) -> list[str]:
        """Say what is left on either side."""
        ours = [p.name for _, p in net.parameters_and_names()]
        lines = _remarks(self.missing, "the dict has no", given)
        return lines + _remarks(self.unused, "the net has no", ours)


def _fit(
    net: Cell,
    given: Mapping[str, Parameter | str],
    renames: Mapping[str, str],
    *,
    is_strict: bool,
) -> _Fitted:
    """Find what each parameter gets, in its own type."""
    ours = {p.name: p for _, p in net.parameters_and_names()}
    theirs = _names_here(given, ours, renames)
    values = {}
    for name, parameter in ours.items():
        if name in theirs:
            found = given[theirs[name]]
            assert isinstance(found, Parameter)
            values[name] = parameter, _fitting(parameter, found, is_strict=is_strict)
    used = {theirs[name] for name in values}
    missing = [name for name in ours if name not in theirs]
    fitted = _Fitted(values, missing, [name for name in given if name not in used])
    if is_strict and (lines := fitted.remarks(net, given)):
        raise ParametersDoNotFit(f"load_param_into_net, strictly: {'; '.join(lines)}")
    return fitted


def _agree(net: Cell, error: Exception | None, fitted: _Fitted) -> None:
    """Raise what is wrong, on all ranks of the managers that have parts of the net."""
    names = [name for name in fitted.values]
    found = [agreement_of(p) for _, p in net.parameters_and_names()]
    for agree in dict.fromkeys(each for each in found if each is not None):
        agree(error, "load_param_into_net: " + ", ".join(names))
    if error is not None:
        raise error


def _check_arguments(given: object, strict_load: bool, redundancy: bool) -> None:
    if not isinstance(given, dict):
        raise TypeError(f"parameter_dict is a dict, not {type(given).__name__}")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, Parameter | str):
            raise TypeError(
                f"parameter_dict: {name!r} is a {type(value).__name__}; expected "
                "names, and Parameters as load_checkpoint gives them"
            )
    checked_bool("strict_load", strict_load)
    if checked_bool("remove_redundancy", redundancy):
        raise TypeError(
            "remove_redundancy: load a checkpoint of all ranks with "
            "ParameterManager.load, which knows who saved what"
        )


def _names_here(
    given: Mapping[str, Parameter | str],
    ours: Mapping[str, Parameter],
    renames: Mapping[str, str],
) -> dict[str, str]:
    """Return by name of the net what it is called in the dict."""
    names = [name for name, value in given.items() if isinstance(value, Parameter)]
    here: dict[str, str] = {}
    for name in names:
        new = rename(name, [*renames.items()])
        if new in here:
            raise ParametersDoNotFit(
                f"{here[new]!r} and {name!r} would both be called {new!r}; change "
                "renames"
            )
        here[new] = name
    if here and not any(name in ours for name in here):
        for prefix in _common_beginnings(here):
            if all(name[len(prefix) :] in ours for name in here):
                return {new[len(prefix) :]: name for new, name in here.items()}
    return here


def _common_beginnings(names: Iterable[str]) -> list[str]:
    """Return the beginnings up to a dot that all names have, shortest first."""
    first, *others = names
    starts = [first[: place + 1] for place, sign in enumerate(first) if sign == "."]
    return [s for s in starts if all(other.startswith(s) for other in others)]


def _fitting(parameter: Parameter, given: Parameter, *, is_strict: bool) -> Array:
    """Return the values in the type of the net's parameter."""
    name, values = parameter.name, given.asnumpy()
    if given.shape != parameter.shape:
        raise ParametersDoNotFit(
            f"{name!r} has the shape {parameter.shape} in the net and {given.shape} in "
            "the dict; nothing was loaded"
        )
    wanted, found = parameter.dtype, given.dtype
    if wanted == found:
        return values
    is_integer = wanted.numpy.kind == found.numpy.kind == "i"
    if is_strict or not (is_integer or (wanted.is_float and found.is_float)):
        raise ParametersDoNotFit(
            f"{name!r} is {wanted} in the net and {found} in the dict"
            f"{' (strict_load)' if is_strict else ''}; convert it first. Nothing was "
            "loaded"
        )
    if is_integer:
        limits = np.iinfo(wanted.name)
        if values.size and not limits.min <= values.min() <= values.max() <= limits.max:
            raise ParametersDoNotFit(
                f"{name!r} is {wanted} in the net, and the dict has {values.min()} to "
                f"{values.max()}; nothing was loaded"
            )
    converted: Array = values.astype(wanted.numpy)
    return converted


def _remarks(names: list[str], what: str, others: Iterable[str]) -> list[str]:
    if not names:
        return []
    hints = [f"{name!r} ({did_you_mean(name, others)})" for name in names[:4]]
    return [f"{what} {name_some(hints + names[4:])}"]
