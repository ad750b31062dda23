"""Every operator against finite differences, first and second order, in float64."""

from collections.abc import Callable

import numpy as np
import pytest
from operands import away_from_kinks, positive

from parallel_params import ops
from parallel_params.tensor import Tensor, float64, random
from parallel_params.tensor.gradcheck import check_grad
from parallel_params.tensor.ops.self_attention import self_attention
from parallel_params.tensor.rotary_kernels import rotary_table

X = away_from_kinks(3, 4)
Y = away_from_kinks(3, 4, seed=1)
ROW = away_from_kinks(4, seed=2)
COLUMN = away_from_kinks(3, 1, seed=3)
CUBE = away_from_kinks(2, 3, 4, seed=4)
P = positive(3, 4)
Q = positive(3, 4, seed=1)
ONE = Tensor(0.7, dtype=float64)
LABELS = Tensor([1, 0, 3])
HALVES = Tensor(np.full((3, 4), 0.25))
WEIGHTS = Tensor([0.5, 1.0, 2.0, 1.5], dtype=float64)
MASK = Tensor(np.arange(12).reshape(3, 4) % 3 == 0)
IDS = Tensor([[2, 0], [2, 1]])
ATTENTION = ops.scaled_dot_product_attention
# The second query sees nothing.
SEEN = Tensor(np.arange(12).reshape(3, 4) % 4 < [[1], [0], [3]])
WIDE = away_from_kinks(2, 3, 4, 4, seed=5)
FLOAT64 = np.dtype(np.float64)
NOT_2 = (IDS != 2).astype(float64).expand_dims(-1)
IMAGE = away_from_kinks(2, 4, 5, 6, seed=5)
SERIES = away_from_kinks(2, 4, 7, seed=6)
KERNEL = away_from_kinks(6, 2, 3, 2, seed=7)


def _with_fixed_draws(fn: Callable[..., Tensor], *inputs: object) -> Tensor:
    with random.scope("a test"):
        return fn(*inputs)


