"""Values of operators against NumPy, on drawn shapes and on the ugly ones."""

from collections.abc import Callable

import numpy as np
import pytest
from grads import gradients_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes
from operands import draw

from parallel_params import ops
from parallel_params import tensor as pt
from parallel_params.tensor import Tensor, value_and_grad
from parallel_params.tensor.gradcheck import check_grad
from parallel_params.tensor.ops.activation import named

BINARY = {
    ops.add: np.add,
    ops.sub: np.subtract,
    ops.mul: np.multiply,
    ops.div: np.divide,
    ops.maximum: np.maximum,
    ops.minimum: np.minimum,
}


@given(
    shapes=mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3),
    operator=st.sampled_from(list(BINARY)),
)
def test_operands_broadcast_forward_and_back(
    shapes: object, operator: Callable[..., Tensor]
) -> None:
    first, second = shapes.input_shapes  # type: ignore[attr-defined]
    x, y = draw(first, 0), draw(second, 1)
    out = operator(Tensor(x), Tensor(y))
    np.testing.assert_array_equal(out.asnumpy(), BINARY[operator](x, y))
    of_x, of_y = gradients_of(operator, Tensor(x), Tensor(y))
    assert (of_x.shape, of_y.shape) == (first, second)
    if out.size:
        check_grad(operator, Tensor(x), Tensor(y), order=1)


@given(
    shape=array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    data=st.data(),
    keepdims=st.booleans(),
    operator=st.sampled_from(["sum", "mean", "max", "min", "var"]),
)
def test_reductions_equal_numpys_over_any_dims(
    shape: tuple[int, ...], data: st.DataObject, keepdims: bool, operator: str
) -> None:
    dims = data.draw(st.sets(st.integers(0, max(0, len(shape) - 1))))
    axis = tuple(dims) if shape and dims else None
    x = draw(shape, 0)
    numel = np.prod([shape[d] for d in axis]) if axis else x.size
    if not numel:
        return  # of nothing: see below
    out = getattr(Tensor(x), operator)(axis=axis, keepdims=keepdims)
    want = getattr(np, operator)(x, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(out.asnumpy(), want, rtol=1e-13, atol=1e-15)
    (gradient,) = gradients_of(lambda t: getattr(t, operator)(axis), Tensor(x))
    assert gradient.shape == shape


def test_reductions_of_nothing() -> None:
    empty = Tensor(np.zeros((0, 3)))
    assert empty.sum().item() == 0.0
    assert empty.sum(0).tolist() == [0.0, 0.0, 0.0]
    assert empty.mean(1).shape == (0,)
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert np.isnan(empty.mean().item())
    for operator in (ops.amax, ops.amin, ops.argmax, ops.argmin):
        with pytest.raises(ValueError, match="no elements"):
            operator(empty)
    assert ops.amax(empty, 1).shape == (0,)
    with pytest.raises(ValueError, match="no elements of Int64"):
        Tensor(np.zeros(0, np.int64)).mean()


@given(
    batches=mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3),
    sides=st.tuples(*[st.integers(0, 3)] * 3),
)
def test_matmul_equals_numpys_forward_and_back(
    batches: object, sides: tuple[int, int, int]
) -> None:
    first, second = batches.input_shapes  # type: ignore[attr-defined]
    n, k, m = sides
    x, y = draw((*first, n, k), 0), draw((*second, k, m), 1)
    out = ops.matmul(Tensor(x), Tensor(y))
    np.testing.assert_allclose(out.asnumpy(), x @ y, rtol=1e-13)
    of_x, of_y = gradients_of(ops.matmul, Tensor(x), Tensor(y))
    assert (of_x.shape, of_y.shape) == (x.shape, y.shape)


