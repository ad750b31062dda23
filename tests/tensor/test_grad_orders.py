"""Constants, higher orders, and what a gradient leaves behind."""

from typing import Any

import pytest

from parallel_params import ops
from parallel_params.nn.parameter import Parameter
from parallel_params.tensor import (
    Tensor,
    grad,
    value_and_grad,
)

X = Tensor([1.0, 2.0])
Y = Tensor([3.0, 4.0])


def _weight(*values: float, name: str = "w") -> Parameter:
    return Parameter(Tensor(list(values)), name=name)


def _product(x: Tensor, y: Tensor) -> Tensor:
    return x * x * y


def _parts(value: object) -> tuple[Any, ...]:
    """The parts of a nested answer, whose type depends on what was asked for."""
    assert isinstance(value, tuple)
    return value


def _array(value: object) -> list[float]:
    assert isinstance(value, Tensor)
    return value.asnumpy().tolist()  # type: ignore[no-any-return]


def test_a_tensor_computed_outside_is_a_constant() -> None:
    w = _weight(5.0)
    outside = w * 2.0
    gradient = grad(lambda x: (x * outside * w).sum(), None, w)(X)
    assert _array(gradient) == [30.0]


def test_stop_gradient_stops_every_order() -> None:
    def fn(x: Tensor) -> Tensor:
        return (x * x * ops.stop_gradient(x)).sum()

    assert _array(grad(fn)(X)) == [2.0, 8.0]
    assert _array(grad(lambda x: grad(fn)(x).sum())(X)) == [2.0, 4.0]  # type: ignore[union-attr]


def test_higher_orders_through_free_parameters_and_their_value() -> None:
    w = _weight(3.0)

    def slope(x: Tensor) -> Tensor:
        gradient = grad(lambda x: (x * x * x * w.value()).sum())(x)
        assert isinstance(gradient, Tensor)
        return gradient.sum()

    of_x, of_w = grad(slope, 0, w)(X)
    assert (_array(of_x), _array(of_w)) == ([18.0, 36.0], [15.0])


def test_an_inner_gradient_with_respect_to_an_outer_weight_is_a_constant() -> None:
    w = _weight(3.0)

    def fn(x: Tensor) -> Tensor:
        inner = grad(lambda: (w * w * x).sum(), None, w)()
        assert isinstance(inner, Tensor)
        return (inner * w).sum()  # 2 w (x0 + x1) w

    assert _array(grad(fn, None, w)(X)) == [36.0]


def test_an_exception_does_not_disturb_later_gradients() -> None:
    w = _weight(5.0)

    def fails(x: Tensor) -> Tensor:
        y = x * w
        grad(lambda x: x + Tensor([1.0, 2.0, 3.0]))(y)
        return y

    outside = w * 2.0
    with pytest.raises(ValueError, match="do not broadcast"):
        value_and_grad(fails, 0, w)(X)
    gradient = grad(lambda x: (x * w * outside).sum(), None, w)(X)
    assert _array(gradient) == [30.0]


def test_gradients_share_no_memory_with_anything() -> None:
    x, y = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    of_x, of_y = grad(lambda x, y: x + y, (0, 1))(x, y)
    assert isinstance(of_x, Tensor)
    of_x.asnumpy()[0] = 9.0
    assert _array(of_y) == [1.0, 1.0]
    of_x, of_y = grad(lambda x, y: x.sum() + y.sum(), (0, 1))(x, y)
    assert isinstance(of_y, Tensor)
    of_y.asnumpy()[0] = 9.0
    assert _array(of_x) == [1.0, 1.0]
