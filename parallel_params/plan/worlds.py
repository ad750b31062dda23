"""Other worlds that the parameters of a plan could lie in: more ranks, or fewer.

Slices are taken to go on along the dim they are cut along; whether the cells that made
them can be cut so is not known here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from parallel_params.errors import PlanError
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level
from parallel_params.plan.spec import ParamSpec

_FACTORS = (2, 4, 8, 16, 32, 64)
_MOST_RANKS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A plan of the same parameters in another world.

    Attributes:
        plan: of that world.
        is_recut: whether slices are cut otherwise than now.
    """

    plan: Plan
    is_recut: bool


def larger_worlds(plan: Plan) -> Iterator[World]:
    """Yield worlds of more ranks, the smallest first: more nodes like those there are.

    The first of the batch axes grows, or the one that slices are cut along; at the
    level of the plan and at level 3. Worlds that grains forbid are left out.
    """
    for factor in _FACTORS:
        if factor * plan.mesh.size > _MOST_RANKS:
            return
        for axis in _growing_axes(plan):
            sizes = dict(zip(plan.mesh.axes, plan.mesh.sizes, strict=True))
            yield from _worlds(plan, sizes | {axis: factor * sizes[axis]})


def smaller_worlds(plan: Plan) -> Iterator[World]:
    """Yield worlds of fewer ranks on the one node, the largest first.

    There are none where ranks lie on several nodes, or along axes that cut nothing.
    """
    axes = plan.mesh.batch_axes
    if plan.mesh.num_nodes > 1 or not axes:
        return
    sizes = dict(zip(plan.mesh.axes, plan.mesh.sizes, strict=True))
    for factor in _FACTORS:
        if sizes[axes[0]] % factor == 0:
            yield from _worlds(plan, sizes | {axes[0]: sizes[axes[0]] // factor})


def _growing_axes(plan: Plan) -> list[str]:
    axes = list(plan.mesh.batch_axes[:1])
    own = plan.mesh.layerwise_axis
    has_slices = any(spec.slice_dim is not None for spec in plan.params)
    if own is not None and own not in axes and has_slices:
        axes.append(own)
    return axes


def _worlds(plan: Plan, sizes: dict[str, int]) -> Iterator[World]:
    """Yield the plans of a mesh: at the level as it is, and with everything cut."""
    old, policy = plan.mesh, replace(plan.policy, memory_limit_bytes=None)
    mesh = Mesh(
        sizes,
        ranks_per_node=old.ranks_per_node,
        layerwise_axis=old.layerwise_axis,
        batch_axes=old.batch_axes,
    )
    params = _recut(plan, mesh)
    if params is None:
        return
    for level in dict.fromkeys((policy.level, Level.WEIGHT)):
        try:
            other = make_plan(params, mesh, replace(policy, level=level))
        except PlanError:
            return  # the grains are too few
        yield World(plan=other, is_recut=params != plan.params)


def _recut(plan: Plan, mesh: Mesh) -> tuple[ParamSpec, ...] | None:
    """Return what a rank has of each parameter there; None if it would be no whole."""
    own = mesh.layerwise_axis
    if own is None:
        return plan.params
    before, after = plan.mesh.group_size((own,)), mesh.group_size((own,))
    params = []
    for spec in plan.params:
        if spec.slice_dim is not None and before != after:
            length, rest = divmod(spec.shape[spec.slice_dim] * before, after)
            if rest:
                return None
            dims = list(spec.shape)
            dims[spec.slice_dim] = length
            is_cut = after > 1
            spec = replace(spec, shape=tuple(dims), layerwise_parallel=is_cut)
        params.append(spec)
    return tuple(params)
