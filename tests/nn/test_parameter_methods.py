"""Methods: the rows of PARAMETER.md's table 2.6, and A4 and A5."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from parallel_params.nn import Parameter
from parallel_params.tensor import Tensor
from parallel_params.tensor import dtype as dtypes
from parallel_params.tensor.initializer import Normal, initializer, lazy_init


def make(dtype: str = "float32") -> Parameter:
    w = Parameter(np.array([1, 2], dtype), "w", False, True, False)
    w.comm_fusion = 3
    return w


def settings_of(p: Parameter) -> tuple[object, ...]:
    info = p.param_info
    flags = (info.requires_grad, info.layerwise_parallel, info.parallel_optimizer)
    return (info.name, *flags, info.comm_fusion)


SET_DATA: list[tuple[str, str, object, list[float]]] = [
    ("tensor", "float32", Tensor([3.0, 4.0]), [3, 4]),
    ("parameter", "float32", Parameter([3.0, 4.0]), [3, 4]),
    ("narrower float", "float64", Tensor([3.0, 4.0]), [3, 4]),
    ("half", "float32", Tensor(np.array([3, 4], np.float16)), [3, 4]),
    ("ints into floats", "float32", Tensor([3, 4]), [3, 4]),
    ("bools into floats", "float32", Tensor([True, False]), [1, 0]),
    ("narrower int", "int64", Tensor(np.array([3, 4], np.int32)), [3, 4]),
]


@pytest.mark.parametrize(
    ("dtype", "data", "values"), [r[1:] for r in SET_DATA], ids=[r[0] for r in SET_DATA]
)
def test_set_data_copies_into_the_storage(
    dtype: str, data: Tensor, values: list[float]
) -> None:
    w = make(dtype)
    storage, before = w.asnumpy(), settings_of(w)

    assert w.set_data(data) is w

    assert w.asnumpy() is storage
    assert not np.shares_memory(storage, data.asnumpy())
    assert_array_equal(storage, values)
    assert (w.dtype.name, settings_of(w)) == (dtype, before)


@pytest.mark.parametrize(
    ("start", "number", "dtype"),
    [
        (0.5, 2, "float32"),
        (0.5, 2.5, "float32"),
        (0.5, True, "float32"),
        (3, 4, "int32"),
    ],
)
def test_set_data_takes_numbers(start: float, number: float, dtype: str) -> None:
    w = Parameter(start)
    w.set_data(number)
    assert (w.item(), w.dtype.name) == (number, dtype)


REFUSED: list[tuple[str, str, object]] = [
    ("ndarray", "float32", np.ones(2)),
    ("list", "float32", [1.0, 2.0]),
    ("None", "float32", None),
    ("text", "float32", "x"),
    ("float64 into float32", "float32", Tensor(np.ones(2))),
    ("float into int", "int32", Tensor([1.0, 2.0])),
    ("int64 into int32", "int32", Tensor([1, 2])),
    ("number: float into int", "int32", 1.5),
]


@pytest.mark.parametrize(
    ("dtype", "data"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_set_data_refuses_types(dtype: str, data: object) -> None:
    w = make(dtype)
    with pytest.raises(TypeError):
        w.set_data(data)  # type: ignore[arg-type]  # the point
    assert_array_equal(w.asnumpy(), [1, 2])


@pytest.mark.parametrize("data", [Tensor([1.0]), Tensor([[1.0, 2.0]]), 1.0])
def test_set_data_refuses_another_shape(data: Tensor | float) -> None:
    w = make()
    with pytest.raises(ValueError, match="slice_shape=True"):
        w.set_data(data)
    assert not w.sliced


def test_set_data_changes_the_shape_when_asked() -> None:
    w = make()
    w.set_data(Tensor([[5.0]]), slice_shape=True)
    assert (w.shape, w.item(), w.sliced) == ((1, 1), 5.0, True)
    w.set_data(Tensor([[6.0]]))
    assert w.sliced is False


def test_set_data_gives_a_lazy_parameter_its_values() -> None:
    with lazy_init():
        w = Parameter(initializer("normal", [2]))
    w.set_data(Tensor([3.0, 4.0]))
    assert not w.has_init
    assert w.asnumpy().tolist() == [3.0, 4.0]


def test_assign_value_copies_tensors_alone() -> None:
    w = make()
    assert w.assign_value(Tensor([3.0, 4.0])) is w
    assert w.asnumpy().tolist() == [3.0, 4.0]
    with pytest.raises(TypeError):
        w.assign_value(9)  # type: ignore[arg-type]  # the point


def test_set_dtype_converts_in_place() -> None:
    w = make()
    assert w.set_dtype(dtypes.float64) is dtypes.float64
    assert w.asnumpy().dtype == np.float64
    assert w.set_dtype(dtypes.int32) is dtypes.int32
    assert w.asnumpy().tolist() == [1, 2]
    with pytest.raises(TypeError):
        w.set_dtype(np.float32)  # type: ignore[arg-type]  # the point


COPIES: list[tuple[str, Callable[[Parameter], Parameter]]] = [
    ("clone", lambda w: w.clone()),
    ("clone same", lambda w: w.clone(init="same")),
    ("copy", lambda w: w.copy()),
    ("copy.copy", copy.copy),
    ("copy.deepcopy", copy.deepcopy),
    ("pickle", lambda w: pickle.loads(pickle.dumps(w))),
]


@pytest.mark.parametrize("copied", [c[1] for c in COPIES], ids=[c[0] for c in COPIES])
def test_copies_keep_name_flags_and_fusion(
    copied: Callable[[Parameter], Parameter],
) -> None:
    w = make()
    w.init, w.key, w.cache_shape = "x", 4, [1]

    twin = copied(w)

    assert twin is not w
    assert settings_of(twin) == settings_of(w) == ("w", False, True, False, 3)
    assert (twin.init, twin.key, twin.cache_shape) == ("x", 4, [1])
    assert_array_equal(twin.asnumpy(), w.asnumpy())
    assert not np.shares_memory(twin.asnumpy(), w.asnumpy())
    twin.requires_grad = True
    assert not w.requires_grad


def test_clone_leaves_attributes_of_the_user_behind() -> None:
    w = make()
    w.lr_scale = 2.0
    assert not hasattr(w.clone(), "lr_scale")
    assert copy.deepcopy(w).lr_scale == 2.0


CLONES: list[tuple[str, object, list[float]]] = [
    ("zeros", "zeros", [0, 0]),
    ("capital letters", "Ones", [1, 1]),
    ("int", 3, [3, 3]),
    ("float", 0.5, [0.5, 0.5]),
    ("tensor", Tensor([5.0, 6.0]), [5, 6]),
    ("tensor of another type", Tensor([5, 6]), [5, 6]),
    ("law", Normal(sigma=0.0, mean=2.0), [2, 2]),
]


@pytest.mark.parametrize(
    ("init", "values"), [r[1:] for r in CLONES], ids=[r[0] for r in CLONES]
)
def test_clone_with_other_values(init: float, values: list[float]) -> None:
    w = make()
    twin = w.clone(init)
    assert_array_equal(twin.asnumpy(), values)
    assert twin.dtype == w.dtype
    assert settings_of(twin) == settings_of(w)


@pytest.mark.parametrize(
    ("init", "error"),
    [
        ("unknown", ValueError),
        ("constant", ValueError),
        (None, TypeError),
        ([1.0, 2.0], TypeError),
        (Tensor([1.0]), ValueError),
        ("xavier_uniform", ValueError),
        ("he_normal", ValueError),
    ],
)
def test_clone_refuses(init: float, error: type[Exception]) -> None:
    with pytest.raises(error):
        make().clone(init)


@pytest.mark.parametrize("init", ["same", "zeros", "normal"])
def test_an_empty_parameter_can_be_cloned(init: str) -> None:
    assert Parameter([], name="w").clone(init).shape == (0,)


def test_init_data_of_an_initialised_parameter_is_itself() -> None:
    w = make()
    assert w.init_data() is w
    assert w.init_data(layout=3) is w  # type: ignore[arg-type]  # not even looked at


@pytest.mark.parametrize(
    ("layout", "error"),
    [
        ([1, 2, (2,), 0, True, ""], TypeError),
        ((1, 2, (2,), 0, True), ValueError),
        (([2], [0], (1,), 0, True, ""), ValueError),
    ],
    ids=["no tuple", "too short", "a cut"],
)
def test_init_data_checks_the_layout_of_a_lazy_parameter(
    layout: "tuple[object, ...]", error: type[Exception]
) -> None:
    with lazy_init():
        w = Parameter(initializer("normal", [2]))
    with pytest.raises(error):
        w.init_data(layout)
    assert w.has_init
    w.init_data(([1], [-1], (2,), 0, True, ""), set_sliced=True)
    assert (w.has_init, w.sliced) == (False, True)


def test_pipeline_stages_are_noted() -> None:
    w = make()
    w.add_pipeline_stage(0)
    w.add_pipeline_stage(2)
    assert w._pipeline_stage_list == [0, 2]
    for bad in (-1, "1", 1.0, None, True):
        with pytest.raises(TypeError):
            w.add_pipeline_stage(bad)  # type: ignore[arg-type]  # the point


def test_from_tensor_shares_memory() -> None:
    tensor = Tensor([1.0, 2.0])
    w = Parameter._from_tensor(tensor, name="w", requires_grad=False)
    assert w.asnumpy() is tensor.asnumpy()
    assert (w.name, w.requires_grad) == ("w", False)
    with pytest.raises(TypeError):
        Parameter._from_tensor(np.ones(2))  # type: ignore[arg-type]  # the point


def test_hooks_are_not_offered() -> None:
    assert not hasattr(make(), "register_hook")
