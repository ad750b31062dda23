"""What a saved outer loop is made of: a checkpoint of the anchor, and of each worker.

Nothing here communicates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from parallel_params.checkpoint.folder import find_newest
from parallel_params.errors import CheckpointError, CheckpointMismatch, PlanError
from parallel_params.plan.record import Record

OUTER = "outer"
KEY = "outer_loop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Where in its round a loop was saved, and the checkpoints of its workers.

    Attributes:
        position: inner steps since the last outer one.
        every: inner steps of a round.
        workers: of every worker its checkpoint, relative to the folder that the
            anchor's is in.
    """

    position: int
    every: int
    workers: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Return what `read` reads."""
        workers = list(self.workers)
        return {"position": self.position, "every": self.every, "workers": workers}

    @classmethod
    def read(cls, extras: Mapping[str, object], anchor: Path) -> "Parts":
        """Return what the extras of an anchor's checkpoint say.

        Raises:
            CheckpointError: it is none of an outer loop, or names a part elsewhere.
        """
        keys = ("position", "every", "workers")
        try:
            record = Record(extras.get(KEY), f"{anchor}: {KEY}", keys)
            parts = cls(
                position=record.number("position"),
                every=record.number("every"),
                workers=record.texts("workers"),
            )
            for part in parts.workers:
                path = PurePosixPath(part)
                if path.is_absolute() or ".." in path.parts:
                    raise record.error("workers", f"{part!r} is not below {anchor}")
        except PlanError as problem:
            raise CheckpointError(str(problem)) from problem
        return parts

    def check(self, anchor: Path, num_workers: int, every: int) -> None:
        """Refuse to go on with other workers, or in a round that is over.

        Raises:
            CheckpointMismatch: saying what is there.
        """
        if len(self.workers) != num_workers:
            raise CheckpointMismatch(
                f"{anchor} was saved by {len(self.workers)} workers, and there are "
                f"{num_workers}: inner optimizer state is each worker's own. Say "
                f"workers={len(self.workers)} (in a job: outer.workers), or load it "
                "into a ParameterManager for the weights alone"
            )
        if not 0 <= self.position < every:
            raise CheckpointMismatch(
                f"{anchor} was saved {self.position} steps into a round, and a round "
                f"has {every} now"
            )

    def path(self, anchor: Path, worker: int) -> Path:
        """Return the checkpoint of one worker."""
        return anchor.parent / self.workers[worker]


def find_anchor(folder: Path) -> Path:
    """Return the anchor's checkpoint of a saved loop, the newest if there are more.

    Raises:
        CheckpointError: there is none.
    """
    return find_newest(folder / OUTER if (folder / OUTER).is_dir() else folder)


def worker_folder(worker: int) -> str:
    """Return the name of what a worker saves."""
    return f"worker-{worker}"
