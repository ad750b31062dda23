"""What a job with an [outer] table plans: the rounds of its workers, without MPI."""

from dataclasses import replace

from parallel_params.errors import ConfigError
from parallel_params.outer.anchors import (
    MakeOptimizer,
    diloco,
    make_anchors,
    make_optimizers,
    plan_outer,
)
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.outer import OuterPlan
from parallel_params.plan.plan import make_plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.runtime.specs import (
    collect_aliases,
    collect_parameters,
    make_specs,
)
from parallel_params.train.build import Trainee, plan_of
from parallel_params.train.config.job import Job


def outer_optimizer(job: Job) -> MakeOptimizer:
    """Return what makes the outer optimizer of a job."""
    return diloco(job.outer.lr, job.outer.momentum)


def policies(job: Job, trainee: Trainee, num_workers: int) -> tuple[Policy, Policy]:
    """Return the policy of one worker's steps, and that of the outer steps."""
    policy = trainee.policy
    grains = None if policy.grains is None else policy.grains // num_workers
    outer = Policy(
        level=Level(job.outer.level),
        bucket_bytes=policy.bucket_bytes,
        shard_threshold_bytes=policy.shard_threshold_bytes,
        reduction=policy.reduction,
        transport=policy.transport,
    )
    return replace(policy, grains=grains), outer


def plan_rounds(
    job: Job, trainee: Trainee, num_ranks: int, ranks_per_node: int | None
) -> OuterPlan:
    """Plan the rounds of a job without being in a world.

    Raises:
        ConfigError: the grains do not fit the workers.
        PlanError: choices contradict each other.
    """
    assert job.outer.every is not None
    num_workers = job.outer.workers or num_ranks
    check_grains(job, num_workers)
    node = num_ranks if ranks_per_node is None else ranks_per_node
    inner_policy, outer_policy = policies(job, trainee, num_workers)
    net = trainee.net
    parameters = collect_parameters(net)
    specs = make_specs(parameters, trainee.movers.optimizers, collect_aliases(net))
    mesh = Mesh(data=num_ranks // num_workers, ranks_per_node=node)
    inner = make_plan(specs, mesh, inner_policy)
    anchors = make_anchors(parameters, inner)
    return plan_outer(
        anchors,
        make_optimizers(anchors, outer_optimizer(job)),
        inner,
        every=job.outer.every,
        policy=outer_policy,
        num_workers=num_workers,
        ranks_per_node=node,
    )


def check_grains(job: Job, num_workers: int) -> None:
    """Refuse grains that the workers cannot share.

    Raises:
        ConfigError: naming those that they can.
    """
    grains = job.parallel.grains
    if grains is not None and grains % num_workers:
        above = -(-grains // num_workers) * num_workers
        raise ConfigError(
            [
                f"parallel.grains: {grains} grains cannot be shared equally by "
                f"{num_workers} workers; {above} can"
            ]
        )


def check_plan(job: Job, trainee: Trainee, mesh: Mesh) -> None:
    """Plan a job for a world, to see whether it can be.

    Raises:
        ConfigError, PlanError: it cannot.
    """
    if job.outer.every is None:
        plan_of(trainee, mesh)
    else:
        plan_rounds(job, trainee, mesh.size, mesh.ranks_per_node)
