"""Convolutions against sums written out, against PyTorch, and against wrong input."""

from typing import Any

import numpy as np
import pytest
from grads import gradients_of
from hypothesis import assume, given
from hypothesis import strategies as st

from parallel_params import ops
from parallel_params.tensor import Tensor, patches
from parallel_params.tensor import dtype as dtypes
from parallel_params.tensor.frame import Frame
from parallel_params.tensor.tape import Array

CLOSE: dict[type, float] = {np.float32: 1e-4, np.float64: 1e-12}


def _numbers(*shape: int, seed: int = 0, dtype: type = np.float64) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@st.composite
def cases(draw: st.DrawFn, is_even: bool = False) -> dict[str, Any]:
    """Draw shapes and settings of a convolution that fits.

    Args:
        draw: of hypothesis.
        is_even: pad as much in front as behind, and have a sample.
    """
    small, pads = st.integers(1, 3), st.integers(0, 3)
    sides = st.integers(1, 8)
    groups, per_in, per_out = draw(small), draw(small), draw(st.integers(1, 2))
    case: dict[str, Any] = {
        "x": (draw(st.integers(is_even, 3)), groups * per_in, draw(sides), draw(sides)),
        "w": (groups * per_out, per_in, draw(small), draw(small)),
        "stride": (draw(small), draw(small)),
        "padding": draw(
            st.tuples(pads, pads).map(lambda pair: (pair[0],) * 2 + (pair[1],) * 2)
            if is_even
            else st.tuples(pads, pads, pads, pads)
        ),
        "dilation": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        "groups": groups,
    }
    for i in range(2):
        padded = case["x"][2 + i] + sum(case["padding"][2 * i : 2 * i + 2])
        assume(padded > case["dilation"][i] * (case["w"][2 + i] - 1))
    return case


def _written_out(x: Array, w: Array, b: Array, case: dict[str, Any]) -> Array:
    """Sum every window by itself."""
    top, bottom, left, right = case["padding"]
    (sh, sw), (dh, dw), groups = case["stride"], case["dilation"], case["groups"]
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    per_in, kh, kw = w.shape[1:]
    oh = (x.shape[2] - dh * (kh - 1) - 1) // sh + 1
    ow = (x.shape[3] - dw * (kw - 1) - 1) // sw + 1
    out = np.empty((len(x), len(w), oh, ow))
    for o, i, j in np.ndindex(out.shape[1:]):
        first = o // (len(w) // groups) * per_in
        window = x[
            :,
            first : first + per_in,
            i * sh : i * sh + dh * (kh - 1) + 1 : dh,
            j * sw : j * sw + dw * (kw - 1) + 1 : dw,
        ]
        out[:, o, i, j] = (window * w[o]).sum((1, 2, 3)) + b[o]
    return out


def _conv(case: dict[str, Any]) -> Any:
    stride, padding = case["stride"], case["padding"]
    dilation, groups = case["dilation"], case["groups"]
    return lambda x, w, b: ops.conv2d(x, w, b, stride, "pad", padding, dilation, groups)


@given(case=cases())
def test_convolution_is_the_sum_over_every_window(case: dict[str, Any]) -> None:
    x, w = _numbers(*case["x"]), _numbers(*case["w"], seed=1)
    b = _numbers(len(w), seed=2)
    out = _conv(case)(Tensor(x), Tensor(w), Tensor(b))
    np.testing.assert_allclose(out.asnumpy(), _written_out(x, w, b, case), atol=1e-12)


@given(case=cases(), wanted=st.sampled_from([(0,), (1,), (0, 1), (0, 1, 2)]))
def test_gradients_equal_those_of_single_operators(
    case: dict[str, Any], wanted: tuple[int, ...]
) -> None:
    """An inner frame takes the operator apart; an outermost one runs the kernels."""
    shapes = (case["x"], case["w"], case["w"][:1])
    inputs = [Tensor(_numbers(*shape, seed=i)) for i, shape in enumerate(shapes)]
    fn = _conv(case)
    seed = Tensor(_numbers(*fn(*inputs).shape, seed=3))
    found = gradients_of(fn, *inputs, seed=seed, wanted=wanted)
    with Frame():
        want = gradients_of(fn, *inputs, seed=seed, wanted=wanted)
    for one, other in zip(found, want, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-11)


@given(case=cases(is_even=True), dtype=st.sampled_from([np.float32, np.float64]))
def test_values_and_gradients_are_pytorchs(case: dict[str, Any], dtype: type) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    top, _, left, _ = case["padding"]
    shapes = (case["x"], case["w"], case["w"][:1])
    arrays = [_numbers(*s, seed=i, dtype=dtype) for i, s in enumerate(shapes)]
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    want = torch.nn.functional.conv2d(
        *theirs, case["stride"], (top, left), case["dilation"], case["groups"]
    )
    seed = _numbers(*want.shape, seed=3, dtype=dtype)
    (want * torch.tensor(seed)).sum().backward()

    fn, close = _conv(case), CLOSE[dtype]
    ours = [Tensor(array) for array in arrays]
    grads = gradients_of(fn, *ours, seed=Tensor(seed))

    np.testing.assert_allclose(
        fn(*ours).asnumpy(), want.detach().numpy(), atol=close, rtol=close
    )
    for found, other in zip(grads, theirs, strict=True):
        np.testing.assert_allclose(found, other.grad.numpy(), close, close)


