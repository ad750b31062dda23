"""How a checkpoint gets onto the disk so that no crash can lose one.

All is written under another name, `step-000400.tmp`: data first, pushed to the disk by
every rank, then the manifest with the hash of every block, then the names. Only then
the folder gets its own name, at once, and that name is pushed to the disk too. A crash
leaves the folder with the other name, or the whole checkpoint; never a part of one.

`Draft` is one such save. `begin` and `commit` are collective, `write` is not: it may
run beside training on values that do not change.
"""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parallel_params.checkpoint.edges import Edges
from parallel_params.checkpoint.exchange import exchange
from parallel_params.checkpoint.files import Files, remove_tree, write_file
from parallel_params.checkpoint.live import LivePart
from parallel_params.checkpoint.manifest import Block, Key, Manifest, Stored, StoredFile
from parallel_params.checkpoint.manifest_codec import encode
from parallel_params.checkpoint.tensors import Described
from parallel_params.checkpoint.writers import Writer, Written
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointNotSaved
from parallel_params.plan.interval import Interval, is_cover

MANIFEST = "manifest.json"
ASIDE = ".tmp"
"""What the name of a folder ends in that is no checkpoint, yet or any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is to be saved, but for the values.

    Attributes:
        manifest: all of it but files and blocks.
        tensors: what they will be of, in the order of the files.
    """

    manifest: Manifest
    tensors: Sequence[Described]


class Draft:
    """One checkpoint on its way to the disk, as one rank sees it.

    Args:
        comm: all ranks.
        files: does what is done to the disk.
        target: the folder that will be the checkpoint; must not exist.
        contents: the same on all ranks.
        parts: the values of this rank, views that must not change until `write` ends.
        writer: of the layout.
        edges: what ranks give each other first, if they do.
    """

    def __init__(
        self,
        comm: Communicator,
        files: Files,
        target: Path,
        contents: Contents,
        parts: Sequence[LivePart],
        writer: Writer,
        edges: Edges | None = None,
    ) -> None:
        self._parts = tuple(parts)
        self._comm, self._files = comm, files
        self._target, self._aside = target, target.with_name(target.name + ASIDE)
        self._contents, self._writer = contents, writer
        self._edges = edges
        self._taken_bytes = edges.taken_bytes if edges is not None else 0
        self._written = Written()
        self._error: Exception | None = None

    @property
    def target(self) -> Path:
        """The folder that will be the checkpoint."""
        return self._target

    @property
    def num_bytes(self) -> int:
        """Bytes that this rank writes, heads and manifest not counted."""
        return self._taken_bytes + sum(part.values.nbytes for part in self._parts)

    @property
    def is_first(self) -> bool:
        """Whether this rank does what is done once."""
        return self._comm.rank == 0

    def begin(self) -> None:
        """Make folder and files, and write what a rank gets of its neighbours' values.

        Raises:
            CheckpointNotSaved: on all ranks, if the first could not make the folder.

        Collective: all ranks.
        """
        error: Exception | None = None
        if self.is_first:
            try:
                self._make_folder()
            except Exception as raised:
                error = named(raised, self._target)
        edges, self._edges = self._edges, None
        num_rounds = edges.num_rounds if edges is not None else 0
        told = self._finish_or_clean(error, str(num_rounds).encode())
        received: Iterator[list[LivePart]] = iter(())
        if edges is not None:
            received = edges.swap(self._comm, max(map(int, told)))
        try:
            self._writer.begin(self._files, self._aside, received)
        except Exception as raised:
            self._error = named(raised, self._aside)
            for _ in received:  # others still wait for what this rank gives
                pass

    def copy_values(self) -> int:
        """Take copies of this rank's values, so that they may change; return bytes.

        Too little memory for them is told by `commit`, to all ranks.
        """
        try:
            self._parts = tuple(
                part._replace(values=part.values.copy()) for part in self._parts
            )
        except MemoryError as raised:
            self._error = named(raised, self._aside)
            return 0
        return sum(part.values.nbytes for part in self._parts)

    def write(self) -> None:
        """Write this rank's values and push them to the disk.

        What goes wrong is told by `commit`, to all ranks.
        """
        if self._error is not None:
            return
        try:
            self._written = self._writer.write(self._files, self._aside, self._parts)
        except Exception as raised:
            self._error = named(raised, self._aside)

    def commit(self) -> Manifest:
        """Make the checkpoint one, if every rank has written its part.

        Returns:
            Its manifest, on the first rank; the one without files and blocks elsewhere.

        Raises:
            CheckpointNotSaved: on all ranks; the folder has been taken away again.

        Collective: all ranks.
        """
        payload = self._written.dumps()
        answers = self._finish_or_clean(self._error, payload)
        error: Exception | None = None
        manifest = self._contents.manifest
        if self.is_first:
            try:
                manifest = self._seal([Written.loads(each) for each in answers])
            except Exception as raised:
                error = named(raised, self._target)
        self._finish_or_clean(error)
        return manifest

    def _make_folder(self) -> None:
        if self._target.exists() or self._target.is_symlink():
            raise CheckpointNotSaved(
                f"{self._target} is there already, and no checkpoint is written over; "
                "save to another folder, or use a Checkpointer, which finds names"
            )
        make_folders(self._files, self._target.parent)
        if self._aside.exists():
            remove_tree(self._files, self._aside)
        self._files.make_folder(self._aside)
        self._writer.prepare(self._files, self._aside)

    def _seal(self, written: Sequence[Written]) -> Manifest:
        """Write the manifest and give the folder its name."""
        files, aside = self._files, self._aside
        parts = [
            (self._writer.shared_files(), ()),
            *((w.files, w.blocks) for w in written),
        ]
        manifest = _complete(self._contents, parts)
        write_file(files, aside / MANIFEST, encode(manifest))
        files.sync_folder(aside)
        files.rename(aside, self._target)
        files.sync_folder(self._target.parent)
        return manifest

    def _finish_or_clean(
        self, error: Exception | None, payload: bytes = b""
    ) -> list[bytes]:
        """Exchange; if a rank has failed, take away what was written so far."""
        try:
            return exchange(self._comm, payload, error)
        except Exception:
            if self.is_first:
                discard(self._files, self._aside)
            raise


