"""Registration: every row of PARAMETER.md's table 4.1, and A3 and A8."""

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from parallel_params import nn
from parallel_params.nn import Cell, Parameter, UnregisteredParameterWarning
from parallel_params.tensor import Tensor


class Fc(Cell):
    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter([[1.0, 2.0]])
        self.bias = Parameter([0.0], name="b")

    def construct(self, x: Tensor) -> Tensor:
        return x


class Holder(Cell):
    """A cell with the given attributes."""

    def __init__(self, auto_prefix: bool = True, **attributes: Any) -> None:
        super().__init__(auto_prefix)
        for name, value in attributes.items():
            setattr(self, name, value)


def names(cell: Cell) -> list[str]:
    return [p.name for p in cell.get_parameters()]


def paths(cell: Cell) -> list[str]:
    return [path for path, _ in cell.parameters_and_names()]


@pytest.mark.parametrize("value", [Parameter([1.0]), Cell()], ids=["parameter", "cell"])
def test_before_super_init_is_an_attribute_error(value: object) -> None:
    class Hasty(Cell):
        def __init__(self) -> None:
            self.a = value
            super().__init__()

    with pytest.raises(AttributeError, match=r"super\(\).__init__"):
        Hasty()


def test_an_unnamed_parameter_gets_its_attributes_name() -> None:
    cell = Holder(a=Parameter([1.0]))
    assert cell.a.name == "a"
    assert paths(cell) == ["a"]


def test_a_name_of_its_own_is_kept_beside_the_key() -> None:
    cell = Holder(a=Parameter([1.0], name="bb"))
    assert (names(cell), paths(cell)) == (["bb"], ["a"])


def test_the_name_parameter_counts_as_unnamed() -> None:
    assert names(Holder(a=Parameter([1.0], name="Parameter"))) == ["a"]


def test_nesting_renames_to_the_attribute_path() -> None:
    cell = Holder(sub=Fc())
    assert names(cell) == paths(cell) == ["sub.weight", "sub.bias"]


def test_nesting_again_grows_the_path() -> None:
    cell = Holder(backbone=Holder(backbone=Holder(fc=Fc())))
    assert names(cell)[0] == "backbone.backbone.fc.weight"


def test_what_is_registered_after_nesting_gets_its_full_path() -> None:
    inner = Holder()
    cell = Holder(sub=inner)
    inner.late = Parameter([1.0])
    inner.fc = Fc()
    assert names(cell) == paths(cell)
    assert names(cell)[0] == "sub.late"


def test_a_parameter_survives_nesting() -> None:
    fc = Fc()
    weight = fc.weight
    assert Holder(sub=fc).sub.weight is weight


def test_without_auto_prefix_names_stay() -> None:
    cell = Holder(False, sub=Fc())
    assert names(cell) == ["weight", "b"]
    assert paths(cell) == ["sub.weight", "sub.bias"]
    assert names(nn.WithLossCell(Holder(fc=Fc()), nn.MSELoss()))[0] == "fc.weight"


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_are_kept_unregistered_and_their_unnamed_members_numbered(
    kind: type[list[Parameter]],
) -> None:
    held = kind([Parameter([1.0]), Parameter([2.0], name="own"), Parameter([3.0])])
    with pytest.warns(
        UnregisteredParameterWarning, match=r"Holder\.ws.*ParameterTuple"
    ):
        cell = Holder(ws=held)
    assert cell.ws is held
    assert [p.name for p in held] == ["Parameter$1", "own", "Parameter$2"]
    assert not names(cell)
    with pytest.warns(UnregisteredParameterWarning):
        cell.more = [Parameter([1.0])]
    assert cell.more[0].name == "Parameter$3"


def test_a_repeated_name_in_lists_is_a_value_error_at_once() -> None:
    twins = [Parameter([1.0], name="n"), Parameter([1.0], name="n")]
    with pytest.raises(
        ValueError, match=r"Holder\.ws\[1\].*Holder\.ws\[0\].*'n' already exists"
    ):
        Holder(ws=twins)
    with pytest.warns(UnregisteredParameterWarning):
        cell = Holder(ws=twins[:1])
    with pytest.raises(
        ValueError, match=r"Holder\.more\[0\].*Holder\.ws\[0\].*'n' already exists"
    ):
        cell.more = twins[1:]


def test_dicts_of_parameters_and_lists_of_cells_are_not_registered() -> None:
    with pytest.warns(UnregisteredParameterWarning, match="ParameterTuple"):
        cell = Holder(ws={"a": Parameter([1.0])})
    with pytest.warns(UnregisteredParameterWarning, match="CellList"):
        cell.cs = [Fc()]
    assert not names(cell)


def test_a_list_of_what_is_registered_already_does_not_warn() -> None:
    cell = Holder(a=Parameter([1.0]), fc=Fc())
    cell.ws, cell.cs, cell.sizes = [cell.a, cell.fc.weight], (cell.fc,), [1, 2]
    assert len(names(cell)) == 3


