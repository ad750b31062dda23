"""`Checkpointer`: a folder of checkpoints that keeps the newest ones and the best one.

Saves either at once, or from a copy: then training stops for the copy alone, and the
checkpoint becomes one at the next call, on all ranks together.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from parallel_params.checkpoint.drafting import Remarks, check_layout, check_way
from parallel_params.checkpoint.exchange import exchange
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.folder import (
    find_newest,
    next_name,
    point_to,
    prune,
    remove_left_over,
)
from parallel_params.checkpoint.loading import Loaded
from parallel_params.checkpoint.managing import ManagerCheckpoints
from parallel_params.checkpoint.manifest import Layout, Way
from parallel_params.checkpoint.saving import Draft, named
from parallel_params.checkpoint.slices import Layerwise
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One save as this rank saw it.

    Attributes:
        path: of the checkpoint, which is one as soon as it is committed.
        num_bytes: that this rank had to write.
        stopped_s: seconds that the caller was kept from training.
        copied_bytes: memory for the copy, while it is being written; 0 without one.
    """

    path: Path
    num_bytes: int
    stopped_s: float
    copied_bytes: int


class Checkpointer:
    """Saves checkpoints into one folder and loads the newest.

    Only one run may save into a folder at a time.

    Args:
        folder: of the checkpoints; made by the first save.
        keep: how many of the newest stay; None for all.
        keep_best: whether the one with the largest metric stays as well.
        asynchronous: write from a copy, beside training. The copy takes as much memory
            as a rank's part of the state.
        layout: of the files, see `ParameterManager.save`.
        way: how they are written, see there; not by MPI-IO beside training.
        files: does what is done to the disk.
        clock: seconds.

    Raises:
        CheckpointError: `keep` is less than 1.
        CheckpointNotSaved: there is no such layout, or no such way beside training.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keep: int | None = 3,
        keep_best: bool = True,
        asynchronous: bool = False,
        layout: Layout = "one",
        way: Way = "system",
        files: Files | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if keep is not None and (type(keep) is not int or keep < 1):
            raise CheckpointError(
                f"keep: expected a number from 1 or None, got {keep!r}"
            )
        check_layout(layout)
        check_way(way, layout, is_asynchronous=asynchronous)
        self.folder = Path(folder)
        self._keep, self._keep_best = keep, keep_best
        self._is_asynchronous = asynchronous
        self._layout, self._way = layout, way
        self._files = files if files is not None else Files()
        self._clock = clock
        self._pending: tuple[Draft, threading.Thread] | None = None

    def save(
        self,
        manager: ManagerCheckpoints,
        *,
        cursor: int | None = None,
        metric: float | None = None,
        extras: Mapping[str, object] | None = None,
        step: int | None = None,
    ) -> Saved:
        """Save the training state as it is now.

        A save that still runs is finished first.

        Args:
            manager: whose state.
            cursor: see `ParameterManager.save`.
            metric: see there.
            extras: see there.
            step: names the checkpoint; by default how many the manager has taken.

        Raises:
            CheckpointNotSaved: this save, or the one before, has failed; the
                checkpoints that were there are untouched.

        Collective: all ranks, between steps, with the same arguments.
        """
        start = self._clock()
        comm = manager.comm
        self.finish(comm)
        step = manager.num_steps if step is None else step
        name, serial = self._next_name(comm, step)
        remarks = Remarks(cursor=cursor, metric=metric, extras=extras or {})
        draft = manager.begin_save(
            self.folder / name,
            remarks,
            files=self._files,
            serial=serial,
            layout=self._layout,
            way=self._way,
        )
        copied_bytes = draft.copy_values() if self._is_asynchronous else 0
        if self._is_asynchronous:
            thread = threading.Thread(
                target=draft.write, name="checkpoint", daemon=True
            )
            self._pending = draft, thread
            thread.start()
        else:
            draft.write()
            self._commit(comm, draft)
        return Saved(
            path=draft.target,
            num_bytes=draft.num_bytes,
            stopped_s=self._clock() - start,
            copied_bytes=copied_bytes,
        )

    def poll(self, comm: Communicator) -> bool:
        """Commit a save that every rank has written by now; do not wait for it.

        Returns:
            Whether there is none under way any more.

        Raises:
            CheckpointNotSaved: it has failed.

        Collective: all ranks.
        """
        if self._pending is None:
            return True
        is_done = not self._pending[1].is_alive()
        told = exchange(comm, b"1" if is_done else b"0", None)
        if b"0" in told:
            return False
        self.finish(comm)
        return True

    def finish(self, comm: Communicator) -> None:
        """Wait for a save that is under way, and commit it.

        Raises:
            CheckpointNotSaved: it has failed.

        Collective: all ranks.
        """
        if self._pending is None:
            return
        draft, thread = self._pending
        self._pending = None
        thread.join()
        self._commit(comm, draft)

    def load(
        self,
        manager: ManagerCheckpoints,
        *,
        weights_only: bool = False,
        strict: bool = True,
        layerwise: Layerwise = "fail",
    ) -> Loaded:
        """Load the newest checkpoint of the folder; see `ParameterManager.load`.

        Raises:
            CheckpointError: there is none, or see there.

        Collective: all ranks, between steps.
        """
        self.finish(manager.comm)
        return manager.load(
            self.folder,
            weights_only=weights_only,
            strict=strict,
            layerwise=layerwise,
        )

    def newest(self) -> Path | None:
        """Return the newest whole checkpoint of the folder, if there is any."""
        try:
            return find_newest(self.folder)
        except CheckpointError:
            return None

    def clean(self, comm: Communicator) -> list[Path]:
        """Take away what an interrupted save has left in the folder.

        Returns:
            What it was, on every rank.

        Raises:
            CheckpointNotSaved: it cannot be removed.

        Collective: all ranks, before the first save.
        """
        told = self._on_first(
            comm, lambda: [str(p) for p in remove_left_over(self._files, self.folder)]
        )
        assert isinstance(told, list)
        return [Path(text) for text in told]

    def _next_name(self, comm: Communicator, step: int) -> tuple[str, int]:
        told = self._on_first(comm, lambda: next_name(self.folder, step))
        assert isinstance(told, list)
        name, serial = told
        return name, serial

    def _commit(self, comm: Communicator, draft: Draft) -> None:
        draft.commit()
        self._on_first(comm, lambda: self._tidy(draft.target.name))

    def _tidy(self, name: str) -> None:
        point_to(self._files, self.folder, name)
        if self._keep is not None:
            prune(self._files, self.folder, keep=self._keep, keep_best=self._keep_best)

    def _on_first(self, comm: Communicator, act: Callable[[], object]) -> object:
        """Do something on the first rank and tell all what came out of it."""
        error: Exception | None = None
        payload = b""
        if comm.rank == 0:
            try:
                payload = json.dumps(act()).encode()
            except Exception as raised:
                error = named(raised, self.folder)
        answer: object = json.loads(exchange(comm, payload, error)[0])
        return answer
