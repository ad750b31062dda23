"""`DistributedGradReducer`: MindSpore's golden run, its traps, and the real sums."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from ranked import OnRanks, assert_on_all_ranks

import parallel_params as pp
from parallel_params import nn
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import PlanError, PlanMismatch, RankFailed
from parallel_params.nn import DistributedGradReducer, Parameter
from parallel_params.plan.mesh import Mesh
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

ROUNDED = 1e-5  # the goldens are given to five digits


class Net(nn.Cell):
    """The net of PARAMETER.md, B 9.2: shared, layerwise and frozen."""

    def __init__(self, a: float, layer: float, f: float) -> None:
        super().__init__()
        self.a = Parameter(np.array([a], np.float32))
        self.layer = Parameter(np.array([layer], np.float32), layerwise_parallel=True)
        self.f = Parameter(np.array([f], np.float32), requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        return (self.a * x).sum() + (self.layer * x).sum() + (self.f * x).sum()


def train_functionally(
    comm: Communicator, *, is_broadcast: bool, mean: bool | None, num_steps: int
) -> tuple[list[float], list[float]]:
    """Take the golden run's steps; return a, l, f and the moments of a and l."""
    start = 1.0 if is_broadcast else comm.rank + 1.0
    net = Net(start, 10.0 * (comm.rank + 1), start)
    weights = nn.ParameterTuple(net.trainable_params())
    optimizer = nn.Momentum(weights, learning_rate=1.0, momentum=0.9)
    reducer = DistributedGradReducer(weights, mean=mean, group=comm)
    grad_fn = pp.value_and_grad(net, None, weights)
    x = Tensor(np.array([comm.rank + 1.0], np.float32))
    for _ in range(num_steps):
        _, gradients = grad_fn(x)
        optimizer(reducer(gradients))
    moments = [next(iter(optimizer.state_of(i).values())).item() for i in range(2)]
    return [p.value().item() for p in net.get_parameters()], moments


@pytest.mark.parametrize(
    ("is_broadcast", "mean", "num_steps", "rank_0", "rank_1"),
    [
        (True, True, 1, [-0.5, 9, 1], [-0.5, 18, 1]),
        (True, True, 2, [-3.35, 7.1, 1], [-3.35, 14.2, 1]),
        (True, True, 4, [-12.5735, 0.951, 1], [-12.5735, 1.902, 1]),
        (False, True, 1, [-0.5, 9, 1], [0.5, 18, 2]),
        (False, True, 4, [-12.5735, 0.951, 1], [-11.5735, 1.902, 2]),
        (False, None, 1, [-2, 9, 1], [-1, 18, 2]),
        (False, None, 4, [-26.147, 0.951, 1], [-25.147, 1.902, 2]),
    ],
)
def test_the_golden_run_has_its_weights(
    is_broadcast: bool,
    mean: bool | None,
    num_steps: int,
    rank_0: list[float],
    rank_1: list[float],
) -> None:
    found = run_threads(
        2,
        lambda comm: train_functionally(
            comm, is_broadcast=is_broadcast, mean=mean, num_steps=num_steps
        ),
    )

    assert_allclose([weights for weights, _ in found], [rank_0, rank_1], rtol=ROUNDED)


def test_the_golden_run_has_its_moments() -> None:
    found = run_threads(
        2,
        lambda comm: train_functionally(
            comm, is_broadcast=True, mean=True, num_steps=4
        ),
    )

    moments = [moment for _, moment in found]
    assert_allclose(moments, [[5.1585, 3.4390], [5.1585, 6.8780]], rtol=ROUNDED)


def parameters(*flags: bool, numel: int = 5) -> list[Parameter]:
    """Return parameters that are layerwise-parallel or not."""
    return [
        Parameter(np.ones(numel, np.float32), name=f"p{i}", layerwise_parallel=flag)
        for i, flag in enumerate(flags)
    ]


def gradients_of(rank: int, num: int, numel: int = 5) -> tuple[Tensor, ...]:
    """Return what a rank might have found."""
    rng = np.random.default_rng(rank)
    return tuple(
        Tensor(rng.standard_normal(numel, dtype=np.float32)) for _ in range(num)
    )