def make_folders(files: Files, path: Path) -> None:
    """Make a folder and those around it, and push their names to the disk.

    Others may make them at the same time, as workers of an outer loop do.
    """
    if path.is_dir():
        return
    make_folders(files, path.parent)
    try:
        files.make_folder(path)
    except FileExistsError:
        if not path.is_dir():
            raise
    files.sync_folder(path.parent)


def discard(files: Files, path: Path) -> None:
    """Take away a folder that is no checkpoint, as far as the system lets us."""
    try:
        if path.is_dir() and not path.is_symlink():
            remove_tree(files, path)
    except OSError:
        # It is in nobody's way: its name says that it is none, and the next start
        # tries again. The error that brought us here is the one to tell.
        return


def _complete(
    contents: Contents,
    parts: Sequence[tuple[Sequence[StoredFile], Sequence[tuple[Key, Block]]]],
) -> Manifest:
    """Put together what the ranks have written.

    Args:
        contents: what was to be written.
        parts: files and blocks, whose file numbers count from the first file of the
            part; those of a part without files are in the first part's.
    """
    files: list[StoredFile] = []
    blocks: dict[Key, list[Block]] = {each.key: [] for each in contents.tensors}
    for own_files, own_blocks in parts:
        first = len(files) if own_files else 0
        files += own_files
        for key, block in own_blocks:
            blocks[key].append(replace(block, file=block.file + first))
    tensors = []
    for each in contents.tensors:
        ordered = sorted(blocks[each.key], key=lambda block: block.interval.start)
        stored = Stored(
            key=each.key,
            num_slices=each.num_slices,
            dtype=each.dtype,
            shape=each.shape,
            blocks=tuple(ordered),
            aliases=each.aliases,
            slice_dim=each.slice_dim,
        )
        whole = Interval(0, stored.numel)
        assert is_cover([block.interval for block in ordered], whole), each.key
        tensors.append(stored)
    return replace(contents.manifest, files=tuple(files), tensors=tuple(tensors))


def named(error: Exception, path: Path) -> Exception:
    """Turn what the system said into an error of ours that names the file."""
    if not isinstance(error, OSError) or isinstance(error, CheckpointNotSaved):
        return error
    where = error.filename or path
    what = f"{where} cannot be written: {error.strerror or error}"
    if isinstance(error, FileNotFoundError):
        return CheckpointNotSaved(
            f"{what}; a folder of this path was removed or renamed while the run went "
            "on: put it back, or save to another one"
        )
    first = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        first = "make room, or "
    elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
        first = "let this user write there, or "
    return CheckpointNotSaved(
        f"{what}; {first}save to another folder. Earlier checkpoints are untouched"
    )
