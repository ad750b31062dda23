"""Each kernel in both sets: microseconds, and how far the results are apart.

Both forms get the same arrays, in turn. Where a size is that of the GPT of `models`,
it is 8 x 128 rows; optimizers move 10 million elements, which no cache holds.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import parallel_params as pp
from benchmarks.measure import blas_variables, environment, interleave
from benchmarks.models import HEADS, LENGTH, WIDTH, WORDS
from parallel_params.optim.rules.adam import AdamRule, AdamWRule
from parallel_params.optim.rules.sgd import SgdRule
from parallel_params.runtime import summing
from parallel_params.tensor import (
    attention_kernels,
    attention_tiles,
    batch_norm_kernels,
    dense_kernels,
    embedding_kernels,
    kernels,
    norm_kernels,
    pool_kernels,
    softmax_kernels,
)
from parallel_params.tensor.attention_tiles import Scheme
from parallel_params.tensor.erf import erf_gelu
from parallel_params.tensor.kernel_set import Kernel
from parallel_params.tensor.window import Window

Array = NDArray[Any]
ROWS, MANY = 8 * LENGTH, 10_000_000
RNG = np.random.default_rng(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kernel on arrays of one size.

    Attributes:
        name: for the reader.
        size: of the arrays, for the reader.
        run: calls the form of the chosen set.
        results: the arrays it leaves.
        reset: puts the arrays back that it has changed.
    """

    name: str
    size: str
    run: Callable[[], object]
    results: tuple[Array, ...]
    reset: Callable[[], None] = lambda: None


def _normal(*shape: int) -> Array:
    return RNG.standard_normal(shape, np.float32)


def _rule(name: str, rule: Any, numel: int = MANY) -> Case:
    weight, gradient = _normal(numel), _normal(numel)
    state = {slot: np.abs(_normal(numel)) for slot in rule.slots}
    start = weight.copy(), *(values.copy() for values in state.values())
    arrays = weight, *state.values()

    def run() -> None:
        rule.update(
            weight, gradient, state, step=3, learning_rate=1e-3, weight_decay=0.01
        )

    def reset() -> None:
        for array, value in zip(arrays, start, strict=True):
            array[...] = value

    return Case(name=name, size=f"{numel:.0e}", run=run, results=arrays, reset=reset)


