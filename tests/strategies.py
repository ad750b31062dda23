"""Parameters, meshes, policies and plans for hypothesis, ugly ones among them.

Scalars, parameters without elements, fewer elements than ranks, primes, one rank,
frozen and layerwise-parallel parameters, tied names, every dtype, every structure of a
rule, several optimizers, levels of single parameters, nodes that fit and that do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import get_args

from hypothesis import strategies as st

from parallel_params.plan.guards import Clip, LossScale
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level, Policy, Reduction, Transport
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
STRUCTURES: tuple[Structure, ...] = get_args(Structure)


@dataclass(frozen=True)
class RuleNeeds:
    """What the rule of a parameter keeps, and sums over the whole of it."""

    structure: Structure
    state_slots: tuple[str, ...] = ()
    row_slots: tuple[str, ...] = ()
    column_slots: tuple[str, ...] = ()
    rounds: tuple[int, ...] = ()


RULES = (
    RuleNeeds("element"),
    RuleNeeds("element", ("momentum",)),
    RuleNeeds("element", ("m", "v")),
    RuleNeeds("tensor_scalar"),
    RuleNeeds("tensor_scalar", ("momentum",), rounds=(2,)),
    RuleNeeds("tensor_scalar", ("m", "v"), rounds=(1, 2)),
    RuleNeeds("row", ("v",)),
    RuleNeeds("row", (), ("r",), ("c",), rounds=(1,)),
    RuleNeeds("row", ("m",), ("r",), ("c",), rounds=(3, 1)),
    RuleNeeds("matrix"),
    RuleNeeds("matrix", ("momentum",)),
)
DTYPES = tuple(sorted(TRAINABLE_DTYPES))

# Requires a gradient, layerwise-parallel, optimizer state may be cut; the usual twice.
FLAGS: tuple[tuple[bool, bool, bool], ...] = (
    (True, False, True),
    *product((True, False), (True, False), (True, False)),
)
FUSIONS = (1, 1, 1, 2, 0)

MESHES = tuple(
    Mesh(axes, ranks_per_node=ranks_per_node)
    for ranks_per_node in (None, 1, 2, 3, 4)
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


TRANSPORTS: tuple[Transport, ...] = ("auto", "auto", "window", "messages")
GUARDS = (
    Policy(),
    Policy(clip=Clip(norm=1.0)),
    Policy(clip=Clip(value=1.0), non_finite="ignore"),
    Policy(non_finite="ignore", master_weights=False),
    Policy(loss_scale=8.0, non_finite="zero"),
    Policy(loss_scale=LossScale(), non_finite="skip"),
)
# Patterns for names as `_make_spec` gives them: of all, of some.
OVERRIDES: tuple[tuple[tuple[str, Level], ...], ...] = (
    (),
    (),
    *(((pattern, level),) for pattern in ("*", "*[02].weight") for level in Level),
)


# Hypothesis takes its time for every choice, so one choice makes a whole parameter.
@cache
def _choose_params(
    structures: tuple[Structure, ...], dtypes: tuple[str, ...]
) -> st.SearchStrategy[tuple[ParamSpec, ...]]:
    rules = [rule for rule in RULES if rule.structure in structures]
    values = tuple(product(SHAPES, dtypes, FLAGS, FUSIONS, rules))
    return st.lists(st.sampled_from(values), max_size=6).map(
        lambda drawn: tuple(_make_spec(*one) for one in enumerate(drawn))
    )


def _make_spec(
    index: int,
    value: tuple[tuple[int, ...], str, tuple[bool, bool, bool], int, RuleNeeds],
) -> ParamSpec:
    shape, dtype, flags, comm_fusion, rule = value
    requires_grad, layerwise_parallel, parallel_optimizer = flags
    return ParamSpec(
        f"layer{index}.weight",
        shape,
        dtype if requires_grad or index % 2 else "int8",
        requires_grad=requires_grad,
        layerwise_parallel=layerwise_parallel,
        parallel_optimizer=parallel_optimizer,
        comm_fusion=comm_fusion,
        structure=rule.structure,
        state_slots=rule.state_slots,
        row_slots=rule.row_slots,
        column_slots=rule.column_slots,
        rounds=rule.rounds,
        is_statistic=not requires_grad and index % 2 == 0,
        optimizer=index // 4,
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
    draw: st.DrawFn,
    *,
    mesh: Mesh,
    specs: Sequence[ParamSpec] = (),
    reduction: Reduction = "canonical",
) -> Policy:
    """Return choices that suit a mesh and a model."""
    level, bucket_bytes, threshold, per_rank, alignment = draw(st.sampled_from(CHOICES))
    wire_dtypes = (None, None, "bfloat16", "float16")
    guards = draw(st.sampled_from(GUARDS))
    return Policy(
        level=level,
        bucket_bytes=bucket_bytes,
        shard_threshold_bytes=threshold,
        grains=None if per_rank is None else per_rank * mesh.size,
        reduction=reduction,
        alignment=alignment,
        override=draw(st.sampled_from(OVERRIDES)) if specs else (),
        transport=draw(st.sampled_from(TRANSPORTS)),
        wire_dtype=draw(st.sampled_from(wire_dtypes)) if reduction != "fast" else None,
        clip=guards.clip,
        non_finite=guards.non_finite,
        loss_scale=guards.loss_scale,
        master_weights=guards.master_weights,
        memory_limit_bytes=draw(st.sampled_from((None, "unlimited", 1 << 60))),
    )


@st.composite
def plans(draw: st.DrawFn, *, structures: Sequence[Structure] = STRUCTURES) -> Plan:
    """Return the plan of a drawn model, mesh and policy; one in four reduces fast."""
    is_fast = draw(st.sampled_from((False, False, False, True)))
    mesh = draw(meshes())
    dtypes = ("float32", "float64") if is_fast else DTYPES
    specs = draw(param_specs(structures=structures, dtypes=dtypes))
    reduction: Reduction = "fast" if is_fast else "canonical"
    policy = draw(policies(mesh=mesh, specs=specs, reduction=reduction))
    return make_plan(specs, mesh, policy)


def at_level(plan: Plan, level: Level) -> Plan:
    """Return the plan of the same model, mesh and other choices at another level."""
    return make_plan(plan.params, plan.mesh, replace(plan.policy, level=level))