@pytest.mark.mpi
@pytest.mark.parametrize("fusion_type", [0, 1])
def test_the_mean_has_the_bits_of_the_manager(
    on_ranks: OnRanks, fusion_type: int
) -> None:
    def body(comm: Communicator) -> None:
        ours, theirs = (parameters(False, True, False, numel=200) for _ in range(2))
        theirs[2].comm_fusion = ours[2].comm_fusion = 0
        found = gradients_of(comm.rank, 3, 200)
        reducer = DistributedGradReducer(ours, True, None, fusion_type, comm)
        nn.SGD(ours, 1.0)(reducer(found))
        sgd = nn.SGD(theirs, 1.0)
        with pp.ParameterManager(theirs, sgd, comm=comm) as manager:
            manager.update({p.name: g for p, g in zip(theirs, found, strict=True)})
        is_power = comm.size & (comm.size - 1) == 0  # else a half is no exact quotient
        wrong = [
            p.name
            for p, q in zip(ours, theirs, strict=True)
            if not np.allclose(p.asnumpy(), q.asnumpy(), rtol=0, atol=1e-6)
            or (is_power and p.asnumpy().tobytes() != q.asnumpy().tobytes())
        ]
        assert_on_all_ranks(comm, not wrong, f"other bits: {wrong}")

    on_ranks(body)


def reduce_one(
    gradient: Array, mean: bool, num_ranks: int = 4, degree: int | None = None
) -> list[Array]:
    """Reduce `gradient * (rank + 1)`; return what every rank got."""

    def body(comm: Communicator) -> Array:
        member = Parameter(np.ones(gradient.shape, gradient.dtype), name="w")
        reducer = DistributedGradReducer([member], mean, degree, group=comm)
        own = (gradient * (comm.rank + 1)).astype(gradient.dtype)
        return reducer.construct((Tensor(own),))[0].asnumpy()

    return run_threads(num_ranks, body)


def test_sixteen_bits_are_added_in_thirty_two() -> None:
    def reduced(mean: bool) -> Array:
        def body(comm: Communicator) -> Array:
            member = Parameter(np.ones(1, np.float16), name="w")
            reducer = DistributedGradReducer([member], mean, group=comm)
            return reducer.construct((Tensor(np.array([30000], np.float16)),))[
                0
            ].asnumpy()

        return run_threads(4, body)[0]

    assert reduced(True).dtype == np.float16
    assert reduced(True).item() == 30000
    assert np.isinf(reduced(False).item())


def test_sixty_four_bits_stay_sixty_four() -> None:
    tiny = np.array([1 + 2.0**-40])

    assert reduce_one(tiny, mean=False, num_ranks=2)[0] == 3 * tiny


def test_the_degree_is_the_size_of_the_group_unless_given() -> None:
    def body(comm: Communicator) -> float:
        half = comm.group((0, 1) if comm.rank < 2 else (2, 3))
        member = Parameter(np.ones(1, np.float32), name="w")
        reducer = DistributedGradReducer([member], mean=True, group=half)
        own = Tensor(np.array([comm.rank + 1.0], np.float32))
        return float(reducer((own,))[0])

    assert run_threads(4, body) == [1.5, 1.5, 3.5, 3.5]
    one = np.ones(1, np.float32)
    assert reduce_one(one, mean=True, degree=10)[0] == 1
    assert reduce_one(one, mean=False, degree=10)[0] == 10


def test_flags_are_read_at_every_call_and_frozen_ones_are_reduced() -> None:
    def body(comm: Communicator) -> list[float]:
        member = Parameter(np.ones(1, np.float32), name="w", requires_grad=False)
        reducer = DistributedGradReducer([member], group=comm)
        own = (Tensor(np.array([comm.rank + 1.0], np.float32)),)
        before = reducer(own)[0].item()
        member.layerwise_parallel = True
        return [before, reducer(own)[0].item()]

    assert run_threads(2, body) == [[3, 1], [3, 2]]


def test_on_a_mesh_layerwise_gradients_are_reduced_along_the_other_axes() -> None:
    def body(comm: Communicator) -> list[float]:
        reducer = DistributedGradReducer(
            parameters(False, True, numel=1), True, group=comm, mesh=mesh
        )
        own = Tensor(np.array([2.0**comm.rank], np.float32))
        return [each.item() for each in reducer((own, own))]

    mesh = Mesh(data=2, model=2)

    assert run_threads(4, body) == [[3.75, 2.5], [3.75, 5], [3.75, 2.5], [3.75, 5]]


