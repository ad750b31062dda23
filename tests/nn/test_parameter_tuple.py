"""PARAMETER.md, section 3, sentence by sentence."""

import pytest

from parallel_params.nn import Cell, Parameter, ParameterTuple
from parallel_params.tensor import Tensor


def named(*names: str) -> list[Parameter]:
    return [Parameter([1.0, 2.0], name=name) for name in names]


def test_takes_any_iterable() -> None:
    params = named("a", "b")
    for source in (params, tuple(params), iter(params), (p for p in params)):
        made = ParameterTuple(source)
        assert isinstance(made, tuple)
        assert [p.name for p in made] == ["a", "b"]
    assert ParameterTuple([]) == ()


@pytest.mark.parametrize(
    "given",
    [
        Parameter([1.0]),
        {"a": Parameter([1.0])},
        "ab",
        3,
        None,
        [Tensor([1.0])],
        [Parameter([1.0]), 1],
    ],
    ids=["bare parameter", "dict", "text", "int", "None", "tensors", "mixed"],
)
def test_refuses_other_things(given: object) -> None:
    with pytest.raises(TypeError):
        ParameterTuple(given)  # type: ignore[arg-type]  # the point


def test_two_parameters_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="its name 'n' already exists"):
        ParameterTuple(named("n", "m", "n"))


def test_the_same_parameter_twice_is_fine() -> None:
    (a,) = named("a")
    assert len(ParameterTuple([a, a])) == 2


def test_unnamed_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="its name 'Parameter' already exists"):
        ParameterTuple([Parameter([1.0]), Parameter([1.0])])


def test_clone_prefixes_names_and_keeps_flags() -> None:
    source = ParameterTuple([Parameter([1.0], "a", False, True, False)])

    (clone,) = source.clone("moments", init="zeros")

    assert clone.name == "moments.a"
    assert (clone.requires_grad, clone.layerwise_parallel) == (False, True)
    assert not clone.parallel_optimizer
    assert clone.asnumpy().tolist() == [0.0]
    assert (source[0].name, source[0].asnumpy().tolist()) == ("a", [1.0])
    assert isinstance(source.clone("x"), ParameterTuple)
    assert source.clone("x")[0].asnumpy().tolist() == [1.0]


@pytest.mark.parametrize("prefix", ["p", "1x", "a.b", "_p", "a1."])
def test_clone_takes_prefix(prefix: str) -> None:
    assert ParameterTuple(named("a")).clone(prefix)[0].name == f"{prefix}.a"


@pytest.mark.parametrize("prefix", ["", "a b", "a-b", ".x", "größe", "a\n"])
def test_clone_refuses_prefix(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        ParameterTuple(named("a")).clone(prefix)


def test_clone_needs_a_prefix_of_text() -> None:
    with pytest.raises(TypeError):
        ParameterTuple(named("a")).clone()  # type: ignore[call-arg]  # the point
    with pytest.raises(TypeError):
        ParameterTuple(named("a")).clone(3)  # type: ignore[arg-type]  # the point


def test_clone_checks_init_as_parameter_clone_does() -> None:
    with pytest.raises(ValueError, match="no initializer"):
        ParameterTuple(named("a")).clone("p", init="unknown")


def test_a_tuple_with_one_parameter_twice_cannot_be_cloned() -> None:
    (a,) = named("a")
    with pytest.raises(ValueError, match="already exists"):
        ParameterTuple([a, a]).clone("p")


def test_slices_and_sums_are_plain_tuples() -> None:
    made = ParameterTuple(named("a", "b"))
    assert type(made[:1]) is tuple
    assert type(made + made) is tuple


def test_comparing_compares_tensors() -> None:
    first, second = ParameterTuple(named("a")), ParameterTuple(named("a"))
    with pytest.raises(ValueError, match="ambiguous"):
        assert first == second
    with pytest.raises(ValueError, match="ambiguous"):
        assert second[0] in first


def test_members_are_registered_under_their_own_names() -> None:
    cell = Cell()
    cell.weights = made = ParameterTuple(named("a", "b.c"))

    assert cell.weights is made
    assert dict(cell.parameters_and_names()) == {"a": made[0], "b.c": made[1]}
    assert [p.name for p in cell.trainable_params()] == ["a", "b.c"]

    cell.weights = ParameterTuple(named("d"))
    assert list(cell.parameters_dict()) == ["d"]
    del cell.weights
    assert not cell.parameters_dict()


def test_an_unnamed_member_is_numbered_on_a_cell() -> None:
    cell = Cell()
    cell.first = ParameterTuple([Parameter([1.0])])
    cell.second = ParameterTuple([Parameter([1.0])])
    assert list(cell.parameters_dict()) == ["Parameter$1", "Parameter$2"]


def test_a_clash_on_a_cell_names_both_attributes() -> None:
    cell = Cell()
    cell.a = Parameter([1.0])
    with pytest.raises(ValueError, match=r"Cell\.weights.*Cell\.a.*'a' already exists"):
        cell.weights = ParameterTuple(named("a"))
    cell.more = ParameterTuple(named("b"))
    with pytest.raises(ValueError, match=r"Cell\.b.*'b' already exists"):
        cell.b = Parameter([1.0])
    cell.same = ParameterTuple([cell.a])
    assert list(cell.parameters_dict()) == ["a", "b"]


def test_a_member_does_not_take_the_name_of_an_attribute() -> None:
    cell = Cell()
    cell.scale = 1.0
    cell.weights = made = ParameterTuple(named("scale", "training"))
    cell.scale = 2.0
    assert cell.scale == 2.0
    assert list(cell.get_parameters()) == list(made)
    del cell.scale
    assert list(cell.get_parameters()) == list(made)
    assert getattr(cell, "scale") is made[0]  # noqa: B009 - mypy thinks it is 2.0
