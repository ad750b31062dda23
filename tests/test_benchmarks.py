"""The benchmarks measure what they say, with one network for all, and then they end."""

import importlib.util
import itertools
import os
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.against_torch import Limits, rows_of
from benchmarks.cable import line
from benchmarks.cable_rank import Way
from benchmarks.contestants import contestants
from benchmarks.exchange import of_slowest as of_slowest_exchange
from benchmarks.exchange_rank import WindowExchange
from benchmarks.memory import formula_bytes
from benchmarks.messages import Ran
from benchmarks.models import fill_start, model_of, product_flops
from benchmarks.step import Taken, largest_difference, mean_losses, of_slowest
from benchmarks.worlds import Contestant, ContestantFailed, World
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator

SMALL = "8,16,4"
END_S = 10.0
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd or /proc")


@pytest.fixture(autouse=True)
def outside_of_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ("PMI", "OMPI_", "MPI_LOCAL", "SLURM_", "PPARAMS_", "HYDI_", "PRTE_")
    for name in [name for name in os.environ if name.startswith(ours)]:
        monkeypatch.delenv(name)


def small(name: str = "level-0") -> Contestant:
    (contestant,) = contestants(name, model=SMALL, batch_sizes=(2,))
    return contestant


@contextmanager
def watched(pids: Sequence[int]) -> Iterator[None]:
    """Check that all of these processes live at first and end in this block.

    A rank's launcher may be gone a moment before the system has ended the rank.
    """
    handles = [os.pidfd_open(pid) for pid in pids]
    assert not select.select(handles, [], [], 0)[0]
    yield
    ended = [bool(select.select([handle], [], [], END_S)[0]) for handle in handles]
    for handle in handles:
        os.close(handle)
    assert all(ended)


def test_a_step_takes_as_long_as_on_its_slowest_rank() -> None:
    answers = [
        Ran(seconds=(1.0, 4.0), losses=(2.0, 1.0)),
        Ran(seconds=(3.0, 2.0), losses=(4.0, 1.0)),
    ]

    assert of_slowest(answers) == [3.0, 4.0]
    assert mean_losses(answers) == [3.0, 1.0]


def test_an_exchange_takes_as_long_as_on_its_slowest_rank() -> None:
    answers = [{"a": [1.0, 5.0], "b": [2.0, 2.0]}, {"a": [3.0, 4.0], "b": [1.0, 3.0]}]

    assert of_slowest_exchange(answers) == {"a": [3.0, 5.0], "b": [2.0, 3.0]}


@pytest.mark.parametrize("ranks", [2, 3])
def test_both_ways_of_the_window_leave_the_sum_of_all_ranks(ranks: int) -> None:
    numel = 5 * 1024 + 1  # the last rank owns a ragged interval

    def body(comm: Communicator) -> bool:
        exchange = WindowExchange(comm, numel)
        own, want = exchange.own, ranks * np.arange(numel) + sum(range(ranks))
        exchange.gradient[...] = np.arange(numel) + comm.rank
        exchange.run_sum()
        is_right = np.array_equal(exchange.weight, want)
        exchange.run_step()
        is_right &= np.array_equal(exchange.gradient[own], want[own])
        exchange.close()
        return is_right

    assert all(run_threads(ranks, body))


def test_losses_differ_by_what_two_are_apart_at_one_step() -> None:
    losses = {"a": [2.0, 1.0, 9.0], "b": [2.0, 1.5, 0.0], "c": [2.0, 1.2, 3.0]}

    assert largest_difference(losses, 2) == pytest.approx(0.25)
    assert largest_difference({"a": [2.0]}, 1) == 0


def test_the_formula_is_that_of_zero_on_shared_weights() -> None:
    n, bucket = 1000, 80

    for ranks, level in itertools.product((1, 2, 4), (1, 2, 3)):
        gradient = 4 * n if level == 1 else 4 * n / ranks + 2 * bucket
        assert formula_bytes(
            level, num_elements=n, num_ranks=ranks, bucket_bytes=bucket
        ) == pytest.approx(4 * n / ranks + gradient + 8 * n / ranks)


def test_start_values_are_the_same_for_all_and_bounded_by_the_inputs() -> None:
    shapes = ((16, 9), (16,), (4, 16), (4,))
    first = [np.empty(shape, np.float32) for shape in shapes]
    second = [np.empty(shape, np.float32) for shape in shapes]

    fill_start(first, model_of("9,16,4"))
    fill_start(second, model_of("9,16,4"))

    for array, other, inputs in zip(first, second, (9, 9, 16, 16), strict=True):
        np.testing.assert_array_equal(array, other)
        assert 0 < np.abs(array).max() <= inputs**-0.5