def test_one_dim_is_two_dims_of_which_one_is_1() -> None:
    x, w = Tensor(_numbers(2, 4, 9)), Tensor(_numbers(6, 2, 3, seed=1))
    b = Tensor(_numbers(6, seed=2))
    one = ops.conv1d(x, w, b, 2, "pad", (1, 2), 2, 2)
    two = ops.conv2d(
        x.expand_dims(2), w.expand_dims(2), b, (1, 2), "pad", (0, 0, 1, 2), (1, 2), 2
    )
    np.testing.assert_array_equal(one.asnumpy(), two.asnumpy()[:, :, 0])


def test_blocks_of_rows_do_not_change_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = Tensor(_numbers(2, 3, 9, 5)), Tensor(_numbers(4, 3, 3, 3, seed=1))

    def run() -> list[Array]:
        found = []
        for stride in (1, 2):

            def fn(x: Tensor, w: Tensor, stride: int = stride) -> Tensor:
                return ops.conv2d(x, w, None, stride, "same")

            found += [fn(x, w).asnumpy(), *gradients_of(fn, x, w)]
        return found

    whole = run()
    monkeypatch.setattr(patches, "BLOCK", 1)
    for one, other in zip(run(), whole, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_the_gradient_of_a_weight_is_written_into_its_sink() -> None:
    weight, bias = Tensor(_numbers(4, 2, 3, 3)), Tensor(_numbers(4))
    sinks = [np.full(t.shape, np.nan) for t in (weight, bias)]
    x = Tensor(_numbers(2, 2, 5, 5))
    with Frame((weight, bias), sinks) as frame:
        loss = ops.conv2d(x, weight, bias).sum()
        found = frame.sweep(loss, Tensor(1.0, dtypes.float64))
    assert found[0] is sinks[0]
    assert found[1] is sinks[1]
    assert sinks[1].tolist() == [2 * 9.0] * 4


def test_half_precision_is_added_up_in_single() -> None:
    x, w = _numbers(1, 64, 6, 6), _numbers(1, 64, 3, 3, seed=1)
    a, b = Tensor(x.astype(np.float16)), Tensor(w.astype(np.float16))
    out = ops.conv2d(a, b)
    want = ops.conv2d(a.astype(dtypes.float64), b.astype(dtypes.float64))
    assert out.dtype == dtypes.float16
    np.testing.assert_allclose(out.asnumpy(), want.asnumpy(), rtol=1e-3, atol=1e-2)


X, W = Tensor(np.zeros((2, 4, 5, 6))), Tensor(np.zeros((6, 2, 3, 3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, W), r"conv2d: input of shape \(2, 4, 5, 6\) has C = 4 .* weight of shape "
                 r"\(6, 2, 3, 3\) takes 2"),
        ((X[0], W), r"conv2d: input is \[N, C, H, W\]"),
        ((X, W[0]), r"shapes are \(2, 4, 5, 6\) and \(2, 3, 3\)"),
        ((X, W, None, 0, "valid", 0, 1, 2), "stride is at least 1, not 0"),
        ((X, W, None, 1, "valid", 0, 0, 2), "dilation is at least 1, not 0"),
        ((X, W, None, 1, "pad", -1, 1, 2), "padding is at least 0, not -1"),
        ((X, W, None, 1, "valid", 1, 1, 2), "padding .* is for pad_mode='pad'"),
        ((X, W, None, 1, "full", 0, 1, 2), "pad_mode is 'same', 'valid' or 'pad'"),
        ((X, W, None, 1, "valid", 0, 1, 3), "groups=3 must divide .*C = 4.*O = 6"),
        ((X, W, None, 1, "valid", 0, 1, 0), "groups is an int of at least 1"),
        ((X, W, None, 1, "valid", 0, 3, 2),
         r"kernel spans 7 elements of dim 2 \(kernel 3, dilation 3\), but the input"),
        ((X, W, X[0, 0, 0, :5], 1, "valid", 0, 1, 2), r"must be \(6,\)"),
        ((X[:, :, :0], W, None, 1, "pad", 3, 1, 2), "the input has 0 there"),
        ((X, W[:, :, :0], None, 1, "valid", 0, 1, 2), "has no elements"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.conv2d(*arguments)


def test_element_types_do_not_mix() -> None:
    with pytest.raises(TypeError, match="one floating-point element type, not float32"):
        ops.conv2d(X, W.astype(dtypes.float32), None, 1, "valid", 0, 1, 2)
    with pytest.raises(TypeError, match="not int64"):
        ops.conv2d(
            Tensor(np.zeros((1, 1, 3, 3), int)), Tensor(np.zeros((1, 1, 3, 3), int))
        )