def test_cell_list_and_sequential_number_their_cells() -> None:
    cells = nn.CellList([Fc(), Fc()])
    assert names(Holder(c=cells))[::2] == ["c.0.weight", "c.1.weight"]
    for made in (nn.SequentialCell(Fc(), Fc()), nn.SequentialCell([Fc(), Fc()])):
        assert names(made)[::2] == ["0.weight", "1.weight"]
        assert names(Holder(c=made))[::2] == ["c.0.weight", "c.1.weight"]
    by_name = nn.SequentialCell(OrderedDict(first=Fc(), second=Fc()))
    assert names(by_name)[::2] == ["first.weight", "second.weight"]


def test_one_parameter_under_two_attributes_is_listed_once_first_name_wins() -> None:
    shared = Parameter([1.0])
    cell = Holder(a=shared, b=shared)
    assert (names(cell), paths(cell)) == (["a"], ["a"])


def test_one_cell_under_two_attributes_is_named_by_the_last() -> None:
    shared = Fc()
    cell = Holder(a=shared, b=shared)
    assert paths(cell) == ["a.weight", "a.bias"]
    assert names(cell) == ["b.weight", "b.bias"]


def test_reassigning_a_parameter_replaces_it() -> None:
    cell = Holder(a=Parameter([1.0]))
    cell.a = other = Parameter([2.0])
    assert cell.a is other
    assert list(cell.get_parameters()) == [other]
    assert other.name == "a"


def test_assigning_a_tensor_sets_the_parameters_data() -> None:
    cell = Holder(a=Parameter([1.0]))
    parameter = cell.a
    cell.a = Tensor([5.0])
    assert cell.a is parameter
    assert parameter.item() == 5.0


@pytest.mark.parametrize(
    ("value", "error"),
    [(3, TypeError), (2.5, TypeError), ("x", TypeError), (None, AttributeError)],
)
def test_assigning_other_things_to_a_parameter_is_refused(
    value: object, error: type[Exception]
) -> None:
    cell = Holder(a=Parameter([1.0]))
    with pytest.raises(error):
        cell.a = value
    assert names(cell) == ["a"]


def test_a_number_does_not_become_a_parameter() -> None:
    cell = Holder(a=3, later=None)
    with pytest.raises(TypeError, match="already a int"):
        cell.a = Parameter([1.0])
    cell.later = Parameter([1.0])
    assert names(cell) == ["later"]


def test_a_plain_attribute_becomes_a_cell_or_a_tuple() -> None:
    cell = Holder(a=3, b=[])
    cell.a = Fc()
    cell.b = nn.ParameterTuple([Parameter([1.0], name="w")])
    assert names(cell) == ["w", "a.weight", "a.bias"]


def test_parameters_and_cells_do_not_take_each_others_place() -> None:
    cell = Holder(a=Parameter([1.0]), c=Fc())
    with pytest.raises(TypeError):
        cell.a = Fc()
    with pytest.raises(TypeError):
        cell.c = Parameter([1.0])
    for other in (3, nn.ParameterTuple([])):
        with pytest.raises(TypeError):
            cell.c = other
    cell.c = None
    assert names(cell) == ["a"]


def test_del_unregisters() -> None:
    cell = Holder(a=Parameter([1.0]), c=Fc(), n=1)
    del cell.a, cell.c, cell.n
    assert not names(cell)
    assert not hasattr(cell, "a")
    with pytest.raises(AttributeError):
        del cell.a


def test_insert_param_to_cell_registers() -> None:
    cell = Holder()
    cell.insert_param_to_cell("w", Parameter([1.0]))
    assert (names(cell), cell.w.name) == (["w"], "w")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("", Parameter([1.0]), KeyError),
        ("a.b", Parameter([1.0]), KeyError),
        ("taken", Parameter([1.0]), KeyError),
        ("set_train", Parameter([1.0]), KeyError),
        ("w", Tensor([1.0]), TypeError),
        ("w", None, TypeError),
    ],
)
def test_insert_param_to_cell_refuses(
    name: str, value: Parameter, error: type[Exception]
) -> None:
    with pytest.raises(error):
        Holder(taken=3).insert_param_to_cell(name, value)


def test_insert_child_to_cell_registers_and_refuses() -> None:
    cell = Holder(taken=3)
    cell.insert_child_to_cell("fc", Fc())
    assert names(cell)[0] == "fc.weight"
    for name in ("", "a.b", "taken"):
        with pytest.raises(KeyError):
            cell.insert_child_to_cell(name, Fc())
    with pytest.raises(TypeError):
        cell.insert_child_to_cell("x", 3)  # type: ignore[arg-type]  # the point


def test_renaming_shows_in_the_dict_but_not_in_the_paths() -> None:
    cell = Holder(a=Parameter([1.0]))
    cell.a.name = "zzz"
    assert list(cell.parameters_dict()) == ["zzz"]
    assert paths(cell) == ["a"]


def test_copies_of_a_cell_share_nothing() -> None:
    cell = Holder(sub=Fc(), tied=None)
    cell.tied = cell.sub.weight
    for twin in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        assert names(twin) == names(cell)
        assert twin.sub.weight is twin.tied
        assert not np.shares_memory(twin.tied, cell.sub.weight.asnumpy())
        twin.sub.weight = Tensor([[5.0, 6.0]])
        assert twin.tied.asnumpy().tolist() == [[5.0, 6.0]]
