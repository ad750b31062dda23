"""Rounds of private steps and an outer step, against NumPy and against each other."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ranked import OnRanks, assert_on_all_ranks
from small_nets import global_batch, loss_of, make_net, share_of

from parallel_params import nn, ops, optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    CheckpointMismatch,
    CheckpointNotSaved,
    NonFiniteGradient,
    PlanError,
    PlanMismatch,
    RankFailed,
)
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.outer import OuterLoop, averaging, diloco
from parallel_params.outer.anchors import MakeOptimizer
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

# float32 sums of a few terms, a dozen steps deep.
TOLERANCE = 1e-5
EVERY, ROUNDS, RATE, KEPT = 3, 4, 0.2, 0.5
EVERYTHING_CUT = {"shard_threshold_bytes": 0, "alignment": 4}


def target(worker: int, step: int) -> Array:
    """Return what a worker is drawn to in a step; its gradient is weight - target."""
    rng = np.random.default_rng([worker, step])
    return rng.standard_normal(9, dtype=np.float32)


def by_hand(workers: int, rate: float, momentum: float) -> Array:
    """Train with an outer loop in NumPy; return the anchor.

    Inner steps are heavy-ball momentum, whose state lives on from round to round; the
    outer one is Nesterov's, on anchor - mean of the workers.
    """
    anchor = np.ones(9)
    speed = np.zeros(9)
    inner = np.zeros((workers, 9))
    for start in range(0, EVERY * ROUNDS, EVERY):
        weights = np.tile(anchor, (workers, 1))
        for step in range(start, start + EVERY):
            for worker in range(workers):
                gradient = weights[worker] - target(worker, step)
                inner[worker] = KEPT * inner[worker] + gradient
                weights[worker] -= RATE * inner[worker]
        difference = anchor - weights.mean(0)
        speed = momentum * speed + difference
        anchor = anchor - rate * (difference + momentum * speed)
    return anchor


def run_rounds(
    comm: Communicator,
    outer: MakeOptimizer,
    *,
    workers: int | None = None,
    outer_level: int = 1,
    level: int = 1,
) -> Array:
    """Do what `by_hand` does; return the anchor."""
    weight = Parameter(np.ones(9, np.float32), name="w")
    loop = OuterLoop(
        [weight],
        optim.SGD([weight], RATE, momentum=KEPT),
        every=EVERY,
        outer=outer,
        workers=workers,
        policy=Policy(level=Level(level), shard_threshold_bytes=0, alignment=4),
        outer_policy=Policy(
            level=Level(outer_level), shard_threshold_bytes=0, alignment=4
        ),
        comm=comm,
    )
    for step in range(EVERY * ROUNDS):
        loop.update({"w": weight.asnumpy() - target(loop.worker, step)})
    anchor: Array = weight.asnumpy().copy()
    loop.close()
    return anchor


@pytest.mark.mpi
@pytest.mark.parametrize("outer_level", [0, 1, 2])
@pytest.mark.parametrize(("rate", "momentum"), [(0.7, 0.9), (1.0, 0.0)])
def test_rounds_equal_those_by_hand(
    on_ranks: OnRanks, rate: float, momentum: float, outer_level: int
) -> None:
    def body(comm: Communicator) -> None:
        outer = diloco(rate, momentum) if momentum else averaging()
        found = run_rounds(comm, outer, outer_level=outer_level)
        expected = by_hand(comm.size, rate, momentum)
        ok = np.allclose(found, expected, rtol=0, atol=TOLERANCE)
        assert_on_all_ranks(comm, ok, f"{found}, expected {expected}")

    on_ranks(body)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_worker_has_the_same_bits_on_any_number_of_ranks(level: int) -> None:
    found = {
        num_ranks: run_threads(
            num_ranks,
            lambda comm: run_rounds(
                comm, diloco(), workers=2, level=level, outer_level=level
            ).tobytes(),
        )
        for num_ranks in (2, 4, 8)
    }

    assert len({each for ranks in found.values() for each in ranks}) == 1


def test_one_worker_that_averages_goes_where_its_steps_go() -> None:
    def train(comm: Communicator) -> tuple[Array, Array]:
        nets = [make_net(), make_net()]
        inner = [optim.AdamW(net.trainable_params(), 0.01) for net in nets]
        x, y = global_batch(8)
        loop = OuterLoop(nets[0], inner[0], every=2, outer=averaging(), comm=comm)
        manager = ParameterManager(nets[1], inner[1], comm=comm)
        for _ in range(4):
            loop.step(loss_of(nets[0]), x, y)
            manager.step(loss_of(nets[1]), x, y)
        first, second = (
            next(iter(net.get_parameters())).asnumpy().copy() for net in nets
        )
        return first, second

    ((ours, plain),) = run_threads(1, train)

    assert np.allclose(ours, plain, rtol=0, atol=TOLERANCE)


@pytest.mark.mpi
@pytest.mark.parametrize("ranks_per_node", [None, 1])
@pytest.mark.parametrize("outer_level", [0, 2])
def test_a_round_sends_what_its_plan_announces(
    on_ranks: OnRanks, outer_level: int, ranks_per_node: int | None
) -> None:
    def body(comm: Communicator) -> None:
        net = make_net()
        loop = OuterLoop(
            net,
            optim.AdamW(net.trainable_params(), 0.01),
            every=EVERY,
            outer_policy=Policy(
                level=Level(outer_level), shard_threshold_bytes=0, alignment=4
            ),
            comm=comm,
            ranks_per_node=ranks_per_node,
        )
        sent: Callable[[], int] = lambda: (  # noqa: E731 - read twice
            loop.inner.comm.total_bytes_sent + loop.outer.comm.total_bytes_sent
        )
        before = sent()
        for step in range(EVERY):
            batch = share_of(comm, *global_batch(2 * comm.size, step))
            loop.step(loss_of(net), *batch)
        found, announced = sent() - before, loop.plan.round_bytes(comm.rank)
        assert_on_all_ranks(comm, found == announced, f"{found}, not {announced}")

    on_ranks(body)


def test_the_plan_shows_the_traffic_that_is_saved() -> None:
    def body(comm: Communicator) -> tuple[str, float]:
        net = make_net()
        adamw = optim.AdamW(net.trainable_params(), 0.01)
        loop = OuterLoop(net, adamw, every=50, comm=comm, ranks_per_node=1)
        ratio = loop.plan.direct_bytes(0) / loop.plan.round_bytes(0)
        return loop.plan.describe(), ratio

    text, ratio = run_threads(4, body)[0]

    assert 45 < ratio <= 51
    lines = text.splitlines()
    assert lines[0] == "4 workers of 1 rank, an outer step every 50 steps"
    assert any(line.endswith(f"{ratio:.3g} times as much") for line in lines)


class Statistical(nn.Cell):
    """Something trained, something observed, something frozen, something private."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.weight = Parameter(np.ones(3, np.float32))
        self.seen = nn.Statistic(np.zeros(3, np.float32), momentum=0.5)
        self.frozen = Parameter(np.full(3, 2, np.float32), requires_grad=False)
        self.own = Parameter(np.full(3, rank, np.float32), layerwise_parallel=True)

    def construct(self, x: Tensor) -> Tensor:
        self.seen.observe(x.asnumpy().mean(0), len(x))
        return ops.mean(x * (self.weight + self.own) + self.frozen)


