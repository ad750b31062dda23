"""The side of an `OuterLoop` that answers, saves and loads, and shows the anchor."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from parallel_params.checkpoint.loading import Loaded
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointNotSaved
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.outer.parts import (
    KEY,
    OUTER,
    Parts,
    find_anchor,
    worker_folder,
)
from parallel_params.outer.together import together
from parallel_params.plan.outer import OuterPlan
from parallel_params.plan.spec import MASTER_WEIGHT
from parallel_params.runtime.closing import Closing
from parallel_params.runtime.hashes import weight_hash
from parallel_params.tensor.tensor import Tensor


class OuterStates(Closing):
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

    def abandon(self) -> None:
        """Release the parameters without the other ranks; see `ParameterManager`."""
        self.outer.abandon()
        self.inner.abandon()

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
        target, name = Path(folder), worker_folder(self.worker)
        with together(self.comm):
            if self.comm.rank == 0:
                try:
                    target.mkdir(parents=True)
                except OSError as raised:
                    problem = f"{target}: {raised.strerror}"
                    raise CheckpointNotSaved(problem) from raised
        with together(self.comm) as told:
            self.inner.save(target / name)
            told.append(name.encode())
        self.outer.save(
            target / OUTER, cursor=cursor, extras=self.describe_round(told, extras)
        )
        return target

    def describe_round(
        self, parts: Sequence[bytes], extras: Mapping[str, object] | None
    ) -> dict[str, object]:
        """Return the extras of an anchor's checkpoint: where the workers' ones are.

        Args:
            parts: of every rank, its worker's checkpoint, relative to the folder that
                the anchor's is in.
            extras: more of them.
        """
        per_worker = self.comm.size // self.plan.num_workers
        parted = Parts(
            position=self.position,
            every=self.every,
            workers=tuple(part.decode() for part in parts[::per_worker]),
        )
        return {**(extras or {}), KEY: parted.as_json()}

    def load(self, folder: str | Path) -> Mapping[str, object]:
        """Go on from what `save` left, with the bits of a run that never stopped.

        The number of workers must be the same: each has optimizer state of its own. A
        worker may have another number of ranks. If it raises, load again or stop: some
        workers may have loaded their part.

        Args:
            folder: what `save` or an `OuterCheckpointer` wrote; of several the newest.

        Returns:
            The extras.

        Raises:
            CheckpointError, CheckpointDamaged: it cannot be opened or read.
            CheckpointMismatch: it is of other workers, or does not fit the net.

        Collective: all ranks.
        """
        extras = dict(self.go_on_from(folder).manifest.extras)
        del extras[KEY]
        return extras

    def go_on_from(self, folder: str | Path) -> Loaded:
        """Load as `load` does; return all that is known of the anchor's checkpoint.

        Raises:
            CheckpointError, CheckpointDamaged, CheckpointMismatch: as `load`.

        Collective: all ranks.
        """
        loaded = self.outer.load(find_anchor(Path(folder)))
        with together(self.comm):
            parts = Parts.read(loaded.manifest.extras, loaded.path)
            parts.check(loaded.path, self.plan.num_workers, self.every)
            self.inner.load(parts.path(loaded.path, self.worker))
        self.position = parts.position
        return loaded

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
