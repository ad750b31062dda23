"""The tensor as an object: printing, conversion, methods."""

import ast
import copy
import inspect
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from parallel_params import tensor as pt
from parallel_params.tensor import Tensor, signatures
from parallel_params.tensor.methods import METHODS
from parallel_params.tensor.tape import Array


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (np.ones((1, 2), np.float32), "[[1. 1.]]"),
        (np.float32(2.5), "2.5"),
        (np.array([1, 2]), "[1 2]"),
        (np.array([True]), "[ True]"),
        (np.zeros(0, np.float32), "[]"),
    ],
)
def test_str_is_that_of_the_array(data: np.ndarray, text: str) -> None:
    assert str(Tensor(data)) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            np.ones((1, 2), np.float32),
            "shape=[1, 2], dtype=Float32, value=\n[[ 1.00000000e+00,  1.00000000e+00]]",
        ),
        (np.array(3), "shape=[], dtype=Int64, value= 3"),
        (np.array([1, 2]), "shape=[2], dtype=Int64, value= [1, 2]"),
        (np.float32(0.1), "shape=[], dtype=Float32, value= 0.1"),
        (np.float32(50.27331), "shape=[], dtype=Float32, value= 50.2733"),
        (np.array(False), "shape=[], dtype=Bool, value= False"),
        (
            np.array([-1.5, np.inf], np.float64),
            "shape=[2], dtype=Float64, value= [-1.50000000e+00,             inf]",
        ),
        (
            np.array([1.5, -2.0], np.float16),
            "shape=[2], dtype=Float16, value= [ 1.5000e+00, -2.0000e+00]",
        ),
        (
            np.array([[0, 1, 2], [20, 22, -24]], np.int32),
            "shape=[2, 3], dtype=Int32, value=\n[[  0,   1,   2],\n [ 20,  22, -24]]",
        ),
        (
            np.array([[True, False]]),
            "shape=[1, 2], dtype=Bool, value=\n[[ True, False]]",
        ),
        (np.zeros(0, np.float32), "shape=[0], dtype=Float32, value= "),
        (np.zeros((0, 3), np.float32), "shape=[0, 3], dtype=Float32, value= "),
    ],
)
def test_repr_is_mindspores(data: np.ndarray, text: str) -> None:
    assert repr(Tensor(data)) == f"Tensor({text})"


def test_repr_elides_long_arrays() -> None:
    text = repr(Tensor(np.arange(64).reshape(8, 8)))
    assert text == (
        "Tensor(shape=[8, 8], dtype=Int64, value=\n"
        "[[ 0,  1,  2 ...  5,  6,  7],\n"
        " [ 8,  9, 10 ... 13, 14, 15],\n"
        " [16, 17, 18 ... 21, 22, 23],\n"
        " ...\n"
        " [40, 41, 42 ... 45, 46, 47],\n"
        " [48, 49, 50 ... 53, 54, 55],\n"
        " [56, 57, 58 ... 61, 62, 63]])"
    )
    deep = repr(Tensor(np.zeros((2, 7, 1), np.int8)))
    assert deep.count("...") == 2
    assert len(repr(Tensor(np.zeros((1000, 1000))))) < 1000


def test_repr_breaks_long_rows_into_lines() -> None:
    whole = repr(Tensor(np.arange(30)))
    assert whole.count("\n") == 1
    assert repr(Tensor(np.zeros(30))).count("\n") == 2
    assert repr(Tensor(np.zeros(30, np.bool_))).count("\n") == 2
    assert repr(Tensor(np.arange(2000))).count("...") == 1


# ---- conversion


def test_data_are_copied_in_and_seen_through_asnumpy() -> None:
    data = np.zeros(2)
    x = Tensor(data)
    data[0] = 9.0
    assert x.tolist() == [0.0, 0.0]
    x.asnumpy()[1] = 5.0
    assert x.tolist() == [0.0, 5.0]
    assert Tensor(x).asnumpy() is not x.asnumpy()


def test_fortran_order_and_strides_are_taken() -> None:
    data = np.arange(12.0).reshape(3, 4)
    for given in (np.asfortranarray(data), data[::2, ::-1]):
        assert Tensor(given).asnumpy().flags.c_contiguous
        np.testing.assert_array_equal(Tensor(given).asnumpy(), given)


def test_numpy_reads_a_tensor_as_an_array() -> None:
    x = Tensor([1.0, 2.0])
    assert np.asarray(x) is x.asnumpy()
    assert np.array(x) is not x.asnumpy()
    assert np.asarray(x, dtype=np.int64).dtype == np.int64
    assert np.from_dlpack(x).tolist() == [1.0, 2.0]  # type: ignore[arg-type]