def test_statistics_are_averaged_and_what_is_private_stays() -> None:
    def body(comm: Communicator) -> list[Array]:
        net = Statistical(comm.rank)
        sgd = optim.SGD(net.trainable_params(), 3.0)
        x = np.full((2, 3), comm.rank + 1.0, np.float32)
        with OuterLoop(net, sgd, every=1, outer=averaging(), comm=comm) as loop:
            loop.step(net, x)
            return [p.value().asnumpy() for p in net.get_parameters()]

    for rank, (weight, seen, frozen, own) in enumerate(run_threads(2, body)):
        assert weight.tolist() == [-0.5] * 3  # 1 minus the mean of gradients 1 and 2
        assert seen.tolist() == [0.75] * 3  # half of 1 and half of 2, averaged
        assert frozen.tolist() == [2.0] * 3
        assert own.tolist() == [rank - (rank + 1.0)] * 3


def test_slices_along_an_inner_axis_are_averaged_over_the_workers() -> None:
    def body(comm: Communicator) -> list[float]:
        whole = Parameter(np.zeros(1, np.float32), name="whole")
        part = Parameter(np.zeros(1, np.float32), name="part", layerwise_parallel=True)
        sgd = optim.SGD([whole, part], 1.0)
        mesh = Mesh(data=1, model=2)
        worker, index = divmod(comm.rank, 2)
        with OuterLoop(
            [whole, part],
            sgd,
            every=1,
            outer=averaging(),
            workers=2,
            mesh=mesh,
            comm=comm,
        ) as loop:
            both = np.array([10.0 * worker], np.float32)
            loop.update({"whole": both, "part": both + index})
            return [whole.asnumpy().item(), part.asnumpy().item()]

    assert run_threads(4, body) == [[-5, -5], [-5, -6]] * 2


