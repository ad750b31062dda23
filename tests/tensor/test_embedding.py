"""Embedding: lookups, sums of the gradient, types, errors, and PyTorch's numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from parallel_params import ops
from parallel_params import tensor as pt
from parallel_params.tensor import Tensor, value_and_grad
from parallel_params.tensor.embedding_kernels import add_rows
from parallel_params.tensor.frame import Frame
from parallel_params.tensor.tape import Array

TABLE = Tensor(np.arange(12, dtype=np.float32).reshape(4, 3))


def _gradient(ids: Array, table: Tensor, g: Array, padding: int | None = None) -> Array:
    def fn(table: Tensor) -> Tensor:
        return ops.embedding(Tensor(ids), table, padding) * Tensor(g)

    _, found = value_and_grad(fn)(table)
    assert isinstance(found, Tensor)
    return found.asnumpy()


@given(
    num=st.integers(1, 40), rows=st.integers(0, 300), width=st.integers(2, 20), data=...
)
def test_rows_are_added_in_order_as_numpy_adds_them(
    num: int, rows: int, width: int, data: int
) -> None:
    rng = np.random.default_rng(abs(data))
    # The square makes some ids much more frequent than others.
    ids = (num * rng.random(rows) ** 2).astype(np.intp)
    g = rng.standard_normal((rows, width)).astype(np.float32)
    want: Array = np.zeros((num, width), np.float32)
    np.add.at(want, ids, g)
    found = np.full_like(want, np.nan)

    add_rows(ids, g, found)

    assert_array_equal(found, want)


def test_rows_are_looked_up_by_ids_of_any_shape_and_type() -> None:
    want = TABLE.asnumpy()
    for dtype in (pt.int8, pt.int32, pt.int64, pt.uint8, pt.uint64):
        ids = Tensor([[3, 0], [1, 1]], dtype=dtype)
        out = ops.embedding(ids, TABLE)
        assert_array_equal(out.asnumpy(), want[[[3, 0], [1, 1]]])
    assert_array_equal(ops.embedding(Tensor(2), TABLE).asnumpy(), want[2])
    assert ops.embedding(Tensor(np.zeros((2, 0), np.int64)), TABLE).shape == (2, 0, 3)


def test_the_gradient_goes_into_the_buffer_that_waits_for_it() -> None:
    sink: Array = np.full((4, 3), np.nan, np.float32)
    table = Tensor(TABLE)
    with Frame([table], [sink]) as frame:
        out = ops.embedding(Tensor([1, 3, 1]), table)
        (arrived,) = frame.sweep(out, Tensor(np.ones((3, 3), np.float32)))
    assert arrived is sink
    assert sink[:, 0].tolist() == [0.0, 2.0, 0.0, 1.0]


def test_padding_gets_no_gradient() -> None:
    ids, g = np.array([0, 3, 3, 1]), np.ones((4, 3), np.float32)
    assert _gradient(ids, TABLE, g, 3)[:, 0].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert _gradient(ids, TABLE, g, -4)[:, 0].tolist() == [0.0, 1.0, 0.0, 2.0]


@pytest.mark.parametrize("dtype", [pt.float16, pt.bfloat16])
def test_gradients_of_16_bits_are_added_in_32(dtype: pt.DType) -> None:
    ids, g = np.zeros(3000, np.int64), np.ones((3000, 3), dtype.numpy)
    found = _gradient(ids, TABLE.astype(dtype), g)
    assert found.dtype == dtype.numpy
    assert found[0].astype(float).tolist() == [float(dtype.numpy.type(3000))] * 3


def test_torch_has_the_same_numbers() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    table = rng.standard_normal((50, 24)).astype(np.float32)
    ids, g = rng.integers(0, 50, (9, 70)), rng.standard_normal((9, 70, 24))
    theirs = torch.tensor(table, requires_grad=True)
    out = torch.nn.functional.embedding(torch.tensor(ids), theirs, 7)
    out.backward(torch.tensor(g.astype(np.float32)))
    found = _gradient(ids, Tensor(table), g.astype(np.float32), 7)
    assert_array_equal(
        ops.embedding(Tensor(ids), Tensor(table)).asnumpy(), out.detach().numpy()
    )
    assert_allclose(found, theirs.grad.numpy(), 1e-5, 1e-5)


def test_a_number_out_of_range_is_named_with_its_place() -> None:
    message = r"embedding: number 4 at \(1, 0\) is none of the 4 rows, .* 0 to 3"
    with pytest.raises(IndexError, match=message):
        ops.embedding(Tensor([[0, 3], [4, 9]]), TABLE)
    with pytest.raises(IndexError, match=r"number -1 at \(2,\)"):
        ops.embedding(Tensor([0, 1, -1]), TABLE)
    with pytest.raises(IndexError, match=r"number 255 at \(0,\)"):
        ops.embedding(Tensor([255], dtype=pt.uint8), TABLE)


def test_what_is_no_table_or_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="are integers, not float32"):
        ops.embedding(Tensor([0.0]), TABLE)
    with pytest.raises(ValueError, match=r"must be \[rows, width\], not \(3,\)"):
        ops.embedding(Tensor([0]), TABLE[0])
    with pytest.raises(ValueError, match="padding_idx 4 is none of the 4 rows"):
        ops.embedding(Tensor([0]), TABLE, 4)
