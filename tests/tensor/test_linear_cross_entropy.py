"""A dense layer and its loss in one, against the two by themselves, and PyTorch."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from grads import gradients_of
from kernel_sets import kernels_as
from numpy.testing import assert_allclose, assert_array_equal

from parallel_params import ops
from parallel_params.tensor import Tensor, value_and_grad
from parallel_params.tensor.frame import Frame

CLASSES, WIDTH = 7, 5
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, CLASSES, (3, 4))
LABELS[1, 2] = 2
OPTIONS: list[dict[str, Any]] = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"label_smoothing": 0.1},
    {"ignore_index": 2},
    {"ignore_index": 2, "label_smoothing": 0.1, "reduction": "sum"},
    {"weight": Tensor(RNG.random(CLASSES))},
    {"weight": Tensor(RNG.random(CLASSES)), "label_smoothing": 0.1},
]


def _inputs(dtype: Any = np.float64) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(1)
    shapes = (3, 4, WIDTH), (CLASSES, WIDTH), (CLASSES,)
    x, w, b = (Tensor(rng.standard_normal(shape).astype(dtype)) for shape in shapes)
    return x, w, b


def _apart(x: Tensor, w: Tensor, b: Tensor | None = None, **options: Any) -> Tensor:
    scores = ops.linear(x, w, b).reshape(-1, CLASSES)
    found = ops.cross_entropy(scores, Tensor(LABELS.reshape(-1)), **options)
    return found.reshape(LABELS.shape) if found.ndim else found


def _as_one(x: Tensor, w: Tensor, b: Tensor | None = None, **options: Any) -> Tensor:
    return ops.linear_cross_entropy(x, w, Tensor(LABELS), b, **options)


@pytest.mark.parametrize("kernels", ["numpy", "fast"])
@pytest.mark.parametrize("factor", [1.0, 0.3])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_the_layer_and_the_loss(
    options: dict[str, Any], has_bias: bool, factor: float, kernels: Any
) -> None:
    inputs = _inputs()[: 2 + has_bias]
    one, apart = partial(_as_one, **options), partial(_apart, **options)
    with kernels_as(kernels):
        assert_array_equal(one(*inputs).asnumpy(), apart(*inputs).asnumpy())
        found = gradients_of(lambda *given: one(*given) * factor, *inputs)
        wanted = gradients_of(lambda *given: apart(*given) * factor, *inputs)
    for gradient, want in zip(found, wanted, strict=True):
        assert_allclose(gradient, want, rtol=1e-12, atol=1e-14)


def test_float32_has_the_bits_of_layer_and_loss_where_a_power_of_two_follows() -> None:
    inputs = _inputs(np.float32)
    found = gradients_of(lambda *given: _as_one(*given) * 8.0, *inputs)
    want = gradients_of(lambda *given: _apart(*given) * 8.0, *inputs)
    for a, b in zip(found, want, strict=True):
        assert_array_equal(a, b)


def test_gradients_arrive_in_their_buffers_and_inputs_stay() -> None:
    inputs = _inputs()
    before = [tensor.asnumpy().copy() for tensor in inputs]
    sinks = [np.full(tensor.shape, np.nan) for tensor in inputs]
    with Frame(inputs, sinks) as frame:
        frame.sweep(_as_one(*inputs), Tensor(3.0))
    want = gradients_of(_apart, *inputs)
    for tensor, old, sink, gradient in zip(inputs, before, sinks, want, strict=True):
        assert_array_equal(tensor.asnumpy(), old)
        assert_allclose(sink, 3.0 * gradient, rtol=1e-12, atol=1e-14)


def test_only_what_is_wanted_is_differentiated() -> None:
    x, w, b = _inputs()
    _, of_x = value_and_grad(lambda x: _as_one(x, w, b) * 0.3)(x)
    want = gradients_of(lambda x: _apart(x, w, b) * 0.3, x)
    assert isinstance(of_x, Tensor)
    assert_allclose(of_x.asnumpy(), want[0], rtol=1e-12)


def test_probabilities_may_be_the_target() -> None:
    x, w, b = _inputs()
    shares = ops.softmax(Tensor(np.random.default_rng(2).random((3, 4, CLASSES))))
    flat = shares.reshape(-1, CLASSES)
    want = ops.cross_entropy(ops.linear(x, w, b).reshape(-1, CLASSES), flat)
    assert ops.linear_cross_entropy(x, w, shares, b).item() == want.item()


def test_pytorch_has_the_same_numbers() -> None:
    torch = pytest.importorskip("torch")
    x, w, b = _inputs()
    like = [torch.from_numpy(t.asnumpy()).requires_grad_() for t in (x, w, b)]
    scores = torch.nn.functional.linear(*like).flatten(0, 1)
    want = torch.nn.functional.cross_entropy(
        scores, torch.from_numpy(LABELS.reshape(-1)), label_smoothing=0.2
    )
    want.backward()
    fn = partial(_as_one, label_smoothing=0.2)
    assert_allclose(fn(x, w, b).item(), want.item(), rtol=1e-12)
    for found, tensor in zip(gradients_of(fn, x, w, b), like, strict=True):
        assert_allclose(found, tensor.grad.numpy(), rtol=1e-11, atol=1e-14)


def test_errors_name_both_shapes() -> None:
    x, w, _ = _inputs()
    with pytest.raises(ValueError, match=r"target of shape \(4, 3\) does not fit inp"):
        ops.linear_cross_entropy(x, w, Tensor(LABELS.T))
    with pytest.raises(ValueError, match=r"x of shape \(3, 4, 5\) does not fit weight"):
        ops.linear_cross_entropy(x, Tensor(np.ones((7, 6))), Tensor(LABELS))
    with pytest.raises(ValueError, match="label 9 at"):
        ops.linear_cross_entropy(x, w, Tensor(np.full_like(LABELS, 9)))
    with pytest.raises(ValueError, match="reduction must be"):
        _as_one(x, w, reduction="avg")
    with pytest.raises(ValueError, match="the batch is empty"):
        ops.linear_cross_entropy(x[:0], w, Tensor(LABELS[:0]))
