"""The side of an `OuterLoop` that answers, saves and loads, and shows the anchor."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from parallel_params.checkpoint.exchange import exchange
from parallel_params.checkpoint.folder import find_newest
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    CheckpointError,
    CheckpointMismatch,
    CheckpointNotSaved,
    PlanError,
)
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.outer import OuterPlan
from parallel_params.plan.record import Record
from parallel_params.plan.spec import MASTER_WEIGHT
from parallel_params.runtime.hashes import weight_hash
from parallel_params.tensor.tensor import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

OUTER = "outer"
_ROUND = "outer_loop"


class OuterStates:
    """What an outer loop knows and keeps."""

    inner: ParameterManager
    outer: ParameterManager
    plan: OuterPlan
    comm: Communicator
    worker: int
    every: int
    position: int
    _anchors: list[Parameter]
    _own: Communicator
    _is_own_comm: bool
    _is_evaluating = False

    @property
    def num_steps(self) -> int:
        """Inner steps that this rank's worker has taken."""
        return self.inner.num_steps

    @property
    def num_outer_steps(self) -> int:
        """Outer steps taken."""
        return self.outer.num_steps

    def close(self) -> None:
        """Free what was made here; the parameters keep this worker's values.

        Collective: all ranks.
        """
        self.outer.close()
        self.inner.close()
        self._own.close()
        if self._is_own_comm:
            self.comm.close()

    def __enter__(self) -> "Self":
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
            # As a manager does: the other ranks may be anywhere.
            self.outer.__exit__(kind, error, trace)
            self.inner.__exit__(kind, error, trace)

    def weights_hash(self) -> str:
        """Return a hash of the anchor, 32 hex digits, the same on all ranks.

        Collective: all ranks.
        """
        return self.outer.weights_hash()

    def report(self) -> str:
        """Return what a round moves, and what this rank has sent so far."""
        parts = [self.plan.traffic(), "outer steps", self.outer.report()]
        return "\n\n".join([*parts, "inner steps", self.inner.report()])

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Show the anchor in the place of this worker's weights for a while.

        Behind an outer step they are the same. Steps inside are refused. If the body
        raises, the weights stay the anchor's.

        Raises:
            RuntimeError: within a round of parameters of 16 bits that keep a master
                weight, which would be lost; evaluate behind an outer step.

        Collective: all ranks, to enter and to leave.
        """
        parameters = self.inner._parameters
        kept: dict[str, Tensor] = {}
        if self.position:
            self._check_masters()
            kept = {a.name: parameters[a.name].value() for a in self._anchors}
            self._pull()
        self._is_evaluating = True
        yield
        self._is_evaluating = False
        for name, values in kept.items():
            parameters[name].set_data(values)

    def save(
        self,
        folder: str | Path,
        *,
        cursor: int | None = None,
        extras: Mapping[str, object] | None = None,
    ) -> Path:
        """Save the training state of all workers and of the anchor, at any step.

        `folder` gets a checkpoint of every worker, and last of all one of the anchor:
        without that it is none.

        Args:
            folder: must not exist; on a file system that all ranks see.
            cursor: samples that the world has consumed.
            extras: anything else, of JSON's types; the first rank's.

        Raises:
            CheckpointNotSaved: the folder is there, or a part cannot be written.

        Collective: all ranks, behind equally many steps.
        """
        target = Path(folder)
        error: Exception | None = None
        if self.comm.rank == 0:
            try:
                target.mkdir(parents=True)
            except OSError as raised:
                error = CheckpointNotSaved(f"{target}: {raised.strerror}")
        exchange(self.comm, b"", error)
        try:
            self.inner.save(_worker_folder(target, self.worker))
        except Exception as raised:
            error = raised
        exchange(self.comm, b"", error)
        facts = {
            "workers": self.plan.num_workers,
            "position": self.position,
            "every": self.every,
        }
        self.outer.save(
            target / OUTER, cursor=cursor, extras={**(extras or {}), _ROUND: facts}
        )
        return target

    def load(self, folder: str | Path) -> Mapping[str, object]:
        """Go on from what `save` left, with the bits of a run that never stopped.

        The number of workers must be the same: each has optimizer state of its own. A
        worker may have another number of ranks. If it raises, load again or stop: some
        workers may have loaded their part.

        Returns:
            The extras.

        Raises:
            CheckpointError, CheckpointDamaged: it cannot be opened or read.
            CheckpointMismatch: it is of other workers, or does not fit the net.

        Collective: all ranks.
        """
        target = Path(folder)
        loaded = self.outer.load(find_newest(target / OUTER))
        error: Exception | None = None
        position = 0
        try:
            position = self._position_in(loaded.manifest.extras, target)
            self.inner.load(_worker_folder(target, self.worker))
        except Exception as raised:
            error = raised
        exchange(self.comm, b"", error)
        self.position = position
        extras = dict(loaded.manifest.extras)
        del extras[_ROUND]
        return extras

    def _position_in(self, extras: Mapping[str, object], target: Path) -> int:
        """Return where in its round a checkpoint was saved.

        Raises:
            CheckpointError: it is none of an outer loop.
            CheckpointMismatch: it is of other workers, or further on than a round is.
        """
        try:
            keys = ("workers", "position", "every")
            record = Record(extras.get(_ROUND), f"{target}: {_ROUND}", keys)
            workers, position = record.number("workers"), record.number("position")
        except PlanError as problem:
            raise CheckpointError(str(problem)) from problem
        if workers != self.plan.num_workers:
            raise CheckpointMismatch(
                f"{target} was saved by {workers} workers, and there are "
                f"{self.plan.num_workers}: inner optimizer state is each worker's own. "
                f"Say workers={workers}, or load {target / OUTER} into a "
                "ParameterManager for the weights alone"
            )
        if position >= self.every:
            raise CheckpointMismatch(
                f"{target} was saved {position} steps into a round, and a round has "
                f"{self.every} now"
            )
        return position

    def _pull(self) -> None:
        """Put the anchor in the place of this worker's weights.

        Collective: the ranks of a worker.
        """
        for anchor in self._anchors:
            self.inner._parameters[anchor.name].set_data(anchor.value())

    def _check_masters(self) -> None:
        if any(
            MASTER_WEIGHT in bucket.state_slots for bucket in self.inner.plan.buckets
        ):
            raise RuntimeError(
                f"{self.position} steps into a round, the master weights of parameters "
                "of 16 bits would be lost; evaluate right behind an outer step"
            )

    def _refuse_while_evaluating(self) -> None:
        if self._is_evaluating:
            raise RuntimeError(
                "inside of `with loop.evaluation()` no step can be taken: the weights "
                "are the anchor's. Leave it first"
            )

    def _frozen_digest(self) -> str:
        """Return a hash of what is not trained, of all ranks of the worker.

        Collective: the ranks of a worker.
        """
        moved = {anchor.name for anchor in self._anchors}
        parameters = self.inner._parameters
        own = [
            weight_hash(parameters[spec.name])
            for spec in self.inner.plan.params
            if spec.name not in moved and not spec.requires_grad
        ]
        told = b"".join(self.inner.comm.all_gather_bytes(b"".join(own)))
        return hashlib.blake2b(told, digest_size=16).hexdigest()


def _worker_folder(target: Path, worker: int) -> Path:
    return target / f"worker-{worker}"
