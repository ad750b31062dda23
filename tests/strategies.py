"""Parameters, meshes, policies and plans for hypothesis, ugly ones among them.

Scalars, parameters without elements, fewer elements than ranks, primes, one rank,
frozen and layerwise-parallel parameters, tied names, every dtype.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import get_args

from hypothesis import strategies as st

from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level, Policy, Reduction
from parallel_params.plan.spec import TRAINABLE_DTYPES, ParamSpec, Structure

SHAPES: tuple[tuple[int, ...], ...] = (
    (),
    (0,),
    (1,),
    (3, 0),
    (2,),
    (7,),
    (13,),
    (3, 5),
    (64,),
    (17, 4),
    (8, 16),
    (97,),
    (5, 7, 3),
    (31, 11),
)
SLOTS: tuple[tuple[str, ...], ...] = ((), ("momentum",), ("m", "v"))
STRUCTURES: tuple[Structure, ...] = get_args(Structure)
DTYPES = tuple(sorted(TRAINABLE_DTYPES))

# Requires a gradient, layerwise-parallel, optimizer state may be cut; the usual twice.
FLAGS: tuple[tuple[bool, bool, bool], ...] = (
    (True, False, True),
    *product((True, False), (True, False), (True, False)),
)
FUSIONS = (1, 1, 1, 2, 0)

MESHES = tuple(
    Mesh(axes, ranks_per_node=ranks_per_node)
    for ranks_per_node in (None, 1, 2, 3)
    for axes in (
        {"data": 1},
        {"data": 2},
        {"data": 3},
        {"data": 4},
        {"data": 5},
        {"data": 8},
        {"data": 2, "model": 2},
        {"data": 3, "model": 2},
        {"model": 2, "data": 3},
        {"data": 2, "model": 3, "pipe": 2},
        {"data": 1, "model": 3},
    )
)

# Level, bucket bytes, threshold, grains per rank, alignment. Buckets are small, so that
# a model has several.
CHOICES = tuple(
    product(
        Level, (1, 64, 500, 4096), (0, 0, 50, 1 << 16), (None, 1, 2, 3, 4), (1, 4, 64)
    )
)


# Hypothesis takes its time for every choice, so one choice makes a whole parameter.
@cache
def _choose_params(
    structures: tuple[Structure, ...], dtypes: tuple[str, ...]
) -> st.SearchStrategy[tuple[ParamSpec, ...]]:
    values = tuple(product(SHAPES, dtypes, FLAGS, FUSIONS, structures, SLOTS))
    return st.lists(st.sampled_from(values), max_size=6).map(
        lambda drawn: tuple(_make_spec(*one) for one in enumerate(drawn))
    )


def _make_spec(
    index: int,
    value: tuple[
        tuple[int, ...], str, tuple[bool, bool, bool], int, Structure, tuple[str, ...]
    ],
) -> ParamSpec:
    shape, dtype, flags, comm_fusion, structure, state_slots = value
    requires_grad, layerwise_parallel, parallel_optimizer = flags
    return ParamSpec(
        f"layer{index}.weight",
        shape,
        dtype if requires_grad or index % 2 else "int8",
        requires_grad=requires_grad,
        layerwise_parallel=layerwise_parallel,
        parallel_optimizer=parallel_optimizer,
        comm_fusion=comm_fusion,
        structure=structure,
        state_slots=state_slots,
        aliases=(f"tied{index}.weight",) if index % 3 == 2 else (),
    )


def param_specs(
    *,
    structures: Sequence[Structure] = STRUCTURES,
    dtypes: Sequence[str] = DTYPES,
) -> st.SearchStrategy[tuple[ParamSpec, ...]]:
    """Return the parameters of a model, in declaration order; every third is tied."""
    return _choose_params(tuple(structures), tuple(dtypes))


def meshes() -> st.SearchStrategy[Mesh]:
    """Return worlds of one rank, of primes, of one axis and of several, in nodes."""
    return st.sampled_from(MESHES)


@st.composite
def policies(
    draw: st.DrawFn, *, mesh: Mesh, reduction: Reduction = "canonical"
) -> Policy:
    """Return choices that suit a mesh."""
    level, bucket_bytes, threshold, per_rank, alignment = draw(st.sampled_from(CHOICES))
    return Policy(
        level=level,
        bucket_bytes=bucket_bytes,
        shard_threshold_bytes=threshold,
        grains=None if per_rank is None else per_rank * mesh.size,
        reduction=reduction,
        alignment=alignment,
    )


@st.composite
def plans(draw: st.DrawFn, *, structures: Sequence[Structure] = STRUCTURES) -> Plan:
    """Return the plan of a drawn model, mesh and policy; one in four reduces fast."""
    is_fast = draw(st.sampled_from((False, False, False, True)))
    mesh = draw(meshes())
    policy = draw(policies(mesh=mesh, reduction="fast" if is_fast else "canonical"))
    dtypes = ("float32", "float64") if is_fast else DTYPES
    return make_plan(
        draw(param_specs(structures=structures, dtypes=dtypes)), mesh, policy
    )


def at_level(plan: Plan, level: Level) -> Plan:
    """Return the plan of the same model, mesh and other choices at another level."""
    return make_plan(plan.params, plan.mesh, replace(plan.policy, level=level))
