"""Operators that arrange and add up elements, against NumPy and PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from grads import gradients_of

from parallel_params import ops
from parallel_params.tensor import Tensor

X = np.random.default_rng(0).standard_normal((2, 3, 4))
MASK = X > 0.5

PAIRS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Any, Any], Any]]] = {
    "pad": (
        lambda x: ops.pad(x, (1, 2, -1, 0), value=0.5),
        lambda torch, x: torch.nn.functional.pad(x, (1, 2, -1, 0), value=0.5),
    ),
    "tile": (lambda x: ops.tile(x, (2, 1, 3)), lambda _, x: x.tile((2, 1, 3))),
    "tile more dims": (
        lambda x: ops.tile(x, (2, 1, 1, 2)),
        lambda _, x: x.tile((2, 1, 1, 2)),
    ),
    "repeat_interleave": (
        lambda x: ops.repeat_interleave(x, 3, -1),
        lambda _, x: x.repeat_interleave(3, -1),
    ),
    "repeat_interleave of all": (
        lambda x: ops.repeat_interleave(x, 2),
        lambda _, x: x.repeat_interleave(2),
    ),
    "flip": (lambda x: ops.flip(x, (0, -1)), lambda _, x: x.flip((0, -1))),
    "masked_fill": (
        lambda x: ops.masked_fill(x, Tensor(MASK), -1.0),
        lambda torch, x: x.masked_fill(torch.tensor(MASK), -1.0),
    ),
    "cumsum": (lambda x: ops.cumsum(x, 1), lambda _, x: x.cumsum(1)),
    "logsumexp": (lambda x: ops.logsumexp(x, 1), lambda _, x: x.logsumexp(1)),
    "logsumexp of all": (
        lambda x: ops.logsumexp(x, keep_dims=True),
        lambda _, x: x.logsumexp((0, 1, 2), keepdim=True),
    ),
    "norm": (
        lambda x: ops.norm(x, dim=(0, 2)),
        lambda torch, x: torch.linalg.vector_norm(x, dim=(0, 2)),
    ),
    "norm 1": (
        lambda x: ops.norm(x, 1),
        lambda torch, x: torch.linalg.vector_norm(x, 1),
    ),
    "bmm": (
        lambda x: ops.bmm(x, x.swapaxes(1, 2)),
        lambda torch, x: torch.bmm(x, x.transpose(1, 2)),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = PAIRS[name]
    inputs = torch.tensor(X, requires_grad=True)
    want = theirs(torch, inputs)
    seed = np.random.default_rng(1).standard_normal(tuple(want.shape))
    (want * torch.tensor(seed)).sum().backward()
    out = ours(Tensor(X))
    (gradient,) = gradients_of(ours, Tensor(X), seed=Tensor(seed))
    np.testing.assert_allclose(out.numpy(), want.detach().numpy(), atol=1e-13)
    np.testing.assert_allclose(gradient, inputs.grad.numpy(), atol=1e-13)


def test_logsumexp_neither_overflows_nor_loses_infinities() -> None:
    assert ops.logsumexp(Tensor([1000.0, 1000.0])).item() == pytest.approx(1000.693147)
    rows = Tensor([[-np.inf, 0.0], [np.inf, 0.0]])
    assert ops.logsumexp(rows, 1).tolist() == [0.0, np.inf]


def test_small_integers_are_summed_in_their_type() -> None:
    out = ops.cumsum(Tensor(np.array([1, 2, 3], np.int8)), 0)
    assert out.numpy().dtype == np.int8
    assert out.tolist() == [1, 3, 6]


def test_results_can_be_written_to_without_a_trace_in_the_operand() -> None:
    x = Tensor(X.copy())
    ops.flip(x, 0).numpy()[...] = 0.0
    np.testing.assert_array_equal(x.numpy(), X)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ops.pad(x, (1,)), ValueError, "1 numbers for a tensor of shape"),
        (lambda x: ops.pad(x, (1,) * 8), ValueError, "at most 6"),
        (lambda x: ops.pad(x, (-3, -2)), ValueError, "takes more off than shape"),
        (lambda x: ops.pad(x, (1, 1), "mirror"), ValueError, "mode is 'constant'"),
        (lambda x: ops.tile(x, -1), ValueError, "at least 0"),
        (lambda x: ops.repeat_interleave(x, True), TypeError, "repeats is an int"),
        (lambda x: ops.repeat_interleave(x, -1, 0), ValueError, "at least 0"),
        (lambda x: ops.flip(x, 3), ValueError, "out of range"),
        (lambda x: ops.masked_fill(x, x, 0.0), TypeError, "the mask is of bools"),
        (lambda x: ops.masked_fill(x, x > 0, x), ValueError, "value is one number"),
        (lambda x: ops.cumsum(x, 5), ValueError, "out of range"),
        (lambda x: ops.norm(x, 3), ValueError, "ord is 1, 2, infinity or None"),
        (lambda x: ops.norm(x > 0), TypeError, "floating-point"),
        (lambda x: ops.logsumexp(x > 0), TypeError, "floating-point"),
        (lambda x: ops.bmm(x, x[0]), ValueError, r"not \[B, n, k\] and \[B, k, m\]"),
        (lambda x: ops.bmm(x, x), ValueError, "do not fit"),
    ],
)
def test_what_does_not_fit_is_named(
    call: Callable[[Tensor], Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(Tensor(X))
