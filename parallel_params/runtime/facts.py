"""What a `ParameterManager` knows and says about itself; it changes nothing."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from parallel_params.comm.ledger import Ledger
from parallel_params.errors import ManagerClosed
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.plan import Plan
from parallel_params.plan.text import format_bytes, format_count, format_table
from parallel_params.runtime.course import Course
from parallel_params.runtime.evaluating import evaluating
from parallel_params.runtime.grains import split_evenly
from parallel_params.runtime.hashes import hash_of_all
from parallel_params.runtime.runtime import Runtime


class ManagerFacts:
    """The side of a `ParameterManager` that answers questions.

    Attributes:
        plan: what every rank holds and sends.
        comm: the communicator, with a count of calls and bytes.
        note: why messages are used where windows were planned, or nothing.
    """

    plan: Plan
    comm: Ledger
    note: str
    _parameters: dict[str, Parameter]
    _runtime: Runtime | None
    _course: Course
    _is_unsharded = False

    @property
    def num_absent(self) -> dict[str, int]:
        """By parameter name: in how many grains or updates no gradient arrived."""
        return self._open.backward.num_absent

    @property
    def num_steps(self) -> int:
        """Steps taken, those of the optimizers before they were adopted included."""
        return self._course.num_steps

    @property
    def num_skipped(self) -> int:
        """Steps that were not taken because a gradient was not finite."""
        return self._course.num_skipped

    @property
    def loss_scale(self) -> float:
        """The factor on the loss of the next step."""
        return self._course.loss_scale

    @property
    def gradient_norms(self) -> Mapping[object, float]:
        """Norms of the last step's mean gradients before clipping by norm.

        One under `""`, or one per optimizer and group, or per parameter, as the policy
        clips; the same bits on all ranks.
        """
        return self._course.norms

    def share(self, num_samples: int) -> slice:
        """Return which samples of a global batch are this rank's.

        Shares cut like this are the same grains at every world size that is a power of
        two, also when nothing divides the batch; some may be empty. Ranks that differ
        along no axis of `mesh.batch_axes` have the same share.
        """
        mesh = self.plan.mesh
        counts = split_evenly(num_samples, mesh.num_shares)
        index = mesh.share_index(self.comm.rank)
        start = sum(counts[:index])
        return slice(start, start + counts[index])

    @contextmanager
    def unsharded(self) -> Iterator[None]:
        """Make weights whole for a while that are cut over nodes (level 3).

        They are for reading: steps, gradients, loads and `replan` are refused inside,
        at every level and on all ranks, and nothing has changed then.

        Collective: all ranks.
        """
        outer, self._is_unsharded = self._is_unsharded, True
        try:
            with self._open.unsharded():
                yield
        finally:
            self._is_unsharded = outer

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Put the weights to evaluate with in the place of the weights for a while.

        These are the average of `optim.EMA`, or what schedule-free rules evaluate with;
        for other rules, and before the first step, the weights themselves. They are
        whole meanwhile, as in `unsharded`. Afterwards the weights are the bits they
        were; what is written to them inside is lost. Steps, saves, loads, `replan`
        and `close` are refused inside.

        Where rules have such weights a body that raises leaves this rank's own parts as
        they were, and in a world of several ranks it closes the manager: the others may
        be anywhere, and what this rank sees of their parts may be either.

        Raises:
            ManagerClosed: the manager is closed.

        Collective: all ranks, to enter and to leave.
        """
        runtime, is_inside = self._open, self._course.is_evaluating
        if is_inside:
            with self.unsharded():
                yield
            return
        try:
            with evaluating(runtime, self.comm, self._course):
                yield
        except BaseException:
            if self._course.is_evaluating:
                self._runtime = None
                runtime.release()
            raise

    def _refuse_inside(self, what: str) -> None:
        """Raise where all ranks look at whole weights, before anything is sent."""
        if self._is_unsharded:
            raise RuntimeError(
                f"inside of `with manager.unsharded()` {what}: the weights are "
                "whole there to be read. Leave it first"
            )
        if self._open.gatherer.num_buckets:
            self._course.refuse_while_evaluating(what)

    def weights_hash(self) -> str:
        """Return a hash of all weights, 32 hex digits, the same on all ranks.

        Two runs with the same hash ended with the same bits. Weights that are a rank's
        own enter with the values of every rank.

        Collective: all ranks.
        """
        with self._runtime.unsharded() if self._runtime is not None else nullcontext():
            return hash_of_all(self.plan, self.comm, self._parameters)

    def report(self) -> str:
        """Return what is sharded where, and what this rank has sent so far."""
        notes = self._course.notes() + [
            f"{name}: no gradient in {count} grains"
            for name, count in self.num_absent.items()
        ]
        sent = [["this rank has sent", "calls", "bytes"]]
        sent += [
            [kind, format_count(calls), format_bytes(self.comm.bytes_sent[kind])]
            for kind, calls in self.comm.calls.items()
        ]
        lines = [self.plan.describe(), *format_table(sent, align="<>>"), self.note]
        return "\n".join(line for line in [*lines, *notes] if line)

    @property
    def _open(self) -> Runtime:
        if self._runtime is None:
            raise ManagerClosed(
                "this ParameterManager is closed; make a new one on the parameters, "
                "with a new optimizer"
            )
        return self._runtime
