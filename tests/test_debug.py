"""`debug.check_finite()`: the first operator is named, and nothing is left behind."""

import numpy as np
import pytest

from parallel_params import debug, nn, ops, optim
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import NonFiniteValue, RankFailed
from parallel_params.manager import ParameterManager
from parallel_params.tensor import Tensor, value_and_grad
from parallel_params.tensor.tape import local

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


class Root(nn.Cell):
    """A cell whose root is of what may be negative."""

    def construct(self, x: Tensor) -> Tensor:
        """Return the root of x."""
        return ops.sqrt(x) * 2.0


def make_net() -> nn.SequentialCell:
    """Return a net with a doubtful cell in the middle."""
    block = nn.SequentialCell(nn.Dense(3, 2, "ones"), Root())
    return nn.SequentialCell(block, nn.Dense(2, 1))


def test_the_operator_that_made_it_is_named_with_cell_shapes_and_element() -> None:
    x = Tensor(np.array([[1.0, 0.0, 0.0], [-1.0, -1.0, 0.0]], np.float32))
    with (
        debug.check_finite(),
        pytest.raises(
            NonFiniteValue,
            match=r"sqrt in cell '0.1' \(Root\) made nan at index \(1, 0\) of shape "
            r"\(2, 2\); the shapes of its operands are \(2, 2\)",
        ),
    ):
        make_net()(x)


def test_what_is_in_the_data_is_told_from_what_an_operator_made() -> None:
    x = Tensor(np.array([[1.0, np.inf, 0.0]], np.float32))
    with (
        debug.check_finite(),
        pytest.raises(
            NonFiniteValue,
            match=r"linear in cell '0.0' \(Dense\) was given, as operand 0, inf at "
            r"index \(0, 1\)",
        ),
    ):
        make_net()(x)


def test_a_weight_is_named() -> None:
    layer = nn.Dense(2, 2)
    layer.weight.asnumpy()[1, 0] = np.nan
    with (
        debug.check_finite(),
        pytest.raises(NonFiniteValue, match=r"operand 1 \('weight'\)"),
    ):
        layer(Tensor(np.ones((1, 2), np.float32)))


def test_the_operator_a_user_called_is_named_not_those_it_is_made_of() -> None:
    with debug.check_finite(), pytest.raises(NonFiniteValue, match=r"^var made inf"):
        ops.var(Tensor(np.array([1e200, -1e200])))
    with debug.check_finite(), pytest.raises(NonFiniteValue, match=r"^log made -inf"):
        Tensor([0.0]).log()


def test_infinities_may_be_meant() -> None:
    with debug.check_finite(infinite=False):
        assert ops.log(Tensor([0.0])).tolist() == [-np.inf]
        with pytest.raises(NonFiniteValue, match="mul made nan"):
            Tensor([np.inf]) * 0.0


def test_integers_and_finite_numbers_pass_and_change_nothing() -> None:
    net = nn.Dense(3, 2, activation="relu")
    x = Tensor(np.ones((2, 3), np.float32))
    fn = value_and_grad(lambda x: net(x).sum() + Tensor([1, 2]).sum())
    _, want = fn(x)
    with debug.check_finite():
        _, found = fn(x)
    assert isinstance(want, Tensor)
    assert isinstance(found, Tensor)
    assert found.tolist() == want.tolist()


def test_it_is_off_at_first_and_off_again_behind_the_block() -> None:
    assert local.recording.watch is None
    with pytest.raises(KeyError), debug.check_finite(), debug.check_finite():
        raise KeyError
    assert local.recording.watch is None
    assert np.isnan(ops.log(Tensor([-1.0])).item())


def test_recomputed_cells_are_watched_in_backward_too() -> None:
    calls: list[int] = []

    class Later(nn.Cell):
        def construct(self, x: Tensor) -> Tensor:
            calls.append(1)
            return ops.log(x - float(len(calls)) + 1.5)

    cell = Later()
    cell.recompute()
    for expected in (1, 2):
        calls.clear()
        x = Tensor([1.0 - 0.5 * expected])
        with debug.check_finite(), pytest.raises(NonFiniteValue, match="log made"):
            value_and_grad(lambda x: cell(x).sum())(x)


def test_all_ranks_learn_of_it() -> None:
    def body(comm: Communicator) -> None:
        net = nn.Dense(3, 1)
        optimizer = optim.SGD(net.trainable_params(), 0.1)
        manager = ParameterManager(net, optimizer, comm=comm)
        x = np.ones((2, 3), np.float32)
        if comm.rank == 1:
            x[0, 2] = np.nan
        with debug.check_finite():
            manager.step(lambda x: net(x).mean(), x)

    with pytest.raises(RankFailed, match=r"linear in cell Dense was given"):
        run_threads(2, body)