CASES: dict[str, tuple[Callable[..., object], tuple[Tensor, ...]]] = {
    "add": (ops.add, (X, Y)),
    "add a row": (ops.add, (X, ROW)),
    "add a column to a row": (ops.add, (COLUMN, ROW)),
    "add to 0-d": (ops.add, (ONE, X)),
    "sub": (ops.sub, (X, ROW)),
    "mul": (ops.mul, (X, COLUMN)),
    "mul by itself": (lambda x: x * x, (X,)),
    "mul by a number": (lambda x: 2.5 * x, (X,)),
    "div": (ops.div, (X, positive(4))),
    "number over tensor": (lambda x: 2.0 / x, (P,)),
    "mod": (ops.mod, (X, Tensor(np.full(4, 0.77)))),
    "neg": (ops.neg, (X,)),
    "maximum": (ops.maximum, (X, ROW)),
    "minimum": (ops.minimum, (X, Y * 0.9)),
    "clip_by_value": (lambda x: ops.clip_by_value(x, -1.0, 1.5), (X,)),
    "clip by tensors": (ops.clip_by_value, (X, ROW * 0.9 - 1.0, ROW * 0.9 + 1.0)),
    "pow": (ops.pow, (P, Y)),
    "pow 2": (lambda x: x**2, (X,)),
    "pow 3": (lambda x: x**3, (X,)),
    "pow 4": (lambda x: x**4, (X,)),
    "pow 5": (lambda x: x**5, (X,)),
    "pow 0.5": (lambda x: x**0.5, (P,)),
    "pow -0.5": (lambda x: x**-0.5, (P,)),
    "pow -1": (lambda x: x**-1, (P,)),
    "pow -2": (lambda x: x**-2, (P,)),
    "pow 1": (lambda x: x**1, (X,)),
    "pow 0": (lambda x: x**0, (X,)),
    "number to the power": (lambda x: 2.0**x, (X,)),
    "exp": (ops.exp, (X,)),
    "log": (ops.log, (P,)),
    "sqrt": (ops.sqrt, (P,)),
    "rsqrt": (ops.rsqrt, (P,)),
    "square": (ops.square, (X,)),
    "reciprocal": (ops.reciprocal, (P,)),
    "sin": (ops.sin, (X,)),
    "cos": (ops.cos, (X,)),
    "abs": (ops.abs, (X,)),
    "relu": (ops.relu, (X,)),
    "tanh": (ops.tanh, (X,)),
    "sigmoid": (ops.sigmoid, (X,)),
    "erf": (ops.erf, (X,)),
    "gelu": (ops.gelu, (X,)),
    "gelu by tanh": (lambda x: ops.gelu(x, "tanh"), (X,)),
    "silu": (ops.silu, (X,)),
    "softplus": (ops.softplus, (X,)),
    "leaky_relu": (ops.leaky_relu, (X,)),
    "elu": (lambda x: ops.elu(x, 1.5), (X,)),
    "hardswish": (lambda x: ops.hardswish(x * 1.7), (X,)),
    "mish": (ops.mish, (X,)),
    "topk": (lambda x: ops.topk(x, 2)[0], (X,)),
    "topk of columns": (lambda x: ops.topk(x, 1, 0, largest=False)[0], (X,)),
    "group_norm": (
        lambda x, w, b: ops.group_norm(x, 2, w, b),
        (IMAGE, ROW, ROW * 0.5),
    ),
    "where": (lambda x, y: ops.where(MASK, x, y), (X, ROW)),
    "matmul": (ops.matmul, (X, CUBE[0].T)),
    "matmul of a vector": (ops.matmul, (ROW, X.T)),
    "matmul by a vector": (ops.matmul, (X, ROW)),
    "matmul of vectors": (ops.matmul, (ROW, ROW * 2.0)),
    "matmul in batches": (ops.matmul, (CUBE, CUBE.swapaxes(1, 2) * 0.5)),
    "matmul of a batch": (ops.matmul, (CUBE, X.T)),
    "matmul by a batch": (ops.matmul, (X[:2, :3], CUBE)),
    "matmul, batch of 1": (ops.matmul, (CUBE[:1], CUBE.swapaxes(1, 2))),
    "matmul, batch by a vector": (ops.matmul, (CUBE, ROW)),
    "linear": (ops.linear, (X, CUBE[0], ROW[:3])),
    "linear, no bias": (ops.linear, (X, Y)),
    "linear, three dims": (ops.linear, (CUBE, Y, ROW[:3])),
    "linear, one dim": (ops.linear, (ROW, Y, ROW[:3])),
    "linear relu": (lambda x, w, b: ops.linear(x, w, b, "relu"), (X, Y, ROW[:3])),
    "linear tanh": (lambda x, w, b: ops.linear(x, w, b, "tanh"), (X, Y, ROW[:3])),
    "linear gelu": (lambda x, w, b: ops.linear(x, w, b, "gelu"), (CUBE, Y, ROW[:3])),
    "linear sigmoid": (lambda x, w: ops.linear(x, w, None, "sigmoid"), (X, Y)),
    "sum": (ops.sum, (X,)),
    "sum of rows": (lambda x: ops.sum(x, 1), (X,)),
    "sum, keepdims": (lambda x: ops.sum(x, (0, -1), keepdims=True), (CUBE,)),
    "mean": (ops.mean, (X,)),
    "mean of columns": (lambda x: x.mean(0), (X,)),
    "var": (ops.var, (X,)),
    "var of rows": (lambda x: x.var(1, ddof=1, keepdims=True), (X,)),
    "std": (lambda x: ops.std(x, 0), (X,)),
    "amax": (ops.amax, (X,)),
    "amax of rows": (lambda x: x.max(1), (X,)),
    "amin, keepdims": (lambda x: x.min((0, 2), keepdims=True), (CUBE,)),
    "reshape": (lambda x: x.reshape(2, -1), (X,)),
    "flatten": (lambda x: x.flatten(start_dim=1), (CUBE,)),
    "transpose": (lambda x: x.transpose(2, 0, 1), (CUBE,)),
    "T": (lambda x: x.T, (CUBE,)),
    "swapaxes": (lambda x: x.swapaxes(0, -1), (CUBE,)),
    "squeeze": (ops.squeeze, (COLUMN,)),
    "expand_dims": (lambda x: x.expand_dims(-1), (X,)),
    "broadcast_to": (lambda x: x.broadcast_to((2, 3, 4)), (COLUMN,)),
    "pad": (lambda x: ops.pad(x, (1, 2, 0, 3), value=0.5), (X,)),
    "pad by less": (lambda x: ops.pad(x, (-1, 2, -1, 0)), (CUBE,)),
    "tile": (lambda x: ops.tile(x, (2, 1, 3)), (X,)),
    "repeat_interleave": (lambda x: ops.repeat_interleave(x, 3, 1), (CUBE,)),
    "flip": (lambda x: ops.flip(x, (0, 2)), (CUBE,)),
    "masked_fill": (lambda x: ops.masked_fill(x, MASK, 2.0), (X,)),
    "cumsum": (lambda x: ops.cumsum(x, 1), (CUBE,)),
    "logsumexp": (lambda x: ops.logsumexp(x, 1), (CUBE,)),
    "norm": (lambda x: ops.norm(x, dim=1), (X,)),
    "norm 1": (lambda x: ops.norm(x, 1), (X,)),
    "norm inf": (lambda x: ops.norm(x, float("inf"), 0, True), (X,)),
    "bmm": (ops.bmm, (CUBE, CUBE.swapaxes(1, 2) * 0.5)),
    "conv1d": (
        lambda x, w, b: ops.conv1d(x, w, b, 2, "same", 0, 2, 2),
        (SERIES, KERNEL[:, :, :, 0], away_from_kinks(6)),
    ),
    "conv2d": (
        lambda x, w, b: ops.conv2d(x, w, b, (2, 1), "pad", (1, 0), (1, 2), 2),
        (IMAGE, KERNEL, away_from_kinks(6)),
    ),
    "conv2d of stride 1": (
        lambda x, w: ops.conv2d(x, w, None, 1, "same"),
        (IMAGE[:, :2], KERNEL),
    ),
    "max_pool1d": (lambda x: ops.max_pool1d(x, 3, 2, 1), (SERIES,)),
    "max_pool2d": (lambda x: ops.max_pool2d(x, (2, 3), 2), (IMAGE,)),
    "max_pool2d, padded": (lambda x: ops.max_pool2d(x, 3, 1, 1, 2), (IMAGE,)),
    "avg_pool1d": (lambda x: ops.avg_pool1d(x, 3, 2, 1), (SERIES,)),
    "avg_pool2d": (lambda x: ops.avg_pool2d(x, 2, None), (IMAGE,)),
    "avg_pool2d, padded": (
        lambda x: ops.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        (IMAGE,),
    ),
    "adaptive_avg_pool1d": (lambda x: ops.adaptive_avg_pool1d(x, 3), (SERIES,)),
    "adaptive_avg_pool2d": (lambda x: ops.adaptive_avg_pool2d(x, (2, 4)), (IMAGE,)),
    "batch_norm": (
        lambda x, w, b: ops.batch_norm(x, None, None, w, b, True),
        (IMAGE, ROW, ROW * 0.5),
    ),
    "batch_norm by given moments": (
        lambda x, w, b: ops.batch_norm(x, ROW, P[0], w, b),
        (SERIES, ROW, ROW * 0.5),
    ),
    "batch_norm, plain": (
        lambda x: ops.batch_norm(x, None, None, training=True),
        (X,),
    ),
    "concat": (lambda x, y: ops.concat((x, y), axis=1), (X, COLUMN)),
    "stack": (lambda x, y: ops.stack((x, y), axis=-1), (X, Y)),
    "split": (lambda x: ops.split(x, 3, axis=1), (X,)),
    "split by lengths": (lambda x: ops.split(x, (1, 0, 3), axis=1)[2], (X,)),
    "unstack": (lambda x: ops.unstack(x, axis=1)[1:3], (CUBE,)),
    "item": (lambda x: x[1, 2], (X,)),
    "slice": (lambda x: x[::-1, None, 1:3], (X,)),
    "rows by index": (lambda x: x[IDS], (X,)),
    "points by index": (lambda x: x[[0, 0, 2], [3, 3, 1]], (X,)),
    "mask": (lambda x: x[MASK], (X,)),
    "gather": (lambda x: ops.gather(x, IDS, 0), (X,)),
    "gather columns": (lambda x: ops.gather(x, IDS, -1), (CUBE,)),
    "gather in batches": (lambda x: ops.gather(x, IDS, 1, 1), (CUBE,)),
    "gather_elements": (lambda x: ops.gather_elements(x, 1, IDS), (X,)),
    "scaled_dot_product_attention": (ATTENTION, (CUBE, CUBE * 0.5, CUBE[:, ::-1])),
    "scaled_dot_product_attention, causal": (
        lambda q, k, v: ATTENTION(q, k, v, is_causal=True, scale=1.0),
        (CUBE, CUBE[:, :2] * 0.5, CUBE[:, :2]),
    ),
    "scaled_dot_product_attention, masked": (
        lambda q, k, v: ATTENTION(q, k, v, SEEN[:, :3]),
        (CUBE, CUBE * 0.5, CUBE),
    ),
    "scaled_dot_product_attention, trained mask": (
        lambda q, k, v, m: ATTENTION(q, k, v, m),
        (CUBE, CUBE * 0.5, CUBE, X[:, :3]),
    ),
    "scaled_dot_product_attention, shared keys": (
        lambda q, k, v: ATTENTION(q, k, v, enable_gqa=True),
        (CUBE, CUBE[:1] * 0.5, CUBE[1:]),
    ),
    "scaled_dot_product_attention, dropout": (
        lambda q, k, v: _with_fixed_draws(ATTENTION, q, k, v, None, 0.4),
        (CUBE, CUBE * 0.5, CUBE),
    ),
    "self attention": (lambda x: self_attention(x, 1, is_causal=True), (WIDE,)),
    "self attention, turned": (
        lambda x: self_attention(x, 1, turns=rotary_table(3, 4, 100.0, FLOAT64)),
        (WIDE,),
    ),
    "rotary": (lambda x: ops.rotary(x, X[:, :2], Y[:, :2]), (CUBE,)),
    "swiglu": (ops.swiglu, (CUBE,)),
    "swiglu of columns": (lambda x: ops.swiglu(x, 0), (CUBE,)),
    "dropout": (lambda x: ops.dropout(x, 0.4, seed=1), (X,)),
    "embedding": (lambda x: ops.embedding(IDS, x), (X,)),
    "embedding with padding": (lambda x: ops.embedding(IDS, x, -1) * NOT_2, (X,)),
    "layer_norm": (lambda x, w, b: ops.layer_norm(x, 4, w, b), (X, ROW, ROW[::-1])),
    "layer_norm of planes": (lambda x: ops.layer_norm(x, (3, 4)), (CUBE,)),
    "layer_norm, no bias": (lambda x, w: ops.layer_norm(x, (4,), w), (CUBE, ROW)),
    "layer_norm, no weight": (
        lambda x, b: ops.layer_norm(x, 4, None, b, 0.1),
        (X, ROW),
    ),
    "rms_norm": (lambda x, w: ops.rms_norm(x, 4, w), (CUBE, ROW)),
    "rms_norm alone": (lambda x: ops.rms_norm(x, (3, 4), None, 0.1), (X,)),
    "softmax": (ops.softmax, (X,)),
    "softmax of columns": (lambda x: ops.softmax(x, 0), (X,)),
    "softmax in the middle": (lambda x: ops.softmax(x, 1), (CUBE,)),
    "log_softmax": (ops.log_softmax, (X,)),
    "log_softmax of columns": (lambda x: ops.log_softmax(x, 0), (X,)),
    "cross_entropy": (lambda x: ops.cross_entropy(x, LABELS), (X,)),
    "cross_entropy sum": (
        lambda x: ops.cross_entropy(x, LABELS, reduction="sum"),
        (X,),
    ),
    "cross_entropy none": (
        lambda x: ops.cross_entropy(x, LABELS, reduction="none"),
        (X,),
    ),
    "cross_entropy of one row": (lambda x: ops.cross_entropy(x, LABELS[2]), (ROW,)),
    "cross_entropy of probabilities": (ops.cross_entropy, (X, HALVES)),
    "cross_entropy weighted": (
        lambda x: ops.cross_entropy(x, LABELS, WEIGHTS, 3, "mean", 0.1),
        (X,),
    ),
    "linear_cross_entropy": (
        lambda x, w, b: ops.linear_cross_entropy(x, w, Tensor([1, 0, 2]), b),
        (X, Y, X[:, 0]),
    ),
    "mse_loss": (ops.mse_loss, (X, Y)),
    "mse_loss sum": (lambda x, y: ops.mse_loss(x, y, "sum"), (X, Y)),
    "mse_loss broadcast": (ops.mse_loss, (X, ROW)),
    "astype": (lambda x: x.astype(float64) * x, (X,)),
    "copy": (lambda x: +x * x, (X,)),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives_equal_finite_differences(name: str) -> None:
    fn, inputs = CASES[name]
    check_grad(fn, *inputs)


def test_every_operator_with_a_derivative_is_checked() -> None:
    constants = {
        *("floor_div", "sign", "floor", "ceil", "round", "stop_gradient", "assign"),
        *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
        *("logical_and", "logical_or", "logical_xor", "logical_not", "invert"),
        *("isnan", "isinf", "isfinite", "argmax", "argmin", "max", "min"),
        *("zeros", "ones", "full", "zeros_like", "ones_like", "full_like"),
        *("arange", "eye", "one_hot"),
        *("value_and_grad", "grad", "get_grad", "GradOperation"),
    }
    checked = {word.strip(",") for name in CASES for word in name.split()}
    assert set(ops.__all__) - constants - checked == set()
