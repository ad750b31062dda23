"""`CellList` and `SequentialCell` as lists."""

from typing import TypeVar

import pytest

from parallel_params.nn import Cell, CellList, Dense, Identity, SequentialCell
from parallel_params.tensor import Tensor

Container = TypeVar("Container", CellList, SequentialCell)
both = pytest.mark.parametrize("kind", [CellList, SequentialCell])


def layer() -> Dense:
    return Dense(2, 2)


def names(cell: Cell) -> list[str]:
    return [p.name for p in cell.get_parameters()][::2]


@both
def test_is_a_list_of_cells(kind: type[CellList]) -> None:
    first, second = layer(), layer()
    cells = kind(first, second)

    assert len(cells) == 2
    assert list(cells) == [first, second]
    assert (cells[0], cells[-1]) == (first, second)
    third = layer()
    assert cells.append(third) is cells
    assert list(cells) == [first, second, third]
    assert names(cells) == ["0.weight", "1.weight", "2.weight"]


@both
def test_a_slice_is_of_the_same_kind_and_renames_nothing(kind: type[CellList]) -> None:
    cells = kind(layer(), layer(), layer())
    part = cells[1:]
    assert type(part) is kind
    assert list(part) == list(cells)[1:]
    assert names(part) == ["1.weight", "2.weight"]


@both
def test_deleting_renumbers(kind: type[CellList]) -> None:
    outer = Cell()
    outer.c = cells = kind(layer(), layer(), layer(), layer())
    kept = [cells[1], cells[3]]

    del cells[0]
    del cells[1:2]

    assert list(cells) == kept
    assert names(outer) == ["c.0.weight", "c.1.weight"]


@both
def test_setting_replaces(kind: type[CellList]) -> None:
    cells = kind(layer(), layer())
    cells[-1] = other = layer()
    assert cells[1] is other
    assert names(cells) == ["0.weight", "1.weight"]


@both
@pytest.mark.parametrize("bad", [[1], ["x"], [layer(), None], [3.0]])
def test_other_things_than_cells_are_refused(
    kind: type[CellList], bad: list[Cell]
) -> None:
    with pytest.raises(TypeError):
        kind(*bad)
    with pytest.raises(TypeError):
        kind(bad)


@both
def test_numbers_out_of_range_are_refused(kind: type[CellList]) -> None:
    cells = kind(layer())
    for bad in (1, -2):
        with pytest.raises(IndexError, match="1 cells"):
            cells[bad]
    with pytest.raises(TypeError):
        cells["0"]  # type: ignore[call-overload]  # the point


def test_a_cell_list_grows_anywhere() -> None:
    first, second, third, fourth = (layer() for _ in range(4))
    cells = CellList([second])
    cells.insert(0, first)
    cells.extend([third])
    cells += [fourth]
    assert list(cells) == [first, second, third, fourth]
    assert names(cells) == [f"{i}.weight" for i in range(4)]
    assert list(CellList(cells)) == list(cells)


def test_a_cell_list_is_not_called() -> None:
    with pytest.raises(NotImplementedError):
        CellList(Identity())(1)


def test_a_sequential_cell_calls_one_after_the_other() -> None:
    class Plus(Cell):
        def __init__(self, number: float) -> None:
            super().__init__()
            self.number = number

        def construct(self, x: Tensor) -> Tensor:
            return x * 2 + self.number

    net = SequentialCell(Plus(1.0), Plus(3.0))
    assert net(Tensor([1.0])).tolist() == [9.0]
    net.append(Identity())
    assert net(Tensor([1.0])).tolist() == [9.0]
    assert SequentialCell()(5) == 5
