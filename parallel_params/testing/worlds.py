"""The law that needs a world: whoever holds what, the weights are those of one rank.

Worlds are threads of this process. All ranks give the same gradients, so the mean over
a power of two of them is exact, and so must be the weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rule import Shape
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy, Transport
from parallel_params.tensor.dtype import dtype_of
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor
from parallel_params.testing.cases import Case, difference, low_precision

NUM_STEPS = 3
# Far above what a world of threads needs: a rank that hangs is a broken law.
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One parameter of the net: what it starts from, and its gradients by step."""

    name: str
    weight: Array
    gradients: tuple[Array | None, ...]
    is_sharded: bool
    is_own: bool
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """Who holds what."""

    num_ranks: int
    per_node: int | None
    level: int
    transport: Transport
    bucket_bytes: int


def sharded_is_serial(case: Case) -> str | None:
    """The weights have the bits of one rank, at every level, size, flag and transport.

    Some parameters are layer-wise parallel, not sharded, of 16 bits with float32 behind
    them, or without a gradient in a step; groups have rates and decays of their own.
    """
    shapes = [shape for shape in case.shapes if 0 not in shape or len(shape) == 1]
    if not shapes:
        return None  # a Parameter without elements has one dim
    num_members = int(case.rng.integers(2, 5))
    members = [_member(case, shapes, number) for number in range(num_members)]
    world = _world(case)
    case.notes = [
        f"{world.num_ranks} ranks, {world.per_node or world.num_ranks} a node, level "
        f"{world.level}, {world.transport}, buckets of {world.bucket_bytes} B",
        *[
            f"{m.name}: {m.weight.shape} {m.weight.dtype}, group {m.group}, "
            f"parallel_optimizer={m.is_sharded}, layerwise_parallel={m.is_own}"
            for m in members
        ],
    ]
    one = _World(
        num_ranks=1,
        per_node=None,
        level=0,
        transport="auto",
        bucket_bytes=world.bucket_bytes,
    )
    serial = _train(case, members, one)[0]
    for rank, weights in enumerate(_train(case, members, world)):
        for name, want in serial.items():
            found = difference(name, weights[name], want)
            if found:
                return f"rank {rank}: {found} (from one rank at level 0)"
    return _alone(case, members, serial)


def _member(case: Case, shapes: Sequence[Shape], number: int) -> _Member:
    rng = case.rng
    shape = shapes[int(rng.integers(len(shapes)))]
    low = low_precision()
    kinds: list[np.dtype[np.generic]]
    kinds = [np.dtype(np.float32), np.dtype(np.float64), low[0], low[1]]
    dtype = kinds[int(rng.integers(len(kinds)))]

    def draw() -> Array:
        values: Array = np.asarray(rng.normal(size=shape)).astype(dtype)
        return values

    return _Member(
        name=f"p{number}",
        weight=draw(),
        gradients=tuple(
            draw() if rng.random() < 0.8 else None for _ in range(NUM_STEPS)
        ),
        is_sharded=bool(rng.random() < 0.8),
        is_own=bool(rng.random() < 0.2),
        group=int(rng.integers(2)),
    )


def _world(case: Case) -> _World:
    rng = case.rng
    num_ranks = int(rng.choice([2, 4]))
    return _World(
        num_ranks=num_ranks,
        per_node=[None, 1, 2][int(rng.integers(3))],
        level=int(rng.integers(4)),
        transport="messages" if rng.random() < 0.3 else "auto",
        bucket_bytes=int(rng.choice([1, 100, 1 << 20])),
    )


def _train(
    case: Case, members: Sequence[_Member], world: _World
) -> list[Mapping[str, Array]]:
    """Return the weights of every rank after all steps."""

    def body(comm: Communicator) -> Mapping[str, Array]:
        parameters = [
            Parameter(
                Tensor(m.weight, dtype_of(m.weight.dtype)),
                name=m.name,
                parallel_optimizer=m.is_sharded,
                layerwise_parallel=m.is_own,
            )
            for m in members
        ]
        with ParameterManager(
            parameters,
            _optimizer(case, members, parameters),
            policy=_policy(case, world),
            mesh=Mesh(data=comm.size, ranks_per_node=world.per_node),
            comm=comm,
        ) as manager:
            for step in range(NUM_STEPS):
                manager.update(
                    {
                        m.name: gradient.copy()
                        for m in members
                        if (gradient := m.gradients[step]) is not None
                    }
                )
            with manager.unsharded():
                return {p.name: p.asnumpy().copy() for p in parameters}

    with np.errstate(all="ignore"):
        return run_threads(world.num_ranks, body, timeout_s=TIMEOUT_S)


def _policy(case: Case, world: _World) -> Policy:
    """Return a policy that cuts as small as the rule lets it."""
    return Policy(
        level=Level(world.level),
        transport=world.transport,
        bucket_bytes=world.bucket_bytes,
        shard_threshold_bytes=0,
        alignment=64 if case.rule.structure == "tensor_scalar" else 1,
        grains=4,
    )


def _optimizer(
    case: Case, members: Sequence[_Member], parameters: Sequence[Parameter]
) -> Optimizer:
    """Return an optimizer of the rule, with a group of its own for each number."""
    groups = [
        {
            "params": [
                p for p, m in zip(parameters, members, strict=True) if m.group == g
            ],
            "lr": case.numbers.learning_rate * (1 + g),
            "weight_decay": case.numbers.weight_decay * g,
        }
        for g in sorted({m.group for m in members})
    ]
    return Optimizer(case.rule, groups, learning_rate=case.numbers.learning_rate)


def _alone(
    case: Case, members: Sequence[_Member], serial: Mapping[str, Array]
) -> str | None:
    """Compare with the optimizer without a manager, parameter by parameter.

    Not where sums are over leaves whose places a bucket decides, nor with 16 bits: a
    manager keeps float32 weights behind these.
    """
    if case.rule.structure == "tensor_scalar":
        return None
    used = [m for m in members if m.weight.dtype.itemsize > 2]
    parameters = [
        Parameter(Tensor(m.weight, dtype_of(m.weight.dtype)), name=m.name) for m in used
    ]
    if not used:
        return None
    optimizer = _optimizer(case, used, parameters)
    by_name = {m.name: m for m in used}
    with np.errstate(all="ignore"):
        for step in range(NUM_STEPS):
            gradients = [by_name[p.name].gradients[step] for p in optimizer.parameters]
            optimizer(
                tuple(
                    Tensor(np.zeros(p.shape, p.asnumpy().dtype) if g is None else g)
                    for p, g in zip(optimizer.parameters, gradients, strict=True)
                )
            )
    for p in parameters:
        found = difference(p.name, p.asnumpy(), serial[p.name])
        if found:
            return f"optimizer alone: {found} (from a manager of one rank)"
    return None
