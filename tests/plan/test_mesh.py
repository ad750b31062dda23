from itertools import chain, combinations

import pytest
from hypothesis import given
from strategies import meshes

from parallel_params.errors import PlanError
from parallel_params.plan.mesh import Mesh


def subsets(axes: tuple[str, ...]) -> list[tuple[str, ...]]:
    return list(
        chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))
    )


@given(mesh=meshes())
def test_ranks_and_coordinates_are_inverses_in_c_order(mesh: Mesh) -> None:
    coordinates = [mesh.coordinate(rank) for rank in range(mesh.size)]
    assert coordinates == sorted(coordinates)
    assert [mesh.rank(place) for place in coordinates] == list(range(mesh.size))


@given(mesh=meshes())
def test_groups_along_axes_part_the_world(mesh: Mesh) -> None:
    for axes in subsets(mesh.axes):
        groups = {mesh.group(rank, axes) for rank in range(mesh.size)}
        assert sorted(chain.from_iterable(groups)) == list(range(mesh.size))
        for rank in range(mesh.size):
            group = mesh.group(rank, axes)
            assert len(group) == mesh.group_size(axes)
            assert list(group) == sorted(group)
            assert group[mesh.position(rank, axes)] == rank


@given(mesh=meshes())
def test_a_group_differs_along_its_axes_alone(mesh: Mesh) -> None:
    for axes in subsets(mesh.axes):
        for rank in range(mesh.size):
            for other in mesh.group(rank, axes):
                pairs = zip(
                    mesh.axes,
                    mesh.coordinate(rank),
                    mesh.coordinate(other),
                    strict=True,
                )
                assert all(axis in axes or one == two for axis, one, two in pairs)
                assert mesh.slice_index(other, axes) == mesh.slice_index(rank, axes)


@given(mesh=meshes())
def test_a_group_is_on_one_node_if_all_of_it_is(mesh: Mesh) -> None:
    for axes in subsets(mesh.axes):
        for rank in range(mesh.size):
            nodes = {mesh.node(other) for other in mesh.group(rank, axes)}
            assert mesh.is_on_one_node(rank, axes) == (len(nodes) == 1)
    assert mesh.node(mesh.size - 1) == mesh.num_nodes - 1


def test_the_layerwise_axis_is_model_or_the_only_one() -> None:
    assert Mesh(data=4).layerwise_axis == "data"
    assert Mesh({"model": 2, "data": 4}).layerwise_axis == "model"
    assert Mesh(data=2, expert=2).layerwise_axis is None
    assert Mesh(data=2, expert=2, layerwise_axis="expert").layerwise_axis == "expert"


def test_ranks_along_the_model_axis_see_the_same_samples() -> None:
    assert Mesh(data=4).batch_axes == ("data",)
    assert Mesh(model=2, data=3).batch_axes == ("data",)
    assert Mesh(model=4).num_shares == 1
    assert Mesh(data=2, expert=2, batch_axes=("expert", "data")).num_shares == 4
    mesh = Mesh(data=2, model=2)
    assert [mesh.share_index(rank) for rank in range(4)] == [0, 0, 1, 1]


def test_a_mesh_is_a_value() -> None:
    assert Mesh(data=2, model=3) == Mesh({"data": 2, "model": 3})
    assert hash(Mesh(data=2)) == hash(Mesh({"data": 2}))
    assert repr(Mesh(data=2, model=3)) == "Mesh(data=2, model=3)"
    assert Mesh(data=2, model=3) != Mesh(model=3, data=2)


def test_a_mesh_of_nonsense_is_refused() -> None:
    with pytest.raises(PlanError, match=r"for example Mesh\(data=4\)"):
        Mesh()
    with pytest.raises(PlanError, match="mesh axis 'data': expected a whole number"):
        Mesh(data=0)
    with pytest.raises(PlanError, match="mesh axis 'da ta': expected a name"):
        Mesh({"da ta": 2})
    with pytest.raises(PlanError, match="ranks_per_node: expected a whole number >= 1"):
        Mesh(data=2, ranks_per_node=0)
    with pytest.raises(PlanError, match=r"no axis 'modle'. Did you mean 'model'"):
        Mesh(data=2, model=2, layerwise_axis="modle")
    with pytest.raises(PlanError, match=r"no axis 'date'. Did you mean 'data'"):
        Mesh(data=2, model=2, batch_axes=("date",))


def test_questions_outside_of_the_mesh_are_refused() -> None:
    mesh = Mesh(data=2, model=3)
    with pytest.raises(PlanError, match=r"rank 6 is outside of .* of 6 ranks"):
        mesh.coordinate(6)
    with pytest.raises(PlanError, match="rank -1 is outside"):
        mesh.position(-1, mesh.axes)
    with pytest.raises(PlanError, match=r"no rank at \(0, 3\)"):
        mesh.rank((0, 3))
    with pytest.raises(PlanError, match=r"no rank at \(0,\)"):
        mesh.rank((0,))
    with pytest.raises(PlanError, match="has no axis 'pipe'"):
        mesh.group_size(("pipe",))
