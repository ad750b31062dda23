"""From a job to what is trained: model, optimizer, policy; and its plan, without MPI.

The loop and `pparams plan` both build here, so an announced plan is the executed one.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from parallel_params import nn
from parallel_params.errors import ConfigError
from parallel_params.nn.parallel import Axis
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.guards import Clip, LossScale
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.runtime.specs import (
    collect_aliases,
    collect_parameters,
    make_specs,
)
from parallel_params.train.config.job import FlagOverride, Job, Parallel
from parallel_params.train.config.loss import BY_TASK
from parallel_params.train.config.optim import Optim
from parallel_params.train.config.rules import divisors, uneven_batch
from parallel_params.train.config.words import did_you_mean
from parallel_params.train.data.dataset import Dataset
from parallel_params.train.data.load import load_data
from parallel_params.train.meshes import (
    check_cuts,
    cut_axis_of,
    job_mesh,
    nearest_meshes,
)
from parallel_params.train.models.build import build_model
from parallel_params.train.models.judged import LossCell
from parallel_params.train.optimizers import Movers, make_optimizers
from parallel_params.train.schedule import learning_rates
from parallel_params.train.tasks.choose import make_task
from parallel_params.train.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """What a job trains, the same on every rank.

    Attributes:
        dataset: what is learned from.
        task: what is asked.
        net: takes [num, ...] samples, gives [num, ..., num_outputs] numbers.
        movers: of the net's parameters, with all rates.
        policy: how they lie on the ranks.
        rates: learning rate of every step, so as many as there are steps; a plateau
            lowers them on the way, see `rate_of`.
    """

    dataset: Dataset
    task: Task
    net: nn.Cell
    movers: Movers
    policy: Policy
    rates: tuple[float, ...]

    def rate_of(self, step: int) -> float:
        """Give the rate of a step, 1 for the first, after the scores so far."""
        plateau = self.movers.plateau
        return self.rates[step - 1] if plateau is None else plateau(step - 1)


def job_plan(job: Job, num_ranks: int, ranks_per_node: int | None = None) -> Plan:
    """Plan a job for a world of `num_ranks` without being in one.

    Args:
        job: what would be trained.
        num_ranks: of the world.
        ranks_per_node: consecutive ranks that share memory; by default all.

    Raises:
        ConfigError: the mesh, the batch or the grains do not fit the world.
        DataError: the data cannot be read; the model's widths depend on it.
        PlanError: the parameters, the policy and the world contradict each other.
    """
    return plan_of(*build_alone(job, num_ranks, ranks_per_node))


def build_alone(
    job: Job, num_ranks: int, ranks_per_node: int | None = None
) -> tuple[Trainee, Mesh]:
    """Build a job for a world, for its plan, and return the mesh; see `job_plan`."""
    mesh = check_world(job, num_ranks, ranks_per_node)
    return build(job, load_data(job.data), plan_axis(job, mesh)), mesh


def plan_axis(job: Job, mesh: Mesh) -> Axis | None:
    """Return the axis that the model is cut along, for a plan: nothing can be sent."""
    name = cut_axis_of(job, mesh)
    return None if name is None else Axis(mesh, name)


def plan_of(trainee: Trainee, mesh: Mesh) -> Plan:
    """Plan what was built.

    Raises:
        PlanError: the parameters, the policy and the world contradict each other.
    """
    net = trainee.net
    specs = make_specs(
        collect_parameters(net), trainee.movers.optimizers, collect_aliases(net)
    )
    return make_plan(specs, mesh, trainee.policy)


def check_world(job: Job, num_ranks: int, ranks_per_node: int | None = None) -> Mesh:
    """Return the mesh of a job; refuse a world that mesh, grains or batch do not fit.

    Raises:
        ConfigError: naming the meshes, worlds, grains or batches that work.
    """
    _check_workers(job, num_ranks)
    mesh = job_mesh(job, num_ranks, ranks_per_node)
    shares = mesh.num_shares
    has_shares = shares < num_ranks
    parts, whats = ("shares", "shares") if has_shares else ("ranks", "worlds")
    grains, batch = job.parallel.grains, job.data.batch // job.train.accumulate
    if grains is not None and grains % shares:
        worlds = ", ".join(map(str, divisors(grains)))
        above = -(-grains // shares) * shares
        works = f"a world of {worlds} ranks works"
        if has_shares or job.parallel.mesh is not None:
            along = ", ".join(mesh.batch_axes)
            works = f"{worlds} shares (ranks along {along}) work"
        problem = (
            f"parallel.grains: {grains} grains cannot be shared equally by {shares} "
            f"{parts}; {works}, or parallel.grains={above}"
        )
        raise ConfigError([problem + _meshes_beside(job, mesh)])
    if grains is None and batch % shares:
        problem = uneven_batch(
            batch, shares, f"parts, one per {parts[:-1]}", name=whats
        )
        raise ConfigError([f"data.batch: {problem}{_meshes_beside(job, mesh)}"])
    return mesh


def _meshes_beside(job: Job, mesh: Mesh) -> str:
    """Name meshes that share the batch evenly, if the job names its mesh."""
    return "" if job.parallel.mesh is None else f"; {nearest_meshes(job, mesh)}"


def _check_workers(job: Job, num_ranks: int) -> None:
    """Refuse a world that the workers of an outer loop do not fit."""
    if job.outer.every is None:
        return
    workers = job.outer.workers
    if workers is not None and num_ranks % workers:
        raise ConfigError(
            [
                f"outer.workers: {workers} workers cannot be made of {num_ranks} ranks;"
                f" a world of {workers}, {2 * workers}, ... ranks works"
            ]
        )
    if job.parallel.mesh is not None:
        raise ConfigError(
            [
                "parallel.mesh: a job with an outer loop makes a mesh of its workers "
                "and their ranks; leave the mesh or [outer] out"
            ]
        )


def build(job: Job, dataset: Dataset, axis: Axis | None = None) -> Trainee:
    """Build task, model, optimizer and policy of a job.

    Args:
        job: what is trained.
        dataset: what it learns from.
        axis: along which the model is cut, on every rank its own; None for a whole one.

    Raises:
        ConfigError: the model or the loss does not go with the data, or an entry of
            `parallel.override` names no parameter.
        PlanError: the axis does not divide what is cut along it.
    """
    if axis is not None:  # words and classes are known with the data alone
        check_cuts(job, axis.mesh, dataset.interface.num_outputs)
    net = build_model(job.model, dataset.interface, seed=job.seed, axis=axis)
    _check_own_loss(job, net)
    set_flags(list(net.get_parameters()), job.parallel.override)
    num_steps = count_steps(job, num_samples=dataset.num_train)
    if job.outer.every is not None and num_steps % job.outer.every:
        raise ConfigError(
            [
                f"train.epochs: {num_steps} steps are no whole number of rounds of "
                f"outer.every = {job.outer.every}; give train.steps"
            ]
        )
    rates = learning_rates(job.optim.schedule, peak=job.optim.lr, num_steps=num_steps)
    task = make_task(job, dataset)
    return Trainee(
        dataset=dataset,
        task=task,
        net=net,
        movers=make_optimizers(
            job.optim,
            net.trainable_params(),
            num_steps=num_steps,
            mode="min" if task.metric.is_better(0.0, 1.0) else "max",
        ),
        policy=make_policy(job.parallel, job.optim),
        rates=rates,
    )


def _check_own_loss(job: Job, net: nn.Cell) -> None:
    """Refuse a [loss] table where the model computes the loss itself."""
    if isinstance(net, LossCell) and job.loss != BY_TASK:
        raise ConfigError(
            [
                "loss.kind: this model computes its own cross-entropy, because no rank "
                "has all of its outputs; leave [loss] out"
            ]
        )


def count_steps(job: Job, *, num_samples: int) -> int:
    """Give the steps of a run; epochs are rounded up to whole batches."""
    if job.train.steps is not None:
        return job.train.steps
    assert job.train.epochs is not None, "one of the two is checked to be given"
    return -(-job.train.epochs * num_samples // job.data.batch)


def make_policy(parallel: Parallel, optim: Optim) -> Policy:
    """Say a [parallel] table, and what [optim] does to gradients, in a plan's words."""
    clip: Clip | None = None
    if optim.clip_norm is not None or optim.clip_value is not None:
        clip = Clip(norm=optim.clip_norm, per=optim.clip_per, value=optim.clip_value)
    scale = optim.loss_scale
    return Policy(
        level=Level(parallel.level),
        bucket_bytes=parallel.bucket,
        shard_threshold_bytes=parallel.shard_threshold,
        grains=parallel.grains,
        reduction=parallel.reduction,
        override=[
            (entry.match, entry.level)
            for entry in parallel.override
            if entry.level is not None
        ],
        transport=parallel.transport,
        clip=clip,
        non_finite=optim.non_finite,
        loss_scale=LossScale() if scale == "dynamic" else scale,
        wire_dtype=parallel.wire_dtype,
        master_weights=parallel.master_weights,
        memory_limit_bytes=parallel.memory_limit,
    )


def set_flags(
    parameters: Sequence[Parameter], overrides: Sequence[FlagOverride]
) -> None:
    """Set flags of parameters from outside, one entry after the other.

    Raises:
        ConfigError: entries that match no parameter, with a near name.
    """
    names = [parameter.name for parameter in parameters]
    problems = [
        f"parallel.override.{index}.match: no parameter is called {entry.match!r}"
        f"{did_you_mean(entry.match, names) or '.'} There are {', '.join(names)}"
        for index, entry in enumerate(overrides)
        if not fnmatch.filter(names, entry.match)
    ]
    if problems:
        raise ConfigError(problems)
    for entry in overrides:
        for parameter in parameters:
            if fnmatch.fnmatchcase(parameter.name, entry.match):
                _set(parameter, entry)


def _set(parameter: Parameter, entry: FlagOverride) -> None:
    for flag, value in asdict(entry).items():
        if flag not in ("match", "level") and value is not None:
            setattr(parameter, flag, value)