def test_the_operations_of_a_step_are_those_of_its_products() -> None:
    # Two layers: forward, gradients of both weights, and of the hidden layer.
    flops = 2 * 3 * (8 * 16 + 16 * 4)
    want = 2 * flops + 2 * 3 * 16 * 4
    assert product_flops(model_of("8,16,4"), 3) == want
    # 5.3 million parameters, 27.4e9 operations, as counted by hand.
    assert product_flops(model_of("gpt"), 8) == pytest.approx(27.38e9, rel=1e-3)


def test_gains_of_norms_begin_around_one() -> None:
    model = model_of("gpt")
    arrays = [np.empty((4, 4), np.float32) for _ in range(max(model.gains) + 1)]
    fill_start(arrays, model)
    means = [array.mean() for array in arrays]
    assert {i for i, mean in enumerate(means) if mean > 0.4} == model.gains


def test_shares_of_the_limit_are_told_of_each_contestant() -> None:
    model = model_of("8,16,4")
    taken = {"a": Taken(seconds=[2.0, 1.0, 3.0]), "b": Taken(seconds=[4.0])}
    limits = Limits(gflops={"a": 1e-9, "b": 2e-9}, gbytes=1.0)
    flops = product_flops(model, 1)
    rows = rows_of(
        taken,
        reference="b",
        limits=limits,
        peaks={"a": 2e6, "b": 3e6},
        model=model,
        batch=1,
        num_elements=0,
    )
    assert rows[0].startswith("| a | 2000.0 (1000.0) | 2.00x |")
    assert f"| {flops / 2:.0%} | {flops / 2:.0%} |" in rows[0]
    assert f"| {flops / 8:.0%} |" in rows[1]


def test_a_stranger_without_pytorch_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    answer = CliRunner().invoke(app, ["against-torch", "--models", "tiny"])
    assert answer.exit_code == 1
    assert "pip install torch" in answer.output


def test_an_unknown_model_is_refused() -> None:
    answer = CliRunner().invoke(app, ["against-torch", "--models", "resnet"])
    assert answer.exit_code == 2
    with pytest.raises(ValueError, match="widths"):
        model_of("7")


@pytest.mark.parametrize("name", ["level-4", "level", "torch-fsdp9", "level-1-magic"])
def test_an_unknown_contestant_is_refused(name: str) -> None:
    answer = CliRunner().invoke(app, ["step", "--contestants", name])

    assert answer.exit_code == 2
    assert "is no contestant" in answer.output


@pytest.mark.slow  # starts a launcher and two Pythons
@ON_LINUX
def test_no_process_outlives_its_world() -> None:
    world = World(small(), num_ranks=2)
    pids = world.ask(int, "pid")

    with watched(pids):
        world.end()

    assert len(set(pids)) == 2


@pytest.mark.slow
@ON_LINUX
def test_a_rank_that_raises_ends_its_world_and_is_quoted() -> None:
    world = World(small(), num_ranks=2)
    pids = world.ask(int, "pid")

    with (
        watched(pids),
        pytest.raises(ContestantFailed, match=r"(?s)^level-0: .*AttributeError"),
    ):
        world.ask(Ran, "run", 0, 1, 2)  # nothing was built


@pytest.mark.slow
def test_all_train_the_same_network_from_the_same_start() -> None:
    names = "level-0,level-1"
    if importlib.util.find_spec("torch") is not None:
        names += ",torch-ddp"
    words = f"step --rounds 1 --steps 2 --batch 2 --widths {SMALL} --contestants"

    answer = CliRunner().invoke(app, [*words.split(), names])

    assert answer.exit_code == 0, answer.output
    assert "losses agree" in answer.output


@pytest.mark.slow
@ON_LINUX
def test_memory_is_told_for_each_size_of_the_batch() -> None:
    words = f"memory --batch 2,4 --widths {SMALL} --contestants level-0"

    answer = CliRunner().invoke(app, words.split())

    assert answer.exit_code == 0, answer.output
    row = answer.output.splitlines()[-1].split()
    # Two figures each, the trimmed one, and the plan's.
    assert row[0] == "level-0"
    assert len(row) == 1 + 2 * 2 + 1 + 1


def test_a_cable_is_told_by_bytes_and_ratios() -> None:
    way = Way(
        name="update", seconds=[2.0, 1.0, 3.0], announced_bytes=10**6, carried_bytes=1e6
    )

    cells = line(way, mbit=8, reference_s=3.0, default_bytes=0.0).split()

    assert cells == ["update", "2000.0", "1000.0", "1.0", "1.0", "2.00x", "1.50x"]


@ON_LINUX
def test_checkpoints_are_saved_and_loaded_beside_dd(tmp_path: Path) -> None:
    words = ["checkpoint", "--mib", "4", "--rounds", "1", "--folder", str(tmp_path)]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.output
    assert "of dd's" in answer.output
    assert "of read's" in answer.output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # a world that is killed
def test_a_run_that_is_killed_loses_no_checkpoint() -> None:
    answer = CliRunner().invoke(app, ["kills", "--times", "1", "--seed", "3"])
    assert answer.exit_code == 0, answer.output
    assert "1 kills, 0 checkpoints lost" in answer.output