@given(
    rows=array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    sides=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    activation=st.sampled_from([None, "relu", "tanh", "sigmoid", "gelu"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_fused_linear_equals_its_parts(
    rows: tuple[int, ...], sides: tuple[int, int], activation: str, dtype: type
) -> None:
    n, m = sides
    inputs = [
        Tensor((draw(shape, i) - 1.0).astype(dtype))
        for i, shape in enumerate([(*rows, n), (m, n), (m,)])
    ]

    def plain(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        out = ops.matmul(x, w.T) + b
        return named(activation)(out) if activation else out

    def fused(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return ops.linear(x, w, b, activation)

    close = 1e-5 if dtype is np.float32 else 1e-12
    out = fused(*inputs)
    assert out.shape == (*rows, m)
    np.testing.assert_allclose(out.asnumpy(), plain(*inputs).asnumpy(), close, close)
    for found, want in zip(
        gradients_of(fused, *inputs), gradients_of(plain, *inputs), strict=True
    ):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, want, close, close)


def test_max_and_min_come_with_their_places() -> None:
    x = Tensor([[1.0, 5.0, 5.0], [7.0, 0.0, 2.0]])
    values, places = ops.max(x, 1)
    assert (values.tolist(), places.tolist()) == ([5.0, 7.0], [1, 0])
    assert places.dtype is pt.int64
    values, places = ops.min(x, 0, keepdims=True)
    assert (values.tolist(), places.tolist()) == ([[1.0, 0.0, 2.0]], [[0, 1, 1]])
    smallest, place = ops.min(x)
    assert (smallest.item(), place.item()) == (0.0, 0)


@pytest.mark.parametrize(
    ("axis", "batch_dims", "shape"),
    [
        (1, 1, (2, 4)),
        (2, 1, (2, 5, 2)),
        (2, 2, (2, 3, 1)),
        (3, 2, (2, 3)),
        (-1, -1, (2, 3)),
    ],
)
def test_gather_takes_every_part_by_its_own_indices(
    axis: int, batch_dims: int, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, 5))
    num_batch = batch_dims + len(shape) if batch_dims < 0 else batch_dims
    dim = axis % 4
    indices = rng.integers(-x.shape[dim], x.shape[dim], shape)
    expected = np.array(
        [
            np.take(x[place], indices[place], dim - num_batch)
            for place in np.ndindex(*x.shape[:num_batch])
        ]
    )
    found = ops.gather(Tensor(x), Tensor(indices), axis, batch_dims).asnumpy()
    own = shape[num_batch:]
    assert found.shape == (*x.shape[:dim], *own, *x.shape[dim + 1 :])
    assert np.array_equal(found, expected.reshape(found.shape))


def test_gather_of_wide_and_narrow_rows_adds_up_what_repeats() -> None:
    ids = Tensor([[1, 1, 0], [2, -1, 1]])
    for width in (1, 3, 64):
        x = Tensor(draw((3, width), 0))
        (gradient,) = gradients_of(lambda x: ops.gather(x, ids, 0), x)
        want = np.zeros((3, width))
        np.add.at(want, ids.asnumpy(), 1.0)
        np.testing.assert_array_equal(gradient, want)


def test_a_small_network_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    shapes = [(6, 5), (6,), (4, 6), (4,)]
    arrays = [(draw(s, i) - 1.0).astype(np.float32) for i, s in enumerate(shapes)]
    x, labels = (draw((7, 5), 9) - 1.0).astype(np.float32), np.arange(7) % 4
    weights = [Tensor(array) for array in arrays]

    def loss(x: Tensor) -> Tensor:
        hidden = ops.linear(x, weights[0], weights[1], "gelu")
        logits = ops.linear(hidden, weights[2], weights[3])
        return ops.cross_entropy(logits, Tensor(labels), label_smoothing=0.1)

    value, gradients = value_and_grad(loss, None, weights)(Tensor(x))
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    nn = torch.nn.functional
    hidden = nn.gelu(nn.linear(torch.tensor(x), *theirs[:2]), approximate="tanh")
    out = nn.cross_entropy(
        nn.linear(hidden, *theirs[2:]), torch.tensor(labels), label_smoothing=0.1
    )
    out.backward()
    assert float(value) == pytest.approx(out.item(), rel=1e-5)  # type: ignore[arg-type]
    assert isinstance(gradients, tuple)
    for ours, their in zip(gradients, theirs, strict=True):
        assert isinstance(ours, Tensor)
        np.testing.assert_allclose(ours.asnumpy(), their.grad.numpy(), 1e-4, 1e-6)