def make_loop(comm: Communicator, **choices: object) -> tuple[OuterLoop, Parameter]:
    """Return a loop over one weight of three ones, with rounds of two steps."""
    weight = Parameter(np.ones(3, np.float32), name="w")
    options = {"every": 2, "outer": averaging(), **choices}
    sgd = optim.SGD([weight], 1.0, momentum=0.5)
    loop = OuterLoop([weight], sgd, comm=comm, **options)  # type: ignore[arg-type]  # from tests
    return loop, weight


@pytest.mark.mpi(min_size=2)
def test_a_rank_that_raises_takes_all_workers_back_to_the_anchor(
    on_ranks: OnRanks,
) -> None:
    def body(comm: Communicator) -> None:
        loop, weight = make_loop(comm)
        message = ""
        try:
            for step in range(2):
                is_wrong = comm.rank == 0 and step == 0
                loop.update({"w": np.ones(4 if is_wrong else 3, np.float32)})
        except (RankFailed, ValueError) as error:
            message = str(error)
        is_back = weight.asnumpy().tolist() == [1, 1, 1] and loop.position == 0
        for _ in range(2):  # and all can go on
            loop.update({"w": np.ones(3, np.float32)})
        ok = is_back and "shape (4,)" in message and loop.num_outer_steps == 1
        assert_on_all_ranks(comm, ok, f"{message}, {weight.asnumpy()}")

    on_ranks(body)


@pytest.mark.parametrize("non_finite", ["raise", "skip"])
def test_a_worker_that_diverges_loses_the_round_for_all(non_finite: str) -> None:
    def body(comm: Communicator) -> tuple[list[float], int]:
        policy = Policy(non_finite=non_finite)  # type: ignore[arg-type]  # one of two
        loop, weight = make_loop(comm, outer_policy=policy)
        loop.update({"w": np.ones(3, np.float32)})
        if comm.rank == 1:
            weight.set_data(Tensor(np.full(3, np.inf, np.float32)))
        if non_finite == "raise":
            with pytest.raises(NonFiniteGradient, match="'w'"):
                loop.update({"w": np.ones(3, np.float32)})
        else:
            loop.update({"w": np.ones(3, np.float32)})
        return weight.asnumpy().tolist(), loop.outer.num_skipped

    assert run_threads(2, body) == [([1, 1, 1], non_finite == "skip")] * 2


def test_a_step_that_one_worker_skips_counts_for_its_round() -> None:
    def body(comm: Communicator) -> tuple[float, int]:
        loop, weight = make_loop(comm, policy=Policy(non_finite="skip"))
        wrong = np.nan if comm.rank else 1.0
        for gradient in (1.0, wrong):
            loop.update({"w": np.full(3, gradient, np.float32)})
        return weight.asnumpy()[0].item(), loop.inner.num_skipped

    # 1 - 1 - 1.5 on the one, 1 - 1 on the other.
    assert run_threads(2, body) == [(-0.75, 0), (-0.75, 1)]


def test_evaluation_shows_the_anchor_within_a_round() -> None:
    def body(comm: Communicator) -> list[float]:
        loop, weight = make_loop(comm)
        loop.update({"w": np.full(3, comm.rank + 1, np.float32)})
        seen = [weight.asnumpy()[0].item()]
        with loop.evaluation():
            seen.append(weight.asnumpy()[0].item())
            with pytest.raises(RuntimeError, match="evaluation"):
                loop.update({})
        return [*seen, weight.asnumpy()[0].item()]

    assert run_threads(2, body) == [[0, 1, 0], [-1, 1, -1]]


