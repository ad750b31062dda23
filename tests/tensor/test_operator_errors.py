"""Errors of operators name the operator, the shapes and the dims; new tensors."""

from collections.abc import Callable

import numpy as np
import pytest

from parallel_params import ops
from parallel_params import tensor as pt
from parallel_params.tensor import Tensor

X23, X32 = Tensor(np.zeros((2, 3))), Tensor(np.zeros((3, 2)))
ERRORS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "add": (
        lambda: X23 + X32,
        ValueError,
        r"add: shapes \(2, 3\) and \(3, 2\) do not broadcast: dim 1 of the left is 3, "
        r"dim 1 of the right is 2",
    ),
    "where": (
        lambda: ops.where(X32 > 0.0, X23, 0.0),
        ValueError,
        r"where: shapes \(3, 2\) and \(2, 3\) do not broadcast",
    ),
    "where of numbers": (lambda: ops.where(X23, X23, 0.0), TypeError, "hold booleans"),
    "matmul": (
        lambda: X23 @ X23,
        ValueError,
        r"matmul: shapes \(2, 3\) and \(2, 3\) do not fit: dim 1 of the left is 3, dim "
        r"0 of the right is 2",
    ),
    "matmul 0-d": (lambda: X23 @ Tensor(1.0, dtype=pt.float64), ValueError, "one dim"),
    "matmul batch": (
        lambda: Tensor(np.zeros((2, 1, 1))) @ Tensor(np.zeros((3, 1, 1))),
        ValueError,
        "leading dims",
    ),
    "linear": (
        lambda: ops.linear(X23, X32),
        ValueError,
        r"\(2, 3\) does not fit weight",
    ),
    "linear bias": (
        lambda: ops.linear(X23, X23, Tensor(np.zeros(3))),
        ValueError,
        r"bias of shape \(3,\)",
    ),
    "activation": (
        lambda: ops.linear(X23, X23, activation="rellu"),
        ValueError,
        "no activation is called 'rellu'; there are relu",
    ),
    "reshape": (
        lambda: X23.reshape(4, 2),
        ValueError,
        r"reshape: 6 elements of shape \(2, 3\) do not fill \(4, 2\)",
    ),
    "reshape by float": (lambda: X23.reshape(2.0, 3), TypeError, "made of integers"),  # type: ignore[arg-type]
    "transpose": (lambda: X23.transpose(0, 0), ValueError, "every dim"),
    "axis": (lambda: X23.sum(2), ValueError, "sum: axis 2 is out of range.* 2 dims"),
    "axis twice": (lambda: X23.mean((0, -2)), ValueError, "names a dim twice"),
    "axis float": (lambda: X23.max(1.0), TypeError, "max: axis must be an integer"),  # type: ignore[arg-type]
    "squeeze": (lambda: X23.squeeze(0), ValueError, "dim 0 .* has length 2, not 1"),
    "flatten": (lambda: X23.flatten(1, 0), ValueError, "lies behind"),
    "broadcast_to": (
        lambda: X23.broadcast_to((3, 3)),
        ValueError,
        r"shape \(2, 3\) does not broadcast to \(3, 3\)",
    ),
    "concat": (lambda: ops.concat([X23, X32]), ValueError, r"\(tensor 1\) differ outs"),
    "concat nothing": (lambda: ops.concat([]), ValueError, "at least one"),
    "concat a tensor": (lambda: ops.concat(X23), TypeError, "takes a list"),  # type: ignore[arg-type]
    "stack": (lambda: ops.stack([X23, X32]), ValueError, "stack: shapes"),
    "split": (lambda: X23.split([1, 3]), ValueError, "do not add up to 2"),
    "split 0": (lambda: X23.split(0), ValueError, "longer than 0"),
    "index": (lambda: X23[0, 5], IndexError, r"shape \(2, 3\): index 5 is out of"),
    "gather": (
        lambda: ops.gather(X23, Tensor([0, 2]), 0),
        IndexError,
        "index 2 is out of bounds",
    ),
    "gather by floats": (lambda: ops.gather(X23, X23), TypeError, "must be integers"),
    "gather along a batch dim": (
        lambda: ops.gather(X23, Tensor([0]), 0, 1),
        ValueError,
        "batch_dims 1 does not fit axis 0",
    ),
    "gather other batches": (
        lambda: ops.gather(X23, Tensor([[0], [1], [2]]), 1, 1),
        ValueError,
        r"first 1 dims .* \(2, 3\) .* \(3, 1\) must be the same",
    ),
    "gather_elements": (
        lambda: ops.gather_elements(X23, 0, Tensor([0])),
        ValueError,
        r"index of shape \(1,\) does not fit",
    ),
    "softmax of integers": (
        lambda: ops.softmax(Tensor([1])),
        TypeError,
        "floating-point elements, not Int64",
    ),
    "label": (
        lambda: ops.cross_entropy(X23, Tensor([0, 3])),
        ValueError,
        r"label 3 at \(1,\) is not one of the 3 classes 0 to 2",
    ),
    "negative label": (
        lambda: ops.cross_entropy(X23, Tensor([-1, 0])),
        ValueError,
        r"label -1 at \(0,\)",
    ),
    "labels": (
        lambda: ops.cross_entropy(X23, Tensor([0, 1, 2])),
        ValueError,
        r"labels of shape \(3,\) do not fit logits of shape \(2, 3\), which need",
    ),
    "probabilities": (
        lambda: ops.cross_entropy(X23, X32),
        ValueError,
        r"probabilities of shape \(3, 2\)",
    ),
    "labels that are no integers": (
        lambda: ops.cross_entropy(X23, Tensor([0.0, 1.0]).astype(pt.float64)),
        ValueError,
        "a target of Float64 is probabilities, labels are of an integer type",
    ),
    "probability type": (
        lambda: ops.cross_entropy(X23, X23.astype(pt.float32)),
        TypeError,
        "of the logits' Float64; not Float32",
    ),
    "class weights": (
        lambda: ops.cross_entropy(X23, Tensor([0, 1]), Tensor([1.0])),
        ValueError,
        r"weight of shape \(1,\) does not fit 3 classes",
    ),
    "reduction": (
        lambda: ops.mse_loss(X23, X23, "avg"),  # type: ignore[arg-type]
        ValueError,
        "mse_loss: reduction must be 'mean', 'sum' or 'none', not 'avg'",
    ),
    "smoothing": (
        lambda: ops.cross_entropy(X23, Tensor([0, 1]), label_smoothing=2.0),
        ValueError,
        "label_smoothing in",
    ),
    "mse": (lambda: ops.mse_loss(X23, X32), ValueError, "sub: shapes"),
    "clip": (lambda: ops.clip_by_value(X23), ValueError, "a smallest or a largest"),
    "neg": (lambda: -(X23 > 0.0), TypeError, "logical_not"),
    "invert": (lambda: ~X23, TypeError, "not Float64"),
    "full": (lambda: ops.zeros((2, -1)), ValueError, "no negative lengths"),
    "arange": (lambda: ops.arange(0, 1, 0), ValueError, "step must not be 0"),
    "one_hot": (lambda: ops.one_hot(X23, 3), TypeError, "must be integers"),
    "operand": (lambda: ops.relu("x"), TypeError, "relu takes tensors and numbers"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_does_not_fit(name: str) -> None:
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()


def test_new_tensors_have_the_type_and_values_asked_for() -> None:
    assert ops.zeros((2, 3)).dtype is pt.float32
    assert ops.ones(2, pt.int8).tolist() == [1, 1]
    assert ops.full((1, 2), 7).dtype is pt.int64
    assert ops.full((), 0.5).dtype is pt.float32
    assert ops.zeros_like(Tensor([1], dtype=pt.int8)).dtype is pt.int8
    assert ops.ones_like(X23, pt.float32).dtype is pt.float32
    assert ops.arange(3).tolist() == [0, 1, 2]
    assert ops.arange(1, 2, 0.5).dtype is pt.float32
    assert ops.arange(5, 0, -2, pt.int16).tolist() == [5, 3, 1]
    assert ops.eye(2, 3).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert ops.one_hot(Tensor([1, 5, -1]), 2).tolist() == [[0, 1], [0, 0], [0, 0]]
