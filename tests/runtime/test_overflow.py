"""What is not finite is blamed on the rank whose gradient it is, or on the sum."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from kernel_sets import kernels_as
from ranked import OnRanks, assert_on_all_ranks

from parallel_params import ops, optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import NonFiniteGradient
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Policy, Reduction, WireDtype
from parallel_params.runtime.summing import are_finite
from parallel_params.tensor.dtype import DType, float16, float32
from parallel_params.tensor.kernel_set import Choice
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

# Whose intervals lie on other ranks, and a bucket that is longer than a block of sums.
NUMEL, ELEMENT = 70_000, 69_000
LARGE = 40_000.0  # of float16 at most 65 504
SUM = (
    f"is finite on every rank, but the sum overflows float16 at element {ELEMENT} "
    "(bucket 0). Use a lower loss scale, or a wider dtype"
)


def problem(
    comm: Communicator,
    values: Sequence[float],
    *,
    dtype: DType = float16,
    per_node: int | None = None,
    **choices: object,
) -> str:
    """Return what a step raises if the ranks' gradients have these at ELEMENT."""
    weight = Parameter(Tensor(np.ones(NUMEL, np.float32), dtype), name="w")
    policy = Policy(alignment=1, **choices)  # type: ignore[arg-type]
    mesh = Mesh(data=comm.size, ranks_per_node=per_node)
    manager = ParameterManager(
        [weight], optim.SGD([weight], 1e-3), policy=policy, mesh=mesh, comm=comm
    )
    gradient: Array = np.zeros(NUMEL, np.float32)
    gradient[ELEMENT] = values[comm.rank]
    try:
        manager.update({"w": gradient.astype(dtype.numpy)})
    except NonFiniteGradient as raised:
        return str(raised)
    finally:
        manager.close()
    return ""


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("per_node", [None, 2, 1])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((LARGE, 0, LARGE, 0), SUM),
        ((0, 0, LARGE, LARGE), SUM),
        ((0, LARGE, 0, LARGE), SUM),
        ((0, LARGE, 0, np.inf), f"from rank 3 is not finite at element {ELEMENT}"),
        ((0, np.nan, 0, LARGE), f"from rank 1 is not finite at element {ELEMENT}"),
        ((LARGE, LARGE, np.inf, 0), f"from rank 2 is not finite at element {ELEMENT}"),
        ((LARGE, -LARGE, 0, 1), ""),
    ],
)
def test_a_sum_that_overflows_is_no_ranks_fault(
    values: Sequence[float], words: str, per_node: int | None, level: int
) -> None:
    told = run_threads(
        4, lambda comm: problem(comm, values, level=level, per_node=per_node)
    )
    assert told == [told[0]] * 4
    assert words in told[0]
    assert bool(words) == bool(told[0])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0, 0, 3e38, 3e38), "is finite on every rank, but the sum overflows float32"),
        ((0, 1, 2, np.inf), f"from rank 3 is not finite at element {ELEMENT}"),
        ((0, 3e38, 0, np.nan), f"from rank 3 is not finite at element {ELEMENT}"),
        ((0, np.inf, 0, 3e38), f"from rank 1 is not finite at element {ELEMENT}"),
        ((0, 0, 1, 3e38), ""),
    ],
)
def test_the_row_that_a_sum_is_written_to_is_told_from_the_rest(
    values: Sequence[float], words: str
) -> None:
    told = run_threads(4, lambda comm: problem(comm, values, dtype=float32))
    assert told == [told[0]] * 4
    assert words in told[0]
    assert bool(words) == bool(told[0])


@pytest.mark.mpi(min_size=2)
def test_processes_agree_that_a_sum_overflows(on_ranks: OnRanks) -> None:
    def body(comm: Communicator) -> None:
        values = [LARGE] * comm.size
        told = problem(comm, values, transport="messages")
        expected = SUM if comm.size > 1 else ""
        is_fine = expected in told and bool(expected) == bool(told)
        assert_on_all_ranks(comm, is_fine, told)

    on_ranks(body)


@pytest.mark.parametrize(
    ("wire", "large", "words"),
    [
        ("float16", 1e6, "sends to another node overflows wire_dtype = 'float16'"),
        ("bfloat16", 1e6, ""),
        ("float16", np.inf, "'w' from rank 1 is not finite"),
    ],
)
@pytest.mark.parametrize("per_node", [2, 1])
def test_a_wire_that_is_too_narrow_is_named(
    per_node: int, wire: WireDtype, large: float, words: str
) -> None:
    def body(comm: Communicator) -> str:
        values = (0, large, 0, 0)
        return problem(comm, values, dtype=float32, per_node=per_node, wire_dtype=wire)

    told = run_threads(4, body)
    assert told == [told[0]] * 4
    assert words in told[0]
    assert bool(words) == bool(told[0])


@pytest.mark.parametrize(
    ("per_node", "words"),
    [
        (1, f"the sum of the gradients of 'w' is not finite at element {ELEMENT}"),
        (2, f"'w' from rank 3 is not finite at element {ELEMENT}"),
    ],
)
def test_fast_sums_between_nodes_blame_nobody_they_do_not_know(
    per_node: int, words: str
) -> None:
    fast: Reduction = "fast"

    def body(comm: Communicator) -> str:
        values = (0, 0, 0, np.inf)
        return problem(comm, values, dtype=float32, per_node=per_node, reduction=fast)

    told = run_threads(4, body)
    assert told == [told[0]] * 4
    assert words in told[0]


def test_accumulated_batches_may_overflow_as_well() -> None:
    def body(comm: Communicator) -> str:
        weight = Parameter(Tensor(np.ones(3, np.float32), float16), name="w")
        manager = ParameterManager([weight], optim.SGD([weight], 1e-3), comm=comm)
        factor = Tensor(np.full(3, LARGE / comm.size, np.float32), float16)
        x = np.ones((1, 1), np.float32)

        def loss(_: Tensor) -> Tensor:
            return ops.sum(weight * factor)

        manager.accumulate(loss, x)
        with pytest.raises(NonFiniteGradient) as caught:
            manager.step(loss, x)
        return str(caught.value)

    told = run_threads(2, body)
    assert told == [told[0]] * 2
    assert "is finite on every rank, but the sum overflows float16" in told[0]


@pytest.mark.parametrize("kernels", ["numpy", "fast"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_element_that_is_not_finite_is_found_wherever_it_is(
    kernels: Choice, dtype: type[np.floating[Any]]
) -> None:
    with kernels_as(kernels):
        for size in (0, 1, 3, 4, 31, 130):
            values = np.full(size, np.finfo(dtype).max, dtype)
            assert are_finite(values)
            for place in range(size):
                for wrong in (np.inf, -np.inf, np.nan):
                    values[place] = wrong
                    assert not are_finite(values)
                values[place] = -1
