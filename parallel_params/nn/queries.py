"""What can be asked of a tree of cells, and the switches that reach all of it.

`Cell` builds on this; it keeps the registers that are read here. Paths are attribute
paths (`backbone.0.weight`); the `name` of a parameter may differ from its path.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

from parallel_params.nn.parameter import Parameter, is_broadcast
from parallel_params.nn.settings import checked_bool

if TYPE_CHECKING:
    from typing_extensions import Self

    from parallel_params.nn.cell import Cell

_PREFIX = re.compile(r"[0-9a-zA-Z_.\-]*")


class Queries:
    """The side of a cell that looks at the tree below it."""

    _params: dict[str, Parameter]
    _cells: "dict[str, Cell]"
    training: bool
    requires_grad: bool

    # ---- cells

    def cells_and_names(self, name_prefix: str = "") -> "Iterator[tuple[str, Cell]]":
        """Yield (path, cell) for this cell and all below, each once, outer first."""
        return self._walk(name_prefix, set())

    def _walk(self, path: str, seen: set[int]) -> "Iterator[tuple[str, Cell]]":
        if id(self) in seen:
            return
        seen.add(id(self))
        yield path, cast("Cell", self)
        for name, cell in self._cells.items():
            yield from cell._walk(f"{path}.{name}" if path else name, seen)

    def cells(self) -> "Iterator[Cell]":
        """Return the cells directly below this one."""
        return iter(self.name_cells().values())

    def name_cells(self) -> "dict[str, Cell]":
        """Return the cells directly below this one by attribute, each once."""
        found: dict[int, str] = {}
        for name, cell in self._cells.items():
            found.setdefault(id(cell), name)
        return {name: self._cells[name] for name in found.values()}

    def apply(self, fn: "Callable[[Cell], object]") -> "Self":
        """Call `fn` with every cell below, then with this one; return this one."""
        for cell in self.cells():
            cell.apply(fn)
        fn(cast("Cell", self))
        return self

    # ---- parameters

    def parameters_and_names(
        self, name_prefix: str = "", expand: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield (path, parameter), each object once, those of outer cells first.

        Args:
            name_prefix: put before every path.
            expand: whether to look into the cells below.
        """
        cells = self.cells_and_names(name_prefix) if expand else [(name_prefix, self)]
        seen: set[int] = set()
        for path, cell in cells:
            for name, parameter in cell._params.items():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield (f"{path}.{name}" if path else name), parameter

    def get_parameters(self, expand: bool = True) -> Iterator[Parameter]:
        """Yield the parameters in the order of `parameters_and_names`."""
        for _, parameter in self.parameters_and_names(expand=expand):
            yield parameter

    def trainable_params(self, recurse: bool = True) -> list[Parameter]:
        """Return the parameters that require a gradient."""
        return [p for p in self.get_parameters(recurse) if p.requires_grad]

    def untrainable_params(self, recurse: bool = True) -> list[Parameter]:
        """Return the parameters that do not require a gradient."""
        return [p for p in self.get_parameters(recurse) if not p.requires_grad]

    def parameters_dict(self, recurse: bool = True) -> OrderedDict[str, Parameter]:
        """Return the parameters by `name`; of two with one name, the later."""
        return OrderedDict((p.name, p) for p in self.get_parameters(recurse))

    def parameters_broadcast_dict(
        self, recurse: bool = True
    ) -> OrderedDict[str, Parameter] | None:
        """Return by `name` those that are the same on all ranks; None if there is none.

        That is, those that are not `layerwise_parallel`, frozen ones included.
        """
        found = OrderedDict(
            (name, parameter)
            for name, parameter in self.parameters_dict(recurse).items()
            if is_broadcast(parameter)
        )
        return found or None

    def check_names(self) -> None:
        """Raise ValueError if two parameters have one `name`."""
        paths: dict[str, str] = {}
        for path, parameter in self.parameters_and_names():
            other = paths.setdefault(parameter.name, path)
            if other != path:
                raise ValueError(
                    f"{type(self).__name__} has two Parameters, {other} and {path}, "
                    f"but their name {parameter.name!r} already exists; give one of "
                    "them a name= of its own, or none: then its attribute names it"
                )

    def update_parameters_name(self, prefix: str = "", recurse: bool = True) -> None:
        """Rename every parameter to `prefix` followed by its path; "" does nothing.

        Raises:
            TypeError: the prefix is no text.
            ValueError: it has other characters than ASCII letters, digits, `_.-`.
        """
        if not isinstance(prefix, str):
            raise TypeError(f"a prefix is a str, not {type(prefix).__name__}")
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(
                f"a prefix has ASCII letters, digits, '_', '.' and '-', not {prefix!r}"
            )
        self._prefix_names(prefix, recurse)

    def _prefix_names(self, prefix: str, recurse: bool = True) -> None:
        if not prefix:
            return
        for path, parameter in self.parameters_and_names(expand=recurse):
            parameter.is_init = False
            parameter.name = prefix + path
        # What is registered further below from now on gets its full path, too.
        for path, cell in self.cells_and_names():
            cell.__dict__["_prefix"] = f"{prefix}{path}." if path else prefix

    def init_parameters_data(self) -> dict[Parameter, Parameter]:
        """Make the values of lazy parameters; return all as parameter -> itself."""
        return {p: p.init_data() for p in self.get_parameters()}

    @property
    def parameter_layout_dict(self) -> dict[str, object]:
        """Always empty: layouts are the matter of the plan."""
        return {}

    # ---- switches

    def set_comm_fusion(self, fusion_type: int, recurse: bool = True) -> "Self":
        """Set `comm_fusion` of every parameter; return the cell."""
        for parameter in self.get_parameters(recurse):
            parameter.comm_fusion = fusion_type
        return self

    def set_grad(self, requires_grad: bool = True) -> "Self":
        """Set the flag of this cell alone (no parameter's, no other cell's)."""
        self.requires_grad = requires_grad
        return self

    def set_train(self, mode: bool = True) -> "Self":
        """Set whether this cell and all below are training; return the cell."""
        for _, cell in self.cells_and_names():
            cell.training = mode
        return self

    def recompute(
        self,
        *,
        mp_comm_recompute: bool = True,
        parallel_optimizer_comm_recompute: bool = False,
        recompute_slice_activation: bool = False,
    ) -> None:
        """Drop the activations of this cell after forward; make them again in backward.

        Only the inputs of the cell are kept. Results have the same bits: random draws
        are the same, and statistics observe once. It costs one more forward pass of the
        cell. Cells below may be told as well; then they are run once more for that.

        Where weights are cut over nodes (level 3), a cell keeps its activations if a
        bucket of weights is gathered in the middle of it, and so does every cell in a
        function that is differentiated twice.

        Args:
            mp_comm_recompute: checked, no more.
            parallel_optimizer_comm_recompute: noted on every parameter below.
            recompute_slice_activation: checked, no more.

        Raises:
            TypeError: an argument is no bool.
        """
        checked_bool("mp_comm_recompute", mp_comm_recompute)
        checked_bool("recompute_slice_activation", recompute_slice_activation)
        for parameter in self.get_parameters():
            parameter.parallel_optimizer_comm_recompute = (
                parallel_optimizer_comm_recompute
            )
        self.__dict__["_recomputes"] = True

    # ---- printing

    def extend_repr(self) -> str:
        """Return what to print between the brackets; subclasses say."""
        return ""

    def __repr__(self) -> str:
        extra = self.extend_repr()
        if not self._cells:
            return f"{type(self).__name__}<{extra}>"
        lines = "\n" + (f"{extra}\n" if extra else "")
        lines += "".join(f"({name}): {cell!r}\n" for name, cell in self._cells.items())
        return f"{type(self).__name__}<{lines.replace(chr(10), chr(10) + '  ')}>"
