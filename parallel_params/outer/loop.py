"""`OuterLoop`: workers train by themselves, and every so often agree on one step.

A worker is a `ParameterManager` of its own ranks. The anchor is a second one, of all
ranks: its parameters are what the round began with, its gradient is how far the workers
have come, its optimizer is the outer one. So everything that holds for a manager holds
for both: levels, the same bits, one verdict, what the plan announces.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from parallel_params.comm.agree import agree_ok, agree_same
from parallel_params.comm.protocol import Communicator
from parallel_params.comm.world import init
from parallel_params.errors import ManagerClosed, PlanError
from parallel_params.manager import ParameterManager
from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.outer.anchors import (
    MakeOptimizer,
    NoDifferences,
    differences,
    diloco,
    make_anchors,
    make_optimizers,
    plan_outer,
)
from parallel_params.outer.states import OuterStates
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Policy
from parallel_params.runtime.backward import LossFunction
from parallel_params.runtime.nodes import ranks_per_node as real_nodes
from parallel_params.runtime.start import agree_on_optimizers, agree_on_plan
from parallel_params.tensor import random
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

_T = TypeVar("_T")


class OuterLoop(OuterStates):
    """Trains with private steps and an outer step on the difference every so often.

    Every `every` inner steps the outer optimizer moves the anchor by the mean over all
    workers of anchor - weight, and all workers go on from there. Inner optimizer state
    stays the worker's own. With `averaging()` that is LocalSGD, with `diloco()` DiLoCo.

    An inner step is one of a world of the worker's ranks: clipping, accumulation,
    levels and gradients that are not finite are the worker's own affair; a step that is
    skipped counts. A worker that raises tells the others at their next outer step,
    where all raise. Then, and when a difference is not finite, the round is lost: all
    workers are back at the anchor, with their inner optimizer state as it is.

    Frozen parameters and those that are the rank's own (`layerwise_parallel` without a
    second axis) are not part of it; statistics are averaged.

    Args:
        net: a cell, or its parameters, the same on all ranks.
        optimizer: the inner one, or several; as for `ParameterManager`.
        every: inner steps of a round.
        outer: makes the outer optimizer of the anchors.
        workers: how many; every rank is one by default. Neighbouring ranks belong to
            one worker.
        policy: of the inner steps, for one worker; level 0, 1 or 2.
        outer_policy: of the outer steps, for all ranks; level 0, 1 or 2.
        mesh: names the axes of one worker's ranks; one axis `data` by default.
        comm: all ranks; as for `ParameterManager`.
        ranks_per_node: of smaller nodes than there are, to plan with messages.

    Attributes:
        inner: the manager of this rank's worker.
        outer: the manager of the anchors.
        plan: both plans, and the traffic of a round.
        worker: this rank's.
        position: inner steps taken since the last outer step.

    Raises:
        PlanError: the workers do not divide the ranks, or a policy is at level 3.
        PlanMismatch: the ranks built different things, or start from other values of
            frozen parameters.
        RankFailed: another rank could not build its part.

    Collective: all ranks, and so is every method that says so.
    """

    def __init__(
        self,
        net: Cell | Iterable[Parameter],
        optimizer: Optimizer | Sequence[Optimizer],
        *,
        every: int,
        outer: MakeOptimizer | None = None,
        workers: int | None = None,
        policy: Policy | None = None,
        outer_policy: Policy | None = None,
        mesh: Mesh | None = None,
        comm: Communicator | None = None,
        ranks_per_node: int | None = None,
    ) -> None:
        self._is_own_comm = comm is None
        self.comm = comm if comm is not None else init()
        self.every, self.position = every, 0
        self._own = own = self._open_worker(workers)
        policies = policy or Policy(), outer_policy or Policy()
        node = ranks_per_node or real_nodes(self.comm)
        if mesh is None:
            mesh = Mesh(data=own.size, ranks_per_node=node)
        error: Exception | None = None
        try:
            self.inner = ParameterManager(
                net, optimizer, policy=policies[0], mesh=mesh, comm=own
            )
        except Exception as raised:
            error = raised
        agree_ok(self.comm, error)
        try:
            self._open_anchors(outer or diloco(), policies[1], node)
        except BaseException:
            self.inner.close()
            raise
        self._pull()

    def _open_worker(self, workers: int | None) -> Communicator:
        """Return the ranks of this rank's worker.

        Collective: all ranks.
        """
        size = self.comm.size
        agree_same(self.comm, f"{workers}, {self.every}", "workers, and every")
        workers = size if workers is None else workers
        if type(workers) is not int or not 0 < workers <= size or size % workers:
            fits = ", ".join(str(n) for n in range(1, size + 1) if size % n == 0)
            raise PlanError(
                f"{workers!r} workers cannot be made of {size} ranks; each has as many "
                f"ranks as the others: {fits}"
            )
        per_worker = size // workers
        self.worker = self.comm.rank // per_worker
        first = self.worker * per_worker
        return self.comm.group(range(first, first + per_worker))

    def _open_anchors(self, outer: MakeOptimizer, policy: Policy, node: int) -> None:
        """Plan a round, and make the manager of the anchors.

        Collective: all ranks.
        """
        inner, comm = self.inner.plan, self.comm
        agree_on_plan(comm, inner)
        agree_on_optimizers(comm, self.inner._optimizers, inner)
        error: Exception | None = None
        try:
            anchors = make_anchors(self.inner._parameters, inner)
            optimizers = make_optimizers(anchors, outer)
            self.plan = plan_outer(
                anchors,
                optimizers,
                inner,
                every=self.every,
                policy=policy,
                num_workers=comm.size // inner.mesh.size,
                ranks_per_node=node,
            )
        except Exception as raised:
            error = raised
        agree_ok(comm, error)
        self._anchors = [anchor for group in anchors for anchor in group]
        self._check_rest()
        mesh = self.plan.outer.mesh
        self.outer = ParameterManager(
            self._anchors, optimizers, policy=policy, mesh=mesh, comm=comm
        )

    def _check_rest(self) -> None:
        """Make sure that what no outer step moves starts alike.

        Collective: all ranks.
        """
        agree_same(
            self.comm, self._frozen_digest(), "the hash of the frozen parameters"
        )

    # ---- steps

    def step(self, loss_fn: LossFunction, *batch: object) -> Tensor:
        """Take an inner step, and the outer step if the round is full.

        Args:
            loss_fn: as for `ParameterManager.step`.
            batch: this rank's share of its worker's batch.

        Returns:
            The mean loss over the worker's batch, before the update.

        Raises:
            RankFailed: a rank of this worker raised; or, at an outer step, one of
                another worker.
            NonFiniteGradient: a difference is not finite, and the outer policy is to
                raise.

        Collective: the ranks of a worker; at the end of a round, all ranks.
        """
        return self.take(lambda: self.inner.step(loss_fn, *batch))

    def update(self, gradients: Mapping[str, object]) -> None:
        """Take an inner step on gradients of any origin, as `ParameterManager.update`.

        Collective: as `step`.
        """
        self.take(lambda: self.inner.update(gradients))

    def accumulate(self, loss_fn: LossFunction, *batch: object) -> Tensor:
        """Add the gradients of a batch to those of the next inner step.

        Collective: the ranks of a worker; no part of a round by itself.
        """
        return self._together(lambda: self.inner.accumulate(loss_fn, *batch))

    def sync(self) -> None:
        """Take the outer step now; the next round begins.

        Raises:
            RankFailed: a rank has raised since the last outer step.
            RuntimeError: gradients are accumulated and wait for an inner step.

        Collective: all ranks, behind equally many inner steps.
        """
        if self.inner._course.has_pending:
            self._outer_step(
                RuntimeError(
                    "gradients of earlier batches wait for the next inner step; take "
                    "it before the outer one"
                )
            )
        self._outer_step(None)

    def take(self, call: Callable[[], _T]) -> _T:
        """Count what `call` does with `inner` as an inner step.

        If it raises, the other workers are told.

        Collective: as `step`.
        """
        found = self._together(call)
        self.position += 1
        if self.position == self.every:
            self._outer_step(None)
        return found

    def _together(self, take: Callable[[], _T]) -> _T:
        """Do something with the worker; tell the other workers if it fails."""
        self._refuse_while_evaluating()
        try:
            with random.scope("worker", self.worker):
                return take()
        except ManagerClosed:
            raise
        except Exception as raised:
            self._outer_step(raised)
            raise

    def _outer_step(self, error: Exception | None) -> None:
        """Move the anchors by the mean difference and all workers to the anchors.

        Collective: all ranks.
        """
        gradients: Mapping[str, Array]
        if error is None:
            with np.errstate(over="ignore", invalid="ignore"):  # told by the verdict
                gradients = differences(self._anchors, self.inner._parameters)
        else:
            gradients = NoDifferences(error)
        try:
            self.outer.update(gradients)
        finally:
            # A round that fails is lost: all workers are back at its beginning.
            self.position = 0
            self._pull()
