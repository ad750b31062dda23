"""The steps of a run: batches in, steps of the manager, a look every so often."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parallel_params.errors import NonFiniteGradient, TrainingDiverged
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.build import Trainee
from parallel_params.train.config.job import Job
from parallel_params.train.console import Row
from parallel_params.train.data.batches import Batches
from parallel_params.train.data.sampler import Share
from parallel_params.train.journal import Journal
from parallel_params.train.losses import loss_of
from parallel_params.train.models.judged import LossCell
from parallel_params.train.rounds import Manager
from parallel_params.train.tasks.task import Evaluation


@dataclass(frozen=True, slots=True)
class Look:
    """The test score after some step."""

    step: int
    score: float


class Course:
    """The steps of a run, and what they led to.

    Args:
        job: says how long, and how often to look.
        trainee: what is trained.
        manager: of the trainee.
        share: this rank's part of each batch.
        journal: takes the rows.
        clock: seconds, to measure with.
        after_step: called behind every step, on all ranks.

    Attributes:
        first_step: steps that were taken before this run.
        step: steps taken.
        loss: of the last of them.
        best: the best look so far, the first of equal ones.
        evaluation: of the last look.
        seconds: the loop took.
    """

    def __init__(
        self,
        job: Job,
        trainee: Trainee,
        manager: Manager,
        *,
        share: Share,
        journal: Journal,
        clock: Callable[[], float],
        after_step: "Callable[[Course], None]" = lambda course: None,
    ) -> None:
        self._after_step = after_step
        self._job = job
        self._trainee = trainee
        self._manager = manager
        self._task = trainee.task
        self._journal = journal
        self._clock = clock
        self._batches = Batches(job, trainee.dataset, share)
        self._num_skipped = 0
        self._num_idle_looks = 0
        self._looked_at = 0
        self._counts: NDArray[np.int64] | int = 0
        self.first_step = self.step = 0
        self.loss = math.nan
        self.best: Look | None = None
        self.evaluation: Evaluation | None = None
        self.seconds = 0.0

    def run(self) -> None:
        """Take all steps, or those until patience ends; note a row every so often.

        Raises:
            TrainingDiverged: the loss or a gradient is no number any more.

        Collective: every rank.
        """
        start = noted_at = self._clock()
        noted_step, every = self.step, self._job.log.every
        self._trainee.net.set_train(True)
        while self.step < self.num_steps and not self._is_out_of_patience:
            step = self.step + 1
            self.loss = self._take(step)
            self.step = step
            is_look = step % self._job.train.eval_every == 0 or step == self.num_steps
            if is_look or step % every == 0:
                elapsed = self._clock() - noted_at
                speed = (step - noted_step) * self._job.data.batch / max(elapsed, 1e-9)
                self._note(speed, is_look=is_look)
                noted_step, noted_at = step, self._clock()
            self._journal.advance(step, self.loss)
            self._after_step(self)
        self.seconds = self._clock() - start

    def snapshot(self) -> dict[str, object]:
        """Return what `restore` needs, as JSON values."""
        best = None if self.best is None else dataclasses.asdict(self.best)
        return {"step": self.step, "best": best, "idle_looks": self._num_idle_looks}

    def restore(self, step: int, best: Look | None, idle_looks: int) -> None:
        """Go on behind a step; the manager has been loaded."""
        self.first_step = self.step = step
        self.best, self._num_idle_looks = best, idle_looks
        self._num_skipped = self._manager.num_skipped

    @property
    def score(self) -> float | None:
        """The test score behind this very step, larger is better; None without one."""
        if self.evaluation is None or self._looked_at != self.step:
            return None
        score = self.evaluation.scores[self._task.metric.name]
        return score if self._task.metric.is_more_better else -score

    @property
    def num_steps(self) -> int:
        """Steps of the whole run, if patience does not end it before."""
        return len(self._trainee.rates)

    @property
    def _is_out_of_patience(self) -> bool:
        patience = self._job.train.patience
        return patience is not None and self._num_idle_looks >= patience

    def _take(self, step: int) -> float:
        """Take one step and return the mean loss of its batch."""
        where = f"step {step} (learning rate {self._trainee.rate_of(step):g})"
        try:
            with _overflow_allowed():
                loss = self._run_parts(step)
        except NonFiniteGradient as error:
            raise TrainingDiverged(
                f"{where}: {error}; lower optim.lr, warm up longer, or choose "
                'optim.non_finite = "skip"'
            ) from error
        is_skipped = self._manager.num_skipped > self._num_skipped
        self._num_skipped = self._manager.num_skipped
        if not math.isfinite(loss) and not is_skipped:
            raise TrainingDiverged(
                f"the loss is {loss} at {where}; lower optim.lr, or warm up longer"
            )
        return loss

    def _run_parts(self, step: int) -> float:
        """Take the parts of a batch, the last with the step; return the mean loss."""
        num_parts = self._job.train.accumulate
        begin = (step - 1) * self._job.data.batch
        losses = []
        for part in range(num_parts):
            batch = self._batches.at(begin + part * self._job.data.batch // num_parts)
            is_last = part == num_parts - 1
            take = self._manager.step if is_last else self._manager.accumulate
            losses.append(float(take(self._loss, *batch)))
        return losses[0] if num_parts == 1 else math.fsum(losses) / num_parts

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        return loss_of(self._trainee.net, self._task.loss, x, y)

    def _note(self, speed: float, *, is_look: bool) -> None:
        rate = self._trainee.rate_of(self.step)  # a look may lower it
        evaluation = self._look() if is_look else None
        self._journal.note(
            Row(
                step=self.step,
                num_steps=self.num_steps,
                loss=self.loss,
                lr=rate,
                samples_per_s=speed,
                words=self._task.words_for(self.loss) | self._counted(),
                scores=evaluation.scores if evaluation else {},
                sample=evaluation.sample if evaluation else "",
            )
        )

    def _counted(self) -> dict[str, float]:
        """Say what all ranks have counted since the row before: shares of the first.

        Collective: every rank.
        """
        net, comm = self._trainee.net, self._manager.comm
        own = net.counts() if isinstance(net, LossCell) else {}
        if not own:
            return {}
        counts = np.array(list(own.values()), np.int64)
        new, self._counts = counts - self._counts, counts
        if comm.size > 1:
            comm.all_reduce(new)
        return {
            name: number / max(int(new[0]), 1)
            for name, number in zip(list(own)[1:], new[1:].tolist(), strict=True)
        }

    def _look(self) -> Evaluation:
        with self._manager.evaluation(), _overflow_allowed():
            found = self._task.evaluate(
                self._trainee.net, self._manager.comm, step=self.step
            )
        self.evaluation, self._looked_at = found, self.step
        score = found.scores[self._task.metric.name]
        for plateau in self._trainee.movers.plateaus:
            plateau.observe(score)  # the same number on all ranks
        if self.best is None or self._task.metric.is_better(score, self.best.score):
            self.best, self._num_idle_looks = Look(self.step, score), 0
        else:
            self._num_idle_looks += 1
        return found


def _overflow_allowed() -> np.errstate:
    """Keep NumPy quiet: what overflows shows in the loss, which all ranks look at."""
    return np.errstate(over="ignore", invalid="ignore")
