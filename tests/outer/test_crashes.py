"""No crash at any operation of a save loses the newest whole state of an outer loop."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from recorded_files import Operation, RecordedFiles, after_crash, lay_out
from saved_states import tensors_in
from small_nets import global_batch, loss_of, make_net, share_of

from parallel_params import optim
from parallel_params.checkpoint.folder import find_newest
from parallel_params.checkpoint.reading import Reader
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointError
from parallel_params.outer import OuterCheckpointer, OuterLoop
from parallel_params.outer.parts import Parts
from parallel_params.tensor.tensor import Tensor

LossFn = Callable[[Tensor, Tensor], Tensor]
Recording = tuple[list[Operation], dict[int, list[Mapping[str, bytes]]]]
EVERY, SAVES, KEEP = 2, (1, 2, 3), 2
NUM_WORKERS = 2
# Every so many different disks one is gone on from, which takes threads and steps.
STRIDE = 24
# See `recorded_files.WAYS`; single checkpoints are tried in all of them.
WAYS = ("kill", "nonames", "mixed")


def open_loop(comm: Communicator) -> tuple[OuterLoop, LossFn]:
    net = make_net()
    adamw = optim.AdamW(net.trainable_params(), 0.01)
    return OuterLoop(net, adamw, every=EVERY, comm=comm), loss_of(net)


def go_on(comm: Communicator, folder: Path | None = None) -> str:
    """Take what is left of the steps, from the newest state on; save on the way."""
    loop, loss = open_loop(comm)
    keeper = OuterCheckpointer(folder, keep=KEEP) if folder is not None else None
    with loop:
        if keeper is not None:
            keeper.clean(loop)
            loop.load(keeper.folder)
        for step in range(loop.num_steps, SAVES[-1] + 1):
            loop.step(loss, *share_of(comm, *global_batch(8, step)))
            if keeper is not None and step + 1 in SAVES:
                keeper.save(loop)
        loop.sync()
        return loop.weights_hash()


def contents(anchor: Path) -> list[Mapping[str, bytes]]:
    """Return the tensors of the anchor and of the workers that it names."""
    parts = Parts.read(Reader.open(anchor).manifest.extras, anchor)
    places = [anchor, *(parts.path(anchor, worker) for worker in range(NUM_WORKERS))]
    return [tensors_in(place) for place in places]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Save behind three steps, keeping two; return operations and what was saved."""
    root = tmp_path_factory.mktemp("recorded")
    files, saved = RecordedFiles(root), {}

    def body(comm: Communicator) -> None:
        loop, loss = open_loop(comm)
        keeper = OuterCheckpointer(root / "kept", keep=KEEP, files=files)
        with loop:
            for step in SAVES:
                loop.step(loss, *share_of(comm, *global_batch(8, step - 1)))
                path = keeper.save(loop).path
                if comm.rank == 0:
                    saved[step] = contents(path)
                comm.barrier()

    run_threads(NUM_WORKERS, body)
    return files.operations, saved


def newest(kept: Path) -> Path | None:
    try:
        return find_newest(kept)
    except CheckpointError:
        return None


def test_the_newest_whole_state_survives_a_crash_and_training_goes_on(
    recorded: Recording, tmp_path: Path
) -> None:
    operations, saved = recorded
    straight = set(run_threads(NUM_WORKERS, go_on))
    disks: set[frozenset[tuple[str, bytes | None]]] = set()
    seen, last = set(), 0
    for number, way in product(range(len(operations)), WAYS):
        disk = after_crash(operations[: number + 1], way)
        if (key := frozenset(disk.items())) in disks:
            continue
        disks.add(key)
        kept = tmp_path / str(len(disks)) / "kept"
        lay_out(disk, kept.parent)
        anchor = newest(kept)
        assert anchor is not None or last == 0, number
        if anchor is None:
            continue
        step = int(anchor.name.removeprefix("step-"))
        assert contents(anchor) == saved[step], number
        seen.add(step)
        if way == "nonames":  # the least that there may be
            assert step >= last, number
            last = step
        if len(disks) % STRIDE == 0:
            found = run_threads(NUM_WORKERS, partial(go_on, folder=kept))
            assert set(found) == straight, number
    assert seen == set(SAVES)
