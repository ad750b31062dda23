"""`ParameterManager`: parameters, plan, arenas and communication wired together.

It decides nothing by itself: the plan says what lies where, `runtime/` executes it. A
step is: forward and backward over this rank's grains, one status message, then per
bucket reduce, update, publish.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

import numpy as np

from parallel_params.comm.agree import agree_ok
from parallel_params.comm.ledger import Ledger
from parallel_params.comm.protocol import Communicator
from parallel_params.comm.world import init
from parallel_params.errors import ManagerClosed
from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Policy
from parallel_params.plan.text import format_bytes, format_count, format_table
from parallel_params.runtime.backward import LossFunction, share_lengths
from parallel_params.runtime.build import Runtime, build_runtime, plan_for
from parallel_params.runtime.foreign import place_gradients
from parallel_params.runtime.hashes import hash_of_all
from parallel_params.runtime.specs import check_optimizer, collect_parameters
from parallel_params.runtime.start import (
    agree_on_optimizer,
    agree_on_plan,
    equalise_start,
)
from parallel_params.runtime.status import Call, Status
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


class ParameterManager:
    """Trains the parameters of a net on all ranks of a world as their flags say.

    Making one plans, agrees on the plan with all ranks, moves the parameters into
    arenas and gives every copy of a weight the same start value. The manager adopts the
    optimizer: from then on steps are taken here.

    Args:
        net: a cell, or its parameters in an order that all ranks share.
        optimizer: built on parameters of `net`; those it was not given are not trained.
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
        PlanError: parameters, optimizer, policy and mesh contradict each other.
        PlanMismatch: the ranks built different models, optimizers, policies or meshes.
        RankFailed: another rank could not build its part.

    Collective: all ranks of `comm`, and so is every method that says so.
    """

    def __init__(
        self,
        net: Cell | Iterable[Parameter],
        optimizer: Optimizer,
        *,
        policy: Policy | None = None,
        mesh: Mesh | None = None,
        comm: Communicator | None = None,
    ) -> None:
        self._is_own_comm = comm is None
        self.comm = Ledger(comm if comm is not None else init())
        error: Exception | None = None
        try:
            check_optimizer(optimizer)
            self._parameters = collect_parameters(net)
            self.plan = plan_for(
                self._parameters, optimizer, policy, mesh, self.comm.size
            )
        except Exception as raised:
            error = raised
        agree_ok(self.comm, error)
        agree_on_plan(self.comm, self.plan)
        agree_on_optimizer(self.comm, optimizer, self.plan)
        self._optimizer = optimizer
        self.num_steps = optimizer.num_steps
        self._runtime: Runtime | None = build_runtime(
            self.plan, self.comm, self._parameters, optimizer
        )
        optimizer.adopt("ParameterManager")
        self.start_differences = equalise_start(
            self.plan, self.comm.rank, self._runtime.groups, self._parameters
        )
        self._status = Status(self.comm)

    def step(self, loss_fn: LossFunction, *batch: object) -> Tensor:
        """Take one optimizer step on the mean loss over the global batch.

        Args:
            loss_fn: called with one grain of every member of `batch`, as tensors;
                returns the mean loss over the grain, one floating-point number.
            batch: this rank's share of the global batch, arrays or tensors of one
                length along dim 0, which this rank's grains divide. The global batch is
                the shares in the order of the ranks; all shares are equally long.

        Returns:
            The mean loss before the update, 0-d float64, the same on all ranks.

        Raises:
            RankFailed: the loss function raised on some rank, or a batch did not fit.
                No weight has changed then, on any rank.
            PlanMismatch: the ranks are not taking the same step, or at different
                learning rates, or on shares of other lengths. No weight has changed.
            ManagerClosed: the manager is closed.

        Collective: all ranks.
        """
        num_grains = self._open.num_grains
        total, rates = self._run_backward("step", loss_fn, batch, 1.0 / num_grains)
        self._update(rates)
        return Tensor.wrap(np.asarray(total / num_grains))

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
        share = self.comm.size / runtime.num_grains
        total, _ = self._run_backward("value_and_grad", loss_fn, batch, share)
        gradients = {
            extent.name: view
            for exchange in runtime.exchanges
            for extent, view in zip(
                exchange.arena.bucket.extents, exchange.arena.gradients[0], strict=True
            )
        }
        return Tensor.wrap(np.asarray(total / runtime.num_grains)), gradients

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
        arenas = [exchange.arena for exchange in self._open.exchanges]
        rates: tuple[float, ...] = ()
        error: Exception | None = None
        try:
            place_gradients(gradients, arenas, self.num_absent)
            rates = self._optimizer.rates(self.num_steps)
        except Exception as raised:
            error = raised
        self._status.exchange(
            0.0, error, call="update", step=self.num_steps, rates=rates
        )
        self._update(rates, 1.0 / self.comm.size)

    @property
    def num_absent(self) -> dict[str, int]:
        """By parameter name: in how many grains or updates no gradient arrived."""
        return self._open.backward.num_absent

    def weights_hash(self) -> str:
        """Return a hash of all weights, 32 hex digits, the same on all ranks.

        Two runs with the same hash ended with the same bits. Weights that are a rank's
        own enter with the values of every rank.

        Collective: all ranks.
        """
        return hash_of_all(self.plan, self.comm, self._parameters)

    def report(self) -> str:
        """Return what is sharded where, and what this rank has sent so far."""
        sent = [["this rank has sent", "calls", "bytes"]]
        sent += [
            [kind, format_count(calls), format_bytes(self.comm.bytes_sent[kind])]
            for kind, calls in self.comm.calls.items()
        ]
        lines = [self.plan.describe(), *format_table(sent, align="<>>")]
        lines += [
            f"{name}: no gradient in {count} grains"
            for name, count in self.num_absent.items()
        ]
        return "\n".join(lines)

    def close(self) -> None:
        """Free the communicators made here and release the parameters; once is enough.

        The parameters keep their values; their flags may be set again. The state of the
        optimizer goes with the manager.

        Collective: all ranks.
        """
        runtime = self._release()
        if runtime is not None:
            runtime.close_groups()
            if self._is_own_comm:
                self.comm.close()

    def __enter__(self) -> "ParameterManager":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            # The other ranks may be anywhere: freeing communicators could hang.
            self._release()

    @property
    def _open(self) -> Runtime:
        if self._runtime is None:
            raise ManagerClosed(
                "this ParameterManager is closed; make a new one on the parameters, "
                "with a new optimizer"
            )
        return self._runtime

    def _release(self) -> Runtime | None:
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.release()
        return runtime

    def _run_backward(
        self, call: Call, loss_fn: LossFunction, batch: Sequence[object], weight: float
    ) -> tuple[float, tuple[float, ...]]:
        """Return the sum of all grains' losses, and the rates for an update."""
        loss = 0.0
        rates: tuple[float, ...] = ()
        error: Exception | None = None
        try:
            scope = ("step", self.num_steps)
            loss = self._open.backward.run(loss_fn, batch, weight=weight, scope=scope)
            if call == "step":
                rates = self._optimizer.rates(self.num_steps)
        except Exception as raised:
            error = raised
        total = self._status.exchange(
            loss,
            error,
            call=call,
            step=self.num_steps,
            rates=rates,
            lengths=share_lengths(batch),
        )
        return total, rates

    def _update(self, rates: Sequence[float], gradient_scale: float = 1.0) -> None:
        self.num_steps += 1
        for exchange in self._open.exchanges:
            exchange.run(
                step=self.num_steps,
                rates=rates,
                gradient_scale=gradient_scale / self._optimizer.loss_scale,
            )
        self._optimizer.advance()
