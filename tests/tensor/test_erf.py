"""The error function: its values, and GELU made of it."""

import math

import numpy as np
import pytest

from parallel_params import ops
from parallel_params.tensor import Tensor, bfloat16, erf, float16
from parallel_params.tensor.tape import Array


@pytest.mark.parametrize(("dtype", "close"), [(np.float32, 2e-7), (np.float64, 4e-16)])
def test_erf_is_right_on_all_the_line(dtype: type, close: float) -> None:
    # Both sides of where the two approximations meet, and of where erf is 1.
    places = [0.46875, np.nextafter(0.46875, 1), 4.0, 5.9, 6.1, 30.0, 1e30]
    x: Array = np.concatenate([np.linspace(-7, 7, 2001), places]).astype(dtype)
    want = [math.erf(float(value)) for value in x]
    np.testing.assert_allclose(erf.erf(x), want, rtol=0, atol=close)


@pytest.mark.parametrize(("dtype", "close"), [(np.float32, 4e-7), (np.float64, 1e-15)])
def test_erf_of_small_numbers_is_right_to_the_last_digits(
    dtype: type, close: float
) -> None:
    x: Array = np.array([1e-30, 1e-10, 1e-5, 0.01, 0.3], dtype)
    want = [math.erf(float(value)) for value in x]
    np.testing.assert_allclose(erf.erf(x), want, rtol=close)


def test_erf_keeps_signs_infinities_and_nan() -> None:
    out = ops.erf(Tensor([0.0, -0.0, np.inf, -np.inf, np.nan])).asnumpy()
    np.testing.assert_array_equal(out, [0.0, -0.0, 1.0, -1.0, np.nan])
    assert np.signbit(out[1])


@pytest.mark.parametrize("dtype", [float16, bfloat16])
def test_erf_of_16_bits_is_rounded_once(dtype: object) -> None:
    x = Tensor([0.25, -1.0, 3.0], dtype=dtype)  # type: ignore[arg-type]
    want = Tensor([math.erf(v) for v in (0.25, -1.0, 3.0)]).astype(x.dtype)
    assert (ops.erf(x) == want).asnumpy().all()


def test_gelu_is_mindspores_in_both_forms() -> None:
    x = Tensor([1.0, 2.0, 3.0])
    exact, by_tanh = ops.gelu(x).asnumpy(), ops.gelu(x, "tanh").asnumpy()
    np.testing.assert_allclose(exact, [0.8413447, 1.9544997, 2.9959507], rtol=4e-7)
    np.testing.assert_allclose(by_tanh, [0.841192, 1.9545976, 2.9963627], rtol=1e-7)
    with pytest.raises(ValueError, match="approximate is one of"):
        ops.gelu(x, "erf")  # type: ignore[arg-type]  # the point
