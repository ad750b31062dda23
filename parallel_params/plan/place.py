"""From the flags of a parameter to its place: the one function that reads them.

Places each parameter by itself; how they share buckets is decided in `pack.py`.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from parallel_params.errors import PlanError
from parallel_params.plan.lattice import lattice_of
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.pack import Placement, Whole
from parallel_params.plan.policy import Level, Policy
from parallel_params.plan.spec import (
    ITEM_BYTES,
    MASTER_WEIGHT,
    TRAINABLE_DTYPES,
    ParamSpec,
)
from parallel_params.plan.text import did_you_mean

# MPI sums neither; canonical reduction sends bytes and sums them itself.
_DTYPES_WITHOUT_MPI_SUM = frozenset({"bfloat16", "float16"})


def place(spec: ParamSpec, *, mesh: Mesh, policy: Policy) -> Placement:
    """Compile the flags of one parameter into its place; nothing else reads them.

    A layerwise-parallel parameter is reduced over all axes but the layerwise one, so
    its state is cut among ranks of equal values, whatever `parallel_optimizer` is.

    Raises:
        PlanError: the flags contradict the dtype, the mesh or the policy.
    """
    if spec.requires_grad:
        _check_trainable(spec, policy)
    axes = reduced_axes(spec.name, mesh, layerwise_parallel=spec.layerwise_parallel)
    kept_whole = None
    if spec.weight_bytes < policy.shard_threshold_bytes:
        kept_whole = Whole.BY_THRESHOLD
    elif not (spec.parallel_optimizer or spec.layerwise_parallel):
        kept_whole = Whole.BY_FLAG
    override = None if kept_whole else policy.override_of(spec.names)
    is_tied = bool(spec.aliases) and kept_whole is None
    level = Level.NOTHING if kept_whole else policy.level
    if override is not None:
        level = override
    if is_tied and lattice_of(mesh, axes, policy.transport).num_nodes > 1:
        # Gathered for its first use, its memory would be given back before the second.
        level = min(level, Level.GRADIENT)
    return Placement(
        axes=axes,
        is_trainable=spec.requires_grad,
        kept_whole=kept_whole,
        override=override,
        is_tied=is_tied,
        level=level,
        state_slots=_state_slots(spec, policy),
    )


def reduced_axes(name: str, mesh: Mesh, *, layerwise_parallel: bool) -> tuple[str, ...]:
    """Return the axes of a mesh along which a parameter's gradient is reduced.

    Args:
        name: of the parameter, for the error.
        mesh: names the ranks.
        layerwise_parallel: its flag.

    Raises:
        PlanError: the mesh does not say along which axis such a parameter differs.
    """
    if not layerwise_parallel:
        return mesh.axes
    if mesh.layerwise_axis is None:
        raise PlanError(
            f"parameter {name!r} is layerwise-parallel, but {mesh!r} does not say "
            f"along which axis. Name it: Mesh(..., layerwise_axis={mesh.axes[-1]!r})"
        )
    return mesh.others((mesh.layerwise_axis,))


def _state_slots(spec: ParamSpec, policy: Policy) -> tuple[str, ...]:
    if not spec.requires_grad:
        return ()
    is_narrow = ITEM_BYTES[spec.dtype] < ITEM_BYTES["float32"]
    if is_narrow and policy.master_weights:
        return (*spec.state_slots, MASTER_WEIGHT)
    return spec.state_slots


def _check_trainable(spec: ParamSpec, policy: Policy) -> None:
    if spec.dtype not in TRAINABLE_DTYPES:
        raise PlanError(
            f"parameter {spec.name!r}: dtype {spec.dtype} has no gradient. Set "
            "requires_grad=False, or give it one of "
            f"{', '.join(sorted(TRAINABLE_DTYPES))}"
        )
    if policy.reduction == "fast" and spec.dtype in _DTYPES_WITHOUT_MPI_SUM:
        raise PlanError(
            f"parameter {spec.name!r}: MPI cannot sum {spec.dtype}, so reduction='fast'"
            " is not for it. Use reduction='canonical'"
        )


def check_names(specs: Iterable[ParamSpec]) -> None:
    """Refuse parameters that cannot be told apart, aliases included.

    Raises:
        PlanError: two parameters share a name.
    """
    first_names: dict[str, str] = {}
    for spec in specs:
        for name in spec.names:
            if name in first_names:
                raise PlanError(
                    f"two parameters are called {name!r}: {first_names[name]!r} and "
                    f"{spec.name!r}. Rename one; if it is one storage, describe it "
                    "once and list its further names as aliases"
                )
            first_names[name] = spec.name


def check_overrides(specs: Iterable[ParamSpec], policy: Policy) -> None:
    """Refuse levels for parameters that are not there, or that must not be cut.

    Raises:
        PlanError: a pattern matches no name, or names a parameter, letter for letter,
            whose flag keeps it whole.
    """
    owners = {name: spec for spec in specs for name in spec.names}
    for pattern, level in policy.overrides:
        if not any(fnmatchcase(name, pattern) for name in owners):
            raise PlanError(
                f"policy.override: no parameter matches {pattern!r}. "
                + did_you_mean(pattern, owners)
            )
        spec = owners.get(pattern)
        if spec is None or level is Level.NOTHING:
            continue
        if not (spec.parallel_optimizer or spec.layerwise_parallel):
            raise PlanError(
                f"policy.override asks for level {int(level)} of {pattern!r}, but "
                "parallel_optimizer=False keeps it whole. Drop one of the two"
            )
