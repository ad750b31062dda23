"""Dropout: what the mask depends on, the mean, the types, the ends of the range."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from parallel_params import ops
from parallel_params import tensor as pt
from parallel_params.tensor import DType, Tensor, random, value_and_grad

ONES = Tensor(np.ones((300, 700), np.float32))


@pytest.mark.parametrize("p", [0.003, 0.1, 0.5, 0.997])
def test_the_share_of_zeros_is_p_and_the_mean_stays(p: float) -> None:
    out = ops.dropout(ONES, p, seed=1).asnumpy()
    error = 4 * np.sqrt(p * (1 - p) / out.size)
    assert (out == 0).mean() == pytest.approx(p, abs=error)
    assert np.unique(out).tolist() == [0.0, np.float32(1 / (1 - p))]


def test_the_mask_is_a_function_of_seed_scope_draw_and_place() -> None:
    def mask(seed: int, step: int, skipped: int) -> bytes:
        random.set_seed(seed)
        with random.scope("step", step):
            for _ in range(skipped):
                random.next_stream()
            return ops.dropout(ONES, 0.5).asnumpy().tobytes()

    assert mask(1, 1, 0) == mask(1, 1, 0)
    assert len({mask(1, 1, 0), mask(2, 1, 0), mask(1, 2, 0), mask(1, 1, 1)}) == 4
    rows = ops.dropout(ONES, 0.5, seed=1).asnumpy()
    part = ops.dropout(ONES[:7], 0.5, seed=1).asnumpy()
    assert_array_equal(part, rows[:7])


def test_the_gradient_goes_where_the_mask_lets_it() -> None:
    x = Tensor(np.arange(1.0, 51.0))
    value, gradient = value_and_grad(lambda x: ops.dropout(x, 0.4))(x)
    assert isinstance(value, Tensor)
    assert isinstance(gradient, Tensor)
    np.testing.assert_allclose(value.asnumpy(), gradient.asnumpy() * x.asnumpy())
    assert (gradient.asnumpy() == 0).any()


@pytest.mark.parametrize("dtype", [pt.float16, pt.bfloat16, pt.float64])
def test_every_float_keeps_its_type(dtype: DType) -> None:
    out = ops.dropout(ONES[0].astype(dtype), 0.5, seed=1)
    assert out.dtype is dtype
    assert set(out.asnumpy().tolist()) == {0.0, 2.0}


def test_the_ends_of_the_range_and_evaluation() -> None:
    assert ops.dropout(ONES, 0.0) is ONES
    assert ops.dropout(ONES, 0.5, training=False) is ONES
    assert not ops.dropout(ONES, 1.0).asnumpy().any()
    assert ops.dropout(Tensor(np.zeros((0, 3))), 0.5).shape == (0, 3)
    assert ops.dropout(Tensor(1.0), 0.5).shape == ()
    strided = ops.dropout(Tensor.wrap(ONES.asnumpy().T), 0.5, seed=1)
    assert strided.shape == (700, 300)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="p is a chance"):
            ops.dropout(ONES, p)
