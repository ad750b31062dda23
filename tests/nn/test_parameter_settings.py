"""Name, flags, printing: the rows of PARAMETER.md's tables 2.2, 2.3 and 2.4."""

import numpy as np
import pytest

from parallel_params.nn import Parameter
from parallel_params.tensor import Tensor


def make(**settings: object) -> Parameter:
    return Parameter([1.0, 2.0], **settings)  # type: ignore[arg-type]  # wrong ones too


NAMES = [
    ("None", None, "Parameter"),
    ("empty", "", "Parameter"),
    ("blanks", "  \t", "Parameter"),
    ("outer blanks", "  w ", "w"),
    ("anything", "a b/c:d$e", "a b/c:d$e"),
    ("1024 characters", "x" * 1024, "x" * 1024),
]
BAD_NAMES = [
    ("1025 characters", "x" * 1025),
    ("int", 3),
    ("bool", True),
    ("bytes", b"w"),
    ("list", ["w"]),
]


@pytest.mark.parametrize(
    ("given", "name"), [r[1:] for r in NAMES], ids=[r[0] for r in NAMES]
)
def test_name_in_constructor_and_setter(given: str | None, name: str) -> None:
    assert make(name=given).name == name
    parameter = make(name="other")
    parameter.name = given
    assert parameter.name == name


@pytest.mark.parametrize(
    "given", [r[1] for r in BAD_NAMES], ids=[r[0] for r in BAD_NAMES]
)
def test_bad_name_is_a_value_error(given: object) -> None:
    with pytest.raises(ValueError, match="name of a parameter"):
        make(name=given)
    parameter = make(name="w")
    with pytest.raises(ValueError, match="name of a parameter"):
        parameter.name = given  # type: ignore[assignment]  # the point
    assert parameter.name == "w"


FLAGS = ["requires_grad", "layerwise_parallel", "parallel_optimizer"]
DEFAULTS: list[tuple[str, object]] = [
    ("requires_grad", True),
    ("layerwise_parallel", False),
    ("parallel_optimizer", True),
    ("comm_fusion", 1),
    ("parallel_optimizer_comm_recompute", False),
    ("cache_enable", False),
    ("cache_shape", []),
    ("key", -1),
    ("unique", False),
    ("sliced", False),
    ("is_init", False),
    ("inited_param", None),
    ("init_mode", None),
    ("has_init", False),
    ("init", None),
    ("requires_aggr", True),
    ("is_in_parallel", False),
    ("is_default_input_init", False),
    ("init_flag", False),
    ("grad", None),
]
ACCEPTED: list[tuple[str, object, object]] = [
    ("requires_grad", False, False),
    ("layerwise_parallel", True, True),
    ("parallel_optimizer", False, False),
    ("comm_fusion", 0, 0),
    ("comm_fusion", 7, 7),
    ("parallel_optimizer_comm_recompute", True, True),
    ("cache_enable", True, True),
    ("cache_shape", (1, 2), [1, 2]),
    ("cache_shape", [3], [3]),
    ("key", 5, 5),
    ("key", True, 1),
    ("unique", "anything", "anything"),
    ("sliced", 3, 3),
    ("is_init", None, None),
]
BOOLS = [*FLAGS, "parallel_optimizer_comm_recompute", "cache_enable"]
REFUSED: list[tuple[str, object, type[Exception]]] = [
    *[(flag, bad, TypeError) for flag in BOOLS for bad in (1, 0, None, np.True_, "x")],
    ("comm_fusion", -1, ValueError),
    *[("comm_fusion", bad, TypeError) for bad in (1.0, "1", None, True)],
    *[("cache_shape", bad, TypeError) for bad in (1, "x", None)],
    *[("key", bad, TypeError) for bad in (1.0, "1", None)],
    ("dtype", "Float16", AttributeError),
    ("inited_param", None, AttributeError),
    ("shape", (2,), AttributeError),
    ("has_init", True, AttributeError),
]


@pytest.mark.parametrize(("name", "value"), DEFAULTS)
def test_default_of(name: str, value: object) -> None:
    assert getattr(make(), name) == value


@pytest.mark.parametrize(("name", "given", "kept"), ACCEPTED)
def test_setting_accepts(name: str, given: object, kept: object) -> None:
    parameter = make()
    setattr(parameter, name, given)
    assert getattr(parameter, name) == kept
    assert type(getattr(parameter, name)) is type(kept)


@pytest.mark.parametrize(("name", "given", "error"), REFUSED)
def test_setting_refuses(name: str, given: object, error: type[Exception]) -> None:
    parameter = make()
    before = getattr(parameter, name)
    with pytest.raises(error):
        setattr(parameter, name, given)
    assert getattr(parameter, name) == before


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("bad", [0, 1, None, np.True_, "yes"])
def test_constructor_refuses_what_is_no_bool(flag: str, bad: object) -> None:
    with pytest.raises(TypeError, match=flag):
        make(**{flag: bad})


def test_constructor_takes_the_flags_by_place() -> None:
    parameter = Parameter([1.0], "w", False, True, False)
    info = parameter.param_info
    assert (info.name, info.requires_grad) == ("w", False)
    assert (info.layerwise_parallel, info.parallel_optimizer) == (True, False)
    assert (info.comm_fusion, info.parameter_shape) == (1, (1,))


@pytest.mark.parametrize(
    "absent",
    ["is_leaf", "set_param_ps", "set_param_fl", "is_param_ps", "push_weight_to_server"],
)
def test_is_not_offered(absent: str) -> None:
    assert not hasattr(make(), absent)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("require_grad", "requires_grad"),
        ("requires_grads", "requires_grad"),
        ("layerwise_paralel", "layerwise_parallel"),
        ("parallel_optimiser", "parallel_optimizer"),
        ("com_fusion", "comm_fusion"),
        ("nam", "name"),
    ],
)
def test_a_misspelt_attribute_is_refused_with_the_right_one(
    wrong: str, right: str
) -> None:
    parameter = make()
    with pytest.raises(AttributeError, match=f"did you mean '{right}'"):
        setattr(parameter, wrong, False)
    with pytest.raises(AttributeError, match=wrong):
        getattr(parameter, wrong)


def test_attributes_of_the_user_are_kept() -> None:
    parameter = make()
    parameter.lr_scale = 0.5
    parameter.lr_scale = 0.25
    assert parameter.lr_scale == 0.25


def test_parameter_prints_its_settings_never_its_values() -> None:
    parameter = Parameter(Tensor(np.ones((1, 2), np.float32)))
    text = "Parameter (name=Parameter, shape=(1, 2), dtype=Float32, requires_grad=True)"
    assert str(parameter) == repr(parameter) == text
    parameter.name, parameter.requires_grad = "w", False
    assert str(parameter).startswith("Parameter (name=w, ")
    assert str(parameter).endswith(", requires_grad=False)")
    assert str(parameter.value()) == "[[1. 1.]]"


def test_a_parameter_is_a_tensor() -> None:
    assert isinstance(make(), Tensor)


def test_int_parameters_have_the_flag_but_no_gradient() -> None:
    parameter = Parameter(3)
    assert parameter.requires_grad
    assert parameter.grad is None
