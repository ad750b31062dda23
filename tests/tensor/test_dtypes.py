"""Element types: inference, promotion and what each operator makes of them."""

import pickle

import numpy as np
import pytest

from parallel_params import ops
from parallel_params import tensor as pt
from parallel_params.tensor import DType, Tensor
from parallel_params.tensor.dtype import dtype_named, dtype_of

FLOATS = [pt.float16, pt.bfloat16, pt.float32, pt.float64]
INTS = [pt.int8, pt.int16, pt.int32, pt.int64, pt.uint8, pt.uint16, pt.uint32]


def _of(dtype: DType, *values: float) -> Tensor:
    return Tensor(list(values) or 1, dtype=dtype)


# ---- names


def test_types_print_as_mindspore_spells_them() -> None:
    assert (str(pt.float32), repr(pt.float32)) == ("Float32", "parallel_params.float32")
    assert (str(pt.bool_), repr(pt.bool_)) == ("Bool", "parallel_params.bool_")
    assert (str(pt.uint8), str(pt.bfloat16)) == ("UInt8", "BFloat16")


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS, pt.bool_])
def test_a_type_is_one_object_through_numpy_names_and_pickle(dtype: DType) -> None:
    assert dtype_of(dtype.numpy) is dtype
    assert dtype_named(dtype.name) is dtype
    assert pickle.loads(pickle.dumps(dtype)) is dtype
    assert dtype.is_float == (dtype in FLOATS)


# ---- inference


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (3, pt.int64),
        (2.5, pt.float32),
        (True, pt.bool_),
        ([1, 2], pt.int64),
        ([1, 2.5], pt.float32),
        ((1, 2), pt.int64),
        ([[True], [False]], pt.bool_),
        ([], pt.float32),
        (np.float64(2.5), pt.float64),
        (np.float32(2.5), pt.float32),
        (np.arange(3, dtype=np.int8), pt.int8),
        (np.zeros(2), pt.float64),
        (1 + 2j, pt.complex128),
    ],
)
def test_the_type_is_inferred_from_the_data(data: object, dtype: DType) -> None:
    assert Tensor(data).dtype is dtype


def test_an_explicit_type_truncates() -> None:
    assert Tensor([2.7, -2.7], dtype=pt.int32).tolist() == [2, -2]
    assert Tensor(Tensor([2.7]), dtype=pt.int64).dtype is pt.int64


@pytest.mark.parametrize("dtype", [np.float32, np.dtype("f4"), float, "float32", 3])
def test_a_type_of_numpy_or_python_is_refused(dtype: object) -> None:
    with pytest.raises(TypeError, match="dtype must be one of"):
        Tensor([1.0], dtype=dtype)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dtype must be one of"):
        Tensor([1.0]).astype(dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [None, {}, {1.0}, object(), [1, None], [[1], [1, 2]], [2**70]],
)
def test_data_that_no_tensor_can_hold_is_a_type_error(data: object) -> None:
    with pytest.raises(TypeError):
        Tensor(data)


@pytest.mark.parametrize("dtype", [">f4", "O", "M8[s]", "f4,i4"])
def test_arrays_that_no_tensor_can_hold_are_a_type_error(dtype: str) -> None:
    with pytest.raises(TypeError, match="a tensor cannot hold"):
        Tensor(np.zeros(2, dtype=dtype))


# ---- promotion


@pytest.mark.parametrize(
    ("left", "right", "result"),
    [
        (pt.int64, pt.float16, pt.float16),
        (pt.int64, pt.bfloat16, pt.bfloat16),
        (pt.int8, pt.uint8, pt.int16),
        (pt.int32, pt.int64, pt.int64),
        (pt.bool_, pt.int8, pt.int8),
        (pt.bool_, pt.float16, pt.float16),
        (pt.float16, pt.float32, pt.float32),
        (pt.float16, pt.bfloat16, pt.float32),
        (pt.bfloat16, pt.float32, pt.float32),
        (pt.bfloat16, pt.float64, pt.float64),
        (pt.float32, pt.float64, pt.float64),
        (pt.uint8, pt.float32, pt.float32),
    ],
)
def test_two_tensors_promote_as_mindspore_does(
    left: DType, right: DType, result: DType
) -> None:
    for a, b in ((left, right), (right, left)):
        assert (_of(a, 1) + _of(b, 1)).dtype is result
        assert (_of(a) * _of(b, 1, 2)).dtype is result  # 0-d tensors are not weak