def test_a_closed_reducer_has_freed_what_it_opened_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def body(comm: Communicator) -> list[tuple[int, ...]]:
        freed: list[tuple[int, ...]] = []
        net = nn.Dense(2, 2)
        mesh = Mesh(data=2, model=2)
        reducer = nn.DistributedGradReducer(
            net.trainable_params(), group=comm, mesh=mesh
        )
        for opened in reducer._opened:
            ranks = tuple(range(opened.size))
            opened.close = lambda ranks=ranks: freed.append(ranks)  # type: ignore[method-assign,misc]  # to hear of it
        reducer.close()
        reducer.close()
        comm.barrier()
        return freed

    assert run_threads(4, body) == [[(0, 1)]] * 4


@pytest.mark.mpi
def test_a_block_closes_it_unless_it_raises(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        own = gradients_of(comm.rank, 2)
        with DistributedGradReducer(parameters(False, True), group=comm) as reducer:
            reducer(own)
        with pytest.raises(RuntimeError, match="was closed"):
            reducer(own)
        left = DistributedGradReducer(parameters(False, True), group=comm)
        with pytest.raises(KeyError), left:
            raise KeyError
        left(own)  # nothing was freed: the other ranks may be anywhere
        left.close()
        comm.barrier()  # the group is the caller's

    on_ranks(body)


@pytest.mark.parametrize(
    ("error", "words", "make"),
    [
        (RuntimeError, "tuple", lambda: list(gradients_of(0, 2))),
        (RuntimeError, "tuple", lambda: gradients_of(0, 1)[0]),
        (RuntimeError, "1 gradients for 2", lambda: gradients_of(0, 1)),
        (ValueError, "p0: .*shape", lambda: gradients_of(0, 2, numel=6)),
        (TypeError, "no Tensor", lambda: (np.ones(5), np.ones(5))),
        (TypeError, "Int64", lambda: (Tensor(np.ones(5, np.int64)),) * 2),
    ],
)
@pytest.mark.parametrize("is_on_all", [True, False])
def test_wrong_gradients_raise_on_all_ranks(
    error: type[Exception], words: str, make: object, is_on_all: bool
) -> None:
    def body(comm: Communicator) -> None:
        reducer = DistributedGradReducer(parameters(False, False), group=comm)
        is_wrong = is_on_all or comm.rank == 1
        assert callable(make)
        own = make() if is_wrong else gradients_of(0, 2)
        with pytest.raises(error if is_on_all else RankFailed, match=words):
            reducer(own)
        reducer(gradients_of(0, 2))  # and nobody is left behind

    run_threads(3, body)


@pytest.mark.parametrize(
    ("error", "choices"),
    [
        (ValueError, {"degree": 0}),
        (ValueError, {"degree": True}),
        (ValueError, {"fusion_type": -1}),
        (TypeError, {"mean": 1}),
        (PlanError, {"mesh": Mesh(data=3)}),
    ],
)
def test_wrong_arguments_are_refused(
    error: type[Exception], choices: dict[str, object]
) -> None:
    def body(comm: Communicator) -> None:
        with pytest.raises(error):
            DistributedGradReducer(parameters(False), group=comm, **choices)  # type: ignore[arg-type]  # wrong on purpose

    run_threads(2, body)


def test_ranks_that_reduce_different_things_are_told_which() -> None:
    def body(comm: Communicator) -> None:
        with pytest.raises(PlanMismatch, match=r"mean=True.*mean=False"):
            DistributedGradReducer(parameters(False), comm.rank == 0, group=comm)
        ours = parameters(False, False)
        reducer = DistributedGradReducer(ours, group=comm)
        ours[1].layerwise_parallel = comm.rank == 1
        with pytest.raises(PlanMismatch, match=r"'p1'.*layerwise_parallel=True"):
            reducer(gradients_of(0, 2))
        ours[1].layerwise_parallel = False
        short = tuple(g.astype(pp.float16) for g in gradients_of(0, 2))
        with pytest.raises(PlanMismatch, match="gradient of Float16"):
            reducer(short if comm.rank else gradients_of(0, 2))

    run_threads(3, body)


def test_alone_it_gives_back_what_it_was_given() -> None:
    own = gradients_of(0, 2)

    assert DistributedGradReducer(parameters(False, True))(own) == own
