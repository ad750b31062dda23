"""Constants, higher orders, and what a gradient leaves behind."""

import pytest
from graded import X, array, weight

from parallel_params import ops
from parallel_params.tensor import (
    Tensor,
    grad,
    value_and_grad,
)


def test_a_tensor_computed_outside_is_a_constant() -> None:
    w = weight(5.0)
    outside = w * 2.0
    gradient = grad(lambda x: (x * outside * w).sum(), None, w)(X)
    assert array(gradient) == [30.0]


def test_stop_gradient_stops_every_order() -> None:
    def fn(x: Tensor) -> Tensor:
        return (x * x * ops.stop_gradient(x)).sum()

    assert array(grad(fn)(X)) == [2.0, 8.0]
    assert array(grad(lambda x: grad(fn)(x).sum())(X)) == [2.0, 4.0]  # type: ignore[union-attr]


def test_higher_orders_through_free_parameters_and_their_value() -> None:
    w = weight(3.0)

    def slope(x: Tensor) -> Tensor:
        gradient = grad(lambda x: (x * x * x * w.value()).sum())(x)
        assert isinstance(gradient, Tensor)
        return gradient.sum()

    of_x, of_w = grad(slope, 0, w)(X)
    assert (array(of_x), array(of_w)) == ([18.0, 36.0], [15.0])


def test_an_inner_gradient_with_respect_to_an_outer_weight_is_a_constant() -> None:
    w = weight(3.0)

    def fn(x: Tensor) -> Tensor:
        inner = grad(lambda: (w * w * x).sum(), None, w)()
        assert isinstance(inner, Tensor)
        return (inner * w).sum()  # 2 w (x0 + x1) w

    assert array(grad(fn, None, w)(X)) == [36.0]


def test_an_exception_does_not_disturb_later_gradients() -> None:
    w = weight(5.0)

    def fails(x: Tensor) -> Tensor:
        y = x * w
        grad(lambda x: x + Tensor([1.0, 2.0, 3.0]))(y)
        return y

    outside = w * 2.0
    with pytest.raises(ValueError, match="do not broadcast"):
        value_and_grad(fails, 0, w)(X)
    gradient = grad(lambda x: (x * w * outside).sum(), None, w)(X)
    assert array(gradient) == [30.0]


def test_gradients_share_no_memory_with_anything() -> None:
    x, y = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    of_x, of_y = grad(lambda x, y: x + y, (0, 1))(x, y)
    assert isinstance(of_x, Tensor)
    of_x.asnumpy()[0] = 9.0
    assert array(of_y) == [1.0, 1.0]
    of_x, of_y = grad(lambda x, y: x.sum() + y.sum(), (0, 1))(x, y)
    assert isinstance(of_y, Tensor)
    of_y.asnumpy()[0] = 9.0
    assert array(of_x) == [1.0, 1.0]
