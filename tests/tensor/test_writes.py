"""What is written to tensors between a forward pass and its sweep."""

from collections.abc import Callable

import pytest

from parallel_params import Parameter, nn, ops, value_and_grad
from parallel_params.tensor import Tensor

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
