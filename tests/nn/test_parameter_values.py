"""Values, aliasing and gradients: the rows of PARAMETER.md's table 2.5, and A4."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from parallel_params import nn
from parallel_params.nn import Parameter
from parallel_params.tensor import Tensor, no_grad, value_and_grad
from parallel_params.tensor import dtype as dtypes


def make(*values: float) -> Parameter:
    return Parameter(list(values or (1.0, 2.0)), name="w")


def plain(tensor: Tensor) -> bool:
    return type(tensor) is Tensor


def test_value_is_a_snapshot() -> None:
    w = make()
    before = w.value()

    w.set_data(Tensor([3.0, 4.0]))
    w[0] = 9.0
    before[1] = 7.0

    assert plain(before)
    assert_array_equal(before.asnumpy(), [1.0, 7.0])
    assert_array_equal(w.asnumpy(), [9.0, 4.0])


def test_asnumpy_is_a_view_that_follows_every_write() -> None:
    w = make()
    view = w.asnumpy()

    view[0] = 5.0
    assert w.value().tolist() == [5.0, 2.0]
    w.set_data(Tensor([3.0, 4.0]))
    assert_array_equal(view, [3.0, 4.0])


def test_setitem_is_in_place() -> None:
    w = make()
    same, storage = w, w.asnumpy()

    w[0] = 5.0

    assert w is same
    assert w.asnumpy() is storage
    assert (w.name, storage[0]) == ("w", 5.0)


def test_plus_equals_on_a_local_name_makes_a_plain_tensor() -> None:
    w = other = make()
    w += 1  # type: ignore[assignment]  # MindSpore's behaviour

    assert plain(w)
    assert other.asnumpy().tolist() == [1.0, 2.0]


def test_plus_equals_on_a_cell_updates_the_parameter() -> None:
    cell = nn.Cell()
    cell.w = w = Parameter([1.0, 2.0])

    cell.w += 1

    assert cell.w is w
    assert w.asnumpy().tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    "compute",
    [
        lambda w: w + 1,
        lambda w: w[0],
        lambda w: next(iter(w)),
        lambda w: w.mean(),
        lambda w: w.sum(),
        lambda w: w.reshape(2, 1),
    ],
    ids=["arithmetic", "indexing", "iteration", "mean", "sum", "reshape"],
)
def test_what_is_computed_is_a_plain_tensor(compute: "object") -> None:
    assert callable(compute)
    assert plain(compute(make()))


def test_equality_is_elementwise_and_hash_is_identity() -> None:
    v, w = make(), make()
    assert (v == w).asnumpy().tolist() == [True, True]
    assert len({v, w, v}) == 2
    assert {v: 1, w: 2}[w] == 2
    assert v in [v, w]
    with pytest.raises(ValueError, match="ambiguous"):
        assert w in [v]


def test_len_float_and_int_are_an_arrays() -> None:
    assert len(make()) == 2
    assert float(Parameter(2.5)) == 2.5
    assert int(Parameter(2)) == 2
    assert np.asarray(make()).dtype == np.float32


def test_data_is_a_plain_tensor_over_the_same_memory() -> None:
    w = make()
    assert plain(w.data)
    assert np.shares_memory(w.data.asnumpy(), w.asnumpy())
    storage = w.asnumpy()
    w.data = Tensor([5.0, 6.0])
    assert w.asnumpy() is storage
    assert storage.tolist() == [5.0, 6.0]


def test_value_is_differentiable() -> None:
    w = make(3.0)
    _, gradient = value_and_grad(lambda: (w.value() * w.value()).sum(), None, w)()
    assert isinstance(gradient, Tensor)
    assert gradient.tolist() == [6.0]


def test_backward_accumulates_where_a_gradient_is_required() -> None:
    w, frozen = make(3.0), Parameter([2.0], requires_grad=False)
    for _ in range(2):
        (w * frozen).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [4.0]
    assert frozen.grad is None


def test_nothing_is_recorded_where_no_leaf_requires_a_gradient() -> None:
    w = make()
    w.requires_grad = False
    loss = (w * 2).sum()
    assert loss._node is None
    with pytest.raises(RuntimeError, match="requires"):
        loss.backward()
    assert (make() * 2)._node is not None
    with no_grad():
        assert (make() * 2)._node is None


def test_value_and_grad_gives_the_gradient_of_a_frozen_parameter() -> None:
    w = Parameter([3.0], requires_grad=False)
    _, gradient = value_and_grad(lambda: (w * w).sum(), None, [w])()
    assert isinstance(gradient, tuple)
    assert isinstance(gradient[0], Tensor)
    assert gradient[0].tolist() == [6.0]
    assert not w.requires_grad


def test_requires_grad_survives_a_gradient_call() -> None:
    w = make(3.0)
    value_and_grad(lambda: (w * w).sum(), None, w)()
    (w * w).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [6.0]


def test_requires_grad_is_not_changed_while_differentiating() -> None:
    w = make(3.0)

    def freeze() -> Tensor:
        w.requires_grad = False
        return w.sum()

    with pytest.raises(RuntimeError, match="being differentiated"):
        value_and_grad(freeze, None, w)()
    assert w.requires_grad


def test_requires_grad_underscore_returns_the_parameter() -> None:
    w = make()
    assert w.requires_grad_(False) is w
    assert not w.requires_grad
    assert w.requires_grad_().requires_grad
    with pytest.raises(TypeError, match="requires_grad"):
        w.requires_grad_(1)  # type: ignore[arg-type]  # the point


def test_a_parameter_promotes_like_a_tensor() -> None:
    total = make() + Tensor(np.ones(2))
    assert total.dtype == dtypes.float64
