"""`ParameterManager`: parameters, plan, memory and communication wired together.

It decides nothing by itself: the plan says what lies where, `runtime/` executes it. A
step is: forward and backward over this rank's grains, one status message, then reduce,
decide, update, publish.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from parallel_params.checkpoint.forms import packings_of
from parallel_params.checkpoint.managing import ManagerCheckpoints
from parallel_params.comm.ledger import Ledger
from parallel_params.comm.protocol import Communicator
from parallel_params.comm.world import init
from parallel_params.errors import ManagerClosed
from parallel_params.nn.cell import Cell
from parallel_params.nn.parallel.cell import axes_of
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Policy
from parallel_params.runtime.backward import LossFunction, Total
from parallel_params.runtime.beginning import first_plan
from parallel_params.runtime.build import build_runtime
from parallel_params.runtime.closing import Closing
from parallel_params.runtime.course import Course, first_starts
from parallel_params.runtime.edits import Edits
from parallel_params.runtime.foreign import check_gradients, fill_views
from parallel_params.runtime.opening import open_node
from parallel_params.runtime.room import bytes_given_back
from parallel_params.runtime.runtime import Runtime
from parallel_params.runtime.start import (
    equalise_start,
)
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


class ParameterManager(ManagerCheckpoints, Closing):
    """Trains the parameters of a net on all ranks of a world as their flags say.

    Making one plans, agrees on the plan with all ranks, moves the parameters into
    arenas and gives every copy of a weight the same start value. The manager adopts the
    optimizer: from then on steps are taken here.

    Args:
        net: a cell, or its parameters in an order that all ranks share.
        optimizer: built on parameters of `net`; those it was not given are not trained.
            Several may be given, each on parameters of its own.
        policy: level, buckets, grains, reduction; `Policy()` by default.
        mesh: names the axes of the world; one axis `data` by default.
        comm: all ranks; by default the MPI world if the process was launched in one,
            else a world of one rank.

    Attributes:
        plan: what every rank holds and sends.
        comm: the communicator, with a count of calls and bytes.
        num_steps: steps taken, those of the optimizer before it was adopted included.
        start_differences: parameters whose start values differed between ranks and were
            replaced by those of the first rank of their group.

    Raises:
        PlanError: parameters, optimizer, policy and mesh contradict each other, or
            there is not the memory for the plan (`policy.memory_limit_bytes`).
        PlanMismatch: the ranks built different models, optimizers, policies or meshes.
        RankFailed: another rank could not build its part.

    Collective: all ranks of `comm`, and so is every method that says so.
    """

    def __init__(
        self,
        net: Cell | Iterable[Parameter],
        optimizer: Optimizer | Sequence[Optimizer],
        *,
        policy: Policy | None = None,
        mesh: Mesh | None = None,
        comm: Communicator | None = None,
    ) -> None:
        self._is_own_comm = comm is None
        self.comm = Ledger(comm if comm is not None else init())
        self._policy = policy if policy is not None else Policy()
        plan, self._parameters, self._aliases, optimizers = first_plan(
            self.comm, net, optimizer, self._policy, mesh
        )
        self._optimizers, self._packings = optimizers, packings_of(net)
        self.plan, groups, roles, node, self.note = open_node(
            plan,
            self.comm,
            given_back=bytes_given_back(self._parameters, optimizers),
        )
        self.start_differences = equalise_start(
            self.plan, self.comm, groups, self._parameters
        )
        starts, opened = first_starts(optimizers), (groups, roles, node)
        self._runtime: Runtime | None = build_runtime(
            self.plan, self.comm, self._parameters, optimizers, opened, starts
        )
        self._runtime.backward.axes = axes_of(net)
        for each in optimizers:
            each.adopt("ParameterManager")
        self._course = Course(self.plan, self.comm, self._runtime, optimizers, starts)
        self._edits = Edits(self._parameters, self.comm)

    def step(self, loss_fn: LossFunction, *batch: object) -> Tensor:
        """Take one optimizer step on the mean loss over the global batch.

        Args:
            loss_fn: called with one grain of every member of `batch`, as tensors;
                returns the mean loss over the grain, one floating-point number; or a
                pair of it and its weight, by default the number of samples.
            batch: this rank's share of the global batch, arrays or tensors of one
                length along dim 0, see `share`. The global batch is the shares in the
                order of the ranks; one without samples takes part all the same.

        Returns:
            The mean loss before the update, 0-d float64, the same on all ranks.

        Raises:
            RankFailed: the loss function raised on some rank, or a batch did not fit.
                No weight has changed then, on any rank.
            PlanMismatch: the ranks are not taking the same step, or at different
                learning rates. No weight has changed.
            NonFiniteGradient: a gradient is not finite, and the policy is to raise.
            ValueError: no rank has any sample.
            ManagerClosed: the manager is closed.

        Collective: all ranks.
        """
        own, error = self._run_backward(loss_fn, batch, self._course.loss_scale)
        return Tensor.wrap(np.asarray(self._course.step("step", own, error)))

    def accumulate(self, loss_fn: LossFunction, *batch: object) -> Tensor:
        """Add the gradients of a batch to those of the next step.

        The step that follows is on the mean over all samples of both. The sums are kept
        by their owners, so each batch is reduced by itself; `Policy(grains=...)` cuts
        one batch into several without that.

        Args:
            loss_fn: as for `step`.
            batch: as for `step`.

        Returns:
            The mean loss over this batch.

        Raises:
            RankFailed, PlanMismatch, ManagerClosed: as `step`.

        Collective: all ranks.
        """
        own, error = self._run_backward(loss_fn, batch, self._course.loss_scale)
        return Tensor.wrap(np.asarray(self._course.accumulate(own, error)))

    def value_and_grad(
        self, loss_fn: LossFunction, *batch: object
    ) -> tuple[Tensor, dict[str, Array]]:
        """Compute this rank's gradients without a step.

        Args:
            loss_fn: as for `step`.
            batch: as for `step`.

        Returns:
            The mean loss over the global batch, and for every trained parameter the
            gradient of the mean loss over *this rank's share*: views of the arena,
            valid until the next call. They may be changed in place and passed to
            `update`.

        Raises:
            RankFailed, PlanMismatch, ManagerClosed: as `step`.

        Collective: all ranks.
        """
        runtime = self._open
        whole = runtime.whole_buffers()
        own, error = self._run_backward(loss_fn, batch, 1.0, whole)
        total = self._course.exchange("value_and_grad", own, error)
        gradients = runtime.mean_gradients(whole, own.weight)
        mean = total.loss / total.weight if total.weight else float("nan")
        return Tensor.wrap(np.asarray(mean)), gradients

    def update(self, gradients: Mapping[str, object]) -> None:
        """Take one optimizer step on gradients of any origin.

        Args:
            gradients: this rank's gradient per parameter name, in the parameter's
                shape: the gradient of the mean loss over this rank's share of the
                batch. Anything NumPy can read as an array. The ranks' gradients are
                averaged; a parameter that is left out counts as zero on this rank.

        Raises:
            RankFailed: a gradient did not fit its parameter on some rank; no weight has
                changed then.
            PlanMismatch, ManagerClosed: as `step`.

        Collective: all ranks.
        """
        self._refuse_inside("no step can be taken")
        runtime = self._open
        trained = runtime.trained_parameters
        error: Exception | None = self._edits.problem()
        arrays: dict[str, Array] = {}
        factor = self._course.pending_factor
        try:
            arrays = check_gradients(gradients, trained) if error is None else {}
            if factor != 1.0:
                arrays = {name: array * factor for name, array in arrays.items()}
        except Exception as raised:
            error = raised
        for name in trained.keys() - arrays.keys() if error is None else ():
            self.num_absent[name] = self.num_absent.get(name, 0) + 1
        runtime.backward.place(lambda arena, views: fill_views(arena, views, arrays))
        self._course.step("update", Total(0.0, 1.0), error, factor=factor)

    def close(self) -> None:
        """Free the communicators made here and release the parameters; once is enough.

        The parameters keep their values; their flags may be set again. The state of the
        optimizer goes with the manager.

        Raises:
            RuntimeError: inside of `evaluation`.

        Collective: all ranks.
        """
        if self._runtime is not None:
            self._course.refuse_while_evaluating("the manager be closed")
            self._runtime.gatherer.gather_all()
            node, groups = self._runtime.node, self._runtime.groups
            self.abandon()
            # No view of the windows is ours any more.
            node.close()
            groups.close()
            if self._is_own_comm:
                self.comm.close()

    def abandon(self) -> None:
        """Release the parameters without the other ranks, where they may be anywhere.

        Communicators and windows stay until the process ends.
        """
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.release()
            self._course.stop()

    def _run_backward(
        self,
        loss_fn: LossFunction,
        batch: Sequence[object],
        factor: float,
        whole: Sequence[Array] | None = None,
    ) -> tuple[Total, Exception | None]:
        """Return what this rank's grains came to, or what went wrong."""
        self._refuse_inside("no step can be taken")
        outdated = self._edits.problem()
        if outdated is not None:
            loss_fn = _raising(outdated)  # the other ranks are waiting
        try:
            scope = ("step", self.num_steps)
            own = self._open.backward.run(
                loss_fn, batch, factor=factor, scope=scope, whole=whole
            )
        except ManagerClosed:
            raise
        except Exception as raised:
            return Total(), outdated or raised
        return own, outdated


def _raising(error: Exception) -> LossFunction:
    def fail(*_: object) -> Tensor:
        raise error

    return fail
