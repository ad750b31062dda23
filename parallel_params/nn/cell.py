"""`Cell`: a part of a model, which finds its parameters and names them.

Assigning a Parameter, ParameterTuple or Cell to an attribute registers it. Registered
things also lie in the instance's own dict, so that looking them up costs nothing extra;
`__setattr__` and `__delattr__` keep both in step. What can be asked of the tree of
cells is in `nn/queries.py`. Nothing here computes: subclasses write `construct`.
"""

from collections.abc import Callable
from typing import Any

from parallel_params.nn import unregistered
from parallel_params.nn.habits import Habits
from parallel_params.nn.packing import Packing
from parallel_params.nn.parameter import Parameter, ParameterTuple
from parallel_params.nn.recomputing import call_recomputed
from parallel_params.nn.settings import DEFAULT_NAME
from parallel_params.nn.whereabouts import add_cell_path
from parallel_params.tensor.tensor import Tensor


class Cell(Habits):
    """A part of a model: parameters, other cells, and `construct`.

    Args:
        auto_prefix: whether a cell assigned to an attribute has its parameters renamed
            to their attribute path.
        flags: attributes to set, name -> value.

    Attributes:
        packings: which of its parameters a cell of another class has packed, or apart,
            for checkpoints; a class says so for all its cells.
    """

    # Whatever arguments and results a subclass likes; hence `Any` here and below.
    construct: Callable[..., Any]
    _recomputes: bool = False  # set by `recompute()`
    packings: tuple[Packing, ...] = ()

    def __init__(
        self, auto_prefix: bool = True, flags: dict[str, object] | None = None
    ) -> None:
        own = self.__dict__
        own["_params"] = {}
        own["_cells"] = {}
        own["_tuples"] = {}
        own["_auto_prefix"] = auto_prefix
        own["_prefix"] = ""
        own["_unnamed"] = unregistered.Unnamed()
        self.training = False
        self.requires_grad = False
        for name, value in (flags or {}).items():
            setattr(self, name, value)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Return what `construct` returns.

        Raises:
            ValueError, TypeError, IndexError: of this library, say in which cell.
        """
        try:
            if self._recomputes:
                return call_recomputed(self.construct, inputs, options)
            return self.construct(*inputs, **options)
        except (ValueError, TypeError, IndexError) as error:
            add_cell_path(error)
            raise

    def __getattr__(self, name: str) -> Any:
        # Only called where ordinary lookup fails.
        params: dict[str, Parameter] | None = self.__dict__.get("_params")
        if params is not None and name in params:
            return params[name]  # a member of a ParameterTuple, by its own name
        kind = type(self).__name__
        if name == "construct":
            raise AttributeError(f"{kind} has no method 'construct'; a cell needs one")
        raise AttributeError(f"{kind} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        own = self.__dict__
        if "_params" not in own:
            if isinstance(value, Parameter | Cell | ParameterTuple):
                raise AttributeError(
                    f"call super().__init__() before assigning {name!r} in "
                    f"{type(self).__name__}.__init__"
                )
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            self._set_parameter(name, value)
        elif isinstance(value, ParameterTuple):
            self._set_tuple(name, value)
        elif isinstance(value, Cell):
            self._set_cell(name, value)
        elif isinstance(own.get(name), Parameter):
            self._set_parameter_data(name, value)
        elif name in own["_cells"] and value is not None:
            raise TypeError(
                f"{self._label(name)} is a cell; a {type(value).__name__} cannot take "
                "its place"
            )
        else:
            self._set_plain(name, value)

    def __delattr__(self, name: str) -> None:
        self._unregister(name)
        object.__delattr__(self, name)

    def _label(self, name: str) -> str:
        return f"{type(self).__name__}.{name}"

    def _unregister(self, name: str) -> None:
        own = self.__dict__
        if name in own["_tuples"]:
            for key in own["_tuples"].pop(name):
                own["_params"].pop(key, None)
        elif isinstance(own.get(name), Parameter):
            del own["_params"][name]
        else:
            own["_cells"].pop(name, None)

    def _refuse_other(self, name: str, register: str) -> None:
        """Raise TypeError if attribute `name` is in another register than this one."""
        own = self.__dict__
        registers = {
            "_params": isinstance(own.get(name), Parameter),
            "_cells": name in own["_cells"],
            "_tuples": name in own["_tuples"],
        }
        registers.pop(register)
        if any(registers.values()):
            raise TypeError(
                f"{self._label(name)} is a {type(own[name]).__name__}; delete it "
                "before assigning something of another kind"
            )

    def _set_parameter(self, name: str, parameter: Parameter) -> None:
        own = self.__dict__
        self._refuse_other(name, "_params")
        if own.get(name) is None:
            own.pop(name, None)
        elif not isinstance(own[name], Parameter):
            raise TypeError(
                f"{self._label(name)} is already a {type(own[name]).__name__}; delete "
                "it before making it a Parameter"
            )
        self.insert_param_to_cell(name, parameter)

    def insert_param_to_cell(
        self, param_name: str, param: Parameter, check_name_contain_dot: bool = True
    ) -> None:
        """Register a parameter as attribute `param_name`, as assigning it does.

        Raises:
            KeyError: the name is empty, has a dot, or is an attribute already.
            TypeError: `param` is no Parameter.
        """
        if not param_name:
            raise KeyError("a parameter cannot be registered under an empty name")
        if check_name_contain_dot and "." in param_name:
            raise KeyError(f"a parameter's attribute has no dot: {param_name!r}")
        own, params = self.__dict__, self.__dict__["_params"]
        is_parameter = isinstance(own.get(param_name), Parameter)
        if not is_parameter and (param_name in own or hasattr(type(self), param_name)):
            raise KeyError(
                f"{self._label(param_name)} is an attribute already; choose another "
                "name for the parameter"
            )
        if not isinstance(param, Parameter):
            raise TypeError(
                f"{self._label(param_name)} is registered as a Parameter, but is a "
                f"{type(param).__name__}"
            )
        known = params.get(param_name)
        if known is not None and known is not param and not is_parameter:
            raise ValueError(
                f"{self._label(param_name)} is another Parameter than the one that a "
                f"ParameterTuple of this cell holds, but its name {param_name!r} "
                "already exists; choose another attribute, or rename that one"
            )
        if param.name == DEFAULT_NAME:
            param.name = self.__dict__["_prefix"] + param_name
        params[param_name] = own[param_name] = param

    def _set_parameter_data(self, name: str, value: object) -> None:
        parameter: Parameter = self.__dict__["_params"][name]
        if value is None:
            raise AttributeError(
                f"{self._label(name)} is a Parameter; use `del` to unregister it"
            )
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{self._label(name)} is a Parameter; assign a Parameter to replace it "
                f"or a Tensor to set its values, not a {type(value).__name__}"
            )
        parameter.set_data(value)

    def _set_tuple(self, name: str, members: ParameterTuple) -> None:
        self._refuse_other(name, "_tuples")
        self._unregister(name)
        params = self.__dict__["_params"]
        self.__dict__["_unnamed"].number(members)
        for member in members:
            known = params.get(member.name)
            if known is not None and known is not member:
                raise ValueError(
                    f"{self._label(name)} holds another Parameter than "
                    f"{self._label(member.name)}, but its name {member.name!r} already "
                    "exists; give each a name= of its own"
                )
        mine = [member.name for member in members if member.name not in params]
        params.update((member.name, member) for member in members)
        self.__dict__["_tuples"][name] = mine
        self.__dict__[name] = members

    def _set_cell(self, name: str, cell: "Cell") -> None:
        self._refuse_other(name, "_cells")
        if self.__dict__["_auto_prefix"]:
            cell._prefix_names(f"{self.__dict__['_prefix']}{name}.")
        self.__dict__["_cells"][name] = cell
        self.__dict__[name] = cell

    def insert_child_to_cell(self, child_name: str, child_cell: "Cell") -> None:
        """Register a cell as attribute `child_name`, as assigning it does.

        Raises:
            KeyError: the name is empty, has a dot, or is an attribute already.
            TypeError: `child_cell` is no Cell.
        """
        if not child_name or "." in child_name:
            raise KeyError(
                f"a cell's attribute is not empty and has no dot: {child_name!r}"
            )
        if hasattr(self, child_name) and child_name not in self._cells:
            raise KeyError(f"{self._label(child_name)} is an attribute already")
        if not isinstance(child_cell, Cell):
            raise TypeError(f"expected a Cell, not {type(child_cell).__name__}")
        self._set_cell(child_name, child_cell)

    def _set_plain(self, name: str, value: object) -> None:
        if isinstance(value, list | tuple | dict) and value:
            unregistered.warn(self, name, value)
        if name in self.__dict__["_cells"] or name in self.__dict__["_tuples"]:
            self._unregister(name)
        object.__setattr__(self, name, value)
