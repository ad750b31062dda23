"""When a run saves a checkpoint, and what another goes on from.

What a checkpoint is and how it is written is `parallel_params/checkpoint/`; here is
what a job means by it: every so many steps, on a signal, the newest of earlier runs.
"""

import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from parallel_params.checkpoint.checkpointer import Checkpointer, Saved
from parallel_params.checkpoint.folder import IN_RUN
from parallel_params.errors import ConfigError, TrainingStopped
from parallel_params.manager import ParameterManager
from parallel_params.outer.checkpointer import OuterCheckpointer
from parallel_params.train.build import Trainee
from parallel_params.train.config.job import Job
from parallel_params.train.course import Course
from parallel_params.train.environment import bit_facts, different_facts
from parallel_params.train.origins import as_mapping, course_in, facts_of
from parallel_params.train.rounds import Rounds


class Keeping:
    """The checkpoints of one run.

    Args:
        job: its [checkpoint] table.
        trainee: what is trained.
        manager: of the trainee.
        folder: of the run.
        stop: tells whether this process was asked to stop; None if nobody can ask.
        log: of this rank.
    """

    def __init__(
        self,
        job: Job,
        trainee: Trainee,
        manager: ParameterManager | Rounds,
        folder: Path,
        *,
        stop: Callable[[], bool] | None,
        log: logging.Logger,
    ) -> None:
        self._job, self._trainee, self._manager = job, trainee, manager
        self._stop, self._log = stop, log
        self._facts = facts_of(job, trainee)
        wanted = job.checkpoint
        target = wanted.folder if wanted.folder is not None else folder / IN_RUN
        self._keeper: Checkpointer | None = None
        if isinstance(manager, Rounds):
            loop = manager.loop
            rounds = OuterCheckpointer(
                target,
                keep=wanted.keep,
                keep_best=wanted.keep_best,
                layout=wanted.layout,
                way=wanted.way,
            )
            self._save: Callable[..., Saved] = partial(rounds.save, loop)
            self._clean = partial(rounds.clean, loop)
            return
        self._keeper = keeper = Checkpointer(
            target,
            keep=wanted.keep,
            keep_best=wanted.keep_best,
            asynchronous=wanted.background,
            layout=wanted.layout,
            way=wanted.way,
        )
        self._save = partial(keeper.save, manager)
        self._clean = partial(keeper.clean, manager.comm)

    def clean(self) -> list[str]:
        """Take away what an interrupted save has left; say so in a line.

        Collective: every rank.
        """
        removed = self._clean()
        names = ", ".join(path.name for path in removed)
        return [f"removed what an interrupted save left: {names}"] if removed else []

    def resume(
        self, course: Course, origin: Path | None, *, is_asked: bool
    ) -> list[str]:
        """Load what the run goes on from, if anything; return what there is to say.

        Raises:
            CheckpointError: it cannot be loaded.
            ConfigError: the job refuses other bits, and they would be others.

        Collective: every rank.
        """
        if origin is None:
            return ["no checkpoint to go on from: starts anew"] if is_asked else []
        policy = self._job.checkpoint.layerwise
        loaded = self._manager.load(origin, layerwise=policy)
        manifest = loaded.manifest
        changed = self._differences(manifest.extras)
        if changed and self._job.checkpoint.other_bits == "refuse":
            raise ConfigError(
                [
                    f"checkpoint.other_bits: {origin} would go on with other bits: "
                    f"{'; '.join(changed)}"
                ]
            )
        course.restore(*course_in(manifest.extras, str(origin)))
        self._trainee.movers.restore(manifest.extras.get("plateaus"), str(origin))
        notes = [f"goes on from {origin}, step {course.step}", *loaded.notes]
        notes += [f"other bits than without a stop: {line}" for line in changed]
        recorded = as_mapping(manifest.extras.get("facts"))
        settings = as_mapping(recorded.get("job")), as_mapping(self._facts["job"])
        notes += [f"the job's {line}" for line in different_facts(*settings)]
        return notes

    def after_step(self, course: Course) -> None:
        """Save if it is time, or if a rank was asked to stop.

        Raises:
            TrainingStopped: on all ranks, behind the save.
            CheckpointNotSaved: it cannot be written.

        Collective: every rank.
        """
        every = self._job.checkpoint.every
        is_last = course.step == course.num_steps
        is_due = every is not None and (course.step % every == 0 or is_last)
        must_stop = self._must_stop() and not is_last
        if is_due or must_stop:
            saved = self._save(
                cursor=course.step * self._job.data.batch,
                metric=course.score,
                extras={
                    "course": course.snapshot(),
                    "plateaus": self._trainee.movers.snapshot(),
                    "bits": bit_facts(self._manager.plan),
                    "facts": self._facts,
                },
            )
            self._log.info(
                "%s: %d bytes, training stopped for %.1f ms, copy of %d bytes",
                saved.path,
                saved.num_bytes,
                saved.stopped_s * 1e3,
                saved.copied_bytes,
            )
        if must_stop:
            self.finish()
            raise TrainingStopped(
                f"stopped as asked; step {course.step} is saved in {saved.path}. The "
                "same command with --resume auto goes on from there"
            )
        if self._keeper is not None and course.step % self._job.log.every == 0:
            self._keeper.poll(self._manager.comm)

    def finish(self) -> None:
        """Wait for a save that is under way.

        Collective: every rank.
        """
        if self._keeper is not None:
            self._keeper.finish(self._manager.comm)

    def _must_stop(self) -> bool:
        """Tell whether any rank was asked to stop, on all of them alike."""
        manager = self._manager
        if self._stop is None:
            return False
        if isinstance(manager, Rounds) and manager.loop.position:
            return False  # workers are by themselves till the end of the round
        asked = np.array([int(self._stop())], np.int64)
        if self._manager.comm.size > 1:
            self._manager.comm.all_reduce(asked, op="max")
        return bool(asked[0])

    def _differences(self, extras: Mapping[str, object]) -> list[str]:
        recorded = as_mapping(extras.get("bits"))
        now: object = json.loads(json.dumps(bit_facts(self._manager.plan), default=str))
        return different_facts(recorded, as_mapping(now))
