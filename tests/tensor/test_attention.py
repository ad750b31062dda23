"""Attention: fused against plain, masks, shared keys, dropout, PyTorch's numbers."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_sets import kernels_as
from numpy.testing import assert_allclose, assert_array_equal

from parallel_params import ops
from parallel_params import tensor as pt
from parallel_params.tensor import DType, Tensor, random, value_and_grad
from parallel_params.tensor.kernel_set import Choice
from parallel_params.tensor.ops.attention_plain import plain_attention
from parallel_params.tensor.ops.self_attention import self_attention
from parallel_params.tensor.tape import Array

attend = ops.scaled_dot_product_attention
# float32: sums of some hundred products of numbers of size 1.
CLOSE = 2e-5


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape))


def _gradients(fn: Callable[..., Tensor], *inputs: Tensor) -> list[Array]:
    _, found = value_and_grad(fn, tuple(range(len(inputs))))(*inputs)
    parts = found if isinstance(found, tuple) else (found,)
    return [part.asnumpy() for part in parts if isinstance(part, Tensor)]


@given(
    batch=st.lists(st.integers(0, 2), max_size=2),
    groups=st.integers(1, 2),
    share=st.integers(1, 3),
    queries=st.integers(0, 5),
    keys=st.integers(0, 5),
    widths=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    is_causal=st.booleans(),
    mask=st.sampled_from([None, "bool", "numbers", "row"]),
)
def test_fused_attention_equals_its_parts(
    batch: list[int],
    groups: int,
    share: int,
    queries: int,
    keys: int,
    widths: tuple[int, int],
    is_causal: bool,
    mask: str | None,
) -> None:
    q = _draw(*batch, groups * share, queries, widths[0])
    k = _draw(*batch, groups, keys, widths[0], seed=1)
    v = _draw(*batch, groups, keys, widths[1], seed=2)
    seen = _draw(*((keys,) if mask == "row" else (queries, keys)), seed=3)
    bias = None if mask is None else seen
    if mask in ("bool", "row"):
        bias = Tensor(np.where(seen.asnumpy() > 0.0, 0.0, -np.inf))
        seen = seen > 0.0
    options = {"is_causal": is_causal, "scale": 0.3, "enable_gqa": True}

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, None if mask is None else seen, **options)  # type: ignore[arg-type]  # a dict of all

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return plain_attention(q, k, v, bias, is_causal, 0.3, None, 1.0)

    assert fused(q, k, v).shape == (*q.shape[:-1], widths[1])
    assert_allclose(fused(q, k, v).asnumpy(), plain(q, k, v).asnumpy(), 1e-12, 1e-13)
    pairs = zip(_gradients(fused, q, k, v), _gradients(plain, q, k, v), strict=True)
    for found, want in pairs:
        assert_allclose(found, want, 1e-11, 1e-12)


@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_of_many_tiles_equals_its_parts(is_causal: bool) -> None:
    q, k, v = (_draw(1, 2, 300, 8, seed=i) for i in range(3))
    q = q * 30.0  # rows far apart, so that tiles start over by rows

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, is_causal=is_causal)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return plain_attention(q, k, v, None, is_causal, 8.0**-0.5, None, 1.0)

    pairs = zip(
        [fused(q, k, v).asnumpy(), *_gradients(fused, q, k, v)],
        [plain(q, k, v).asnumpy(), *_gradients(plain, q, k, v)],
        strict=True,
    )
    for found, want in pairs:
        assert_allclose(found, want, 1e-9, 1e-9)


def test_a_query_that_sees_nothing_gets_zeros_and_gives_none() -> None:
    q, k, v = (_draw(3, 4, seed=i) for i in range(3))
    seen = Tensor([[True, False, False], [False] * 3, [True] * 3])
    out = attend(q, k, v, seen)
    assert_array_equal(out.asnumpy()[0], v.asnumpy()[0])
    assert out.asnumpy()[1].tolist() == [0.0] * 4
    of_q, _, _ = _gradients(lambda q, k, v: attend(q, k, v, seen), q, k, v)
    assert of_q[1].tolist() == [0.0] * 4


def test_a_causal_query_does_not_see_the_future() -> None:
    q, k, v = (_draw(130, 4, seed=i) for i in range(3))
    before = attend(q, k, v, is_causal=True).asnumpy()
    k.asnumpy()[100:], v.asnumpy()[100:] = 1e3, 1e300
    after = attend(q, k, v, is_causal=True).asnumpy()
    assert_allclose(after[:100], before[:100], rtol=1e-12, atol=1e-14)
    assert after[100:].max() > 1e200


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["key", "value"])
@pytest.mark.parametrize("kernels", ["numpy", "fast"])
def test_what_is_not_finite_reaches_no_earlier_query_of_a_tile(
    kernels: Choice, place: str, bad: float
) -> None:
    q, k, v = (_draw(1, 2, 140, 4, seed=i) for i in range(3))
    hidden = 100
    with kernels_as(kernels), np.errstate(invalid="ignore"):
        before = attend(q, k, v, is_causal=True).asnumpy()
        (k if place == "key" else v).asnumpy()[0, 1, hidden, 2] = bad
        after = attend(q, k, v, is_causal=True).asnumpy()
    assert_array_equal(after[0, 0], before[0, 0])
    assert_allclose(after[0, 1, :hidden], before[0, 1, :hidden], rtol=1e-12)
    seen = after[0, 1, hidden:, 2]
    # Times a negative query, an infinite key has the weight 0.
    assert (
        not np.isfinite(seen).all() if place == "key" else not np.isfinite(seen).any()
    )


def test_the_place_in_memory_does_not_change_a_bit() -> None:
    heads = [_draw(2, 70, 8, seed=i).astype(pt.float32) for i in range(3)]

    def moved(tensor: Tensor) -> Tensor:
        room = np.empty(tensor.size + 3, np.float32)[3:]
        room[:] = tensor.asnumpy().reshape(-1)
        return Tensor.wrap(room.reshape(tensor.shape))

    def fn(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, is_causal=True)

    here, there = _gradients(fn, *heads), _gradients(fn, *map(moved, heads))
    for found, want in zip(there, here, strict=True):
        assert_array_equal(found, want)


def test_packed_projections_attend_as_separate_ones() -> None:
    packed = _draw(2, 70, 8, 6)

    def apart(x: Tensor) -> Tensor:
        x = x.transpose(0, 2, 1, 3)
        q, k, v = x[:, :4], x[:, 4:6], x[:, 6:]
        out = attend(q, k, v, is_causal=True, enable_gqa=True)
        return out.transpose(0, 2, 1, 3)

    def side_by_side(x: Tensor) -> Tensor:
        return self_attention(x, 2, is_causal=True)

    assert_array_equal(side_by_side(packed).asnumpy(), apart(packed).asnumpy())
    found, want = _gradients(side_by_side, packed), _gradients(apart, packed)
    assert_allclose(found[0], want[0], 1e-13, 1e-14)


def test_dropout_draws_by_place_and_keeps_the_mean() -> None:
    q, k = _draw(2, 3, 200, 4), _draw(2, 3, 50, 4, seed=1)
    ones = Tensor(np.ones((2, 3, 50, 1)))
    outs = []
    for _ in range(2):
        with random.scope("step", 1):
            outs.append(attend(q, k, ones, dropout_p=0.5).asnumpy())
    assert_array_equal(outs[0], outs[1])
    assert outs[0].mean() == pytest.approx(1.0, abs=0.05)
    assert len({part.tobytes() for part in outs[0].reshape(6, -1)}) == 6
    with random.scope("step", 1):
        plain_keep = attend(q, k, ones, Tensor(np.zeros(50)), dropout_p=0.5).asnumpy()
    assert_array_equal(plain_keep, outs[0])


@pytest.mark.parametrize("dtype", [pt.float16, pt.bfloat16, pt.float32])
def test_16_bits_are_computed_in_32(dtype: DType) -> None:
    q, k, v = (_draw(2, 5, 4, seed=i).astype(dtype) for i in range(3))
    mask = _draw(5, 5, seed=4).astype(dtype)
    out = attend(q, k, v, mask)
    single = [t.astype(pt.float32) for t in (q, k, v, mask)]
    wide = attend(single[0], single[1], single[2], single[3])
    assert out.dtype is dtype
    assert_array_equal(out.asnumpy(), wide.astype(dtype).asnumpy())
    grads = _gradients(lambda q, k, v: attend(q, k, v, mask), q, k, v)
    assert {g.dtype for g in grads} == {dtype.numpy}


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("groups", [4, 2])
def test_torch_has_the_same_numbers(is_causal: bool, groups: int) -> None:
    torch = pytest.importorskip("torch")
    shapes = [(2, 4, 70, 16), (2, groups, 70, 16), (2, groups, 70, 16)]
    arrays = [_draw(*s, seed=i).astype(pt.float32) for i, s in enumerate(shapes)]
    g = _draw(2, 4, 70, 16, seed=5).astype(pt.float32)
    theirs = [torch.tensor(a.asnumpy(), requires_grad=True) for a in arrays]
    out = torch.nn.functional.scaled_dot_product_attention(
        *theirs, is_causal=is_causal, enable_gqa=True
    )
    out.backward(torch.tensor(g.asnumpy()))

    def fn(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, is_causal=is_causal, enable_gqa=True)

    assert_allclose(fn(*arrays).asnumpy(), out.detach().numpy(), CLOSE, CLOSE)
    found = _gradients(lambda *a: fn(*a) * g, *arrays)
    for part, their in zip(found, theirs, strict=True):
        assert_allclose(part, their.grad.numpy(), CLOSE, CLOSE)


Q, K = _draw(2, 4, 5, 8), _draw(2, 4, 6, 8)
ERRORS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "width": (
        lambda: attend(Q, K[..., :7], K),
        ValueError,
        r"query of shape \(2, 4, 5, 8\) and key of shape \(2, 4, 6, 7\) differ in the "
        r"width, dim -1: 8 and 7",
    ),
    "keys": (lambda: attend(Q, K, Q), ValueError, "number of keys, dim -2: 6 and 5"),
    "batch": (lambda: attend(Q, K[:1], K[:1]), ValueError, "batch dim, dim -4: 2 and"),
    "heads": (lambda: attend(Q, K[:, :2], K[:, :2]), ValueError, "enable_gqa=True"),
    "uneven": (
        lambda: attend(Q, K[:, :3], K[:, :3], enable_gqa=True),
        ValueError,
        "4 heads of the query .* do not share the 3 of the key",
    ),
    "dims": (lambda: attend(Q, K[0], K[0]), ValueError, "must both be"),
    "type": (
        lambda: attend(Q, K.astype(pt.float32), K),
        TypeError,
        "query is Float64 and key Float32.*astype",
    ),
    "integers": (lambda: attend(Q, K, K.astype(pt.int64)), TypeError, "not Int64"),
    "mask": (
        lambda: attend(Q, K, K, Tensor(np.ones((4, 6)))),
        ValueError,
        r"attn_mask of shape \(4, 6\) does not broadcast to the scores, .*\(2, 4, 5, 6",
    ),
    "larger mask": (
        lambda: attend(Q[:1], K[:1], K[:1], Tensor(np.ones((2, 1, 5, 6)))),
        ValueError,
        "does not broadcast",
    ),
    "type of the mask": (
        lambda: attend(Q, K, K, Tensor([1, 0, 1, 1, 0, 1])),
        TypeError,
        "booleans or the query's Float64, not Int64",
    ),
    "chance": (lambda: attend(Q, K, K, dropout_p=1.0), ValueError, "a chance in"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_shapes_and_the_dim(name: str) -> None:
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()
