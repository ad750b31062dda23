"""Writing into tensors, and what that means to a tape that has read them."""

from collections.abc import Callable

import numpy as np
import pytest

from parallel_params import Parameter, nn, ops
from parallel_params.tensor import Tensor, grad, int8, value_and_grad

WRITES: dict[str, Callable[[Tensor], object]] = {
    "setitem": lambda x: x.__setitem__(..., 7.0),
    "assign": lambda x: ops.assign(x, Tensor([7.0, 7.0])),
}


@pytest.fixture(params=WRITES)
def write(request: pytest.FixtureRequest) -> Callable[[Tensor], object]:
    return WRITES[request.param]


def test_a_constant_that_was_read_keeps_its_derivative(
    write: Callable[[Tensor], object],
) -> None:
    x, w = Tensor([1.0, 2.0]), Tensor([1.0, 1.0]).requires_grad_()
    loss = (w * x).sum()
    write(x)
    loss.backward()
    assert w.grad is not None
    assert w.grad.tolist() == [1.0, 2.0]
    assert x.tolist() == [7.0, 7.0]

    def read_then_write(w: Tensor) -> Tensor:
        loss = (w * x).sum()
        write(x)
        return loss

    x[...] = Tensor([1.0, 2.0])
    assert str(value_and_grad(read_then_write)(w)[1]) == "[1. 2.]"


def test_a_constant_that_nobody_read_keeps_its_memory(
    write: Callable[[Tensor], object],
) -> None:
    x = Tensor([1.0, 2.0])
    memory = x.asnumpy()
    write(x)
    assert x.asnumpy() is memory


def test_a_leaf_written_to_before_its_sweep_is_refused(
    write: Callable[[Tensor], object],
) -> None:
    w = Tensor([1.0, 2.0]).requires_grad_()
    loss = (w * w).sum()
    write(w)
    with pytest.raises(RuntimeError, match="written to after it was used"):
        loss.backward()
    assert w.grad is None
    (w * w).sum().backward()
    assert str(w.grad) == "[14. 14.]"


def test_a_parameter_set_before_the_sweep_is_refused() -> None:
    weight = Parameter(Tensor([1.0, 2.0]), name="w")
    loss = (weight * weight).sum()
    weight.set_data(Tensor([5.0, 5.0]))
    with pytest.raises(RuntimeError, match="written to after it was used"):
        loss.backward()


def test_a_result_cannot_be_assigned_to_while_it_is_on_the_tape() -> None:
    hidden = Tensor([1.0, 1.0]).requires_grad_() * 2.0
    with pytest.raises(RuntimeError, match="being differentiated"):
        ops.assign(hidden, Tensor([9.0, 9.0]))


def test_layers_without_a_bias_go_backward_as_in_pytorch() -> None:
    layer = nn.Dense(2, 1, weight_init="ones", has_bias=False)
    x = Tensor([[3.0, 4.0]]).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 1.0]]
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[3.0, 4.0]]


def test_setitem_writes_in_place_broadcast_and_cast() -> None:
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    array = x.asnumpy()
    x[0] = 7
    x[:, 1] = Tensor([5.0, 6.0])
    x[Tensor([1]), 0] = 9.0
    assert x.asnumpy() is array
    assert x.tolist() == [[7.0, 5.0], [9.0, 6.0]]


def test_indexing_copies() -> None:
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    for part in (x[0], x[:, 0], x[...], next(iter(x))):
        part[...] = 9.0
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_setitem_in_a_function_is_differentiated() -> None:
    def fn(x: Tensor, v: Tensor) -> Tensor:
        y = x * 1.0
        before = y * y
        y[1] = v * 3.0
        return (before + y * y * y).sum()

    x, v = Tensor([1.0, 2.0, 3.0]), Tensor(2.0)
    of_x, of_v = grad(fn, (0, 1))(x, v)
    assert isinstance(of_x, Tensor)
    assert isinstance(of_v, Tensor)
    assert of_x.tolist() == [2.0 + 3.0, 4.0, 6.0 + 27.0]
    assert of_v.item() == 3.0 * 3.0 * 36.0
    assert x.tolist() == [1.0, 2.0, 3.0]


def test_writing_to_a_constant_does_not_disturb_what_was_recorded() -> None:
    constant = Tensor([2.0])

    def fn(x: Tensor) -> Tensor:
        y = x * constant
        constant[0] = 100.0
        return y

    gradient = grad(fn)(Tensor([1.0]))
    assert isinstance(gradient, Tensor)
    assert gradient.item() == 2.0
    assert constant.item() == 100.0


def test_a_leaf_can_be_written_to_but_not_from_the_tape() -> None:
    x = Tensor([1.0, 2.0]).requires_grad_()
    x[0] = 5.0
    assert x.tolist() == [5.0, 2.0]
    with pytest.raises(RuntimeError, match="setitem: this tensor is being diff"):
        x[0] = x[1] * 2.0


@pytest.mark.parametrize(
    ("index", "value", "error", "message"),
    [
        (5, 1.0, IndexError, r"a tensor of shape \(2,\): index 5"),
        (slice(None), [1.0, 2.0, 3.0], ValueError, r"value of shape \(3,\)"),
        (0.5, 1.0, IndexError, "valid indices"),
        (0, None, TypeError, "setitem takes"),
    ],
)
def test_setitem_says_what_does_not_fit(
    index: object, value: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Tensor([1.0, 2.0])[index] = value  # type: ignore[assignment]


def test_assign_writes_in_place_and_returns_the_tensor() -> None:
    x = Tensor([1.0, 2.0])
    array = x.asnumpy()
    assert ops.assign(x, Tensor([3, 4], dtype=int8)) is x
    assert x.asnumpy() is array
    assert array.tolist() == [3.0, 4.0]
    ops.assign(Tensor(1.0), 2)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (Tensor([1.0]), ValueError),
        (Tensor(np.zeros(2)), TypeError),
        (np.zeros(2, np.float32), TypeError),
    ],
)
def test_assign_refuses_other_shapes_and_wider_types(
    value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match="assign"):
        ops.assign(Tensor([1.0, 2.0]), value)
    with pytest.raises(TypeError, match="is not a tensor"):
        ops.assign(np.zeros(2), value)  # type: ignore[arg-type]


def test_assign_to_what_is_being_differentiated_by_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="assign after the gradient call"):
        grad(lambda x: ops.assign(x, 2.0 * x))(Tensor([1.0]))
