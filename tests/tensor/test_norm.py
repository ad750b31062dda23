"""Layer norm and RMS norm: values, types, errors, and PyTorch's numbers."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from parallel_params import ops
from parallel_params import tensor as pt
from parallel_params.tensor import DType, Tensor, value_and_grad
from parallel_params.tensor.tape import Array

# float32: a few roundings of numbers of size 1, and sums of some hundred of them.
CLOSE = 2e-6
SUMS = 1e-4


def _draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _gradients(fn: Callable[..., Tensor], *inputs: Tensor) -> list[Array]:
    _, found = value_and_grad(fn, tuple(range(len(inputs))))(*inputs)
    parts = found if isinstance(found, tuple) else (found,)
    return [part.asnumpy() for part in parts if isinstance(part, Tensor)]


def test_rows_have_mean_zero_and_variance_one() -> None:
    out = ops.layer_norm(Tensor(_draw(5, 64) * 7.0 + 3.0), 64).asnumpy()
    assert_allclose(out.mean(1), 0.0, atol=CLOSE)
    assert_allclose(out.var(1), 1.0, rtol=1e-4)
    out = ops.rms_norm(Tensor(_draw(5, 64) * 7.0 + 3.0), 64).asnumpy()
    assert_allclose((out**2).mean(1), 1.0, rtol=1e-4)


def test_a_far_mean_costs_no_digits_of_the_variance() -> None:
    x = _draw(3, 256).astype(np.float64)
    near, far = (ops.layer_norm(Tensor(x + c), 256).asnumpy() for c in (0.0, 1e6))
    assert_allclose(far, near, atol=1e-8)


def test_several_blocks_of_rows_equal_rows_alone() -> None:
    x, w, b = _draw(700, 256), _draw(256, seed=1), _draw(256, seed=2)
    out = ops.layer_norm(Tensor(x), 256, Tensor(w), Tensor(b)).asnumpy()
    for row in (0, 255, 256, 699):
        alone = ops.layer_norm(Tensor(x[row]), 256, Tensor(w), Tensor(b)).asnumpy()
        assert_allclose(out[row], alone, CLOSE, CLOSE)


@pytest.mark.parametrize("offset", [1, 3, 8])
def test_the_place_in_memory_does_not_change_a_bit(offset: int) -> None:
    x, w, b = _draw(300, 96), _draw(96, seed=1), _draw(96, seed=2)

    def moved(array: Array) -> Tensor:
        room = np.empty(array.size + offset, array.dtype)[offset:]
        room[:] = array.reshape(-1)
        return Tensor.wrap(room.reshape(array.shape))

    def fn(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return (ops.layer_norm(x, 96, w, b) * Tensor(x.asnumpy())).sum()

    here = _gradients(fn, *map(Tensor, (x, w, b)))
    there = _gradients(fn, *map(moved, (x, w, b)))
    for found, wanted in zip(there, here, strict=True):
        assert_array_equal(found, wanted)


@pytest.mark.parametrize("has_mean", [True, False])
@pytest.mark.parametrize("dims", [(96,), (6, 16)])
def test_torch_has_the_same_numbers(has_mean: bool, dims: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    x, g = _draw(700, *dims), _draw(700, *dims, seed=3)
    w, b = _draw(*dims, seed=1), _draw(*dims, seed=2)
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    ours = [Tensor(a) for a in (x, w, b)]
    if has_mean:
        out = torch.nn.functional.layer_norm(theirs[0], dims, *theirs[1:])
    else:
        out = torch.nn.functional.rms_norm(theirs[0], dims, theirs[1], 1e-6)
        ours, theirs = ours[:2], theirs[:2]
    out.backward(torch.tensor(g))

    def fn(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        if has_mean:
            return ops.layer_norm(x, dims, w, b)
        return ops.rms_norm(x, dims, w)

    assert_allclose(fn(*ours).asnumpy(), out.detach().numpy(), 1e-5, 1e-5)
    found = _gradients(lambda *a: fn(*a) * Tensor(g), *ours)
    for part, their in zip(found, theirs, strict=True):
        assert_allclose(part, their.grad.numpy(), SUMS, SUMS)


@pytest.mark.parametrize("dtype", [pt.float16, pt.bfloat16, pt.float64])
def test_every_float_keeps_its_type_and_16_bits_are_computed_in_32(
    dtype: DType,
) -> None:
    x, w, b = (Tensor(_draw(*s)).astype(dtype) for s in [(4, 8), (8,), (8,)])
    out = ops.layer_norm(x, 8, w, b)
    assert out.dtype is dtype
    wide = [t.astype(pt.float32) for t in (x, w, b)]
    exact = ops.layer_norm(wide[0], 8, wide[1], wide[2]).astype(dtype)
    if dtype is not pt.float64:
        assert_array_equal(out.asnumpy(), exact.asnumpy())
    grads = _gradients(lambda x, w, b: ops.layer_norm(x, 8, w, b), x, w, b)
    assert {g.dtype for g in grads} == {dtype.numpy}


def test_strided_and_empty_inputs() -> None:
    x = _draw(8, 4)
    assert_array_equal(
        ops.layer_norm(Tensor.wrap(x.T), 8).asnumpy(),
        ops.layer_norm(Tensor(np.ascontiguousarray(x.T)), 8).asnumpy(),
    )
    empty, w = Tensor(np.zeros((0, 4))), Tensor(np.ones(4))
    of_x, of_w = _gradients(lambda x, w: ops.layer_norm(x, 4, w), empty, w)
    assert of_x.shape == (0, 4)
    assert of_w.tolist() == [0.0] * 4


def test_nan_stays_in_its_row() -> None:
    x = _draw(4, 8)
    x[1, 3] = np.nan
    out = ops.layer_norm(Tensor(x), 8).asnumpy()
    assert np.isnan(out).any(1).tolist() == [False, True, False, False]


X = Tensor(np.zeros((2, 3, 4), np.float32))
W4, W3 = Tensor(np.ones(4, np.float32)), Tensor(np.ones(3, np.float32))
ERRORS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "shape": (
        lambda: ops.layer_norm(X, 3),
        ValueError,
        r"layer_norm: an input of shape \(2, 3, 4\) does not end in .* \(3,\)",
    ),
    "too many dims": (lambda: ops.rms_norm(X, (1, 2, 3, 4)), ValueError, "not end in"),
    "no dims": (lambda: ops.rms_norm(X, ()), ValueError, "does not end in"),
    "nothing": (
        lambda: ops.layer_norm(Tensor(np.zeros((2, 0))), 0),
        ValueError,
        "has no elements",
    ),
    "weight": (
        lambda: ops.rms_norm(X, 4, W3),
        ValueError,
        r"rms_norm: weight of shape \(3,\) does not fit normalized_shape \(4,\)",
    ),
    "bias": (lambda: ops.layer_norm(X, 4, W4, W3), ValueError, r"bias of shape \(3,\)"),
    "type of the weight": (
        lambda: ops.layer_norm(X, 4, W4.astype(pt.float16)),
        TypeError,
        "the input is Float32 and weight Float16.*astype",
    ),
    "integers": (
        lambda: ops.layer_norm(Tensor([[1, 2]]), 2),
        TypeError,
        "layer_norm takes floating-point elements, not Int64",
    ),
    "eps": (lambda: ops.layer_norm(X, 4, eps=-1.0), ValueError, "must not be negative"),
    "nan": (lambda: ops.rms_norm(X, 4, None, np.nan), ValueError, "eps must not be"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_does_not_fit(name: str) -> None:
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()
