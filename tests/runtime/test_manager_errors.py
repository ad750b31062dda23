"""Bad input to the manager: one clear error on all ranks, and nothing is lost."""

from collections.abc import Callable

import numpy as np
import pytest
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, global_batch, loss_of, make_net, share_of

from parallel_params import nn, optim
from parallel_params.comm.agree import agree_ok
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    ManagedOptimizerError,
    PlanError,
    PlanMismatch,
    RankFailed,
)
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Policy
from parallel_params.tensor.tensor import Tensor


def odd_one_out(**flags: object) -> Callable[[bool], Parameter]:
    """Return a factory of a parameter which differs on the odd rank as `flags` say."""

    def make(is_odd: bool) -> Parameter:
        settings: dict[str, object] = {"shape": (4,), "dtype": np.float32}
        if is_odd:
            settings |= flags
        shape, dtype = settings.pop("shape"), settings.pop("dtype")
        name = settings.pop("name", "w")
        parameter = Parameter(Tensor(np.zeros(shape, dtype)), name=name)  # type: ignore[call-overload, arg-type]
        for flag, value in settings.items():
            setattr(parameter, flag, value)
        return parameter

    return make


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize(
    ("difference", "words"),
    [
        ({"shape": (5,)}, ["'w'", "shape", "5", "4"]),
        ({"dtype": np.float64}, ["'w'", "dtype", "float64", "float32"]),
        ({"name": "v"}, ["parameter 0", "'v'", "'w'"]),
        ({"layerwise_parallel": True}, ["'w'", "layerwise_parallel"]),
        ({"parallel_optimizer": False}, ["'w'", "parallel_optimizer"]),
        ({"requires_grad": False}, ["'w'", "requires_grad"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_different_models_are_one_error_on_all_ranks(
    on_ranks: OnRanks, difference: dict[str, object], words: list[str]
) -> None:
    def body(comm: Communicator) -> None:
        last = comm.size - 1
        if comm.size < 3:  # of two ranks either may be the odd one
            return
        w = odd_one_out(**difference)(comm.rank == last)
        error = ""
        try:
            ParameterManager([w], optim.SGD([w], 0.1), comm=comm)
        except PlanMismatch as raised:
            error = str(raised)
        missing = [word for word in (*words, f"rank {last}") if word not in error]
        assert_on_all_ranks(comm, not missing, f"{missing} not in {error!r}")

    on_ranks(body)


@pytest.mark.mpi
def test_a_rank_whose_loss_raises_makes_all_ranks_raise(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        net = make_net()
        manager = ParameterManager(net, adamw(net), comm=comm)
        before = manager.weights_hash()
        odd = comm.size - 1

        def loss_fn(x: Tensor, y: Tensor) -> Tensor:
            if comm.rank == odd:
                raise ZeroDivisionError("the odd rank is unhappy")
            return loss_of(net)(x, y)

        batch = share_of(comm, *global_batch(2 * comm.size))
        problem = "nothing was raised"
        try:
            manager.step(loss_fn, *batch)
        except (RankFailed, ZeroDivisionError) as raised:
            problem = "" if "the odd rank is unhappy" in str(raised) else str(raised)
            if comm.size > 1 and getattr(raised, "rank", None) != odd:
                problem = f"{raised!r} names another rank"
        if manager.weights_hash() != before:
            problem = "a weight has changed"
        manager.step(loss_of(net), *batch)  # the world goes on
        assert_on_all_ranks(comm, not problem, problem)

    on_ranks(body)


def one_rank_cases() -> dict[str, tuple[Callable[[], object], type[Exception], str]]:
    """Return what a single rank can do wrong, the error and a part of its text."""
    net, other = make_net(), make_net()
    x, y = global_batch(6)
    four_grains = Policy(grains=4)

    def manager(policy: Policy | None = None) -> tuple[nn.Cell, ParameterManager]:
        fresh = make_net()
        return fresh, ParameterManager(fresh, adamw(fresh), policy=policy)

    def step(*batch: object, policy: Policy | None = None) -> object:
        fresh, managed = manager(policy)
        return managed.step(loss_of(fresh), *batch)

    def step_with(loss: object) -> object:
        return manager()[1].step(lambda *_: loss, x, y)  # type: ignore[arg-type]

    def update(gradients: dict[str, object]) -> None:
        manager()[1].update(gradients)

    twice = [Parameter(Tensor([1.0]), name="w"), Parameter(Tensor([1.0]), name="w")]
    tied = make_net()
    rest = adamw(tied)
    next(iter(tied.get_parameters())).name = "1.bias"
    return {
        "mesh": (
            lambda: ParameterManager(net, adamw(net), mesh=Mesh(data=3)),
            PlanError,
            "3 ranks",
        ),
        "foreign optimizer": (
            lambda: ParameterManager(net, adamw(other)),
            PlanError,
            "0.weight",
        ),
        "no parameters": (lambda: ParameterManager([], adamw(net)), PlanError, "none"),
        "no net": (lambda: ParameterManager(3, adamw(net)), TypeError, "not int"),  # type: ignore[arg-type]
        "no optimizer": (lambda: ParameterManager(net, None), TypeError, "NoneType"),  # type: ignore[arg-type]
        "no parameter": (lambda: ParameterManager([3], adamw(net)), TypeError, "int"),  # type: ignore[list-item]
        "no policy": (lambda: manager("fast"), TypeError, "a Policy or None, not str"),  # type: ignore[arg-type]
        "no mesh": (
            lambda: ParameterManager(net, adamw(net), mesh=2),  # type: ignore[arg-type]
            TypeError,
            "a Mesh or None, not int",
        ),
        "no gradients": (lambda: update(None), TypeError, "mapping"),  # type: ignore[arg-type]
        "one name": (lambda: ParameterManager(twice, adamw(net)), PlanError, "'w'"),
        "one name for two attributes": (
            lambda: ParameterManager(tied, rest),
            PlanError,
            "two parameters, 0.weight and 1.bias, are called '1.bias'",
        ),
        "lengths": (
            lambda: step(x, y[:4], policy=four_grains),
            ValueError,
            "one length",
        ),
        "lengths of one grain": (lambda: step(x[:0], y), ValueError, "one length"),
        "no batch": (lambda: step(policy=four_grains), ValueError, "empty"),
        "batch of lists": (lambda: step([1.0], y), TypeError, "list"),
        "loss of type": (lambda: step_with(1.0), TypeError, "float"),
        "loss of shape": (lambda: step_with(Tensor([1.0, 2.0])), TypeError, "(2,)"),
        "loss of ints": (lambda: step_with(Tensor(1)), TypeError, "Int64"),
        "misspelt": (lambda: update({"0.wieght": x}), KeyError, "0.weight"),
        "like no other": (lambda: update({"zzz": x}), KeyError, "Known: '0.bias', "),
        "gradient shape": (lambda: update({"0.weight": x}), ValueError, "(6, 7)"),
        "gradient dtype": (
            lambda: update({"1.bias": np.zeros(3, complex)}),
            TypeError,
            "complex128",
        ),
    }


@pytest.mark.parametrize("case", one_rank_cases())
def test_mistakes_are_named(case: str) -> None:
    call, kind, words = one_rank_cases()[case]
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


def test_an_adopted_optimizer_refuses_direct_calls_and_a_second_manager() -> None:
    net = make_net()
    optimizer = adamw(net)
    ParameterManager(net, optimizer)
    with pytest.raises(ManagedOptimizerError, match="ParameterManager has adopted it"):
        optimizer(tuple(Tensor(p.asnumpy()) for p in net.trainable_params()))
    with pytest.raises(ManagedOptimizerError, match="cannot be adopted"):
        ParameterManager(net, optimizer)


def test_a_wrong_policy_on_one_rank_is_an_error_on_all(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        net = make_net()
        policy = Policy(grains=comm.size + 1 if comm.rank == 0 else comm.size)
        error: Exception | None = None
        try:
            ParameterManager(net, adamw(net), policy=policy, comm=comm)
        except (PlanError, RankFailed) as raised:
            error = raised
        if comm.size > 1:
            assert_on_all_ranks(comm, error is not None, "no error")
        agree_ok(comm, None)

    on_ranks(body)
