"""The fast forms of the tensor core's kernels: to loops what they take, else to NumPy.

Each does what the kernel of its name does, under the same contract.
"""

import numpy as np

from parallel_params.tensor import (
    attention_tiles,
    embedding_kernels,
    kernels,
    pool_kernels,
)
from parallel_params.tensor import norm_kernels as norms
from parallel_params.tensor import softmax_kernels as rows
from parallel_params.tensor.fast import (
    element_loops,
    gelu_loops,
    norm_loops,
    score_loops,
    softmax_loops,
)
from parallel_params.tensor.fast.compiler import fits, numbers
from parallel_params.tensor.tape import Array
from parallel_params.tensor.window import Window

_INT64 = np.dtype(np.int64)


def add_bias(x: Array, bias: Array) -> None:
    """Add a bias to every row."""
    if fits((x, bias)):
        element_loops.add_bias(x, bias)
    else:
        kernels.add_bias.numpy(x, bias)


def bias_relu(x: Array, bias: Array) -> None:
    """Add a bias to every row, then take the positive part."""
    if fits((x, bias)):
        element_loops.bias_relu(x, bias)
    else:
        kernels.bias_relu.numpy(x, bias)


def relu_slope(out: Array, g: Array) -> Array:
    """Return the gradient of relu's input."""
    if not fits((out, g)) or out.shape != g.shape:
        return kernels.relu_slope.numpy(out, g)
    into = np.empty(out.shape, out.dtype)
    if out.ndim == 2:
        element_loops.relu_slope(out, g, into)
    else:
        row = (1, -1)
        element_loops.relu_slope(out.reshape(row), g.reshape(row), into.reshape(row))
    return into


def sum_of_rows(x: Array, out: Array | None) -> Array:
    """Return the sum of all rows."""
    into = np.empty(x.shape[1], x.dtype) if out is None else out
    if x.size >= kernels.MANY or not fits((x, into)):
        return kernels.sum_of_rows.numpy(x, out)
    element_loops.sum_of_rows(x, into)
    return into


def gelu(x: Array, out: Array, slope: Array | None) -> None:
    """Write gelu in the tanh form, and its derivative."""
    if not x.size or not x.ndim or not fits((x, out)):
        kernels.gelu.numpy(x, out, slope)
        return
    if out is not x:
        np.copyto(out, x)
    width = x.shape[-1]
    _gelu(out.reshape(-1, width), np.zeros(width, x.dtype), slope)


def bias_gelu(x: Array, bias: Array, slope: Array | None) -> None:
    """Add a bias to every row, then gelu in place."""
    if fits((x, bias)):
        _gelu(x, bias, slope)
    else:
        kernels.bias_gelu.numpy(x, bias, slope)


def _gelu(x: Array, bias: Array, slope: Array | None) -> None:
    derivative = x if slope is None else slope.reshape(x.shape)
    a = 2.0 * kernels.SQRT_2_OVER_PI
    cubic = a * kernels.GELU_CUBIC
    constants = numbers(x.dtype, -a, -cubic, a, 3.0 * cubic)
    gelu_loops.bias_gelu(x, bias, derivative, slope is not None, constants)


def softmax(x: Array, out: Array) -> None:
    """Write the softmax of every row."""
    if fits((x, out)):
        softmax_loops.softmax(x, out)
    else:
        rows.softmax.numpy(x, out)


def log_softmax(x: Array, out: Array) -> None:
    """Write the logarithm of the softmax of every row."""
    if fits((x, out)):
        softmax_loops.log_softmax(x, out)
    else:
        rows.log_softmax.numpy(x, out)


def cross_entropy(x: Array, labels: Array, grad: Array, scale: float) -> Array:
    """Return the losses of all rows, and write their gradients."""
    if not fits((x, grad)):
        return rows.cross_entropy.numpy(x, labels, grad, scale)
    losses = np.empty(len(x), x.dtype)
    ids = np.ascontiguousarray(labels, np.int64)
    factor = x.dtype.type(scale)
    if grad is x:
        softmax_loops.cross_entropy_in_place(x, ids, factor, losses)
    else:
        softmax_loops.cross_entropy(x, ids, grad, factor, losses)
    return losses


def cross_entropy_sum(
    x: Array, labels: Array, grad: Array, scale: float
) -> Array | None:
    """Return the sum of the losses of all rows; None if a label is out of range."""
    if grad is x or not fits((x, grad)):
        return rows.cross_entropy_sum.numpy(x, labels, grad, scale)
    total = np.empty((), x.dtype)
    is_taken = labels.dtype is _INT64 and labels.flags.c_contiguous
    ids = labels if is_taken else np.ascontiguousarray(labels, _INT64)
    if not softmax_loops.cross_entropy_sum(x, ids, grad, x.dtype.type(scale), total):
        return None
    return total


def norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    epsilon: float,
    out: Array,
    mean: Array | None,
    scale: Array,
) -> None:
    """Write the layer norm or RMS norm of every row."""
    if not fits((x, out)):
        norms.norm.numpy(x, weight, bias, epsilon, out, mean, scale)
        return
    width = x.shape[1]
    factors = np.ones(width, x.dtype) if weight is None else weight
    shift = np.zeros(width, x.dtype) if bias is None else bias
    small, has_mean = x.dtype.type(epsilon), mean is not None
    means = scale if mean is None else mean
    norm_loops.norm(x, factors, shift, small, out, means, scale, has_mean)


def norm_grads(
    g: Array,
    x: Array,
    weight: Array | None,
    mean: Array | None,
    scale: Array,
    dx: Array | None,
    dweight: Array | None,
    dbias: Array | None,
) -> None:
    """Write the gradients of `norm` where they are wanted."""
    if not fits((g, x, scale)):
        norms.norm_grads.numpy(g, x, weight, mean, scale, dx, dweight, dbias)
        return
    width = x.shape[1]
    by_weight, by_bias = (
        np.empty(width, x.dtype) if total is None else total
        for total in (dweight, dbias)
    )
    by_weight.fill(0)
    by_bias.fill(0)
    norm_loops.norm_grads(
        g,
        x,
        np.ones(width, x.dtype) if weight is None else weight,
        scale if mean is None else mean,
        scale,
        g if dx is None else dx,
        by_weight,
        by_bias,
        mean is not None,
        dx is not None,
    )


def add_rows(ids: Array, g: Array, out: Array) -> None:
    """Set out[i] to the sum of all g[k] with ids[k] == i."""
    # A loop checks no index: one that was changed since forward would write anywhere.
    is_inside = not ids.size or (ids.min() >= 0 and ids.max() < len(out))
    if not is_inside or not fits((g, out)):
        embedding_kernels.add_rows.numpy(ids, g, out)
        return
    element_loops.add_rows(np.ascontiguousarray(ids, np.int64), g, out)


def probabilities(e: Array, scale: Array, future: Array | None, log: Array) -> bool:
    """Take the softmax of a tile of attention."""
    # Loops take the largest score before it is scaled.
    if not e.size or not scale >= 0 or not fits((e, log)):
        return attention_tiles.probabilities.numpy(e, scale, future, log)
    score_loops.probabilities(
        _rows(e), e.dtype.type(scale), *_sight(e, future), log.reshape(-1)
    )
    return True


def slopes(p: Array, d: Array, log: Array, scale: Array, future: Array | None) -> None:
    """Make probabilities again, and the gradients of scores."""
    if p.size and fits((p, d, log)):
        factor, sight = p.dtype.type(scale), _sight(p, future)
        score_loops.slopes(_rows(p), _rows(d), log.reshape(-1), factor, *sight)
    else:
        attention_tiles.slopes.numpy(p, d, log, scale, future)


def kept_slopes(p: Array, d: Array, scale: Array, future: Array | None) -> None:
    """Take the gradients of scores from probabilities that were kept."""
    if p.size and fits((p, d)):
        factor, sight = p.dtype.type(scale), _sight(p, future)
        score_loops.kept_slopes(_rows(p), _rows(d), factor, *sight)
    else:
        attention_tiles.kept_slopes.numpy(p, d, scale, future)


def _sight(scores: Array, future: Array | None) -> tuple[int, int]:
    """Return how many keys a first row sees, and how many rows see one more each."""
    _, num_rows, num_keys = scores.shape
    if future is None:
        return num_keys, 1
    return num_keys - future.shape[1] + 1, num_rows


def _takes_pairs(window: Window) -> bool:
    return window.kernel == 2 and window.tiles


def max_along(x: Array, window: Window, out: Array, choice: Array | None) -> None:
    """Write the largest element of every window; compiled where windows are pairs."""
    if choice is None or not _takes_pairs(window) or not fits((x, out)):
        pool_kernels.max_along.numpy(x, window, out, choice)
    elif x.shape[2] == 1:
        pairs, larger = x.reshape(-1), out.reshape(-1)
        element_loops.larger_of_pairs(pairs, larger, choice.reshape(-1))
    else:
        rows, larger, which = (_rows(array) for array in (x, out, choice))
        element_loops.larger_of_rows(rows, larger, which)


def max_along_grad(g: Array, choice: Array, window: Window, dx: Array) -> None:
    """Write the gradient of what was chosen; compiled where windows are pairs."""
    if not _takes_pairs(window) or not fits((g, dx)):
        pool_kernels.max_along_grad.numpy(g, choice, window, dx)
    elif dx.shape[2] == 1:
        element_loops.to_pairs(g.reshape(-1), choice.reshape(-1), dx.reshape(-1))
    else:
        element_loops.to_rows(_rows(g), _rows(choice), _rows(dx))


def _rows(array: Array) -> Array:
    rows: Array = array.reshape(-1, max(1, array.shape[2]))
    return rows
