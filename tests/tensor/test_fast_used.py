"""With the compiled set chosen, whole networks compute in it, forward and backward."""

from collections.abc import Iterator

import numpy as np
import pytest
from kernel_sets import kernels_as

from parallel_params import nn, ops
from parallel_params.tensor import Tensor, dense_kernels, kernel_set, value_and_grad


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    with kernels_as("fast"):
        yield


def test_no_kernel_of_a_transformer_falls_back_to_numpy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fallen: list[str] = []
    net = nn.SequentialCell(
        nn.Embedding(11, 16), nn.TransformerBlock(16, 2), nn.LayerNorm(16)
    )
    ids = Tensor(np.arange(24).reshape(2, 12) % 11)
    # Small products are BLAS's; test_fast_dense.py sees to the others.
    products = dense_kernels.times_weight, dense_kernels.weight_grad
    for each in kernel_set._process.kernels:
        if each in products:
            continue
        plain = each.numpy

        def fall(*args: object, _of: object = plain) -> object:
            fallen.append(_of.__name__)  # type: ignore[attr-defined]  # a function
            return _of(*args)  # type: ignore[operator]

        monkeypatch.setattr(each, "numpy", fall)

    def loss() -> Tensor:
        return ops.cross_entropy(net(ids).reshape(-1, 16), ids.reshape(-1))

    value_and_grad(loss, None, net.trainable_params())()
    assert fallen == []
