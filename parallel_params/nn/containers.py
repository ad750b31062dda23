"""`CellList` and `SequentialCell`: cells by number."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, overload

from parallel_params.nn.cell import Cell

if TYPE_CHECKING:
    from typing_extensions import Self


class _Numbered(Cell):
    """What both have in common: they are like a list, and name cells "0", "1", ..."""

    def _checked(self, cell: object) -> Cell:
        if not isinstance(cell, Cell):
            raise TypeError(
                f"a {type(self).__name__} holds Cells, not a {type(cell).__name__}"
            )
        return cell

    def _replace_all(self, cells: Iterable[Cell]) -> None:
        """Hold exactly these, numbered anew; their parameters follow the numbers."""
        members = [self._checked(cell) for cell in cells]
        for name in list(self._cells):
            delattr(self, name)
        for number, cell in enumerate(members):
            self._set_cell(str(number), cell)

    def __len__(self) -> int:
        return len(self._cells)

    def __iter__(self) -> Iterator[Cell]:
        return iter(self._cells.values())

    @overload
    def __getitem__(self, index: int) -> Cell: ...
    @overload
    def __getitem__(self, index: slice) -> "Self": ...
    def __getitem__(self, index: "int | slice") -> "Cell | Self":
        """Return a cell; for a slice, a container of its cells, names as they are."""
        members = list(self)
        if not isinstance(index, slice):
            return members[_number(index, len(members))]
        part = type(self)()
        part.__dict__["_auto_prefix"] = False
        for cell in members[index]:
            part.append(cell)
        return part

    def __setitem__(self, index: int, cell: Cell) -> None:
        name = list(self._cells)[_number(index, len(self))]
        self._set_cell(name, self._checked(cell))

    def __delitem__(self, index: "int | slice") -> None:
        members = list(self)
        if not isinstance(index, slice):
            index = _number(index, len(members))
        del members[index]
        self._replace_all(members)

    def append(self, cell: Cell) -> "Self":
        """Add a cell at the end."""
        self._set_cell(str(len(self)), self._checked(cell))
        return self


def _number(index: object, num_cells: int) -> int:
    if not isinstance(index, int) or isinstance(index, bool):
        raise TypeError(f"cells are numbered by ints, not {index!r}")
    if not -num_cells <= index < num_cells:
        raise IndexError(f"there are {num_cells} cells, so none has number {index}")
    return index % num_cells


class CellList(_Numbered):
    """A list of cells, registered: `cells[0]`, parameters called "0.weight".

    Args:
        args: cells, or one list of cells.
        auto_prefix: as of `Cell`.

    Raises:
        TypeError: an element is no Cell.
    """

    def __init__(self, *args: Cell | Iterable[Cell], auto_prefix: bool = True) -> None:
        super().__init__(auto_prefix)
        for cell in _members(args):
            self.append(cell)

    def insert(self, index: int, cell: Cell) -> None:
        """Put a cell before number `index`; those behind are renumbered."""
        members = list(self)
        members.insert(index, self._checked(cell))
        self._replace_all(members)

    def extend(self, cells: Iterable[Cell]) -> "Self":
        """Add cells at the end."""
        for cell in [self._checked(cell) for cell in cells]:
            self.append(cell)
        return self

    __iadd__ = extend

    def construct(self, *inputs: object) -> None:
        """Raise: a list of cells says nothing about the order of computing."""
        raise NotImplementedError("a CellList is not called; call its cells")


class SequentialCell(_Numbered):
    """Cells called one after the other, each with what the one before returned.

    Args:
        args: cells, or one list of cells, or one OrderedDict of name -> cell.

    Raises:
        TypeError: an element is no Cell.
    """

    def __init__(self, *args: Cell | Iterable[Cell] | Mapping[str, Cell]) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, cell in args[0].items():
                self.insert_child_to_cell(name, self._checked(cell))
        else:
            for cell in _members(args):
                self.append(cell)

    def construct(self, x: object) -> object:
        """Return what the last cell returns."""
        for cell in self._cells.values():
            x = cell(x)
        return x


def _members(args: tuple[object, ...]) -> Iterable[Cell]:
    """Return the cells of f(a, b), f([a, b]) or f(CellList); the elements unchecked."""
    if len(args) == 1 and (
        isinstance(args[0], CellList) or not isinstance(args[0], Cell)
    ):
        if not isinstance(args[0], Iterable):
            raise TypeError(f"expected cells, not a {type(args[0]).__name__}")
        return args[0]
    return args  # type: ignore[return-value]  # whoever stores them checks them
