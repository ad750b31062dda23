"""The storage of a parameter in an arena."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from parallel_params.nn import Parameter
from parallel_params.tensor import Tensor
from parallel_params.tensor import dtype as dtypes
from parallel_params.tensor.initializer import initializer, lazy_init


def test_rebind_writes_the_values_into_the_arena() -> None:
    arena = np.zeros(6, np.float32)
    w = Parameter([[1.0, 2.0], [3.0, 4.0]])

    w.rebind(arena[1:5].reshape(2, 2))
    assert arena.tolist() == [0, 1, 2, 3, 4, 0]

    w.set_data(Tensor([[5.0, 6.0], [7.0, 8.0]]))
    w[0, 0] = 9.0
    assert arena.tolist() == [0, 9, 6, 7, 8, 0]
    arena[:] = 1.0
    assert w.value().tolist() == [[1, 1], [1, 1]]


def test_rebind_fills_a_lazy_parameter_in_place() -> None:
    lazy = initializer("normal", [2, 2])
    with lazy_init():
        w = Parameter(lazy)
    arena = np.zeros(4, np.float32)

    w.rebind(arena.reshape(2, 2))

    assert not w.has_init
    assert_array_equal(arena, lazy.asnumpy().reshape(-1))


@pytest.mark.parametrize("view", [np.zeros(4, np.float32), np.zeros((2, 2))])
def test_rebind_refuses_another_shape_or_type(
    view: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]",
) -> None:
    with pytest.raises(ValueError, match="cannot live in"):
        Parameter([[1.0, 2.0], [3.0, 4.0]]).rebind(view)


def test_a_parameter_in_an_arena_cannot_move() -> None:
    w = Parameter([1.0, 2.0])
    w.rebind(np.zeros(2, np.float32))
    with pytest.raises(RuntimeError, match="arena"):
        w.set_dtype(dtypes.float64)
    with pytest.raises(RuntimeError, match="arena"):
        w.set_data(Tensor([1.0]), slice_shape=True)
    w.clone().set_dtype(dtypes.float64)
