"""Parameters that a cell does not see because a list, tuple or dict holds them.

MindSpore leaves them unregistered too, silently; here one warning names the remedy.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from parallel_params.nn.parameter import Parameter
from parallel_params.nn.settings import DEFAULT_NAME

if TYPE_CHECKING:
    from parallel_params.nn.cell import Cell


class UnregisteredParameterWarning(UserWarning):
    """A container on a cell holds parameters which the cell will not see.

    Remedy: `ParameterTuple` for parameters, `CellList` for cells.
    """


def warn(
    cell: "Cell",
    attribute: str,
    container: "Sequence[object] | dict[object, object]",
) -> None:
    """Warn of parameters and cells that `container` hides from `cell`; name the former.

    Args:
        cell: to whose attribute the container is being assigned.
        attribute: its name.
        container: a list, tuple or dict.

    Raises:
        ValueError: two parameters in lists and tuples of the cell have one name.
    """
    items = list(container.values() if isinstance(container, dict) else container)
    label = f"{type(cell).__name__}.{attribute}"
    params = [item for item in items if isinstance(item, Parameter)]
    if params and len(params) == len(items) and not isinstance(container, dict):
        cell.__dict__["_unnamed"].number(params, label)
    known = {id(p) for p in cell.get_parameters()}
    known.update(id(c) for _, c in cell.cells_and_names())
    hidden = [x for x in items if _is_registrable(x) and id(x) not in known]
    if not hidden:
        return
    remedy = "a ParameterTuple" if isinstance(hidden[0], Parameter) else "a CellList"
    warnings.warn(
        f"{label} is a {type(container).__name__}, so what it holds is not registered "
        f"and no optimizer will see it; make it {remedy}",
        UnregisteredParameterWarning,
        stacklevel=4,  # the statement that assigns
    )


def _is_registrable(value: object) -> bool:
    # A cell is known by what makes it one: its module imports this one.
    return isinstance(value, Parameter) or hasattr(value, "cells_and_names")


class Unnamed:
    """The numbers given to unnamed parameters in a cell's lists, and the names seen."""

    def __init__(self) -> None:
        self._next = 1
        self._seen: dict[str, tuple[str, Parameter]] = {}

    def number(self, members: Sequence[Parameter], label: str = "") -> None:
        """Call unnamed members `Parameter$1`, `Parameter$2`, ...

        Args:
            members: of a list or tuple.
            label: of that list or tuple; without one, names are not compared.

        Raises:
            ValueError: a name occurs twice in lists and tuples of this cell.
        """
        for place, member in enumerate(members):
            if member.name == DEFAULT_NAME:
                member.name = f"{DEFAULT_NAME}${self._next}"
                self._next += 1
            if not label:
                continue
            mine = f"{label}[{place}]"
            other, known = self._seen.setdefault(member.name, (mine, member))
            if known is not member:
                raise ValueError(
                    f"{mine} is another Parameter than {other}, but its name "
                    f"{member.name!r} already exists; give each a name= of its own"
                )
