"""Parameters, meshes, policies and plans for hypothesis, ugly ones among them.

Scalars, parameters without elements, fewer elements than ranks, primes, one rank,
frozen and layerwise-parallel parameters, tied names, every dtype.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import get_args

from hypothesis import strategies as st

from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level, Policy, Reduction
from parallel_params.plan.spec import (
    ITEM_BYTES,
    TRAINABLE_DTYPES,
    ParamSpec,
    Structure,
)

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

# Requires a gradient, layerwise-parallel, optimizer state may be cut.
FLAGS = st.sampled_from([(True, False, True), *product((True, False), repeat=3)])


@st.composite
def param_specs(
    draw: st.DrawFn,
    *,
    structures: Sequence[Structure] = get_args(Structure),
    dtypes: Sequence[str] = tuple(sorted(TRAINABLE_DTYPES)),
    min_size: int = 0,
    max_size: int = 6,
) -> list[ParamSpec]:
    """Return the parameters of a model, in declaration order; every third is tied."""
    # Few choices of many values: hypothesis takes its time for every choice.
    rules = st.sampled_from(list(product(structures, SLOTS)))
    specs = []
    for index in range(draw(st.integers(min_size, max_size))):
        requires_grad, layerwise_parallel, parallel_optimizer = draw(FLAGS)
        structure, state_slots = draw(rules)
        specs.append(
            ParamSpec(
                f"layer{index}.weight",
                draw(st.sampled_from(SHAPES)),
                draw(st.sampled_from(dtypes if requires_grad else tuple(ITEM_BYTES))),
                requires_grad=requires_grad,
                layerwise_parallel=layerwise_parallel,
                parallel_optimizer=parallel_optimizer,
                comm_fusion=draw(st.sampled_from((1, 1, 1, 2, 0))),
                structure=structure,
                state_slots=state_slots,
                aliases=(f"tied{index}.weight",) if index % 3 == 2 else (),
            )
        )
    return specs


def meshes() -> st.SearchStrategy[Mesh]:
    """Return worlds of one rank, of primes, of one axis and of several, in nodes."""
    axes: list[dict[str, int]] = [{"data": size} for size in (1, 2, 3, 4, 5, 8)]
    axes += [
        {"data": 2, "model": 2},
        {"data": 3, "model": 2},
        {"model": 2, "data": 3},
        {"data": 2, "model": 3, "pipe": 2},
        {"data": 1, "model": 3},
    ]
    return st.builds(
        Mesh, st.sampled_from(axes), ranks_per_node=st.sampled_from((None, 1, 2, 3))
    )


@st.composite
def policies(
    draw: st.DrawFn,
    *,
    mesh: Mesh,
    level: Level | None = None,
    reduction: Reduction = "canonical",
) -> Policy:
    """Return choices that suit a mesh, with small buckets so that there are several."""
    per_rank = draw(st.sampled_from((None, 1, 2, 3, 4)))
    return Policy(
        level=draw(st.sampled_from(Level)) if level is None else level,
        bucket_bytes=draw(st.sampled_from((1, 64, 500, 4096))),
        shard_threshold_bytes=draw(st.sampled_from((0, 0, 50, 1 << 16))),
        grains=None if per_rank is None else per_rank * mesh.size,
        reduction=reduction,
        alignment=draw(st.sampled_from((1, 4, 64))),
    )


@st.composite
def plans(
    draw: st.DrawFn,
    *,
    specs: Sequence[ParamSpec] | None = None,
    structures: Sequence[Structure] = get_args(Structure),
) -> Plan:
    """Return the plan of a drawn model, mesh and policy."""
    reduction = draw(st.sampled_from(get_args(Reduction)))
    mesh = draw(meshes())
    policy = draw(policies(mesh=mesh, reduction=reduction))
    dtypes = ("float32", "float64") if reduction == "fast" else tuple(TRAINABLE_DTYPES)
    drawn = draw(param_specs(structures=structures, dtypes=sorted(dtypes)))
    return make_plan(drawn if specs is None else specs, mesh, policy)


def at_level(plan: Plan, level: Level) -> Plan:
    """Return the plan of the same model, mesh and other choices at another level."""
    return make_plan(plan.params, plan.mesh, replace(plan.policy, level=level))