def train_net(
    comm: Communicator,
    steps: range,
    *,
    workers: int,
    load: Path | None = None,
    save: Path | None = None,
    level: int = 0,
) -> str:
    """Take steps, from a checkpoint and into another; return the anchor's hash."""
    net = make_net()
    policy = Policy(
        level=Level(level),
        shard_threshold_bytes=0,
        alignment=4,
        grains=max(2, comm.size // workers),
    )
    adamw = optim.AdamW(net.trainable_params(), 0.01)
    with OuterLoop(
        net, adamw, every=3, workers=workers, policy=policy, comm=comm
    ) as loop:
        if load is not None:
            assert loop.load(load) == {"note": "here"}
        for step in steps:
            batch = share_of(comm, *global_batch(8, step))
            loop.step(loss_of(net), *batch)
        if save is not None:
            loop.save(save, extras={"note": "here"})
        loop.sync()
        return loop.weights_hash()


@pytest.mark.mpi
@pytest.mark.parametrize("num_before", [3, 4])
def test_a_run_goes_on_with_the_bits_of_one_that_never_stopped(
    on_ranks: OnRanks, num_before: int
) -> None:
    def body(comm: Communicator) -> None:
        own = tempfile.mkdtemp() if comm.rank == 0 else ""
        folder = Path(comm.all_gather_bytes(own.encode())[0].decode())
        workers, saved = comm.size, folder / "saved"
        straight = train_net(comm, range(8), workers=workers)
        train_net(comm, range(num_before), workers=workers, save=saved)
        resumed = train_net(comm, range(num_before, 8), workers=workers, load=saved)
        comm.barrier()
        shutil.rmtree(folder, ignore_errors=True)
        assert_on_all_ranks(comm, resumed == straight, f"{resumed}, not {straight}")

    on_ranks(body)


def test_a_worker_goes_on_with_other_ranks_and_another_level(tmp_path: Path) -> None:
    def run(num_ranks: int, steps: range, **choices: object) -> set[str]:
        return set(
            run_threads(
                num_ranks,
                lambda comm: train_net(comm, steps, workers=2, **choices),  # type: ignore[arg-type]  # from below
            )
        )

    straight = run(2, range(6))
    run(2, range(4), save=tmp_path / "saved")

    assert run(4, range(4, 6), load=tmp_path / "saved", level=2) == straight


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        loop, _ = make_loop(comm)
        loop.update({"w": np.ones(3, np.float32)})
        loop.save(tmp_path / "saved")
        with pytest.raises(CheckpointNotSaved, match="saved"):
            loop.save(tmp_path / "saved")
        loop.close()
        fewer, _ = make_loop(comm, workers=1)
        with pytest.raises(CheckpointMismatch, match=r"2 workers.*workers=2"):
            fewer.load(tmp_path / "saved")
        fewer.close()
        shorter, _ = make_loop(comm, every=1)
        with pytest.raises(CheckpointMismatch, match="1 steps into a round"):
            shorter.load(tmp_path / "saved")

    run_threads(2, body)


@pytest.mark.parametrize(
    ("words", "choices"),
    [
        ("3 workers .* 4 ranks.* 1, 2, 4", {"workers": 3}),
        ("every: expected a whole number >= 1", {"every": 0}),
        ("inner steps cuts the weights", {"policy": Policy(level=3, **EVERYTHING_CUT)}),  # type: ignore[arg-type]  # numbers
        (
            "outer steps cuts the weights",
            {"outer_policy": Policy(level=3, **EVERYTHING_CUT)},  # type: ignore[arg-type]  # as above
        ),
        ("axis 'worker'", {"workers": 2, "mesh": Mesh(worker=2)}),
    ],
)
def test_choices_that_contradict_each_other_are_refused(
    words: str, choices: dict[str, object]
) -> None:
    def body(comm: Communicator) -> None:
        with pytest.raises(PlanError, match=words):
            make_loop(comm, **choices)

    run_threads(4, body)


def test_an_outer_step_waits_for_accumulated_gradients() -> None:
    def body(comm: Communicator) -> None:
        net = make_net()
        adamw = optim.AdamW(net.trainable_params(), 0.01)
        loop = OuterLoop(net, adamw, every=5, comm=comm)
        loop.accumulate(loss_of(net), *global_batch(2))
        with pytest.raises(RuntimeError, match="before the outer"):
            loop.sync()

    run_threads(2, body)


def test_workers_that_are_not_alike_are_refused() -> None:
    def body(comm: Communicator) -> None:
        with pytest.raises(PlanMismatch, match="workers, and every"):
            make_loop(comm, every=2 + comm.rank)
        weight = Parameter(np.ones(3 + comm.rank, np.float32), name="w")
        with pytest.raises(PlanMismatch, match="shape"):
            OuterLoop([weight], optim.SGD([weight], 1.0), every=1, comm=comm)
        frozen = Parameter(np.full(3, comm.rank), name="f", requires_grad=False)
        weight = Parameter(np.ones(3, np.float32), name="w")
        with pytest.raises(PlanMismatch, match="frozen"):
            OuterLoop([weight, frozen], optim.SGD([weight], 1.0), every=1, comm=comm)
        weight = Parameter(np.ones(3, np.float32), name="w")
        with pytest.raises(PlanMismatch, match="SgdRule"):
            OuterLoop(
                [weight],
                optim.SGD([weight], 1.0, momentum=(comm.rank + 1) / 4),
                every=1,
                comm=comm,
            )

    run_threads(2, body)
