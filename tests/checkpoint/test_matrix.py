"""Worlds, levels, meshes, layouts: a sample of `python -m benchmarks reshard`."""

from pathlib import Path

import pytest
from ranked import OnRanks, assert_on_all_ranks

from benchmarks.reshard import load_all, run, train_alone, worlds
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator


@pytest.mark.slow  # 32 worlds of 1 to 8 threads, each saves once and loads one other
def test_what_one_world_saves_another_loads_bit_for_bit(tmp_path: Path) -> None:
    # Of every size and level one mesh, and the other at the next.
    every = [w for w in worlds() if (w.num_ranks + w.level) % 2 == (w.num_slices > 1)]
    every += [w for w in worlds([1]) if w not in every]
    assert {(w.num_ranks, w.level) for w in every} == {
        (size, level) for size in range(1, 9) for level in range(4)
    }
    num_loads, problems = run(tmp_path, every, most=1)
    assert (num_loads, problems) == (len(every), [])


def test_the_comparison_finds_a_number_that_is_wrong(tmp_path: Path) -> None:
    state = train_alone(tmp_path / "alone")
    moved = state["up.weight", "moment2"]
    moved[-1, -1] += 1e-7
    world = next(iter(worlds([1])))

    def body(comm: Communicator) -> list[str]:
        return load_all(comm, world, [tmp_path / "alone"], state)

    assert run_threads(1, body) == [
        ["alone -> 1-ranks-level-0-1-slices: moment2 of 'up.weight'"]
    ]


@pytest.mark.mpi
@pytest.mark.slow  # each world of processes, both meshes
def test_processes_load_what_processes_saved(
    on_ranks: OnRanks, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def body(comm: Communicator) -> None:
        own = str(tmp_path_factory.mktemp("matrix"))
        folder = Path(comm.all_gather_bytes(own.encode())[0].decode())
        if comm.rank == 0:
            train_alone(folder / "alone")
        comm.barrier()
        state = train_alone(Path(own) / "own")
        paths, problems = [folder / "alone"], []
        for world in [*worlds([comm.size])][::3]:
            target = folder / world.name
            problems += load_all(comm, world, paths[-1:], state, target)
            paths.append(target)
        assert_on_all_ranks(comm, not problems, "; ".join(problems))

    on_ranks(body)
