"""Layers of convolutional nets: parameters, settings, laws, and what they refuse."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from parallel_params import nn, ops
from parallel_params.nn.statistic import Statistic, collecting
from parallel_params.tensor import Tensor, value_and_grad
from parallel_params.tensor import dtype as dtypes

IMAGES = Tensor(np.random.default_rng(0).standard_normal((4, 6, 8, 8), np.float32))


def test_convolutions_have_mindspores_parameters_and_defaults() -> None:
    conv = nn.Conv2d(6, 9, 3, group=3)
    assert [(p.name, p.shape) for p in conv.get_parameters()] == [
        ("weight", (9, 2, 3, 3))
    ]
    assert conv(IMAGES).shape == (4, 9, 8, 8)
    assert nn.Conv2d(6, 9, (3, 2), stride=2)(IMAGES).shape == (4, 9, 4, 4)
    assert nn.Conv2d(6, 9, 3, pad_mode="valid")(IMAGES).shape == (4, 9, 6, 6)
    padded = nn.Conv2d(6, 9, 3, pad_mode="pad", padding=(1, 0, 2, 1), has_bias=True)
    assert padded(IMAGES).shape == (4, 9, 7, 9)
    one = nn.Conv1d(6, 2, 5, has_bias=True)
    assert [p.shape for p in one.get_parameters()] == [(2, 6, 5), (2,)]
    assert one(IMAGES[:, :, 0]).shape == (4, 2, 8)


def test_convolutions_draw_pytorchs_laws() -> None:
    conv = nn.Conv2d(16, 64, 3, has_bias=True)
    bound = 1 / np.sqrt(16 * 9)
    assert conv.bias is not None
    for parameter in (conv.weight, conv.bias):
        drawn = parameter.asnumpy()
        assert 0.9 * bound < np.abs(drawn).max() <= bound
    assert abs(conv.weight.asnumpy().std() - bound / np.sqrt(3)) < 0.05 * bound
    given = nn.Conv2d(1, 1, 2, weight_init="ones", has_bias=True, bias_init=0.5)
    assert given(Tensor(np.ones((1, 1, 2, 2), np.float32))).tolist()[0][0][0][0] == 4.5


def test_layers_compute_their_operators() -> None:
    pairs = [
        (nn.MaxPool2d(2, 2), ops.max_pool2d(IMAGES, 2)),
        (nn.MaxPool2d(3, pad_mode="pad", padding=1), ops.max_pool2d(IMAGES, 3, 1, 1)),
        (nn.AvgPool2d(2, 2), ops.avg_pool2d(IMAGES, 2, 2)),
        (nn.AvgPool2d(2, divisor_override=3), ops.avg_pool2d(IMAGES, 2) * (4 / 3)),
        (nn.AdaptiveAvgPool2d((1, 2)), ops.adaptive_avg_pool2d(IMAGES, (1, 2))),
    ]
    for layer, want in pairs:
        assert_allclose(layer(IMAGES).asnumpy(), want.asnumpy(), rtol=1e-6)
    series = IMAGES[:, :, 0]
    for layer, want in [
        (nn.MaxPool1d(2, 2), ops.max_pool1d(series, 2)),
        (nn.AvgPool1d(3, 2), ops.avg_pool1d(series, 3, 2)),
        (nn.AdaptiveAvgPool1d(3), ops.adaptive_avg_pool1d(series, 3)),
    ]:
        assert_array_equal(layer(series).asnumpy(), want.asnumpy())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Conv2d(0, 1, 3), ValueError, "in_channels is at least 1"),
        (lambda: nn.Conv2d(1, 1.5, 3), TypeError, "out_channels is made of integers"),  # type: ignore[arg-type]
        (lambda: nn.Conv2d(1, 1, 0), ValueError, "kernel_size is at least 1"),
        (lambda: nn.Conv2d(1, 1, (1, 2, 3)), ValueError, "one number or 2, not 3"),
        (lambda: nn.Conv2d(1, 1, 3, 0), ValueError, "Conv2d: stride is at least 1"),
        (lambda: nn.Conv2d(4, 6, 3, group=3), ValueError, "group=3 must divide"),
        (lambda: nn.Conv2d(1, 1, 3, padding=1), ValueError, "for pad_mode='pad'"),
        (lambda: nn.Conv2d(1, 1, 3, pad_mode="half"), ValueError, "pad_mode is"),  # type: ignore[arg-type]
        (lambda: nn.Conv2d(1, 1, 3, has_bias=1), TypeError, "has_bias is True"),  # type: ignore[arg-type]
        (lambda: nn.Conv1d(1, 1, (1, 2)), ValueError, "Conv1d: kernel_size is one"),
        (lambda: nn.MaxPool2d(2, "2"), TypeError, "MaxPool2d: stride is made of"),  # type: ignore[arg-type]
        (lambda: nn.AvgPool2d(0), ValueError, "AvgPool2d: kernel_size is at least"),
        (lambda: nn.AdaptiveAvgPool2d(0), ValueError, "AdaptiveAvgPool2d"),
        (lambda: nn.BatchNorm2d(0), ValueError, "num_features is at least 1"),
        (lambda: nn.BatchNorm2d(2, eps=0.0), ValueError, "eps is greater than 0"),
        (lambda: nn.BatchNorm2d(2, momentum=1.5), ValueError, r"lies in \[0, 1\]"),
        (lambda: nn.BatchNorm2d(2, use_batch_statistics="no"), TypeError, "is None"),  # type: ignore[arg-type]
    ],
)
def test_settings_are_checked(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_batch_norm_has_two_weights_and_two_statistics() -> None:
    norm = nn.BatchNorm2d(6)
    names = [(p.name, p.requires_grad) for p in norm.get_parameters()]
    assert sorted(names) == [
        ("beta", True),
        ("gamma", True),
        ("moving_mean", False),
        ("moving_variance", False),
    ]
    assert [p.name for p in nn.BatchNorm1d(3, affine=False).trainable_params()] == []


def test_statistics_follow_the_batch_while_training_only() -> None:
    norm = nn.BatchNorm2d(6, momentum=0.75)
    norm(IMAGES)
    assert norm.moving_mean.tolist() == [0.0] * 6
    norm.set_train()(IMAGES)
    x = IMAGES.asnumpy().astype(np.float64)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
    assert_allclose(norm.moving_mean.asnumpy(), 0.25 * mean, rtol=1e-4, atol=1e-7)
    assert_allclose(norm.moving_variance.asnumpy(), 0.75 + 0.25 * var, rtol=1e-5)
    norm.set_train(False)
    moved = norm.moving_mean.tolist()
    out = norm(IMAGES)
    assert norm.moving_mean.tolist() == moved
    want = ops.batch_norm(IMAGES, norm.moving_mean, norm.moving_variance)
    assert_allclose(out.asnumpy(), want.asnumpy(), atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 6), (3, 2, 4, 5)])
@pytest.mark.parametrize("is_training", [True, False])
def test_batch_norm_is_pytorchs(shape: tuple[int, ...], is_training: bool) -> None:
    torch = pytest.importorskip("torch")
    dims = 2 if len(shape) == 4 else 1
    ours: Any = getattr(nn, f"BatchNorm{dims}d")(shape[1], dtype=dtypes.float64)
    theirs = getattr(torch.nn, f"BatchNorm{dims}d")(shape[1], dtype=torch.float64)
    ours.set_train(is_training)
    theirs.train(is_training)
    rng = np.random.default_rng(0)
    for mine, weight in ((ours.gamma, theirs.weight), (ours.beta, theirs.bias)):
        drawn = rng.standard_normal(shape[1])
        mine.set_data(Tensor(drawn))
        weight.data.copy_(torch.tensor(drawn))
    x, seed = rng.normal(2.0, 3.0, shape), rng.standard_normal(shape)
    inputs = torch.tensor(x, requires_grad=True)
    (theirs(inputs) * torch.tensor(seed)).sum().backward()
    _, grads = value_and_grad(
        lambda a: (ours(a) * Tensor(seed)).sum(), 0, [ours.gamma, ours.beta]
    )(Tensor(x))
    assert isinstance(grads, tuple)
    dx, (dgamma, dbeta) = grads
    for mine, other in [
        (dx, inputs.grad),
        (dgamma, theirs.weight.grad),
        (dbeta, theirs.bias.grad),
        (ours.moving_mean, theirs.running_mean),
        (ours.moving_variance, theirs.running_var),
    ]:
        assert_allclose(mine.asnumpy(), other.numpy(), rtol=1e-9, atol=1e-12)


def test_use_batch_statistics_decides_where_it_is_given() -> None:
    always = nn.BatchNorm2d(6, use_batch_statistics=True)
    by_itself = always(IMAGES).asnumpy()
    assert_allclose(by_itself.mean((0, 2, 3)), 0.0, atol=1e-5)
    assert always.moving_mean.tolist() == [0.0] * 6, "it is not training"
    never = nn.BatchNorm2d(6, use_batch_statistics=False).set_train()
    assert_allclose(never(IMAGES).asnumpy(), IMAGES.asnumpy(), rtol=1e-4)


def test_batch_norm_names_itself_where_an_input_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"BatchNorm1d takes .* not shape \(4, 6, 8"):
        nn.BatchNorm1d(6)(IMAGES)
    with pytest.raises(ValueError, match=r"BatchNorm2d: .* C = 6 channels .*\(5,\)"):
        nn.BatchNorm2d(5)(IMAGES)


def test_observations_are_gathered_and_weighted_by_their_counts() -> None:
    statistic = Statistic(np.zeros(2), momentum=0.5)
    with collecting() as seen:
        statistic.observe(np.array([1.0, 2.0]), 3)
        with collecting() as again:
            statistic.observe(np.array([9.0, 9.0]), 1)
        statistic.observe(np.array([5.0, 6.0]), 1)
    found = seen.of(statistic)
    assert found is not None
    assert (found[0].tolist(), found[1]) == ([8.0, 12.0], 4)
    assert again.of(statistic) is not None
    assert statistic.tolist() == [0.0, 0.0], "nothing moves in such a block"
    statistic.observe(np.array([4.0, 2.0]), 1)
    assert statistic.tolist() == [2.0, 1.0]
