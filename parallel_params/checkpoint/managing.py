"""The side of a `ParameterManager` that saves and loads its training state."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from parallel_params.checkpoint.drafting import Remarks, Source, files_for, make_draft
from parallel_params.checkpoint.exchange import exchange
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.folder import find_newest
from parallel_params.checkpoint.loading import Loaded, Wishes, load_into, open_for_all
from parallel_params.checkpoint.manifest import Layout, Way
from parallel_params.checkpoint.saving import Draft
from parallel_params.checkpoint.slices import Layerwise
from parallel_params.nn.packing import Packing
from parallel_params.runtime.replan import Replannable


class ManagerCheckpoints(Replannable):
    """Saves and loads weights, optimizer state and all that a run goes on with."""

    _packings: Sequence[Packing]

    def save(
        self,
        folder: str | Path,
        *,
        cursor: int | None = None,
        metric: float | None = None,
        extras: Mapping[str, object] | None = None,
        layout: Layout = "one",
        way: Way = "system",
    ) -> Path:
        """Save the whole training state into a new folder.

        Either all of it is there afterwards, or nothing; a `Checkpointer` keeps several
        and the best. Every rank writes what it owns.

        Args:
            folder: of the checkpoint, on a file system that all ranks see; must not
                exist.
            cursor: samples that the world has consumed, to go on with the data.
            metric: how good the weights are; larger is better.
            extras: anything else to find again, of JSON's types; the first rank's.
            layout: `one` is ordinary safetensors files that all ranks write into;
                with `shards` every rank writes one, as PyTorch's DCP reads them.
            way: `mpi` writes into the files of layout `one` by MPI-IO.

        Returns:
            The folder.

        Raises:
            CheckpointNotSaved: the folder is there, the disk is full, the extras are no
                JSON, or gradients are accumulated and wait for a step.
            ManagerClosed: the manager is closed.

        Collective: all ranks, between steps, with the same arguments.
        """
        remarks = Remarks(cursor=cursor, metric=metric, extras=extras or {})
        draft = self.begin_save(
            Path(folder), remarks, files=Files(), serial=1, layout=layout, way=way
        )
        draft.write()
        draft.commit()
        return draft.target

    def load(
        self,
        folder: str | Path,
        *,
        weights_only: bool = False,
        strict: bool = True,
        layerwise: Layerwise = "fail",
    ) -> Loaded:
        """Go on from a checkpoint of any world size, level, mesh and transport.

        Each rank reads the ranges that it holds. Nothing changes unless all of it can
        be loaded and every hash is right, on all ranks. Weights that were made whole by
        `unsharded()` before have to be made whole again.

        Args:
            folder: a checkpoint, or a folder of them: then the newest.
            weights_only: leave optimizer state, counts and randomness as they are.
            strict: everything must be there and nothing else; otherwise what does not
                fit stays as it is, and the notes say so.
            layerwise: what layerwise-parallel parameters get that are in more or fewer
                slices now. Slices of one tensor (`Parameter.slice_dim`) are cut anew.
                Others are each rank's own: `"fail"`; `"from_rank:K"`, what rank K had
                that saved; `"mean"`; `"by_key"`, the saved slice of the same number;
                the number of a saved slice; or a mapping of new to saved slices.

        Returns:
            What was loaded; `manifest.extras` and `manifest.cursor` are there.

        Raises:
            CheckpointError: it cannot be opened.
            CheckpointDamaged: its bytes are not those that were saved.
            CheckpointMismatch: it does not fit the net or the optimizer.
            ManagerClosed: the manager is closed.

        Collective: all ranks, between steps, with the same arguments.
        """
        runtime = self._open
        self._refuse_inside("no checkpoint can be loaded")
        self._course.refuse_while_evaluating("no checkpoint can be loaded")
        reader = open_for_all(self.comm, lambda: find_newest(Path(folder)))
        wishes = Wishes(
            weights_only=weights_only,
            is_strict=strict,
            layerwise=layerwise,
            packings=self._packings,
        )
        starts = dict(self._course.starts)
        loaded = load_into(reader, self.plan, self.comm, runtime, self._course, wishes)
        if self._course.starts != starts:
            self._rewire()
        return loaded

    def begin_save(
        self,
        target: Path,
        remarks: Remarks,
        *,
        files: Files,
        serial: int,
        layout: Layout,
        way: Way = "system",
    ) -> Draft:
        """Begin a save that the caller writes and commits; `save` does all of it.

        Args:
            target: the folder that will be the checkpoint.
            remarks: kept beside the state.
            files: does what is done to the disk.
            serial: its number among those of its folder.
            layout: of its files, see `save`.
            way: see `save`.

        Raises:
            CheckpointNotSaved, ManagerClosed: as `save`.

        Collective: all ranks.
        """
        runtime = self._open
        error: Exception | None = None
        try:
            source = Source(
                plan=self.plan, comm=self.comm, runtime=runtime, course=self._course
            )
            files = files_for(way, layout, self.comm, files)
            draft = make_draft(
                source, files, target, remarks, serial=serial, layout=layout
            )
        except Exception as raised:
            error = raised
        exchange(self.comm, b"", error)
        draft.begin()
        return draft