def _pair(name: str, rule: AdamWRule, numel: int = MANY // 2) -> Case:
    """What a rank of two does on a node if nothing is decided about gradients."""
    case = _rule(name, rule, numel)
    weight, *moments = case.results
    left, right = _normal(numel), _normal(numel)
    state = dict(zip(rule.slots, moments, strict=True))

    def run() -> None:
        rule.update_pair(
            weight, left, right, state, step=3, learning_rate=1e-3, weight_decay=0.01
        )

    return replace(case, run=run)


def _sum(numel: int = MANY // 2) -> Case:
    left, right = _normal(numel), _normal(numel)
    out = left.copy()
    return Case(
        name="peer sum, watched",
        size=f"{numel:.0e}",
        run=lambda: summing.add_pair(out, right, out),
        results=(out,),
        reset=lambda: np.copyto(out, left),
    )


def _in_place(name: str, kernel: Kernel[..., Any], x: Array, *more: Array) -> Case:
    """A kernel that writes to its first array: what it needs is a fresh one."""
    own = x.copy()

    def run() -> None:
        np.copyto(own, x)  # in both sets; else numbers would become subnormal
        kernel(own, *more)

    size = "x".join(map(str, x.shape))
    return Case(name=name, size=size, run=run, results=(own, *more))


def _batch_norm() -> list[Case]:
    """What a batch of the convnet's first norm takes, forward and backward."""
    shape = (64, 16, 28 * 28)
    x, g, out = _normal(*shape), _normal(*shape), np.empty(shape, np.float32)
    channels = [np.ones(shape[1]) for _ in range(4)]
    two, size = np.empty((2, shape[1])), "64x16x28x28"

    moments, sums = batch_norm_kernels.moments, batch_norm_kernels.grad_sums
    normalise, grad = batch_norm_kernels.normalise, batch_norm_kernels.batch_grad
    mean, scale, down, tilt = channels
    return [
        Case(
            name="batch norm: moments",
            size=size,
            run=lambda: np.copyto(two, moments(x)),
            results=(two,),
        ),
        Case(
            name="batch norm: normalised",
            size=size,
            run=lambda: np.copyto(out, normalise(x, mean, scale, down)),
            results=(out,),
        ),
        Case(
            name="batch norm, backward: sums",
            size=size,
            run=lambda: np.copyto(two, sums(g, x, mean)),
            results=(two,),
        ),
        Case(
            name="batch norm, backward",
            size=size,
            run=lambda: np.copyto(out, grad(g, x, mean, scale, down, tilt)),
            results=(out,),
        ),
    ]


def _small() -> list[Case]:
    """What a step of 64-128-10 at batch 32 takes once or twice."""
    hidden, scores = _normal(32, 128), _normal(32, 10)
    db, grad, loss = _normal(128), np.empty_like(scores), np.empty((), np.float32)
    labels = RNG.integers(0, 10, 32)

    def entropy() -> None:
        found = softmax_kernels.cross_entropy_sum(scores, labels, grad, 1 / 32)
        assert found is not None  # all labels are in range
        np.copyto(loss, found)

    return [
        Case(
            name="sum of rows, small",
            size="32x128",
            run=lambda: kernels.sum_of_rows(hidden, db),
            results=(db,),
        ),
        Case(
            name="labels, loss and gradient, small",
            size="32x10",
            run=entropy,
            results=(loss, grad),
        ),
    ]


def cases() -> list[Case]:
    """Make all of them."""
    x, wide, scores = (
        _normal(ROWS, WIDTH),
        _normal(ROWS, 4 * WIDTH),
        _normal(ROWS, WORDS),
    )
    out, steep, grad = np.empty_like(x), np.empty_like(wide), np.empty_like(scores)
    weight, bias, long = _normal(WIDTH), _normal(WIDTH), _normal(4 * WIDTH)
    mean, scale = np.zeros(ROWS, np.float32), np.ones(ROWS, np.float32)
    dw, db, dx = np.empty_like(weight), np.empty_like(weight), np.empty_like(x)
    labels, ids = RNG.integers(0, WORDS, ROWS), RNG.integers(0, WORDS, ROWS)
    table, short = (
        np.empty((WORDS, WIDTH), np.float32),
        _normal(8 * HEADS * LENGTH, LENGTH),
    )
    soft = np.empty_like(short)
    losses: list[Array] = [np.empty(ROWS, np.float32)]
    slope = np.empty_like(wide)

    def entropy() -> None:
        np.copyto(losses[0], softmax_kernels.cross_entropy(scores, labels, grad, 1e-3))

    def relu_slope() -> None:
        np.copyto(slope, kernels.relu_slope(wide, steep))

    norm, grads = norm_kernels.norm, norm_kernels.norm_grads
    wides, thin = f"{ROWS}x{4 * WIDTH}", f"{ROWS}x{WIDTH}"
    bent, tilt = np.empty_like(wide), np.empty_like(wide)
    steep[...] = 1
    return [
        _rule("AdamW", AdamWRule()),
        _rule("Adam with decay", AdamRule()),
        _rule("SGD with momentum", SgdRule(momentum=0.9)),
        _sum(),
        _pair("peer sum + AdamW", AdamWRule()),
        _rule("AdamW, small", AdamWRule(), 9610),
        _in_place("bias", kernels.add_bias, wide, long),
        _in_place("bias + relu", kernels.bias_relu, wide, long),
        _in_place("bias + gelu + slope", kernels.bias_gelu, wide, long, steep.copy()),
        Case(
            name="gelu by the error function + slope",
            size=wides,
            run=lambda: erf_gelu(wide, bent, tilt),
            results=(bent, tilt),
        ),
        Case(name="relu, backward", size=wides, run=relu_slope, results=(slope,)),
        Case(
            name="softmax",
            size=f"{len(short)}x{LENGTH}",
            run=lambda: softmax_kernels.softmax(short, soft),
            results=(soft,),
        ),
        Case(
            name="cross-entropy + gradient",
            size=f"{ROWS}x{WORDS}",
            run=entropy,
            results=(losses[0], grad),
        ),
        *_batch_norm(),
        Case(
            name="layer norm",
            size=thin,
            run=lambda: norm(x, weight, bias, 1e-5, out, mean, scale),
            results=(out, mean, scale),
        ),
        Case(
            name="layer norm, backward",
            size=thin,
            run=lambda: grads(x, out, weight, mean, scale, dx, dw, db),
            results=(dx, dw, db),
        ),
        Case(
            name="embedding, backward",
            size=f"{ROWS} of {WORDS}x{WIDTH}",
            run=lambda: embedding_kernels.add_rows(ids, x, table),
            results=(table,),
        ),
        *_small(),
        *_dense(),
        *_pools(),
        *_attention(),
        *_tiles(),
    ]


def _dense() -> list[Case]:
    """What a step of the MLP takes twice: 64 rows by a weight that no cache holds."""
    x, g, w = _normal(64, 2048), _normal(64, 2048), _normal(2048, 2048)
    out, dw = np.empty_like(x), np.empty_like(w)
    return [
        Case(
            name="dense layer, few rows",
            size="64x2048x2048",
            run=lambda: np.copyto(out, dense_kernels.times_weight(x, w)),
            results=(out,),
        ),
        Case(
            name="gradient of its weight",
            size="64x2048x2048",
            run=lambda: dense_kernels.weight_grad(g, x, dw),
            results=(dw,),
        ),
    ]


def _pools() -> list[Case]:
    """Pairs of columns of 64 pictures of 16 channels, there and back."""
    x, window = _normal(64 * 16 * 28, 28, 1), Window(length=28, kernel=2, stride=2)
    out, dx = np.empty((len(x), 14, 1), np.float32), np.empty_like(x)
    choice, g = np.empty(out.shape, np.uint8), _normal(*out.shape)
    pool_kernels.max_along(x, window, out, choice)
    return [
        Case(
            name="max pool of pairs",
            size="64x16x28x28",
            run=lambda: pool_kernels.max_along(x, window, out, choice),
            results=(out, choice),
        ),
        Case(
            name="max pool of pairs, backward",
            size="64x16x28x28",
            run=lambda: pool_kernels.max_along_grad(g, choice, window, dx),
            results=(dx,),
        ),
    ]


def _attention() -> list[Case]:
    """All heads of a layer of the GPT, there and back; they lie side by side."""
    packed = _normal(8, LENGTH, 3 * HEADS, 64)
    grad = np.empty_like(packed)
    q, k, v = np.split(packed.transpose(0, 2, 1, 3), 3, 1)
    dq, dk, dv = np.split(grad.transpose(0, 2, 1, 3), 3, 1)
    g = _normal(8, LENGTH, HEADS, 64).transpose(0, 2, 1, 3)
    out, scheme = np.empty_like(g), Scheme(scale=0.125, is_causal=True)

    def forward() -> Array:
        return attention_kernels.attention((q, k, v), scheme, out)

    def both() -> None:
        attention_kernels.attention_grads(g, (q, k, v), scheme, forward(), (dq, dk, dv))

    size = f"8x{HEADS}x{LENGTH}x64"
    return [
        Case(name="attention, causal", size=size, run=forward, results=(out,)),
        Case(name="attention, there and back", size=size, run=both, results=(grad,)),
    ]


def _tiles() -> list[Case]:
    """The second of two tiles of four heads under a causal mask, there and back."""
    tile, slopes = _normal(HEADS, 64, LENGTH), _normal(HEADS, 64, LENGTH)
    scale, log = np.array(0.125, np.float32), np.empty((HEADS, 64), np.float32)
    future = np.triu(np.full((64, 64), -np.inf, np.float32), 1)
    seen = np.tril(np.abs(tile), LENGTH - 64)
    p, d, logs = tile.copy(), slopes.copy(), _normal(HEADS, 64) + 10

    def forward() -> None:
        np.copyto(p, tile)
        attention_tiles.probabilities(p, scale, future, log)

    def backward() -> None:
        np.copyto(p, tile)
        np.copyto(d, slopes)
        attention_tiles.slopes(p, d, logs, scale, future)

    def kept() -> None:
        np.copyto(d, slopes)
        attention_tiles.kept_slopes(seen, d, scale, future)

    size = f"{HEADS}x64x{LENGTH}"
    return [
        Case(name="attention, a tile", size=size, run=forward, results=(p, log)),
        Case(name="attention, a tile back", size=size, run=backward, results=(p, d)),
        Case(name="attention, a tile back, kept", size=size, run=kept, results=(d,)),
    ]


def apart(case: Case) -> str:
    """Say how far the two sets are apart, of the largest number of a result."""
    found = []
    for name in ("numpy", "fast"):
        pp.set_kernels(name)  # type: ignore[arg-type]  # two of its names
        case.reset()
        case.run()
        found.append([array.copy() for array in case.results])
    if all(np.array_equal(a, b) for a, b in zip(*found, strict=True)):
        return "none"
    far = max(
        float(np.abs(a.astype(np.float64) - b).max() / np.abs(b).max())
        for a, b in zip(*found, strict=True)
    )
    return f"{far:.0e}"


def measure(case: Case, *, num_rounds: int) -> tuple[float, float]:
    """Return the median seconds of a call in both sets."""

    def call(name: str) -> Callable[[], None]:
        def run() -> None:
            pp.set_kernels(name)  # type: ignore[arg-type]  # costs a microsecond
            case.run()

        return run

    once = interleave({"numpy": call("numpy")}, num_rounds=1, num_calls=1)["numpy"][0]
    num_calls = max(1, min(1000, round(0.02 / once)))
    both = {name: call(name) for name in ("numpy", "fast")}
    seconds = interleave(both, num_rounds=num_rounds, num_calls=num_calls)
    return statistics.median(seconds["numpy"]), statistics.median(seconds["fast"])


def main(
    rounds: int = typer.Option(7, help="Timings of each kernel in each set."),
) -> None:
    """Time every kernel in NumPy and compiled, and compare the results."""
    chosen = pp.set_kernels("fast")
    print(f"{environment()}, {chosen}; {blas_variables()}")
    print(
        f"{chosen.num_compiled} loops compiled and {chosen.num_cached} found in "
        f"{chosen.seconds:.1f} s\n"
    )
    print("| kernel | float32 | numpy us | fast us | speed | apart |")
    print("|---|---|---|---|---|---|")
    with threadpool_limits(1):
        for case in cases():
            far = apart(case)
            plain, fast = measure(case, num_rounds=rounds)
            print(
                f"| {case.name} | {case.size} | {plain * 1e6:.1f} | {fast * 1e6:.1f} "
                f"| {plain / fast:.1f}x | {far} |",
                flush=True,
            )
    pp.set_kernels("numpy")
