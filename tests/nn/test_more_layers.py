"""Activations beside relu, group norm, topk: their numbers, PyTorch's, and refusals."""

import typing

import numpy as np
import pytest
from grads import gradients_of
from numpy.testing import assert_allclose, assert_array_equal

from parallel_params import nn, ops
from parallel_params.nn import Cell
from parallel_params.tensor import Tensor
from parallel_params.train.config.models import GptModel

CELLS: dict[str, Cell] = {
    "silu": nn.SiLU(),
    "hardswish": nn.HSwish(),
    "mish": nn.Mish(),
    "leaky_relu": nn.LeakyReLU(0.01),
    "elu": nn.ELU(),
}


@pytest.mark.parametrize("name", CELLS)
def test_torch_has_the_same_activation(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = np.linspace(-8.0, 100.0, 1009, dtype=np.float32)
    theirs = torch.tensor(x, requires_grad=True)
    out = getattr(torch.nn.functional, name)(theirs)
    out.sum().backward()
    (gradient,) = gradients_of(CELLS[name], Tensor(x))
    assert_allclose(CELLS[name](Tensor(x)).asnumpy(), out.detach().numpy(), 1e-5, 1e-6)
    assert_allclose(gradient, theirs.grad.numpy(), 1e-5, 2e-6)


def test_activations_compute_their_functions() -> None:
    x = np.array([-4.0, -1.0, 0.0, 0.5, 4.0])
    below = np.expm1(np.minimum(x, 0))
    wanted = {
        "silu": x / (1 + np.exp(-x)),
        "hardswish": x * np.clip(x + 3, 0, 6) / 6,
        "mish": x * np.tanh(np.log1p(np.exp(x))),
        "leaky_relu": np.where(x > 0, x, 0.01 * x),
        "elu": np.where(x > 0, x, below),
    }
    for name, cell in CELLS.items():
        assert_allclose(cell(Tensor(x)).asnumpy(), wanted[name], 1e-12, 1e-15)


def test_large_numbers_do_not_overflow_in_a_branch_that_is_not_taken() -> None:
    x = Tensor([1e4, -1e4])
    with np.errstate(over="raise", invalid="raise"):
        assert ops.elu(x).tolist() == [1e4, -1.0]
        (gradient,) = gradients_of(ops.elu, x)
    assert gradient.tolist() == [1.0, 0.0]


def test_activations_refuse_what_is_no_number() -> None:
    with pytest.raises(TypeError, match="alpha is a number"):
        nn.LeakyReLU("steep")  # type: ignore[arg-type]  # the point
    with pytest.raises(TypeError, match="alpha is a number"):
        nn.ELU(True)


def test_every_activation_a_gpt_may_name_exists() -> None:
    for name in typing.get_args(typing.get_type_hints(GptModel)["activation"]):
        block = nn.TransformerBlock(8, 2, activation=name)
        assert block(Tensor(np.ones((1, 3, 8), np.float32))).shape == (1, 3, 8)


# ---- group norm


@pytest.mark.parametrize("shape", [(3, 6, 4, 5), (3, 6, 7), (3, 6)])
@pytest.mark.parametrize("num_groups", [1, 2, 6])
def test_torch_has_the_same_group_norm(shape: tuple[int, ...], num_groups: int) -> None:
    torch = pytest.importorskip("torch")
    if num_groups == 6 and len(shape) == 2:
        shape = (3, 12)  # torch refuses groups of one element
    rng = np.random.default_rng(1)
    x, g = (rng.normal(size=shape) for _ in range(2))
    w, b = (rng.normal(size=shape[1]) for _ in range(2))
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    want = torch.nn.functional.group_norm(theirs[0], num_groups, *theirs[1:])
    want.backward(torch.tensor(g))

    def ours(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return ops.group_norm(x, num_groups, w, b)

    inputs = [Tensor(a) for a in (x, w, b)]
    assert_allclose(ours(*inputs).asnumpy(), want.detach().numpy(), atol=1e-12)
    found = gradients_of(ours, *inputs, seed=Tensor(g))
    for gradient, tensor in zip(found, theirs, strict=True):
        assert_allclose(gradient, tensor.grad.numpy(), atol=1e-11)


def test_group_norm_brings_every_group_of_every_sample_to_mean_0_and_variance_1() -> (
    None
):
    x = np.random.default_rng(0).normal(3.0, 2.0, (2, 6, 50))
    out = nn.GroupNorm(3, 6)(Tensor(x.astype(np.float32)))
    groups = out.asnumpy().reshape(2, 3, -1)
    assert_allclose(groups.mean(-1), 0.0, atol=1e-6)
    assert_allclose(groups.var(-1), 1.0, rtol=1e-4)


def test_a_sample_counts_by_itself() -> None:
    x = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32)
    norm = nn.GroupNorm(2, 6)
    whole = norm(Tensor(x)).asnumpy()
    assert_allclose(norm(Tensor(x[2:3])).asnumpy(), whole[2:3], atol=1e-6)


def test_group_norm_has_a_weight_and_a_bias_per_channel_or_none() -> None:
    names = [(p.name, p.shape) for p in nn.GroupNorm(2, 6).get_parameters()]
    assert names == [("gamma", (6,)), ("beta", (6,))]
    assert nn.GroupNorm(2, 6, affine=False).trainable_params() == []


def test_group_norm_refuses_what_does_not_fit() -> None:
    x = Tensor(np.ones((2, 6, 3), np.float32))
    with pytest.raises(ValueError, match=r"4 groups do not divide.* 1, 2, 3, 6 do"):
        ops.group_norm(x, 4)
    with pytest.raises(ValueError, match=r"weight of shape \(3,\).* C = 6 channels"):
        ops.group_norm(x, 2, Tensor(np.ones(3, np.float32)))
    with pytest.raises(TypeError, match="Float32 and bias Float64; they must have one"):
        ops.group_norm(x, 2, None, Tensor(np.ones(6)))
    with pytest.raises(ValueError, match=r"nothing to take a mean of"):
        ops.group_norm(x[:0], 2)
    with pytest.raises(ValueError, match=r"takes \[N, C, ...\], not shape \(6,\)"):
        ops.group_norm(x[0, :, 0], 2)
    with pytest.raises(ValueError, match="num_groups = 4 does not divide"):
        nn.GroupNorm(4, 6)
    with pytest.raises(ValueError, match="eps is at least 0"):
        nn.GroupNorm(2, 6, eps=-1.0)


# ---- topk


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_topk_equals_a_sort(dim: int, largest: bool) -> None:
    x = np.random.default_rng(0).permutation(60).reshape(3, 4, 5)
    values, places = ops.topk(Tensor(x), 2, dim, largest)
    order = np.sort(x, dim)
    order = np.flip(order, dim) if largest else order
    assert_array_equal(values.asnumpy(), order.take([0, 1], dim))
    assert_array_equal(np.take_along_axis(x, places.asnumpy(), dim), values.asnumpy())


def test_the_first_of_equal_elements_comes_first() -> None:
    x = Tensor([2.0, 7.0, 7.0, 2.0, 7.0])
    assert ops.topk(x, 2)[1].tolist() == [1, 2]
    assert ops.topk(x, 2, largest=False)[1].tolist() == [0, 3]


def test_topk_gives_the_gradient_to_what_it_took() -> None:
    x = Tensor([[1.0, 5.0, 3.0]])
    (gradient,) = gradients_of(lambda x: ops.topk(x, 2)[0] * 2.0, x)
    assert gradient.tolist() == [[0.0, 2.0, 2.0]]


def test_topk_refuses_more_than_there_is() -> None:
    with pytest.raises(ValueError, match=r"k = 4 does not lie in \[0, 3\].* of dim 1"):
        ops.topk(Tensor(np.ones((5, 3))), 4)
    with pytest.raises(TypeError, match="k must be an integer, not float"):
        ops.topk(Tensor(np.ones(3)), 2.0)  # type: ignore[arg-type]  # the point
