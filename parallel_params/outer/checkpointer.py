"""Saves an outer loop now and then: into one folder, the newest and the best kept."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from parallel_params.checkpoint.checkpointer import Checkpointer, Saved
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.folder import list_checkpoints, remove_checkpoint
from parallel_params.checkpoint.manifest import Layout, Way
from parallel_params.outer.loop import OuterLoop
from parallel_params.outer.parts import KEY, Parts, worker_folder
from parallel_params.outer.together import together


class OuterCheckpointer:
    """Saves an outer loop as a `Checkpointer` saves a manager.

    `folder` has ordinary checkpoints of the anchor, and a folder of them per worker.
    The anchor's is written last and names those of the workers that belong to it:
    without it they are none, and are taken away by the next save.

    Args:
        folder: of the checkpoints; made by the first save.
        keep: how many of the newest stay; None for all.
        keep_best: whether the one with the largest metric stays as well.
        layout: of the files, see `ParameterManager.save`.
        way: how they are written, see there.
        files: does what is done to the disk.
        clock: seconds.

    Raises:
        CheckpointError: `keep` is less than 1.
        CheckpointNotSaved: there is no such layout.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keep: int | None = 3,
        keep_best: bool = True,
        layout: Layout = "one",
        way: Way = "system",
        files: Files | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.folder = Path(folder)
        self._layout, self._way, self._clock = layout, way, clock
        self._files = files if files is not None else Files()
        self._anchors = Checkpointer(
            folder,
            keep=keep,
            keep_best=keep_best,
            layout=layout,
            way=way,
            files=self._files,
        )

    def save(
        self,
        loop: OuterLoop,
        *,
        cursor: int | None = None,
        metric: float | None = None,
        extras: Mapping[str, object] | None = None,
    ) -> Saved:
        """Save all workers and the anchor as they are now.

        Args:
            loop: whose state.
            cursor: see `ParameterManager.save`.
            metric: see there.
            extras: see there.

        Raises:
            CheckpointNotSaved: it cannot be written; what was there is untouched.

        Collective: all ranks, behind equally many steps.
        """
        start, step = self._clock(), loop.num_steps
        with together(loop.comm) as told:
            part = self._worker(loop).save(loop.inner, step=step)
            told.append(part.path.relative_to(self.folder).as_posix().encode())
        saved = self._anchors.save(
            loop.outer,
            cursor=cursor,
            metric=metric,
            extras=loop.describe_round(told, extras),
            step=step,
        )
        self._tidy(loop)
        return replace(
            saved,
            num_bytes=saved.num_bytes + part.num_bytes,
            stopped_s=self._clock() - start,
        )

    def clean(self, loop: OuterLoop) -> list[Path]:
        """Take away what an interrupted save has left; see `Checkpointer.clean`.

        Collective: all ranks, before the first save.
        """
        with together(loop.comm):
            removed = self._worker(loop).clean(loop.inner.comm)
        return removed + self._anchors.clean(loop.comm)

    def _worker(self, loop: OuterLoop) -> Checkpointer:
        return Checkpointer(
            self.folder / worker_folder(loop.worker),
            keep=None,
            layout=self._layout,
            way=self._way,
            files=self._files,
        )

    def _tidy(self, loop: OuterLoop) -> None:
        """Remove what a worker has saved and no anchor names."""
        with together(loop.comm):
            if loop.inner.comm.rank != 0:
                return
            named = {
                Parts.read(f.manifest.extras, f.path).path(f.path, loop.worker)
                for f in list_checkpoints(self.folder)
                if f.manifest is not None and KEY in f.manifest.extras
            }
            for found in list_checkpoints(self.folder / worker_folder(loop.worker)):
                if found.path not in named:
                    remove_checkpoint(self._files, found.path)
