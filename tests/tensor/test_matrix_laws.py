"""Initial values of matrices and filters: Orthogonal, Sparse, Dirac."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from parallel_params.tensor import float64
from parallel_params.tensor import initializer as init
from parallel_params.tensor.initializer import LazyTensor, initializer
from parallel_params.tensor.tape import Array


def drawn(law: "init.Initializer | str", *shape: int) -> Array:
    return initializer(law, shape, float64).asnumpy()


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (3, 2, 2), (4, 5, 1, 2)])
def test_the_fewer_of_rows_and_columns_are_orthogonal(shape: tuple[int, ...]) -> None:
    matrix = drawn(init.Orthogonal(2.0), *shape).reshape(shape[0], -1)
    fewer = min(matrix.shape)
    square = matrix @ matrix.T if fewer == matrix.shape[0] else matrix.T @ matrix
    assert_allclose(square, 4.0 * np.eye(fewer), atol=1e-14)
    assert not np.array_equal(drawn("Orthogonal", 2, 2), drawn("orthogonal", 2, 2))


def test_orthogonal_matrices_are_drawn_evenly() -> None:
    corners = np.array([drawn("orthogonal", 2, 2)[0, 0] for _ in range(400)])
    assert abs(corners.mean()) < 5 * np.sqrt(0.5 / 400)  # of LAPACK's own: about -0.6


def test_a_share_of_every_column_is_zero() -> None:
    law = init.Sparse(0.26, sigma=0.5)
    matrix = drawn(law, 200, 50)
    assert (matrix == 0).sum(0).tolist() == [52] * 50
    assert_allclose(matrix[matrix != 0].std(), 0.5, rtol=0.05)
    rows = (matrix == 0).sum(1)
    assert rows.min() < rows.max(), "every column has zeros of its own"
    assert (drawn(init.Sparse(0.3), 5, 4) == 0).sum(0).tolist() == [2] * 4  # rounded up
    assert not drawn(init.Sparse(1.0), 3, 3).any()


def test_a_whole_law_is_made_once_for_many_blocks() -> None:
    class Counting(init.Orthogonal):
        num_made = 0

        def values(self, *arguments: object) -> Array:
            self.num_made += 1
            return super().values(*arguments)  # type: ignore[arg-type]

    law = Counting()
    tensor = initializer(law, [300, 200])
    tensor.asnumpy()
    assert law.num_made == 1


@pytest.mark.parametrize("shape", [(3, 2, 3), (2, 3, 4, 3), (2, 2, 1, 2, 3)])
def test_dirac_filters_pass_their_channels_on(shape: tuple[int, ...]) -> None:
    middle = tuple(length // 2 for length in shape[2:])
    want = np.zeros(shape)
    for i in range(min(shape[:2])):
        want[(i, i) + middle] = 1.0  # noqa: RUF005 - Python 3.10
    assert_array_equal(drawn("dirac", *shape), want)
    made = initializer("dirac", shape, float64)
    assert isinstance(made, LazyTensor)
    part = np.empty(3)
    made.fill(2, 5, out=part)
    assert_array_equal(part, want.reshape(-1)[2:5])


def test_every_group_of_dirac_filters_begins_anew() -> None:
    filters = drawn(init.Dirac(groups=2), 6, 2, 3)
    ones = np.argwhere(filters).tolist()
    assert ones == [[0, 0, 1], [1, 1, 1], [3, 0, 1], [4, 1, 1]]


@pytest.mark.parametrize(
    ("law", "shape", "error"),
    [
        ("orthogonal", [3], ValueError),
        (init.Sparse(0.5), [3], ValueError),
        (init.Sparse(0.5), [3, 3, 3], ValueError),
        ("sparse", [3, 3], TypeError),
        ("dirac", [3, 3], ValueError),
        ("dirac", [1] * 6, ValueError),
        (init.Dirac(groups=2), [3, 3, 3], ValueError),
    ],
)
def test_a_shape_that_does_not_suit_is_refused(
    law: str, shape: list[int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        initializer(law, shape)


def test_arguments_out_of_range_are_refused() -> None:
    for sparsity in (-0.1, 1.1):
        with pytest.raises(ValueError, match="sparsity"):
            init.Sparse(sparsity)
    with pytest.raises(ValueError, match="groups"):
        init.Dirac(0)
    with pytest.raises(TypeError, match="groups"):
        init.Dirac(1.0)  # type: ignore[arg-type]  # the point