@pytest.mark.parametrize(
    ("dtype", "number", "result"),
    [
        (pt.float16, 2.5, pt.float16),
        (pt.bfloat16, 2, pt.bfloat16),
        (pt.float32, 1e300, pt.float32),
        (pt.int8, 2, pt.int8),
        (pt.int64, 2.5, pt.float32),
        (pt.int8, True, pt.int8),
        (pt.bool_, 2, pt.int64),
        (pt.bool_, 2.5, pt.float32),
        (pt.float32, np.float64(2.5), pt.float32),
        (pt.float16, np.float32(2.5), pt.float32),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_python_numbers_are_weak(dtype: DType, number: float, result: DType) -> None:
    assert (_of(dtype, 1) + number).dtype is result
    assert (number + _of(dtype, 1)).dtype is result


def test_a_number_that_the_type_cannot_hold_is_an_error() -> None:
    with pytest.raises(OverflowError):
        _of(pt.int8, 1) + 300


def test_lists_and_tuples_are_operands() -> None:
    x = Tensor([1.0, 2.0])
    assert ops.add(x, [1, 2]).tolist() == [2.0, 4.0]
    assert ops.mul((3.0, 4.0), x).tolist() == [3.0, 8.0]
    assert (x - [1, 2]).tolist() == [0.0, 0.0]
    assert ([1, 2] - x).tolist() == [0.0, 0.0]
    assert (x > (1, 1)).tolist() == [False, True]


@pytest.mark.parametrize("other", [None, "1", 1j, np.complex64(1), {}, object()])
def test_what_is_no_number_is_no_operand(other: object) -> None:
    x = Tensor([1.0])
    with pytest.raises(TypeError):
        x + other  # type: ignore[operator]
    with pytest.raises(TypeError):
        other * x  # type: ignore[operator]
    with pytest.raises(TypeError):
        _ = x < other  # type: ignore[operator]


def test_an_ndarray_is_refused_on_the_right_and_leaves_the_tape_on_the_left() -> None:
    x, array = Tensor([1.0, 2.0]), np.ones(2, np.float32)
    for compute in (lambda: x + array, lambda: x @ array, lambda: x == array):
        with pytest.raises(TypeError, match=r"ndarray; wrap it in Tensor"):
            compute()
    left = array + x
    assert type(left) is np.ndarray
    np.testing.assert_array_equal(left, [2.0, 3.0])


def test_a_numpy_scalar_on_the_left_stays_on_the_tape() -> None:
    x = Tensor([1.0, 2.0])
    out = np.sqrt(4.0) * x
    assert isinstance(out, Tensor)
    assert out.dtype is pt.float32


# ---- operators


@pytest.mark.parametrize("dtype", INTS)
def test_integers_divide_to_float32(dtype: DType) -> None:
    out = _of(dtype, 1, 3) / _of(dtype, 2, 2)
    assert out.dtype is pt.float32
    assert out.tolist() == [0.5, 1.5]


@pytest.mark.parametrize("dtype", [*INTS, pt.bool_])
def test_sums_of_small_integers_are_int64(dtype: DType) -> None:
    assert Tensor([1, 1], dtype=dtype).sum().dtype is pt.int64
    assert Tensor([[1, 1]], dtype=dtype).sum(0).dtype is pt.int64


@pytest.mark.parametrize(
    ("data", "mean"), [([1, 2], 1), ([-1, -2], -1), ([7, 8, 9], 8)]
)
def test_the_mean_of_integers_is_an_integer(data: list[int], mean: int) -> None:
    out = Tensor(data, dtype=pt.int32).mean()
    assert out.dtype is pt.int32
    assert out.item() == mean


def test_matmul_of_two_types_is_a_type_error() -> None:
    x, w = Tensor(np.ones((2, 2))), Tensor(np.ones((2, 2), np.float32))
    with pytest.raises(TypeError, match="one element type, not float64 and float32"):
        x @ w
    with pytest.raises(TypeError, match="linear: operands must have one element type"):
        ops.linear(x, w)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "operator",
    [
        *(ops.exp, ops.log, ops.sqrt, ops.tanh, ops.sigmoid, ops.relu, ops.gelu),
        *(ops.softmax, ops.log_softmax, ops.sum, ops.mean, ops.var, ops.amax),
        *(ops.abs, ops.square),
    ],
)
def test_floats_keep_their_type_forward_and_backward(
    operator: object, dtype: DType
) -> None:
    x = Tensor([0.5, 1.0, 2.0], dtype=dtype)
    value, gradient = pt.value_and_grad(operator)(x)  # type: ignore[arg-type]
    assert isinstance(value, Tensor)
    assert isinstance(gradient, Tensor)
    assert (value.dtype, gradient.dtype) == (dtype, dtype)
    single, _ = pt.value_and_grad(operator)(x.astype(pt.float32))  # type: ignore[arg-type]
    close = {pt.float16: 2e-3, pt.bfloat16: 2e-2}.get(dtype, 1e-6)
    assert isinstance(single, Tensor)
    np.testing.assert_allclose(
        value.astype(pt.float64).asnumpy(), single.asnumpy(), rtol=close, atol=close
    )


@pytest.mark.parametrize("dtype", [pt.float16, pt.bfloat16])
def test_products_of_16_bits_add_up_in_32(dtype: DType) -> None:
    x = Tensor(np.full((1, 4096), 1.0), dtype=dtype)
    assert (x @ x.T).item() == 4096.0
    assert ops.linear(x, x).item() == 4096.0
    assert x.sum().item() == 4096.0
    assert (x * 32.0).mean().item() == 32.0


@pytest.mark.parametrize("dtype", [pt.float16, pt.bfloat16])
def test_losses_of_16_bits_have_their_type(dtype: DType) -> None:
    logits = Tensor([[2.0, 0.0], [0.0, 2.0]], dtype=dtype)
    loss, gradient = pt.value_and_grad(ops.cross_entropy)(logits, Tensor([0, 0]))
    assert isinstance(loss, Tensor)
    assert isinstance(gradient, Tensor)
    assert (loss.dtype, gradient.dtype) == (dtype, dtype)
    assert float(loss) == pytest.approx(1.127, abs=0.01)
    assert ops.mse_loss(logits, logits + 1.0).item() == 1.0


def test_functions_of_integers_are_float32() -> None:
    for operator in (ops.exp, ops.log, ops.sqrt, ops.tanh, ops.sigmoid, ops.var):
        assert operator(Tensor([1, 4])).dtype is pt.float32


def test_comparisons_are_booleans_of_any_two_types() -> None:
    out = Tensor([1, 200], dtype=pt.uint8) > -1
    assert out.dtype is pt.bool_
    assert out.tolist() == [True, True]
    assert (Tensor([1, 2]) == 1.5).tolist() == [False, False]
