"""A slice of a law has the numbers of the whole, whichever dim is cut."""

import numpy as np
import pytest

from parallel_params.tensor import random
from parallel_params.tensor.initializer import initializer
from parallel_params.tensor.laws import Normal
from parallel_params.tensor.lazy_slice import LazySlice
from parallel_params.tensor.tensor import Tensor

SHAPE = (6, 4, 5)


@pytest.mark.parametrize("law", ["normal", "xavier_uniform", "he_normal", "ones"])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_slices_of_a_law_are_slices_of_the_whole(law: str, dim: int) -> None:
    random.set_seed(3)
    whole = initializer(law, SHAPE).asnumpy()
    half = SHAPE[dim] // 2
    parts = []
    for start, stop in ((0, half), (half, SHAPE[dim])):
        random.set_seed(3)
        part = LazySlice(law, SHAPE, dim=dim, start=start, stop=stop)
        assert part.shape == (*SHAPE[:dim], stop - start, *SHAPE[dim + 1 :])
        parts.append(part.init_data().asnumpy())
    assert (np.concatenate(parts, dim) == whole).all()


def test_an_interval_of_a_slice_is_made_alone() -> None:
    random.set_seed(5)
    part = LazySlice(Normal(), (7, 9), dim=1, start=2, stop=6)
    whole = part.init_data().asnumpy().reshape(-1)
    out = np.empty(11, np.float32)
    part.fill(3, 14, out=out)
    assert (out == whole[3:14]).all()


def test_a_tensor_has_no_law_to_slice() -> None:
    with pytest.raises(TypeError, match="a slice is made from a law"):
        LazySlice(Tensor(np.ones((2, 2))), (2, 2), dim=0, start=0, stop=1)
