"""PyTorch's habit: `backward()` outside of frames, into leaves that require it."""

import gc
import weakref

import numpy as np
import pytest

from parallel_params import ops
from parallel_params.tensor import Tensor, grad, value_and_grad


def _leaf(*values: float) -> Tensor:
    return Tensor(list(values)).requires_grad_()


def _grad(x: Tensor) -> list[float]:
    assert x.grad is not None
    return x.grad.asnumpy().tolist()  # type: ignore[no-any-return]


def test_backward_adds_up_until_the_gradient_is_cleared() -> None:
    x = _leaf(1.0, 2.0)
    (x * x).sum().backward()
    (x * x).sum().backward()
    assert _grad(x) == [4.0, 8.0]
    x.grad = None
    (3.0 * x).sum().backward()
    assert _grad(x) == [3.0, 3.0]


def test_backward_takes_a_gradient_of_the_result() -> None:
    x = _leaf(1.0, 2.0)
    (x * x).backward(Tensor([1.0, 10.0]))
    assert _grad(x) == [2.0, 40.0]


def test_backward_follows_every_way_that_led_to_the_result() -> None:
    x, w = _leaf(2.0), _leaf(3.0)
    y = x * w
    z = y * y + x  # 36 + 2
    (z * w).sum().backward()
    assert _grad(x) == [2 * 6.0 * 3.0 * 3.0 + 3.0]
    assert _grad(w) == [2 * 6.0 * 2.0 * 3.0 + 38.0]


def test_nothing_is_recorded_where_no_leaf_requires_a_gradient() -> None:
    x, y = Tensor([1.0]), Tensor([2.0])
    z = x * y
    assert z._node is None
    assert not z.requires_grad
    (z * _leaf(3.0)).sum().backward()
    assert x.grad is None


def test_backward_of_a_leaf_is_its_seed() -> None:
    x = Tensor(2.0).requires_grad_()
    x.backward()
    x.backward()
    assert x.grad is not None
    assert float(x.grad) == 2.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tensor(1.0) * 2.0, "nothing to do"),
        (lambda: _leaf(1.0, 2.0) * 2.0, "needs its gradient"),
    ],
)
def test_backward_of_what_cannot_be_differentiated_is_an_error(
    make: object, message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        make().backward()  # type: ignore[operator]


def test_a_gradient_of_another_shape_is_an_error() -> None:
    with pytest.raises(
        RuntimeError, match=r"shape \(2,\) got a gradient of shape \(3,"
    ):
        (_leaf(1.0, 2.0) * 2.0).backward(Tensor([1.0, 2.0, 3.0]))


def test_a_second_sweep_is_an_error_that_adds_nothing() -> None:
    x = _leaf(1.0, 2.0)
    shared = x * x
    shared.sum().backward()
    later = (shared * x).sum()
    with pytest.raises(RuntimeError, match="ran through this computation before"):
        later.backward()
    assert _grad(x) == [2.0, 4.0]


def test_backward_inside_value_and_grad_is_an_error() -> None:
    x = _leaf(1.0)

    def fn(y: Tensor) -> Tensor:
        y.sum().backward()
        return y

    with pytest.raises(RuntimeError, match="inside value_and_grad"):
        value_and_grad(fn)(x)
    (x * x).sum().backward()
    assert _grad(x) == [2.0]


def test_a_leaf_is_a_constant_of_functions_that_do_not_name_it() -> None:
    x = _leaf(3.0)
    gradient = grad(lambda y: (x * y).sum())(Tensor([1.0]))
    assert isinstance(gradient, Tensor)
    assert gradient.asnumpy().tolist() == [3.0]
    assert x.grad is None


def test_detached_values_share_memory_and_carry_nothing() -> None:
    x = _leaf(3.0)
    y = x.detach()
    y.asnumpy()[0] = 4.0
    assert x.asnumpy()[0] == 4.0
    assert not y.requires_grad
    assert ops.mul(y, 2.0)._node is None


def test_integers_cannot_require_a_gradient() -> None:
    with pytest.raises(TypeError, match="only floating-point"):
        Tensor([1]).requires_grad_()


def test_requires_grad_can_be_taken_back() -> None:
    x = _leaf(1.0)
    x.requires_grad = False
    assert x.grad is None
    assert (x * x)._node is None
    with pytest.raises(AttributeError, match="does not require"):
        x.grad = Tensor([1.0])


def test_a_computation_that_is_never_swept_is_freed_with_its_result() -> None:
    x = _leaf(1.0, 2.0)
    middle = x * x
    alive = weakref.ref(middle)
    result = (middle + 1.0).sum()
    del middle, result
    gc.collect()
    assert alive() is None


def test_the_gradient_is_in_c_order_and_the_leafs_own() -> None:
    x = Tensor(np.arange(6.0).reshape(2, 3)).requires_grad_()
    seed = Tensor(np.ones((3, 2)))
    x.T.backward(seed)
    assert x.grad is not None
    assert x.grad.asnumpy().flags.c_contiguous
    seed.asnumpy()[:] = 5.0
    assert x.grad.asnumpy().max() == 1.0
