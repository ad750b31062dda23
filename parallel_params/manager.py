"""`ParameterManager`: parameters, plan, arenas and communication wired together.

It decides nothing by itself: the plan says what lies where, `runtime/` executes it. A
step is: forward and backward over this rank's grains, one status message, then per
bucket reduce, update, publish.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

import numpy as np

from parallel_params.comm.agree import agree_ok
from parallel_params.comm.ledger import Ledger
from parallel_params.comm.protocol import Communicator
from parallel_params.comm.world import init
from parallel_params.errors import PlanError
from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.runtime.backward import LossFunction
from parallel_params.runtime.build import Runtime, build_runtime
from parallel_params.runtime.foreign import place_gradients
from parallel_params.runtime.specs import collect_parameters, make_specs
from parallel_params.runtime.start import agree_on_plan, equalise_start, weight_hash
from parallel_params.runtime.status import Status
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

HIGHEST_EXECUTED = Level.STATE


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
        PlanMismatch: the ranks built different models, policies or meshes.
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
        self.comm = Ledger(comm if comm is not None else init())
        self._optimizer = optimizer
        self.num_steps = optimizer.num_steps
        error: Exception | None = None
        try:
            optimizer.check_adoptable()
            self._parameters = collect_parameters(net)
            self.plan = _plan_for(self._parameters, optimizer, policy, mesh, self.comm)
        except Exception as raised:
            error = raised
        agree_ok(self.comm, error)
        agree_on_plan(self.comm, self.plan)
        self._runtime: Runtime = build_runtime(
            self.plan, self.comm, self._parameters, optimizer
        )
        optimizer.adopt("ParameterManager")
        self.start_differences = self._equalise_start()
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

        Collective: all ranks.
        """
        total = self._run_backward(loss_fn, batch, 1.0 / self._runtime.num_grains)
        self._update()
        return Tensor.wrap(np.asarray(total / self._runtime.num_grains))

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
            RankFailed: as `step`.

        Collective: all ranks.
        """
        share = self.comm.size / self._runtime.num_grains
        total = self._run_backward(loss_fn, batch, share)
        gradients = {
            extent.name: view
            for exchange in self._runtime.exchanges
            for extent, view in zip(
                exchange.arena.bucket.extents, exchange.arena.gradients[0], strict=True
            )
        }
        return Tensor.wrap(np.asarray(total / self._runtime.num_grains)), gradients

    def update(self, gradients: Mapping[str, object]) -> None:
        """Take one optimizer step on gradients of any origin.

        Args:
            gradients: this rank's gradient per parameter name, in the parameter's
            shape:
                the gradient of the mean loss over this rank's share of the batch.
                Anything NumPy can read as an array. The ranks' gradients are averaged;
                a parameter that is left out counts as zero on this rank.

        Raises:
            RankFailed: a gradient did not fit its parameter on some rank; no weight has
                changed then.

        Collective: all ranks.
        """
        arenas = [exchange.arena for exchange in self._runtime.exchanges]
        error: Exception | None = None
        try:
            place_gradients(gradients, arenas, self.num_absent)
        except Exception as raised:
            error = raised
        self._status.exchange(0.0, error)
        self._update(1.0 / self.comm.size)

    @property
    def num_absent(self) -> dict[str, int]:
        """By parameter name: in how many grains or updates no gradient arrived."""
        return self._runtime.backward.num_absent

    def weights_hash(self) -> str:
        """Return a hash of all weights, 32 hex digits, the same on all ranks.

        Two runs with the same hash ended with the same bits. Weights that are a rank's
        own enter with the values of every rank.

        Collective: all ranks.
        """
        plan = self.plan
        copies, own = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)
        for name, parameter in self._parameters.items():
            is_copy = plan.group_size(plan.bucket_of(name)) == self.comm.size
            target = copies if is_copy else own
            target.update(name.encode() + weight_hash(parameter))
        if all(plan.group_size(bucket) == self.comm.size for bucket in plan.buckets):
            return copies.hexdigest()
        parts = self.comm.all_gather_bytes(own.digest())
        return hashlib.blake2b(
            copies.digest() + b"".join(parts), digest_size=16
        ).hexdigest()

    def report(self) -> str:
        """Return what is sharded where, and what this rank has sent so far."""
        lines = [self.plan.describe(), ""]
        lines += [
            f"sent by this rank: {kind} {calls} calls, "
            f"{self.comm.bytes_sent[kind]} bytes"
            for kind, calls in self.comm.calls.items()
        ]
        lines += [
            f"{name}: no gradient in {count} grains"
            for name, count in self.num_absent.items()
        ]
        return "\n".join(lines)

    def close(self) -> None:
        """Free the communication groups and release the parameters.

        The parameters keep their values; their flags may be set again. The state of the
        optimizer goes with the manager.

        Collective: all ranks.
        """
        self._runtime.close()

    def __enter__(self) -> "ParameterManager":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error the other ranks may be anywhere: freeing groups could hang.
        if error is None:
            self.close()

    def _run_backward(
        self, loss_fn: LossFunction, batch: Sequence[object], weight: float
    ) -> float:
        loss, error = 0.0, None
        try:
            loss = self._runtime.backward.run(
                loss_fn,
                batch,
                weight=weight,
                scope=("step", self.num_steps),
            )
        except Exception as raised:
            error = raised
        return self._status.exchange(loss, error)

    def _update(self, gradient_scale: float = 1.0) -> None:
        rates = self._optimizer.rates(self.num_steps)
        self.num_steps += 1
        for exchange in self._runtime.exchanges:
            exchange.run(
                step=self.num_steps,
                rates=rates,
                gradient_scale=gradient_scale / self._optimizer.loss_scale,
            )
        self._optimizer.advance()

    def _equalise_start(self) -> tuple[str, ...]:
        by_group: dict[tuple[int, ...], list[str]] = {}
        for bucket in self.plan.buckets:
            ranks = tuple(self.plan.group(bucket, self.comm.rank))
            by_group.setdefault(ranks, []).extend(e.name for e in bucket.extents)
        different: list[str] = []
        for ranks, names in by_group.items():
            if len(ranks) > 1:
                group = self._runtime.groups[ranks]
                different += equalise_start(group, names, self._parameters)
        return tuple(different)


def _plan_for(
    parameters: dict[str, Parameter],
    optimizer: Optimizer,
    policy: Policy | None,
    mesh: Mesh | None,
    comm: Communicator,
) -> Plan:
    policy = policy if policy is not None else Policy()
    mesh = mesh if mesh is not None else Mesh(data=comm.size)
    if mesh.size != comm.size:
        raise PlanError(f"{mesh} has {mesh.size} ranks, the world has {comm.size}")
    if policy.level > HIGHEST_EXECUTED:
        raise PlanError(
            f"level {int(policy.level)} can be planned but not executed yet; "
            f"this release executes levels 0 and {int(HIGHEST_EXECUTED)}"
        )
    return make_plan(make_specs(parameters, optimizer), mesh, policy)
