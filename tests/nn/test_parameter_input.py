"""What a Parameter can be made of: every row of PARAMETER.md's table 2.1."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from parallel_params.nn import Parameter
from parallel_params.tensor import Tensor
from parallel_params.tensor.initializer import initializer, lazy_init

ACCEPTED = [
    ("tensor", Tensor(np.ones((2, 3), np.float16)), (2, 3), "Float16"),
    ("int tensor", Tensor(3), (), "Int64"),
    ("parameter", Parameter([1.0, 2.0]), (2,), "Float32"),
    ("int", 3, (), "Int32"),
    ("largest int", 2**31 - 1, (), "Int32"),
    ("smallest int", -(2**31), (), "Int32"),
    ("float", 0.5, (), "Float32"),
    ("np.float64", np.float64(0.5), (), "Float32"),
    ("float64 array", np.ones(2), (2,), "Float64"),
    ("0-d array", np.array(1.0), (), "Float64"),
    ("fortran array", np.asfortranarray(np.arange(6.0).reshape(2, 3)), (2, 3), None),
    ("strided array", np.arange(6.0)[::2], (3,), "Float64"),
    ("complex array", np.ones(2, np.complex64), (2,), "Complex64"),
    ("text array", np.array(["a", "bc"]), (2,), "String"),
    ("bool array", np.ones(2, np.bool_), (2,), "Bool"),
    ("list of ints", [1, 2], (2,), "Int64"),
    ("list of floats", [1.0, 2.0], (2,), "Float32"),
    ("mixed list", [1, 2.5], (2,), "Float32"),
    ("list of bools", [True, False], (2,), "Bool"),
    ("nested list", [[1.0], [2.0]], (2, 1), "Float32"),
    ("empty list", [], (0,), "Float32"),
    ("empty array", np.ones(0, np.float32), (0,), "Float32"),
]


@pytest.mark.parametrize(
    ("given", "shape", "dtype"), [r[1:] for r in ACCEPTED], ids=[r[0] for r in ACCEPTED]
)
def test_input_gives_shape_and_type(
    given: object, shape: tuple[int, ...], dtype: str | None
) -> None:
    parameter = Parameter(given)

    assert parameter.shape == shape
    assert dtype is None or str(parameter.dtype) == dtype
    wanted = given.asnumpy() if isinstance(given, Tensor) else np.asarray(given)
    assert_array_equal(parameter.asnumpy(), wanted)


REFUSED = [
    ("bool", True, ValueError),
    ("no elements, several dims", np.ones((0, 3)), ValueError),
    ("np.bool_", np.True_, TypeError),
    ("np.float32", np.float32(1), TypeError),
    ("np.int32", np.int32(1), TypeError),
    ("big-endian array", np.ones(2, ">f4"), TypeError),
    ("ragged list", [[1.0], [2.0, 3.0]], TypeError),
    ("tuple", (1.0, 2.0), TypeError),
    ("text", "1.0", TypeError),
    ("None", None, TypeError),
    ("complex", 1j, TypeError),
    ("dict", {}, TypeError),
    ("int beyond int32", 2**31, OverflowError),
    ("int far beyond", 2**40, OverflowError),
    ("int below int32", -(2**31) - 1, OverflowError),
]


@pytest.mark.parametrize(
    ("given", "error"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_other_input_is_refused(given: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        Parameter(given)


def test_no_input_is_refused() -> None:
    with pytest.raises(TypeError):
        Parameter()  # type: ignore[call-arg]  # the point


@pytest.mark.parametrize(
    "given", [np.ones(2, np.float32), Tensor([1.0, 1.0]), Parameter([1.0, 1.0])]
)
def test_input_is_copied(given: Tensor) -> None:
    parameter = Parameter(given)

    given[0] = 5.0

    assert parameter.asnumpy()[0] == 1.0


def test_a_parameter_as_input_gives_no_name_and_no_flags() -> None:
    source = Parameter([1.0], "w", False, True, False)

    parameter = Parameter(source)

    assert parameter.name == "Parameter"
    assert parameter.requires_grad
    assert not parameter.layerwise_parallel
    assert parameter.parallel_optimizer


def test_a_lazy_tensor_is_initialised_at_once() -> None:
    lazy = initializer("normal", [2, 3])

    parameter = Parameter(lazy)

    assert not parameter.has_init
    assert parameter.init_mode is None
    assert_array_equal(parameter.asnumpy(), lazy.asnumpy())
    assert not np.shares_memory(parameter.asnumpy(), lazy.asnumpy())


def test_a_lazy_parameter_waits_for_init_data() -> None:
    lazy = initializer("normal", [2, 3])
    with lazy_init():
        parameter = Parameter(lazy)
    assert parameter.has_init
    assert parameter.init_mode is lazy
    assert (parameter.shape, str(parameter.dtype)) == ((2, 3), "Float32")
    assert (parameter.size, parameter.ndim) == (6, 2)
    assert (parameter.itemsize, parameter.nbytes) == (4, 24)
    assert parameter.has_init, "a look at shape, type and size makes no values"


def test_init_data_makes_the_values_of_a_lazy_parameter() -> None:
    lazy = initializer("normal", [2, 3])
    with lazy_init():
        parameter = Parameter(lazy)

    assert parameter.init_data() is parameter

    assert not parameter.has_init
    assert parameter.init_mode is None
    assert_array_equal(parameter.asnumpy(), lazy.asnumpy())


def test_a_lazy_parameter_gets_its_values_at_the_first_look() -> None:
    lazy = initializer("normal", [2, 3])
    with lazy_init():
        parameter = Parameter(lazy)

    values = parameter.value()

    assert not parameter.has_init
    assert_array_equal(values.asnumpy(), lazy.asnumpy())


@pytest.mark.parametrize("length", [None, -1, 0])
def test_a_shape_with_an_open_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="positive ints"):
        initializer("normal", [2, length])