def test_the_only_element_is_a_number() -> None:
    assert (int(Tensor([3])), float(Tensor(2.5)), bool(Tensor(0))) == (3, 2.5, False)
    assert Tensor([[4]]).item() == 4
    assert [10, 20][Tensor(1)] == 20
    with pytest.raises(ValueError, match="size 1"):
        Tensor([1, 2]).item()
    with pytest.raises(ValueError, match="ambiguous"):
        bool(Tensor([1, 2]))


def test_sizes() -> None:
    x = Tensor(np.zeros((2, 3), np.float16))
    assert (x.shape, x.ndim, x.size, x.itemsize, x.nbytes) == ((2, 3), 2, 6, 2, 12)
    assert len(x) == 2


def test_copies_and_pickles_keep_values_and_type() -> None:
    x = Tensor([1.5, 2.5], dtype=pt.float16)
    for twin in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert twin.dtype is pt.float16
        assert twin.tolist() == [1.5, 2.5]
        twin.asnumpy()[0] = 9.0
    assert x.tolist() == [1.5, 2.5]


# ---- comparison and iteration


def test_tensors_hash_by_identity_and_compare_by_element() -> None:
    x, y = Tensor([1.0]), Tensor([1.0])
    assert len({x, y}) == 2
    assert bool(x == y)
    assert x in [x, Tensor([1.0, 2.0])]
    with pytest.raises(ValueError, match="ambiguous"):
        assert y not in [Tensor([1.0, 2.0])]


@pytest.mark.parametrize("other", [None, "1", {}, set()])
def test_a_tensor_differs_from_what_is_no_number(other: object) -> None:
    assert (Tensor([1.0]) == other) is False  # type: ignore[comparison-overlap]
    assert (Tensor([1.0]) != other) is True  # type: ignore[comparison-overlap]


def test_a_tensor_yields_its_parts() -> None:
    parts = list(Tensor([[1, 2], [3, 4]]))
    assert [p.tolist() for p in parts] == [[1, 2], [3, 4]]
    with pytest.raises(TypeError, match="0-d"):
        iter(Tensor(1))


# ---- methods


def test_every_method_that_is_announced_is_there_and_the_other_way_round() -> None:
    tree = ast.parse(inspect.getsource(signatures))
    names = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    assert names == set(METHODS)


METHOD_TWINS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[..., Array]]] = {
    "abs": (lambda x: x.abs(), np.abs),
    "exp": (lambda x: x.exp(), np.exp),
    "pow": (lambda x: x.pow(2), np.square),
    "square": (lambda x: x.square(), np.square),
    "tanh": (lambda x: x.tanh(), np.tanh),
    "clip": (lambda x: x.clip(-1.0, 1.0), lambda a: np.clip(a, -1, 1)),
    "sum": (lambda x: x.sum(1), lambda a: a.sum(1)),
    "max": (lambda x: x.max(), np.max),
    "argmax": (lambda x: x.argmax(1), lambda a: a.argmax(1)),
    "argmin": (lambda x: x.argmin(), np.argmin),
    "reshape": (lambda x: x.reshape((4, 3)), lambda a: a.reshape(4, 3)),
    "view": (lambda x: x.view(2, -1), lambda a: a.reshape(2, 6)),
    "transpose": (lambda x: x.transpose(), np.transpose),
    "swapaxes": (lambda x: x.swapaxes(0, 1), np.transpose),
    "pos": (lambda x: +x, np.positive),
    "abs()": (lambda x: abs(x), np.abs),
    "mod": (lambda x: x % 2.0, lambda a: a % 2.0),
    "rmod": (lambda x: 2.0 % x, lambda a: 2.0 % a),
    "floordiv": (lambda x: x // 2.0, lambda a: a // 2.0),
    "rfloordiv": (lambda x: 2.0 // x, lambda a: 2.0 // a),
    "rsub": (lambda x: 2.0 - x, lambda a: 2.0 - a),
    "rpow": (lambda x: 2.0**x, lambda a: 2.0**a),
    "invert": (lambda x: ~(x > 0.0), lambda a: ~(a > 0.0)),
    "and": (lambda x: (x > 0.0) & (x < 1.0), lambda a: (a > 0.0) & (a < 1.0)),
    "or": (lambda x: (x > 1.0) | (x < 0.0), lambda a: (a > 1.0) | (a < 0.0)),
    "xor": (lambda x: (x > 1.0) ^ (x > 0.0), lambda a: (a > 1.0) ^ (a > 0.0)),
    "le": (lambda x: x <= 0.5, lambda a: a <= 0.5),
    "ne": (lambda x: x != 0.5, lambda a: a != 0.5),
}


@pytest.mark.parametrize("name", METHOD_TWINS)
def test_methods_compute_what_numpy_does(name: str) -> None:
    ours, numpys = METHOD_TWINS[name]
    array = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(ours(Tensor(array)).asnumpy(), numpys(array), rtol=1e-15)
