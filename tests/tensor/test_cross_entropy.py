"""The fused cross-entropy with options, against single operators and PyTorch."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from grads import gradients_of
from kernel_sets import kernels_as

from parallel_params import ops
from parallel_params.tensor import Tensor
from parallel_params.tensor.ops.loss_plain import plain_cross_entropy

OPTIONS: list[dict[str, Any]] = [
    {"ignore_index": 2},
    {"ignore_index": -1},
    {"label_smoothing": 0.1},
    {"label_smoothing": 1.0, "ignore_index": 2},
    {"has_weight": True},
    {"has_weight": True, "ignore_index": 2},
    {"has_weight": True, "label_smoothing": 0.1},
]


def _case(shape: tuple[int, ...], ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, shape[1], shape[:1] + shape[2:])
    labels[1] = ignore_index
    weight = Tensor(rng.random(shape[1]))
    return Tensor(rng.standard_normal(shape)), Tensor(labels), weight


@pytest.mark.parametrize("kernels", ["numpy", "fast"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (3, 4, 2, 2)])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_are_those_of_single_operators_and_pytorch(
    options: dict[str, Any], shape: tuple[int, ...], reduction: Any, kernels: Any
) -> None:
    ignored = options.get("ignore_index", -100)
    smoothing = options.get("label_smoothing", 0.0)
    x, labels, given = _case(shape, ignored if "ignore_index" in options else 2)
    weight = given if "has_weight" in options else None
    fused = partial(
        ops.cross_entropy,
        target=labels,
        weight=weight,
        ignore_index=ignored,
        reduction=reduction,
        label_smoothing=smoothing,
    )
    with kernels_as(kernels):
        value, (gradient,) = fused(x).asnumpy(), gradients_of(fused, x)
    plain = partial(
        plain_cross_entropy,
        target=labels,
        weight=weight,
        ignore_index=ignored,
        reduction=reduction,
        label_smoothing=smoothing,
    )
    np.testing.assert_allclose(value, plain(x).asnumpy(), rtol=1e-13)
    np.testing.assert_allclose(gradient, gradients_of(plain, x)[0], atol=1e-14)
    torch = pytest.importorskip("torch")
    want = torch.nn.functional.cross_entropy(
        torch.from_numpy(x.asnumpy()),
        torch.from_numpy(labels.asnumpy()),
        None if weight is None else torch.from_numpy(weight.asnumpy()),
        ignore_index=ignored,
        reduction=reduction,
        label_smoothing=smoothing,
    )
    np.testing.assert_allclose(value, want.numpy(), rtol=1e-12)


def test_an_ignored_row_may_hold_anything() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    x[1] = np.nan
    fn = partial(ops.cross_entropy, target=Tensor([0, 7, 1]), ignore_index=7)
    assert np.isfinite(fn(Tensor(x)).item())
    assert np.isfinite(gradients_of(fn, Tensor(x))[0]).all()


def test_labels_of_unsigned_integers_may_be_smoothed() -> None:
    x, labels = Tensor(np.eye(3)), np.array([0, 2, 1])
    fn = partial(ops.cross_entropy, label_smoothing=0.3)
    signed, unsigned = fn(x, Tensor(labels)), fn(x, Tensor(labels.astype(np.uint64)))
    assert signed.item() == unsigned.item()
