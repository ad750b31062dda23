"""Values of operators against NumPy, on drawn shapes and on the ugly ones; errors."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes

from parallel_params import ops
from parallel_params import tensor as pt
from parallel_params.tensor import Tensor, value_and_grad
from parallel_params.tensor.gradcheck import check_grad
from parallel_params.tensor.ops.activation import named
from parallel_params.tensor.tape import Array

BINARY = {
    ops.add: np.add,
    ops.sub: np.subtract,
    ops.mul: np.multiply,
    ops.div: np.divide,
    ops.maximum: np.maximum,
    ops.minimum: np.minimum,
}


def _draw(shape: tuple[int, ...], seed: int) -> Array:
    return np.asarray(np.random.default_rng(seed).uniform(0.5, 2.0, shape))


def _gradients(fn: Callable[..., object], *inputs: Tensor) -> list[Array]:
    positions = tuple(range(len(inputs)))
    _, gradients = value_and_grad(fn, positions)(*inputs)
    parts = gradients if isinstance(gradients, tuple) else (gradients,)
    return [part.asnumpy() for part in parts if isinstance(part, Tensor)]


# ---- broadcasting, on shapes with dims of 0 and 1 and none at all


@given(
    shapes=mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3),
    operator=st.sampled_from(list(BINARY)),
)
def test_operands_broadcast_forward_and_back(
    shapes: object, operator: Callable[..., Tensor]
) -> None:
    first, second = shapes.input_shapes  # type: ignore[attr-defined]
    x, y = _draw(first, 0), _draw(second, 1)
    out = operator(Tensor(x), Tensor(y))
    np.testing.assert_array_equal(out.asnumpy(), BINARY[operator](x, y))
    of_x, of_y = _gradients(operator, Tensor(x), Tensor(y))
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
    x = _draw(shape, 0)
    numel = np.prod([shape[d] for d in axis]) if axis else x.size
    if not numel:
        return  # of nothing: see below
    out = getattr(Tensor(x), operator)(axis=axis, keepdims=keepdims)
    want = getattr(np, operator)(x, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(out.asnumpy(), want, rtol=1e-13, atol=1e-15)
    (gradient,) = _gradients(lambda t: getattr(t, operator)(axis), Tensor(x))
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
    x, y = _draw((*first, n, k), 0), _draw((*second, k, m), 1)
    out = ops.matmul(Tensor(x), Tensor(y))
    np.testing.assert_allclose(out.asnumpy(), x @ y, rtol=1e-13)
    of_x, of_y = _gradients(ops.matmul, Tensor(x), Tensor(y))
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
        Tensor((_draw(shape, i) - 1.0).astype(dtype))
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
        _gradients(fused, *inputs), _gradients(plain, *inputs), strict=True
    ):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, want, close, close)


ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "relu": ops.relu,
    "erf": ops.erf,
    "gelu": ops.gelu,
    "gelu by tanh": lambda x: ops.gelu(x, "tanh"),
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "silu": ops.silu,
    "leaky_relu": ops.leaky_relu,
    "elu": ops.elu,
    "hardswish": ops.hardswish,
    "mish": ops.mish,
}


@pytest.mark.parametrize("operator", [ops.cross_entropy, ops.mse_loss])
def test_the_mean_loss_of_an_empty_batch_is_refused(
    operator: Callable[..., Tensor],
) -> None:
    logits = Tensor(np.zeros((0, 3)))
    target = logits if operator is ops.mse_loss else Tensor(np.zeros(0, np.int64))
    with pytest.raises(ValueError, match=r"empty: its shape is \(0, 3\)"):
        operator(logits, target)
    assert operator(logits, target, reduction="sum").item() == 0.0
    assert operator(logits, target, reduction="none").size == 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_of_many_blocks_equal_those_of_one_number(activation: str) -> None:
    operator = ACTIVATIONS[activation]
    x = np.linspace(-4.0, 4.0, 200_003).astype(np.float32)
    out = operator(Tensor(x)).asnumpy()
    (gradient,) = _gradients(operator, Tensor(x))
    for i in (0, 65_535, 65_536, 131_072, 200_002):
        one = Tensor(x[i : i + 1])
        np.testing.assert_allclose(out[i], operator(one).asnumpy()[0], rtol=1e-6)
        np.testing.assert_allclose(gradient[i], _gradients(operator, one)[0][0], 1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_take_0d_empty_and_strided_tensors(activation: str) -> None:
    operator = ACTIVATIONS[activation]
    assert operator(Tensor(0.5)).shape == ()
    assert operator(Tensor(np.zeros((0, 2)))).shape == (0, 2)
    x = Tensor(_draw((3, 4), 0))
    (gradient,) = _gradients(lambda x: operator(x.T), x)
    np.testing.assert_array_equal(gradient, _gradients(operator, x)[0])


# ---- nan and infinity


def test_nan_goes_through_and_stays_in_its_row() -> None:
    x = Tensor([[1.0, np.nan], [1.0, 2.0]])
    assert np.isnan(ops.relu(x).asnumpy()).tolist() == [[False, True], [False, False]]
    for operator in (ops.softmax, ops.log_softmax):
        out = operator(x).asnumpy()
        assert np.isnan(out).tolist() == [[True, True], [False, False]]
    losses = ops.cross_entropy(x, Tensor([0, 1]), reduction="none").asnumpy()
    assert np.isnan(losses).tolist() == [True, False]
    assert np.isnan(ops.cross_entropy(x, Tensor([0, 1])).item())
    assert np.isnan(ops.maximum(x, 0.0).asnumpy()[0, 1])


def test_softmax_is_exact_for_rows_far_apart() -> None:
    x = np.array([[0.0, 1.0], [900.0, 901.0], [-900.0, -899.0], [-np.inf, 5.0]])
    rows = np.vstack([ops.softmax(Tensor(row)).asnumpy() for row in x])
    np.testing.assert_allclose(ops.softmax(Tensor(x)).asnumpy(), rows, rtol=1e-14)
    labels = Tensor([0, 1, 0, 1])
    losses = ops.cross_entropy(Tensor(x), labels, reduction="none").asnumpy()
    want = np.log1p(np.exp([1.0, -1.0, 1.0, -np.inf]))
    np.testing.assert_allclose(losses, want, rtol=1e-13)
    total = ops.cross_entropy(Tensor(x), labels, reduction="sum").item()
    np.testing.assert_allclose(total, want.sum(), rtol=1e-13)


def test_sigmoid_and_softplus_do_not_overflow() -> None:
    x = Tensor([-1000.0, 0.0, 1000.0])
    assert ops.sigmoid(x).tolist() == [0.0, 0.5, 1.0]
    np.testing.assert_allclose(ops.softplus(x).asnumpy(), [0.0, np.log(2.0), 1000.0])


def test_division_by_zero_warns_as_numpy_does_and_obeys_errstate() -> None:
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        out = Tensor([1.0]) / 0.0
    assert out.item() == np.inf
    with np.errstate(divide="ignore"):
        assert ops.log(Tensor([0.0])).item() == -np.inf


def test_where_keeps_nan_out_of_the_gradient() -> None:
    def fn(x: Tensor) -> Tensor:
        with np.errstate(all="ignore"):
            return ops.where(x > 0.0, ops.log(x), 0.0)

    with np.errstate(all="ignore"):
        (gradient,) = _gradients(fn, Tensor([-1.0, 2.0]))
    assert gradient.tolist() == [0.0, 0.5]


def test_powers_at_zero_have_their_true_derivative() -> None:
    zero = Tensor([0.0])
    assert _gradients(lambda x: x**0, zero)[0].tolist() == [0.0]
    assert _gradients(lambda x: x**1, zero)[0].tolist() == [1.0]
    assert _gradients(lambda x: x**2, zero)[0].tolist() == [0.0]
    of_x, of_y = _gradients(ops.pow, zero, Tensor([2.0]))
    assert (of_x.tolist(), of_y.tolist()) == ([0.0], [0.0])


def test_equal_elements_share_the_gradient_of_an_extreme() -> None:
    x = Tensor([1.0, 3.0, 3.0])
    assert _gradients(ops.amax, x)[0].tolist() == [0.0, 0.5, 0.5]
    of_x, of_y = _gradients(ops.maximum, Tensor([1.0, 2.0]), Tensor([1.0, 3.0]))
    assert (of_x.tolist(), of_y.tolist()) == ([0.5, 0.0], [0.5, 1.0])
    assert _gradients(ops.relu, Tensor([0.0, -0.0]))[0].tolist() == [0.0, 0.0]
    clipped = _gradients(lambda x: x.clip(1.0, 2.0), x)[0]
    assert clipped.tolist() == [1.0, 0.0, 0.0]


# ---- losses


def test_cross_entropy_of_many_blocks_equals_the_plain_one() -> None:
    x = Tensor(_draw((300, 700), 0).astype(np.float32))
    labels = Tensor(np.arange(300) * 7 % 700)
    value, gradient = value_and_grad(ops.cross_entropy)(x, labels)
    plain, expected = value_and_grad(
        lambda x: ops.cross_entropy(x, labels, ops.ones(700))
    )(x)
    assert isinstance(gradient, Tensor)
    assert isinstance(expected, Tensor)
    np.testing.assert_allclose(float(value), float(plain), rtol=1e-6)  # type: ignore[arg-type]
    np.testing.assert_allclose(
        gradient.asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint64])
def test_labels_may_be_of_any_integer_type(dtype: type) -> None:
    x = Tensor(_draw((3, 4), 0))
    labels: Array = np.array([0, 3, 1], dtype)
    losses = -np.log(np.exp(x.asnumpy()) / np.exp(x.asnumpy()).sum(1, keepdims=True))
    want = losses[np.arange(3), labels.astype(int)].mean()
    assert ops.cross_entropy(x, Tensor(labels)).item() == pytest.approx(want)


def test_ignored_labels_count_for_nothing() -> None:
    x = Tensor(_draw((3, 4), 0))
    some = ops.cross_entropy(x, Tensor([0, -100, 1]))
    only = ops.cross_entropy(x[Tensor([0, 2])], Tensor([0, 1]))
    assert some.item() == pytest.approx(only.item())
    (gradient,) = _gradients(
        lambda x: ops.cross_entropy(x, Tensor([0, 7, 1]), None, 7), x
    )
    assert gradient[1].tolist() == [0.0] * 4
    assert np.isnan(ops.cross_entropy(x, Tensor([-100] * 3)).item())


def test_labels_and_one_hot_probabilities_agree() -> None:
    x = Tensor(_draw((3, 4, 2), 0))
    labels = Tensor([[0, 1], [3, 2], [1, 1]])
    hot = ops.one_hot(labels, 4).astype(pt.float64).transpose(0, 2, 1)
    for smoothing in (0.0, 0.2):
        for reduction in ("mean", "sum", "none"):
            options = {"reduction": reduction, "label_smoothing": smoothing}
            by_label = ops.cross_entropy(x, labels, **options)  # type: ignore[arg-type]
            by_hot = ops.cross_entropy(x, hot, **options)  # type: ignore[arg-type]
            np.testing.assert_allclose(by_label.asnumpy(), by_hot.asnumpy(), rtol=1e-13)


def test_the_gradient_of_a_loss_is_scaled_by_what_comes_behind_it() -> None:
    x, labels = Tensor(_draw((3, 4), 0)), Tensor([0, 1, 2])
    y = Tensor(_draw((3, 4), 1))
    losses: list[Callable[[Tensor], Tensor]] = [
        lambda x: ops.cross_entropy(x, labels),
        lambda x: ops.mse_loss(x, y),
    ]
    for loss in losses:
        (once,) = _gradients(loss, x)
        (thrice,) = _gradients(lambda x, loss=loss: loss(x) * 3.0, x)
        np.testing.assert_allclose(thrice, 3.0 * once, rtol=1e-14)


# ---- errors name the operator, the shapes and the dims

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


# ---- new tensors


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
        x = Tensor(_draw((3, width), 0))
        (gradient,) = _gradients(lambda x: ops.gather(x, ids, 0), x)
        want = np.zeros((3, width))
        np.add.at(want, ids.asnumpy(), 1.0)
        np.testing.assert_array_equal(gradient, want)


# ---- torch as an oracle


def test_a_small_network_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    shapes = [(6, 5), (6,), (4, 6), (4,)]
    arrays = [(_draw(s, i) - 1.0).astype(np.float32) for i, s in enumerate(shapes)]
    x, labels = (_draw((7, 5), 9) - 1.0).astype(np.float32), np.arange(7) % 4
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


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_cross_entropy_agrees_with_torch(
    reduction: str, smoothing: float, is_weighted: bool
) -> None:
    torch = pytest.importorskip("torch")
    x, labels = _draw((3, 4, 2), 0), np.array([[0, 1], [3, -100], [1, 2]])
    class_weights = _draw((4,), 1) if is_weighted else None
    ours = ops.cross_entropy(
        Tensor(x),
        Tensor(labels),
        None if class_weights is None else Tensor(class_weights),
        reduction=reduction,  # type: ignore[arg-type]
        label_smoothing=smoothing,
    )
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(x),
        torch.tensor(labels),
        None if class_weights is None else torch.tensor(class_weights),
        reduction=reduction,
        label_smoothing=smoothing,
    )
    np.testing.assert_allclose(ours.asnumpy(), theirs.numpy(), rtol=1e-12)
